"""The command line: what it says is so, to whatever stream, and what it says is kept is there."""

import io
import os
import re
import subprocess
import sys
import wave
from pathlib import Path

import pytest
from PIL import Image

from flashhead.cli import generate as command_generate
from flashhead.cli.main import main
from flashhead.cli.output import safe_streams, say
from flashhead.media import video_writer

from .videos import decode_pictures

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(checkpoint, portrait, tmp_path):
    """A `generate` command line for a second and a half of sound, in two chunks."""
    speech = tmp_path / "speech.wav"
    with wave.open(str(speech), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(os.urandom(2 * 24_000))

    def make(output, *more, face=portrait, steps=1):
        options = {"checkpoint": checkpoint, "variant": "lite", "portrait": face, "audio": speech}
        options |= {"output": output, "size": "64x64", "device": "cpu", "steps": steps}
        named = (part for name, value in options.items() for part in (f"--{name}", value))
        return ["generate", *map(str, named), *more]

    return make


# ---- files


KINDS = ["folder", "read-only", *(["pipe"] if hasattr(os, "mkfifo") else [])]


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_written_is_refused_before_a_weight_is_read(
    kind, command, checkpoint, monkeypatch, tmp_path, capsys
):
    for module in ("checkpoint.conversion", "cli.generate"):
        opens = f"flashhead.{module}.open_checkpoint"
        monkeypatch.setattr(opens, lambda *_, **__: pytest.fail("the checkpoint was opened"))
    for name in ("it.mp4", "it.safetensors"):
        path = tmp_path / name
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            open_really = Path.open

            def refuse(path, mode="r", *more, opened=open_really, **options):
                if "x" in mode:
                    raise OSError(30, "Read-only file system")
                return opened(path, mode, *more, **options)

            monkeypatch.setattr(Path, "open", refuse)
        before = sorted(tmp_path.iterdir())
        making = command(path) if path.suffix == ".mp4" else ["convert", str(checkpoint), str(path)]
        assert main(making) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {path} ") and sorted(tmp_path.iterdir()) == before


def fail_at(monkeypatch, name, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(video_writer, name, fail)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_the_kept_line_says_where_it_is(error, command, monkeypatch, tmp_path, capsys):
    """No room for the last copy, or Ctrl-C meanwhile: the file that is named holds so much."""
    fail_at(monkeypatch, "_remux", error)
    (tmp_path / "out.mp4").write_bytes(b"the old one")
    assert main(command(tmp_path / "out.mp4")) == (130 if error.args == () else 1)
    *_, kept, last = capsys.readouterr().err.splitlines()
    seconds, file = re.fullmatch(r"kept ([\d.]+) of 1\.52 s in (.*)", kept).groups()
    assert len(decode_pictures(file)) == round(float(seconds) * 25) == 38
    assert (tmp_path / "out.mp4").read_bytes() == b"the old one"
    assert last == "interrupted" or last.endswith(
        "out.mp4 could not be written: No space left on device"
    )


def test_nothing_is_said_to_be_kept_that_is_not(command, monkeypatch, tmp_path, capsys):
    def generate(*arguments, **options):
        chunks = generate_really(*arguments, **options)
        yield next(chunks)
        for path in (tmp_path / "to").iterdir():
            path.unlink()
        (tmp_path / "to").rmdir()
        yield next(chunks)

    generate_really = command_generate.generate_clip
    monkeypatch.setattr(command_generate, "generate_clip", generate)
    (tmp_path / "to").mkdir()
    assert main(command(tmp_path / "to" / "out.mp4")) == 1
    *_, kept, error = capsys.readouterr().err.splitlines()
    assert kept == "kept 0.00 of 1.52 s in no file"
    assert error.startswith("error: ") and "out.mp4 could not be written: No such file" in error


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_two_runs_of_one_output_make_two_videos(command, quiet, monkeypatch, tmp_path, capsys):
    def generate(*arguments, **options):
        chunks = generate_really(*arguments, **options)
        yield next(chunks)
        monkeypatch.undo()
        assert main(command(tmp_path / "out.mp4", "--seed", "7")) == 0
        other.append((tmp_path / "out.mp4").read_bytes())
        yield from chunks

    other, generate_really = [], command_generate.generate_clip
    monkeypatch.setattr(command_generate, "generate_clip", generate)
    assert main(command(tmp_path / "out.mp4", *quiet)) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1].startswith(f"{tmp_path / 'out_2.mp4'}: 38 frames")
    assert bool(quiet) != ("warning: " in told.err and "was written by another run" in told.err)
    assert (tmp_path / "out.mp4").read_bytes() == other[0]
    assert len(decode_pictures(tmp_path / "out_2.mp4")) == 38


def test_links_in_a_circle_are_no_file_and_may_be_replaced(command, tmp_path, capsys):
    circle = tmp_path / "circle.mp4"
    circle.symlink_to("circle.mp4")
    assert main(command(tmp_path / "out.mp4", face=circle)) == 1
    assert "circle.mp4 does not exist or is not a file" in capsys.readouterr().err
    assert main(command(circle)) == 0
    assert len(decode_pictures(circle)) == 38


# ---- warnings


def test_warnings_come_once_ours_alone_and_never_in_quiet(command, tmp_path, capsys):
    face = Image.new("P", (40, 40))
    face.putpalette([9, 9, 9] * 256)
    face.save(tmp_path / "palette.png", transparency=bytes([255] * 256))  # Pillow warns of it
    face, more = tmp_path / "palette.png", ["--crop", "auto"]
    more += ["--switch", f"0={face}"]
    assert main(command(tmp_path / "out.mp4", *more, face=face)) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(told) == 1 and "palette.png: No face " in told[0]
    assert main(command(tmp_path / "out.mp4", *more, "--quiet", face=face)) == 0
    assert capsys.readouterr() == ("", "")


# ---- streams


def stream(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize(
    ("encoding", "name"), [("cp1252", "说话"), ("ascii", "café"), ("utf-8", "caf\udce9")]
)
def test_any_name_can_be_told_in_any_encoding(
    command, checkpoint, monkeypatch, tmp_path, encoding, name
):
    monkeypatch.setattr(sys, "stdout", out := stream(encoding))
    monkeypatch.setattr(sys, "stderr", stream(encoding))
    assert main(command(tmp_path / f"{name}.mp4")) == 0
    bundle = str(tmp_path / f"{name}.safetensors")
    assert main(["convert", str(checkpoint), bundle, "--variant", "lite"]) == 0
    told = out.buffer.getvalue().decode(encoding)
    assert "38 frames at 64x64" in told and "GB in" in told
    # safetensors opens no file of a name that is not UTF-8.
    assert main(["info", bundle]) == (0 if name.isprintable() else 1)


@pytest.mark.parametrize("kind", ["no reader", "closed", "never there"])
def test_a_stream_that_nobody_reads_does_not_end_a_run(kind, command, monkeypatch, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    broken = os.fdopen(writer, "w", encoding="utf-8")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None if kind == "never there" else broken)
    if kind == "closed":
        broken.close()
    assert main(command(tmp_path / "out.mp4")) == 0
    assert len(decode_pictures(tmp_path / "out.mp4")) == 38
    assert main(command(tmp_path / "nowhere" / "out.mp4")) == 1


def test_the_status_is_right_where_nobody_reads(checkpoint):
    """As in `info ... 2>&- | head -0`: at its exit Python writes what is held back."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "flashhead", "info", str(checkpoint)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    closed = {"preexec_fn": lambda: os.close(2)} if os.name == "posix" else {}
    assert subprocess.run(command, stdout=writer, env=environment, **closed).returncode == 0
    os.close(writer)


def test_streams_are_given_back_as_they_were(capsys):
    before = sys.stdout, sys.stderr
    with safe_streams():
        print("说")
        say("说")
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("说\n", "说\n")
