"""Another portrait in mid-stream (DESIGN §1.5): its face and motion, the same audio and noise."""

import wave

import pytest
import torch
from PIL import Image, ImageOps

import flashhead
from flashhead import FlashHeadWarning, LiveStream, PortraitError, Settings
from flashhead.checkpoint.loading import Checkpoint
from flashhead.cli import generate as command_generate
from flashhead.cli.main import main
from flashhead.geometry import FPS, ChunkGeometry
from flashhead.image.portrait import load_portraits
from flashhead.stream.clip import ClipPlan, switch_notes

SIZE = (32, 32)


@pytest.fixture
def other(portrait):
    return ImageOps.invert(Image.open(portrait).convert("RGB"))


@pytest.fixture
def waveform():
    return torch.randn(3 * 15_360, generator=torch.Generator().manual_seed(9))


def test_from_the_switch_on_it_is_the_other_portrait(bundle, portrait, other, waveform):
    """A stream of the other portrait, given the first one's audio and noise at that point."""
    slices = waveform.split(15_360)
    live = LiveStream(bundle, portrait, Settings(size=SIZE))
    live.advance(slices[0])
    before = live.state
    live.switch(other)
    fresh = LiveStream(bundle, other, Settings(size=SIZE))
    assert torch.equal(live.state.portrait.latents, fresh.state.portrait.latents)
    assert torch.equal(live.state.motion, fresh.state.motion)
    assert torch.equal(live.state.rng[0], before.rng[0])
    assert torch.equal(live.state.audio.samples, before.audio.samples)
    assert live.state.index == before.index
    switched = live.advance(slices[1])
    assert (switched.mean() - live.advance(slices[2]).mean()).abs() < 0.1


def test_generate_switches_at_the_first_chunk_from_then_on(bundle, portrait, other, waveform):
    def frames(**options):
        chunks = flashhead.generate(bundle, portrait, waveform, 16_000, size=SIZE, **options)
        return torch.cat([chunk.frames for chunk in chunks])

    live, expected = LiveStream(bundle, portrait, Settings(size=SIZE)), []
    for index, samples in enumerate(waveform.split(15_360)):
        if index == 2:
            live.switch(other)
        expected.append(live.advance(samples))
    # 1 s is in the second chunk (0.96 s to 1.92 s), so the third is the first to start after it.
    assert torch.equal(frames(switches={1.0: other}), torch.cat(expected))
    assert torch.equal(frames(switches={1.92: other}), torch.cat(expected))
    with pytest.warns(FlashHeadWarning, match=r"switch at 60 s never comes.*starts at 1\.92 s"):
        assert torch.equal(frames(switches={60.0: other}), frames())


def test_the_seam_follows_the_new_portraits_colours(bundle, portrait, other, waveform):
    chunks = list(
        flashhead.generate(bundle, portrait, waveform, 16_000, size=SIZE, switches={0.96: other})
    )
    means = [chunk.frames.mean().item() for chunk in chunks]
    assert abs(means[1] - means[2]) < abs(means[0] - means[1])


def test_a_bad_portrait_is_refused_at_the_call(bundle, portrait, waveform):
    with pytest.raises(PortraitError):
        flashhead.generate(bundle, portrait, waveform, 16_000, switches={1.0: "none.png"})


def test_a_folder_of_portraits(tmp_path, portrait, other):
    other.save(tmp_path / "b.png")
    Image.open(portrait).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    portraits = load_portraits(tmp_path)
    assert list(portraits) == ["a", "b"]
    assert portraits["b"].getpixel((0, 0)) == other.getpixel((0, 0))


def test_a_folder_without_portraits(tmp_path):
    with pytest.raises(PortraitError, match="no picture"):
        load_portraits(tmp_path)
    with pytest.raises(PortraitError, match="does not exist"):
        load_portraits(tmp_path / "none")


@pytest.mark.parametrize("named", [True, False], ids=["by name", "by file"])
def test_the_command_line_switches(named, checkpoint, portrait, other, tmp_path, monkeypatch):
    """A folder starts with its first picture; a switch names another, or any file."""
    folder = tmp_path / "faces"
    folder.mkdir()
    Image.open(portrait).save(folder / "a.png")
    other.save(folder / "b.png")
    soundfile = tmp_path / "speech.wav"
    with wave.open(str(soundfile), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 24_000))
    seen = {}

    def look(*arguments):
        seen.update(first=arguments[1], switches=arguments[5])
        return generate_clip(*arguments)

    generate_clip = command_generate.generate_clip
    monkeypatch.setattr(command_generate, "generate_clip", look)
    target = "b" if named else str(folder / "b.png")
    command = ["generate", "--checkpoint", checkpoint, "--variant", "lite", "--size", "32x32"]
    command += ["--audio", soundfile, "--output", tmp_path / "out.mp4", "--quiet"]
    command += ["--portrait", folder if named else folder / "a.png", "--switch", f"0.96={target}"]
    assert main([str(part) for part in command]) == 0
    assert list(seen["switches"]) == [0.96]
    assert seen["switches"][0.96].getpixel((0, 0)) == other.getpixel((0, 0))
    assert seen["first"].getpixel((0, 0)) == Image.open(portrait).convert("RGB").getpixel((0, 0))


def test_the_command_line_names_the_portraits_there(checkpoint, portrait, tmp_path, capsys):
    folder = tmp_path / "faces"
    folder.mkdir()
    Image.open(portrait).save(folder / "anna.png")
    command = ["generate", "--checkpoint", checkpoint, "--variant", "lite", "--size", "32x32"]
    command += ["--audio", "x.wav", "--output", tmp_path / "out.mp4", "--portrait", folder]
    assert main([str(part) for part in [*command, "--switch", "1=ben"]]) == 1
    assert "'ben'" in (told := capsys.readouterr().err) and "anna" in told
    with pytest.raises(SystemExit):
        main([str(part) for part in [*command, "--switch", "soon=anna"]])
    assert "SECONDS=PORTRAIT" in capsys.readouterr().err


LITE, PRO = ChunkGeometry((8, 32, 32), (1, 1, 1), 128), ChunkGeometry((4, 8, 8), (1, 2, 2), 16)


@pytest.mark.parametrize("geometry", [LITE, PRO])
@pytest.mark.parametrize("once", [False, True])
def test_a_switch_at_a_chunks_start_comes_there(geometry, once):
    """Written as anybody writes it: 1.12 x 25 is above 28 in floating point."""
    plan = ClipPlan(geometry, 100_000, once)
    times = [float(f"{plan.span(chunk).start / FPS:.2f}") for chunk in range(plan.chunks)]
    assert switch_notes(plan, times) == ([], [])


def test_switches_that_are_late_or_never_seen():
    plan = ClipPlan(LITE, 3 * 24)
    never, late = switch_notes(plan, [1.95, 1.0, 0.5, 0.6, 1.0, float("inf"), 0])
    assert late == [
        "The switch at 0.6 s comes at 0.96 s, where the next chunk starts.",
        "The switch at 1 s comes at 1.92 s, where the next chunk starts.",
    ]
    assert [sentence.partition(":")[0] for sentence in never] == [
        "The switch at 0.5 s is never seen",
        "The switch at 1 s is never seen",
        "The switch at 1.95 s never comes",
        "The switch at inf s never comes",
    ]


@pytest.mark.parametrize(
    "switches, says",
    [
        (["9=b"], "error: The switch at 9 s never comes: the last chunk starts at 0.96 s."),
        (["0.1=b", "0.5=a"], "error: The switch at 0.1 s is never seen: another comes at 0.96 s"),
        (["0.96=b", "0.96=a"], "error: The switch at 0.96 s is never seen: another comes"),
        (["0.5=b"], "The switch at 0.5 s comes at 0.96 s, where the next chunk starts."),
        (["0.96=b"], "weights"),
    ],
)
def test_the_command_line_says_first_when_a_switch_comes(
    switches, says, checkpoint, portrait, tmp_path, monkeypatch, capsys
):
    def load(*_, **__):
        raise OSError("weights")

    monkeypatch.setattr(Checkpoint, "load", load)
    for name in ("a.png", "b.png"):
        Image.open(portrait).save(tmp_path / name)
    soundfile = tmp_path / "speech.wav"
    with wave.open(str(soundfile), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 24_000))
    command = ["generate", "--checkpoint", checkpoint, "--variant", "lite", "--size", "32x32"]
    command += ["--audio", soundfile, "--output", tmp_path / "out.mp4", "--portrait", tmp_path]
    for switch in switches:
        command += ["--switch", switch]
    assert main([str(part) for part in command]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert says in lines[0]
    assert lines[1:] == (["error: weights"] if says.startswith("The") else [])
