"""Colour matching: the original code's output, and Lab written out pixel by pixel."""

import numpy as np
import pytest
import torch

from flashhead.image.color import color_target, lab_to_rgb, match_color, rgb_to_lab

WHITE = np.array([0.95047, 1.0, 1.08883])
RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def lab_of(pixel):
    """CIE Lab of one sRGB pixel, in float64."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in pixel]
    x, y, z = (
        t ** (1 / 3) if t > 0.008856 else (903.3 * t + 16) / 116
        for t in np.clip(RGB_TO_XYZ @ linear / WHITE, 1e-8, 1)
    )
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


def video(frames=3, low=-1.0, high=1.0, seed=0, batch=1):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, frames, 12, 10, generator=rng) * (high - low) + low


def statistics(clip):
    lab = rgb_to_lab((clip + 1) / 2)
    return lab.mean((3, 4)), lab.std((3, 4), correction=0)


@pytest.mark.parametrize(("name", "strength"), [("full", 1.0), ("half", 0.5)])
def test_matches_the_original_code(name, strength, golden):
    data = golden("color")
    matched = match_color(data["source"], color_target(data["reference"]), strength)
    assert (matched - data[name]).abs().max() < 1e-4


def test_lab_is_lab():
    rgb = torch.rand(1, 3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    rgb[..., 0, :] *= 0.04  # the straight part of the curve
    lab = rgb_to_lab(rgb)
    for row in range(6):
        for column in range(6):
            expected = lab_of(rgb[0, :, 0, row, column].double().numpy())
            np.testing.assert_allclose(lab[0, :, 0, row, column], expected, atol=2e-3)


def test_the_target_is_lab_mean_and_biased_deviation():
    reference = video(frames=1)
    pixels = ((reference[0, :, 0] + 1) / 2).flatten(1).double().T.numpy()
    lab = np.array([lab_of(pixel) for pixel in pixels])
    target = color_target(reference)
    np.testing.assert_allclose(target.mean.flatten(), lab.mean(0), atol=1e-2)
    np.testing.assert_allclose(target.std.flatten(), lab.std(0), rtol=1e-3)


def test_lab_and_back():
    rgb = (video() + 1) / 2
    assert (lab_to_rgb(rgb_to_lab(rgb)) - rgb).abs().max() < 1e-3


def test_every_frame_gets_the_targets_mean_and_deviation():
    reference = video(frames=1, low=-0.2, high=0.2, seed=1)
    matched = match_color(video(frames=4, low=-0.6, high=0.1), color_target(reference))
    for actual, expected in zip(statistics(matched), statistics(reference), strict=True):
        assert (actual - expected).abs().max() < 0.05  # of 100


def test_a_clip_like_its_target_stays():
    clip = video(frames=1)
    assert (match_color(clip, color_target(clip)) - clip).abs().max() < 1e-3


def test_frames_and_samples_are_matched_on_their_own():
    clips, references = video(batch=2), video(frames=1, seed=5, batch=2)
    together = match_color(clips, color_target(references))
    for n in range(2):
        target = color_target(references[n : n + 1])
        for frame in range(3):
            alone = match_color(clips[n : n + 1, :, frame : frame + 1], target)
            assert (together[n, :, frame] - alone[0, :, 0]).abs().max() < 1e-5


def test_strength_blends_in_rgb():
    clip, target = video(), color_target(video(frames=1, seed=3, low=-0.5))
    full = match_color(clip, target)
    assert torch.equal(match_color(clip, target, 0.0), clip)
    torch.testing.assert_close(match_color(clip, target, 0.3), clip + 0.3 * (full - clip))


@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_flat_frames_and_flat_targets_stay_finite(level):
    flat = torch.full((1, 3, 2, 8, 8), level)
    for clip, reference in ((flat, video(1)), (video(), flat[:, :, :1]), (flat, flat[:, :, :1])):
        matched = match_color(clip, color_target(reference))
        assert matched.isfinite().all() and matched.abs().max() <= 1


def test_what_a_decoder_overshoots_is_brought_into_range():
    matched = match_color(video(low=-3, high=3), color_target(video(1)))
    assert matched.isfinite().all() and matched.abs().max() <= 1


def test_half_precision_is_matched_in_float32():
    matched = match_color(video().half(), color_target(video(1)))
    assert matched.dtype == torch.float32


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_impossible_strengths_are_refused(strength):
    with pytest.raises(ValueError, match="strength"):
        match_color(video(), color_target(video(1)), strength)
