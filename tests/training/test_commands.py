"""The stages as commands, end to end on a miniature: encode, stage 1, stage 2, and a checkpoint."""

import json
import shutil

import pytest
import torch

import flashhead
from flashhead.errors import FlashHeadError
from flashhead.training import encode_clips, train_audio, train_distillation, train_flow
from flashhead.training.clip_cache import write_clips
from flashhead.training.drawn_clips import draw_clip
from flashhead.training.identities import REPERTOIRE
from flashhead.training.stage_options import CONFIGS, stage_parser, stage_settings
from flashhead.training.stage_runs import run_stage

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
    encode_clips.main(
        f"--clips {root}/clips --checkpoint {root}/checkpoint --output {root}/encoded".split()
    )
    return root


def common(data, work, output) -> list[str]:
    return (
        f"--encoded {data}/encoded --checkpoint {data}/checkpoint --work {work} --output {output}"
    ).split()


def test_both_stages_make_a_checkpoint_that_talks(data, tmp_path):
    small = settings(*(f"generator.{text}" for text in SMALL), "stage.batch=2")
    arguments = common(data, tmp_path / "work1", data / "stage1")
    train_flow.main([*arguments, "--updates", "2", *small])
    train_distillation.main(
        [
            *common(data, tmp_path / "work2", data / "checkpoint"),
            *("--generator", str(data / "stage1" / "Model_Lite"), "--updates", "1"),
            *settings("stage.batch=1", "stage.fake_updates=1"),
        ]
    )
    line = json.loads((tmp_path / "work2" / "log.jsonl").read_text())
    assert line["update"] == 1 and {"dmd", "regression", "fake", "seconds"} <= set(line)
    bundle = flashhead.load_bundle(data / "checkpoint")
    portrait = torch.rand(64, 64, 3, generator=rng())
    chunk = next(flashhead.generate(bundle, portrait, torch.randn(16000), 16000, size=(64, 64)))
    assert bool(chunk.frames.isfinite().all())


def test_fine_tuning_writes_a_lora(data, tmp_path):
    arguments = common(data, tmp_path / "work", tmp_path / "lora.safetensors")
    generator = FIXTURES / "tiny-checkpoint" / "Model_Lite"
    train_flow.main(
        [*arguments, "--generator", str(generator), "--lora", "2", "--recompute", "--updates", "1"]
    )
    from safetensors.torch import load_file

    keys = load_file(tmp_path / "lora.safetensors")
    assert all(key.startswith("diffusion_model.blocks.") for key in keys)
    assert any(bool(keys[key].any()) for key in keys if ".lora_B." in key)


def test_the_audio_encoder_is_pre_trained(data, tmp_path):
    small = settings(
        *(f"encoder.{name}=16" for name in ("conv_dim", "hidden_size", "intermediate_size")),
        "encoder.num_hidden_layers=2",
        "stage.batch=1",
    )
    arguments = f"--clips {data}/clips --work {tmp_path}/work --output {tmp_path}/root".split()
    train_audio.main([*arguments, "--updates", "1", *small])
    assert (tmp_path / "root" / "wav2vec2-base-960h" / "model.safetensors").is_file()


class Counting:
    """A stage whose state is one number, which it draws from the random generator."""

    def __init__(self):
        self.total = 0.0

    def step(self, random):
        drawn = float(torch.rand((), generator=random, dtype=torch.float64))
        self.total += drawn
        return {"drawn": drawn}

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


def test_a_run_goes_on_where_it_stopped(tmp_path):
    whole = Counting()
    run_stage(whole, tmp_path / "whole", updates=7, seed=3, log_every=2)
    for updates in (3, 3, 7):
        parts = Counting()
        assert run_stage(parts, tmp_path / "parts", updates=updates, seed=3) == updates
    assert parts.total == whole.total
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").open()]
    assert [line["update"] for line in lines] == [2, 4, 6, 7]
    assert sum(line["drawn"] * n for line, n in zip(lines, (2, 2, 2, 1), strict=True)) == (
        pytest.approx(whole.total)
    )


def test_a_run_that_breaks_is_saved(tmp_path):
    class Breaking(Counting):
        def step(self, random):
            if self.total > 1:
                raise KeyboardInterrupt
            return super().step(random)

    with pytest.raises(KeyboardInterrupt):
        run_stage(Breaking(), tmp_path, updates=100, seed=3)
    resumed = Counting()
    run_stage(resumed, tmp_path, updates=0, seed=3)
    assert resumed.total > 1 and not list(tmp_path.glob("*.partial"))


def test_a_run_stops_in_time(tmp_path):
    times = iter(range(1000))
    done = run_stage(
        Counting(), tmp_path, updates=500, seed=3, seconds=20, clock=lambda: next(times)
    )
    assert 0 < done < 20


def test_the_settings_that_ship_are_valid():
    runs = {
        "audio.json": train_audio.AudioRun,
        "stage1.json": train_flow.FlowRun,
        "stage2.json": train_distillation.DistillationRun,
    }
    for name, run in runs.items():
        arguments = stage_parser("flow", "").parse_args(["--work", "w", "--set", "seed=9"])
        assert stage_settings(run, arguments, name).seed == 9
        assert (CONFIGS / name).is_file()
    arguments = stage_parser("flow", "").parse_args(["--work", "w", "--set", "seed"])
    with pytest.raises(FlashHeadError, match="has no '='"):
        stage_settings(train_flow.FlowRun, arguments, "stage1.json")
