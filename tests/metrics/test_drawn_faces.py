"""The openness meter on the faces that training draws, which have teeth, tongues and beards."""

import pytest
import torch

from flashhead.training.evaluation.clip_regions import clip_frames, portrait_image, regions_of_clip
from flashhead.training.evaluation.frames import measure_frames
from flashhead.training.evaluation.summary import summarize
from flashhead.training.faces.drawn_clips import draw_clip
from flashhead.training.faces.identities import REPERTOIRE

from .synthetic import speech


@pytest.mark.parametrize("number", [0, 1, 9])
def test_the_meter_follows_a_drawn_mouth(number):
    truth = speech(75, seed=number)
    rng = torch.Generator().manual_seed(number)
    clip = draw_clip(REPERTOIRE[number], truth, torch.full((75,), 0.5), 96, rng)
    regions = regions_of_clip(clip, most=40)
    measures = measure_frames([clip_frames(clip)], portrait_image(clip), regions)
    summary = summarize(measures, truth=truth)
    assert summary.sync.correlation > 0.97 and summary.sync.lag == 0
    assert summary.closed_in_silence < 0.05
    assert summary.background.late > 60 and summary.identity.late > 25
    assert 0.1 < regions.background.mean() < 0.6


def test_a_clip_that_knows_nothing_has_no_regions():
    clip = draw_clip(
        REPERTOIRE[0], torch.zeros(2), torch.full((2,), 0.5), 32, torch.Generator().manual_seed(0)
    )
    with pytest.raises(ValueError, match="does not know its pose"):
        regions_of_clip(
            type(clip)(clip.video, clip.waveform, clip.portrait, mouth=clip.mouth, face=clip.face)
        )
