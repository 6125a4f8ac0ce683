"""The checkpoint in the box: it talks, and says what it cannot do."""

import json
import warnings
from pathlib import Path

import pytest
import torch

import flashhead
from flashhead import pocket
from flashhead.checkpoint.bundle_file import BundleHeader, read_limits
from flashhead.checkpoint.weights import open_weights
from flashhead.cli.main import main
from flashhead.errors import CheckpointError, PortraitWarning
from flashhead.examples import PHOTOGRAPH
from flashhead.media.audio_source import FileAudio
from flashhead.training.signals import correlation

HERE = Path(__file__).parents[1] / "fixtures" / "pocket"


@pytest.fixture(scope="module")
def bundle():
    return flashhead.load_bundle(pocket.NAME)


def speak(bundle, audio, **settings) -> torch.Tensor:
    chunks = flashhead.generate(bundle, pocket.portraits()["Ada"], audio, **settings)
    return torch.cat([chunk.frames for chunk in chunks])


def darkest_height(frames: torch.Tensor) -> torch.Tensor:
    """How much of the mouth's region is dark, a frame each (n,): Ada's mouth, nearly still."""
    mouth = frames[:, 62:80, 34:62].mean(3)
    return (mouth < 0.45).float().mean((1, 2))


def test_everything_takes_at_most_16_mb():
    assert sum(f.stat().st_size for f in pocket.FOLDER.rglob("*") if f.is_file()) <= 16_000_000


def test_it_talks(bundle):
    frames = speak(bundle, FileAudio(HERE / "speech.wav"))
    truth = torch.tensor(json.loads((HERE / "openness.json").read_text()))
    assert frames.shape == (len(truth), 96, 96, 3)
    moved = darkest_height(frames)
    assert correlation(moved, truth) > 0.75
    # Another moment's speech is no explanation.
    assert correlation(moved, truth.roll(len(truth) // 2)) < 0.4


def test_silence_keeps_its_mouth_shut(bundle):
    open_mouth = darkest_height(speak(bundle, FileAudio(HERE / "speech.wav"))).amax()
    silent = darkest_height(speak(bundle, torch.zeros(32_000), sample_rate=16_000))
    assert silent[5:].amax() < 0.5 * open_mouth


def test_own_portraits_are_known(bundle):
    silence = torch.zeros(1600)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PortraitWarning)
        for portrait in pocket.portraits().values():
            next(flashhead.generate(bundle, portrait, silence, 16_000))
    assert list(pocket.portraits())[0] == "Ada"


@pytest.mark.parametrize(
    ("portrait", "size"), [(PHOTOGRAPH, None), (pocket.portraits()["Ada"], (64, 64))]
)
def test_what_it_cannot_animate_is_said(bundle, portrait, size):
    settings = flashhead.Settings(size=size)
    with pytest.warns(PortraitWarning, match="Lite"):
        flashhead.LiveStream(bundle, portrait, settings)
    with pytest.warns(PortraitWarning, match="Lite"):
        next(flashhead.generate(bundle, portrait, torch.zeros(1600), 16_000, size=size))


def test_command_line(tmp_path, capsys):
    output = tmp_path / "video.mp4"
    command = ["generate", "--checkpoint", "pocket", "--audio", str(HERE / "speech.wav")]
    command += ["--portrait", str(PHOTOGRAPH), "--output", str(output), "--enlarge", "2"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "192x192" in told.out
    assert sum(line.startswith("warning: This small") for line in told.err.splitlines()) == 1
    assert main(["info", "pocket"]) == 0
    assert "96x96" in capsys.readouterr().out


def test_limits_survive_conversion(bundle, tmp_path):
    copy = tmp_path / "copy.safetensors"
    flashhead.convert(pocket.NAME, copy, dtype="fp16")
    assert flashhead.load_bundle(copy).limits == bundle.limits
    header = BundleHeader.from_metadata(open_weights(copy).metadata, "copy")
    assert header.limits == bundle.limits


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"size": [96, 96]},
        {"size": [96], "faces": ["00" * 432]},
        {"size": [96, 96], "faces": []},
        {"size": [96, 96], "faces": ["00"]},
        {"size": [96, 96], "faces": ["zz" * 432]},
        {"size": "large", "faces": [3]},
        {"size": [96, 96], "faces": ["00" * 432], "seam_fade": "long"},
        {"size": [96, 96], "faces": ["00" * 432], "seam_fade": -1},
    ],
)
def test_damaged_limits_are_refused(value):
    with pytest.raises(CheckpointError, match="thumbnails of 12x12"):
        read_limits(value, "file")
