"""The command line: what it writes, what it says, how it exits."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
import wave
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import av
import numpy as np
import pytest
import torch

from flashhead import NonFiniteError
from flashhead.checkpoint.loading import Checkpoint
from flashhead.checkpoint.weights import WeightFile
from flashhead.cli import generate as command_generate
from flashhead.cli.main import main
from flashhead.cli.output import Progress, warnings_in_lines
from flashhead.errors import FlashHeadWarning
from flashhead.media.video_writer import VideoWriter
from flashhead.stream.loop import Chunk

ROOT = Path(__file__).parents[2]
GENERATOR = "Model_Lite/diffusion_pytorch_model.safetensors"


def write_wav(path, seconds, rate=22_050, channels=1):
    noise = np.random.default_rng(0).normal(scale=2000, size=(round(seconds * rate), channels))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(noise.astype("<i2").tobytes())
    return path


def watch(path):
    """(pictures, samples heard, their rate) of a video, decoded whole."""
    with av.open(str(path)) as video:
        pictures = sum(1 for _ in video.decode(video=0))
    with av.open(str(path)) as video:
        rate = video.streams.audio[0].rate
        return pictures, sum(frame.samples for frame in video.decode(audio=0)), rate


@pytest.fixture
def audio(tmp_path):
    return write_wav(tmp_path / "speech.wav", 1.5)


@pytest.fixture
def command(checkpoint, portrait, audio, tmp_path):
    """A `generate` command line, with options replaced (None: left out) or added."""

    def make(**changes):
        options = {
            "checkpoint": checkpoint,
            "variant": "lite",
            "portrait": portrait,
            "audio": audio,
            "output": tmp_path / "out.mp4",
            "size": "64x64",
            "device": "cpu",
        }
        options |= {name.replace("_", "-"): value for name, value in changes.items()}
        return ["generate"] + [
            str(part)
            for name, value in options.items()
            if value is not None
            for part in (f"--{name}", value)
        ]

    return make


def run(arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "flashhead", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def only_error(told):
    """The one line that was said."""
    assert told.out == ""
    lines = told.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), told.err
    return lines[0]


def test_generate_as_a_process(command, tmp_path):
    stereo = write_wav(tmp_path / "stereo.wav", 2.2, rate=44_100, channels=2)
    process = run(command(audio=stereo, size="96x64"))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    pictures, samples, rate = watch(tmp_path / "out.mp4")
    assert pictures == 55 and rate == 44_100
    assert 2.2 * rate <= samples < 2.2 * rate + 2048
    assert re.fullmatch(r".*out\.mp4: 55 frames at 96x64 in .* s \(.* fps, .*x real time\)\n", out)
    assert re.search(r"^chunk 1/3, 24 frames, [\d.]+ fps, [\d.]+x real time$", err, re.M)
    assert "chunk 3/3, 55 frames" in err and "\r" not in err


def test_same_seed_same_video(command, tmp_path):
    videos = []
    for number, seed in enumerate((1, 1, 2)):
        output = tmp_path / f"{number}.mp4"
        assert main([*command(output=output, seed=seed, steps=2), "--quiet"]) == 0
        videos.append(output.read_bytes())
    assert videos[0] == videos[1] != videos[2]


def test_quiet_once_and_the_environment(command, checkpoint, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(command_generate.CHECKPOINT_VARIABLE, str(checkpoint))
    options = {"audio_mode": "once", "dtype": "bf16", "color_match": 0, "shift": 3}
    assert main([*command(checkpoint=None, **options), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert watch(tmp_path / "out.mp4")[0] == 38


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"checkpoint": None}, "huggingface.co/Soul-AILab/SoulX-FlashHead-1_3B"),
        ({"checkpoint": "nowhere"}, "nowhere is not a folder"),
        ({"variant": None}, "several variants (lite, pro)"),
        ({"variant": "pretrained"}, "teacher"),
        ({"size": "100x64"}, "nearest: 96x64 or 128x64"),
        ({"size": "0x64"}, "0x64"),
        ({"steps": 0}, "step"),
        ({"shift": -1}, "shift"),
        ({"seed": -1}, "seed"),
        ({"color_match": 2}, "colour"),
        ({"seam_fade": -1}, "seams"),
        ({"device": "toaster"}, "device 'toaster' cannot be used"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"portrait": "nobody.png"}, "nobody.png"),
        ({"portrait": __file__}, "not a readable picture"),
        ({"audio": "silence.wav"}, "silence.wav"),
        ({"audio": __file__}, Path(__file__).name),
        ({"output": "nowhere/out.mp4"}, "nowhere"),
        ({"output": "out.avi"}, ".mp4"),
        ({"output": "n" * 252 + ".mp4"}, "n.mp4 cannot be written: File name too long"),
        ({"switch": "1.5=nobody.png"}, "nobody.png"),
    ],
)
def test_bad_input_is_one_line(command, monkeypatch, capsys, changes, says):
    """Status 1, and no weight was read."""
    monkeypatch.setattr(Checkpoint, "load", lambda *_, **__: pytest.fail("weights were loaded"))
    monkeypatch.delenv(command_generate.CHECKPOINT_VARIABLE, raising=False)
    assert main(command(**changes)) == 1
    assert says in only_error(capsys.readouterr())


def test_output_is_not_an_input(command, audio, tmp_path, capsys):
    (tmp_path / "sub").mkdir()
    spelt_otherwise = tmp_path / "sub" / ".." / audio.name
    before = audio.read_bytes()
    assert main(command(output=spelt_otherwise)) == 1
    assert "also an input" in only_error(capsys.readouterr())
    assert audio.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["generate"],
        ["info"],
        ["generate", "--portrait", "a", "--audio", "b", "--output", "c", "--size", "64"],
        ["generate", "--portrait", "a", "--audio", "b", "--output", "c", "--variant", "heavy"],
        ["generate", "--portrait", "a", "--audio", "b", "--output", "c", "--steps", "many"],
    ],
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert "usage:" in capsys.readouterr().err


def stop_after_first_chunk(monkeypatch, error):
    def generate(*arguments, **options):
        chunks = original(*arguments, **options)
        yield next(chunks)
        raise error

    original = command_generate.generate_clip
    monkeypatch.setattr(command_generate, "generate_clip", generate)


def test_failure_on_the_way_keeps_what_is_done(command, monkeypatch, tmp_path, capsys):
    stop_after_first_chunk(monkeypatch, NonFiniteError("Chunk 1 came out as NaN."))
    assert main(command()) == 1
    *_, kept, error = capsys.readouterr().err.splitlines()
    assert kept.startswith("kept 0.96 of 1.52 s in ")
    assert error == "error: Chunk 1 came out as NaN."
    assert watch(tmp_path / "out.mp4")[0] == 24


def test_interrupt_before_the_first_chunk(command, monkeypatch, tmp_path, capsys):
    def generate(*_, **__):
        raise KeyboardInterrupt
        yield Chunk

    monkeypatch.setattr(command_generate, "generate_clip", generate)
    assert main(command()) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["speech.wav"]


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to one process")
def test_ctrl_c_keeps_a_playable_video(command, tmp_path):
    long = write_wav(tmp_path / "long.wav", 300, rate=16_000)
    # A test runner in the background may have handed down an ignored SIGINT.
    process = run(
        command(audio=long), preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    line = process.stderr.readline()
    assert line.startswith("chunk 1/"), line
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    *_, kept, last = err.splitlines()
    assert last == "interrupted"
    seconds = float(re.fullmatch(r"kept ([\d.]+) of 300.00 s in .*out\.mp4", kept)[1])
    pictures, samples, rate = watch(tmp_path / "out.mp4")
    assert 24 <= pictures == round(seconds * 25) < 300 * 25
    assert abs(samples / rate - seconds) < 0.15
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "long.wav",
        "out.mp4",
        "speech.wav",
    ]


@pytest.mark.parametrize("dtype", [None, "fp16", "bf16"])
def test_dtypes_are_the_devices_own_unless_asked_for(dtype, command, monkeypatch, capsys):
    """On a card with float16 alone, which torch says has bfloat16: it would emulate it."""
    loaded = []
    monkeypatch.setattr(Checkpoint, "load", lambda *given: loaded.extend(given[1:]) or sys.exit())
    monkeypatch.setattr(command_generate, "_device", lambda _: torch.device("cuda"))
    card = SimpleNamespace(name="NVIDIA GeForce RTX 2080", major=7, minor=5)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    with pytest.raises(SystemExit):
        main(command(dtype=dtype))
    usual = torch.bfloat16 if dtype == "bf16" else torch.float16
    assert loaded == [torch.device("cuda"), usual]
    told = capsys.readouterr().err
    assert ("LTX's VAE may overflow in float16, so it computes in float32" in told) == (
        dtype == "fp16"
    )
    assert ("bfloat16 is slow here" in told) == (dtype == "bf16")


@pytest.mark.parametrize("told", ["CUDA out of memory.", "MPS backend out of memory"])
def test_out_of_memory_is_one_line(told, command, monkeypatch, capsys):
    kind = torch.OutOfMemoryError if told.startswith("CUDA") else RuntimeError
    monkeypatch.setattr(Checkpoint, "load", mock.Mock(side_effect=kind(told)))
    assert main(command()) == 1
    assert "ran out of memory; try a smaller --size" in capsys.readouterr().err


def test_info_on_a_folder(checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(WeightFile, "__getitem__", lambda *_: pytest.fail("a weight was read"))
    assert main(["info", str(checkpoint)]) == 0
    told = capsys.readouterr().out
    assert "published folder with lite, pro" in told
    assert "Model_Lite: 727,072 elements in 114 tensors, F32 2.91 MB" in told
    assert "33 frames: 9 of motion, 24 new (0.96 s, 15,360 samples at 16 kHz)" in told
    assert "width in multiples of 32, height in multiples of 32" in told
    assert "512x512 is 8x5x16x16 latents, 1,280 tokens" in told
    assert "in bfloat16" in told


@pytest.mark.parametrize(
    "name, says",
    [
        (GENERATOR, "generator"),
        ("Model_Lite", "dim 40, 3 layers, 2 heads"),
        ("VAE_LTX", "LTX 0.9.0 in diffusers' layout, widths 4 8 16 16"),
        ("ltx_vae_original_layout.safetensors", "Lightricks' layout"),
        ("wav2vec2-base-960h/model.safetensors", "wav2vec2, 3 layers of 16"),
        ("VAE_Wan", "Wan 2.1, widths 4 8 16 16"),
    ],
)
def test_info_on_one_component(checkpoint, capsys, name, says):
    assert main(["info", str(checkpoint / name)]) == 0
    assert says in capsys.readouterr().out


def test_info_lists_what_cannot_load(lite, capsys):
    shutil.rmtree(lite / "VAE_LTX")
    assert main(["info", str(lite)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"cannot load .*VAE_LTX.* does not exist", told)


@pytest.mark.parametrize("spoil", ["truncated", "empty folder", "missing", "foreign"])
def test_info_on_something_else(lite, tmp_path, capsys, spoil):
    path = lite / GENERATOR
    if spoil == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif spoil == "empty folder":
        path = tmp_path / "empty"
        path.mkdir()
    elif spoil == "missing":
        path = tmp_path / "missing"
    else:
        path = tmp_path / "foreign.safetensors"
        path.write_bytes(b"\2\0\0\0\0\0\0\0{}")
    assert main(["info", str(path)]) == 1
    assert path.name in only_error(capsys.readouterr())


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal(command, monkeypatch):
    """A bar in one line that is written over, and cleared at the end."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(command(steps=2)) == 0
    told = terminal.getvalue()
    assert re.search(r"chunk 1/2 1/2", told)
    assert re.search(r"chunk 2/2, 38 frames, [\d.]+ fps, [\d.]+x real time", told)
    assert told.endswith("\r") and told.rsplit("\r", 2)[1].strip() == "" and "\n" not in told


def test_warnings_about_sound_are_a_line_each(command, tmp_path, capsys):
    voice = np.frombuffer(write_wav(tmp_path / "a.wav", 1.5).read_bytes()[44:], "<i2")
    write_wav(tmp_path / "b.wav", 1.5, channels=2)
    head = (tmp_path / "b.wav").read_bytes()[:44]
    wide = np.stack([voice, -voice], 1)
    (tmp_path / "b.wav").write_bytes(head + wide[: len(wide) // 2].tobytes())
    assert main(command(audio=tmp_path / "b.wav", steps=2)) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert re.match(r"warning: .*b.wav: the sound breaks off at 0.75 s of 1.50 s;", told[0])
    assert re.match(r"warning: the channels of .*b.wav cancel each other for 0.7 s", told[1])
    assert len(told) == 2


def test_a_warning_stands_above_the_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(2, quiet=False) as progress, warnings_in_lines():
        progress.show(1, "chunk 1/2")
        warnings.warn("a small face", FlashHeadWarning, stacklevel=1)
        progress.show(2, "chunk 2/2")
    assert "\rwarning: a small face\n" in terminal.getvalue()


def test_the_speed_is_that_of_the_frames_written(command, monkeypatch, capsys):
    """By a clock on which each of the two chunks takes 2 s to write, and nothing else any time."""
    now, write = 0.0, VideoWriter.write

    def written_slowly(writer, frames):
        nonlocal now
        now += 2
        write(writer, frames)

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(VideoWriter, "write", written_slowly)
    assert main(command(steps=2)) == 0
    told = capsys.readouterr()
    assert "chunk 1/2, 24 frames, 12.0 fps, 0.48x real time\n" in told.err
    assert "38 frames at 64x64 in 4.0 s (9.5 fps, 0.38x real time)\n" in told.out


def test_progress_in_a_log_is_short(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Progress(1000, quiet=False) as progress:
        for index in range(1000):
            now += 0.1
            progress.show(index + 0.5, "a step")
            progress.part(index + 1, f"chunk {index + 1}")
    lines = capsys.readouterr().err.splitlines()
    assert 15 < len(lines) < 25
    assert lines[0] == "chunk 1" and lines[-1] == "chunk 1000"
