"""The command on drawn clips and the miniature, which cannot talk."""

import json
from pathlib import Path

import pytest
import torch

from flashhead.training.__main__ import main
from flashhead.training.data.clip_dataset import ClipDataset, write_clips
from flashhead.training.evaluation.clip_reports import as_teacher, mean_figures, report_clip
from flashhead.training.faces.drawn_clips import draw_clip
from flashhead.training.faces.identities import REPERTOIRE

from .synthetic import speech

CHECKPOINT = Path(__file__).parents[1] / "fixtures" / "tiny-checkpoint"
FRAMES = 75


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    def drawn():
        for number in range(2):
            rng = torch.Generator().manual_seed(number)
            truth = speech(FRAMES, seed=number)
            waveform = torch.randn(FRAMES * 640, generator=rng)
            width = torch.full((FRAMES,), 0.5)
            yield draw_clip(
                REPERTOIRE[number], truth, width, 64, rng, waveform=waveform, number=number
            )

    return write_clips(tmp_path_factory.mktemp("metrics") / "clips", drawn(), 2)


def test_the_drawn_clips_themselves_are_in_sync(clips, tmp_path, capsys):
    status = main(f"measure --clips {clips} --output {tmp_path} --kind drawn".split())
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert status == 0 and json.loads(capsys.readouterr().out) == figures
    assert figures["drawn"]["sync.correlation"] > 0.95 and figures["drawn"]["sync.lag"] == 0
    assert {p.name for p in tmp_path.glob("drawn-*")} == {
        f"drawn-00{n}.{suffix}" for n in range(2) for suffix in ("png", "json")
    }


def test_a_checkpoint_is_measured_in_every_way(clips, tmp_path):
    kinds = ("generated", "shuffled", "silent", "reconstructed")
    arguments = (
        f"measure --clips {clips} --output {tmp_path} --checkpoint {CHECKPOINT} --variant lite"
    )
    words = [word for kind in kinds for word in ("--kind", kind)]
    assert main([*arguments.split(), *words, "--count", "1", "--steps", "2"]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures) == set(kinds)
    assert figures["generated"]["frames"] == FRAMES
    assert figures["reconstructed"]["frames"] == 33 + 24
    # Random weights: the picture is not the portrait, and the mouth follows nothing.
    assert figures["generated"]["identity.late"] < 25
    assert abs(figures["generated"]["sync.correlation"]) < 0.6


def test_a_checkpoint_is_asked_for(clips, tmp_path, capsys):
    assert main(f"measure --clips {clips} --output {tmp_path}".split()) == 1
    assert "--checkpoint is missing" in capsys.readouterr().err


def test_repeated_speech_and_means(clips):
    import flashhead

    bundle = flashhead.load_bundle(CHECKPOINT, "lite")
    clip = ClipDataset(clips)[0]
    reports = [
        report_clip(bundle, clip, repeat=repeat, steps=2, name=f"r{repeat}") for repeat in (1, 2)
    ]
    assert [report.summary.frames for report in reports] == [FRAMES, 2 * FRAMES]
    assert mean_figures(reports)["frames"] == 1.5 * FRAMES
    assert as_teacher(bundle).variant == "pretrained"
    with pytest.raises(ValueError, match="needs another clip"):
        report_clip(bundle, clip, "shuffled")
    with pytest.raises(ValueError, match="needs a checkpoint"):
        report_clip(None, clip)
    with pytest.raises(ValueError, match="Unknown kind"):
        report_clip(bundle, clip, "sung")
