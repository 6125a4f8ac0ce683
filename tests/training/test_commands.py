"""The stages as commands, end to end on a miniature: encode, stage 1, stage 2, and a checkpoint."""

import json
import shutil
import signal
import warnings

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import flashhead
from flashhead.training.__main__ import main
from flashhead.training.commands.audio import AudioRun
from flashhead.training.commands.distillation import DistillationRun
from flashhead.training.commands.flow import FlowRun
from flashhead.training.commands.options import stage_parser, stage_settings, stop_signal
from flashhead.training.commands.vae import VAERun
from flashhead.training.data.clip_dataset import ClipDataset, write_clips
from flashhead.training.faces.drawn_clips import draw_clip
from flashhead.training.faces.identities import REPERTOIRE
from flashhead.training.speech.speech_set import SpeechSetSettings, make_speech_set
from flashhead.training.speech.tracks import SpeechTrack

from .conftest import FIXTURES
from .small import rng

FRAMES = 33 + 24
SMALL = ["dim=32", "ffn_dim=32", "num_heads=2", "num_layers=1", "audio_hidden=8", "audio_tokens=2"]


def settings(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--set", text)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set, a checkpoint without a generator, and the encoded clips."""
    root = tmp_path_factory.mktemp("data")

    def clips():
        for number in range(2):
            draw = rng(number)
            mouth = torch.rand(FRAMES, generator=draw)
            speech = torch.randn(FRAMES * 640, generator=draw)
            yield draw_clip(
                REPERTOIRE[number], mouth, mouth, 64, draw, waveform=speech, number=number
            )

    write_clips(root / "clips", clips(), 2)
    for name in ("VAE_LTX", "wav2vec2-base-960h"):
        shutil.copytree(FIXTURES / "tiny-checkpoint" / name, root / "checkpoint" / name)
    words = f"encode --clips {root}/clips --checkpoint {root}/checkpoint --output {root}/encoded"
    assert main(words.split()) == 0
    return root


def common(data, work, output) -> list[str]:
    return (
        f"--encoded {data}/encoded --checkpoint {data}/checkpoint --work {work} --output {output}"
    ).split()


def test_both_stages_make_a_checkpoint_that_talks(data, tmp_path, capsys):
    small = settings(*(f"generator.{text}" for text in SMALL), "stage.batch=2")
    arguments = common(data, tmp_path / "work1", data / "stage1")
    assert main(["flow", *arguments, "--updates", "2", *small]) == 0
    arguments = common(data, tmp_path / "work2", data / "checkpoint")
    arguments += ["--updates", "1", *settings("stage.batch=1", "stage.fake_updates=1")]
    assert main(["distillation", *arguments]) == 1
    assert "--generator is missing" in capsys.readouterr().err
    generator = str(data / "stage1" / "Model_Lite")
    assert main(["distillation", *arguments, "--generator", generator]) == 0
    line = json.loads((tmp_path / "work2" / "log.jsonl").read_text())
    assert line["step"] == 1 and {"dmd", "regression", "fake", "seconds"} <= set(line)
    (tmp_path / "faces").mkdir()
    portrait = ClipDataset(data / "clips")[0].portrait
    Image.fromarray(portrait.numpy()).save(tmp_path / "faces" / "one.png")
    words = f"bundle --checkpoint {data}/checkpoint --portraits {tmp_path}/faces --size 64"
    assert main(f"{words} --dtype fp32 --output {tmp_path}/small.safetensors".split()) == 0
    bundle = flashhead.load_bundle(tmp_path / "small.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error", flashhead.PortraitWarning)
        chunk = next(flashhead.generate(bundle, portrait / 255, torch.randn(16000), 16000))
    assert chunk.frames.shape[1:] == (64, 64, 3)
    assert bool(chunk.frames.isfinite().all())


@pytest.mark.parametrize("memory", ["--recompute", "--offload"])
def test_fine_tuning_writes_a_lora(data, tmp_path, memory, capsys):
    arguments = common(data, tmp_path / "work", tmp_path / "lora.safetensors")
    generator = FIXTURES / "tiny-checkpoint" / "Model_Lite"
    arguments += ["--generator", str(generator), "--updates", "1", memory]
    assert main(["flow", *arguments, "--lora", "2"]) == 0
    keys = load_file(tmp_path / "lora.safetensors")
    assert all(key.startswith("diffusion_model.blocks.") for key in keys)
    assert any(bool(keys[key].any()) for key in keys if ".lora_B." in key)
    if memory == "--offload":
        assert main(["flow", *arguments]) == 1
        assert "needs --lora" in capsys.readouterr().err


def test_the_audio_encoder_is_pre_trained(tmp_path):
    """On speech that is there already: making it needs espeak-ng's library."""
    work = tmp_path / "work"

    def tone(frames, draw, settings):
        mouth = torch.rand(frames, generator=draw)
        return SpeechTrack(mouth.repeat_interleave(640), mouth, mouth)

    for name in ("speech", "held-out"):
        make_speech_set(
            SpeechSetSettings(tracks=2, seconds=2.0), work / f"{name}.safetensors", tone
        )
    small = settings(
        *(f"encoder.{name}=16" for name in ("conv_dim", "hidden_size", "intermediate_size")),
        "encoder.num_hidden_layers=2",
        "stage.batch=1",
    )
    arguments = f"--work {work} --output {tmp_path}/root --report 1 --updates 10".split()
    assert main(["audio", *arguments, *small]) == 0
    assert (tmp_path / "root" / "wav2vec2-base-960h" / "model.safetensors").is_file()
    lines = [json.loads(line) for line in (work / "log.jsonl").open()]
    measured = [line["measured"] for line in lines if "measured" in line]
    assert [set(m) for m in measured] == [{"openness", "width"}]


def test_speech_is_made_once(tmp_path):
    def spoken(frames, draw, settings):
        made.append(settings.held_out)
        mouth = torch.rand(frames, generator=draw)
        return SpeechTrack(mouth.repeat_interleave(640), mouth, 1 - mouth)

    made: list[bool] = []
    kept = SpeechSetSettings(tracks=3, seconds=1.0, held_out=True)
    first = make_speech_set(kept, tmp_path / "s.safetensors", spoken)
    again = make_speech_set(kept, tmp_path / "s.safetensors", spoken)
    assert made == [True] * 3 and len(first) == 3
    for (speech, mouth), (other, _) in zip(first, again, strict=True):
        assert torch.equal(speech, other) and mouth.shape == (25, 2)
        torch.testing.assert_close(speech[::640], mouth[:, 0])
        torch.testing.assert_close(mouth.sum(1), torch.ones(25), atol=1e-3, rtol=0)


def test_a_run_is_stopped_by_a_signal_or_by_time():
    with stop_signal(None) as should_stop:
        assert not should_stop()
        signal.raise_signal(signal.SIGTERM)
        assert should_stop()
    with stop_signal(1e-9) as should_stop:
        assert should_stop()


RUNS = {"audio": AudioRun, "stage1": FlowRun, "stage2": DistillationRun, "vae": VAERun}


@pytest.mark.parametrize("name", RUNS)
def test_the_settings_that_ship_are_valid(name):
    arguments = stage_parser("flow", "").parse_args(["--work", "w", "--set", "seed=9"])
    assert stage_settings(RUNS[name], arguments, f"{name}.json").seed == 9


def test_wrong_arguments_are_one_sentence(data, tmp_path, capsys):
    arguments = ["flow", *common(data, tmp_path, tmp_path)]
    for text, message in (
        ("seed", "'--set seed' has no '='; expected NAME=VALUE."),
        ("stage.batch=many", "stage1.json: stage.batch is 'many': input should be a valid integer"),
    ):
        assert main([*arguments, "--set", text]) == 1
        assert message in capsys.readouterr().err
