"""Paste Back: unchanged outside, aligned inside, smooth at the seam, as long as it should be."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flashhead import PortraitError
from flashhead.image.crop import Box, Crop, crop_around, crop_to_cover, cut
from flashhead.image.paste import paste
from flashhead.image.portrait import to_tensor


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth(height, width):
    """A picture without detail that scaling could lose."""
    y, x = torch.meshgrid(torch.arange(height) / 40, torch.arange(width) / 40, indexing="ij")
    return torch.stack((y.sin(), (x + 1).cos(), (x + y).sin()), -1) * 0.4 + 0.5


WHOLE = Crop(20, 10, 52, 58, (80, 90), (48, 32))  # whole pixels at their own scale


def inside(crop, image):
    return image[..., int(crop.top) : int(crop.bottom), int(crop.left) : int(crop.right), :]


def test_whole_pixels_at_their_own_scale_arrive_to_the_bit():
    background, frames = noise(1, 80, 90, 3), noise(2, 48, 32, 3, seed=1)
    result = paste(background, frames, WHOLE, feather=0)
    expected = background.repeat(2, 1, 1, 1)
    inside(WHOLE, expected)[:] = frames
    assert torch.equal(result, expected)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_what_was_cut_out_goes_back_in_place(data):
    source = (data.draw(st.integers(150, 300)), data.draw(st.integers(150, 300)))
    size = data.draw(st.sampled_from([(128, 128), (160, 96), (256, 256)]))
    if data.draw(st.booleans()):
        crop = crop_to_cover(source, size)
    else:
        face = Box(*(data.draw(st.floats(20, 90)) for _ in range(4)))
        crop = crop_around(face, source, size, ratio=1.3)
    picture = Image.fromarray((smooth(*source) * 255).round().byte().numpy())
    background = to_tensor(picture)[None]
    result = paste(background, to_tensor(cut(picture, crop))[None], crop, feather=0)
    difference = (result - background).abs()[0].amax(-1)
    # A shift by a quarter of a pixel would show: the picture's slope is 0.02 a pixel at most, so
    # rounding (0.002, twice) and the filter leave no more than this.
    scale = max(1, crop.width / size[1], size[1] / crop.width)
    assert difference.max() < 0.012 * scale
    assert difference.mean() < 0.0035


def test_a_fractional_box_moves_the_head_by_the_fraction():
    background = torch.zeros(1, 40, 60, 3)
    ramp = torch.linspace(0, 1, 32)[None, None, :, None].expand(1, 32, 32, 3)
    base = paste(background, ramp, Crop(10, 4, 42, 36, (40, 60), (32, 32)), feather=0)
    moved = paste(background, ramp, Crop(10.25, 4, 42.25, 36, (40, 60), (32, 32)), feather=0)
    step = 1 / 31
    middle = slice(14, 38)
    shift = (base - moved)[0, 20, middle, 0] / step
    assert torch.allclose(shift, torch.full_like(shift, 0.25), atol=1e-4)
    # The pixel that the crop covers by three quarters shows as much of the head.
    white = torch.ones(1, 32, 32, 3)
    edge = paste(background, white, Crop(10.25, 4, 42.25, 36, (40, 60), (32, 32)), feather=0)
    assert edge[0, 20, 9:12, 0].tolist() == pytest.approx([0, 0.75, 1])
    assert edge[0, 20, 41:44, 0].tolist() == pytest.approx([1, 0.25, 0])


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 40), st.floats(0, 30), st.floats(10, 40), st.integers(0, 30), st.booleans())
def test_outside_the_crop_nothing_changes(left, top, side, feather, masked):
    crop = Crop(left, top, left + side, top + side, (70, 80), (64, 64))
    background, frames = noise(2, 70, 80, 3), noise(3, 64, 64, 3, seed=1)
    mask = noise(70, 80) if masked else None
    kept = background.clone()
    result = paste(background, frames, crop, feather=feather, color_match=1.0, mask=mask)
    outside = torch.ones(70, 80, dtype=torch.bool)
    outside[int(top) : int(np.ceil(top + side)), int(left) : int(np.ceil(left + side))] = False
    assert torch.equal(background, kept)
    for index in range(3):
        assert torch.equal(result[index][outside], background[min(index, 1)][outside])
    assert result.min() >= 0 and result.max() <= 1


def test_shrinking_is_antialiased():
    crop = Crop(0, 0, 64, 64, (64, 64), (256, 256))
    result = paste(torch.zeros(1, 64, 64, 3), noise(1, 256, 256, 3), crop, feather=0)
    # Noise of deviation 0.29 averaged over 8x8 pixels; two taps an axis would leave 0.14.
    assert result.std() < 0.07


def test_the_feather_is_smooth_and_spares_the_pictures_border():
    background, white = torch.zeros(1, 100, 100, 3), torch.ones(1, 64, 64, 3)
    crop = Crop(0, 20, 60, 100, (100, 100), (80, 60))  # touches the left and the bottom
    result = paste(background, white.new_ones(1, 80, 60, 3), crop, feather=16)[0, ..., 0]
    assert (result[60, :44] == 1).all() and (result[36:, 30] == 1).all()
    ramp = result[60, 44:60]
    assert (ramp.diff() < 0).all() and ramp[0] > 0.99 and ramp[-1] < 0.01
    assert ramp[7:9].mean() == pytest.approx(0.5, abs=1e-4)
    assert ramp.diff().abs().max() < 0.12
    assert torch.equal(result[20:36, 30], ramp.flip(0))


def test_a_feather_wider_than_the_crop_still_shows_its_middle():
    crop = Crop(20, 20, 60, 60, (80, 80), (32, 32))
    result = paste(torch.zeros(1, 80, 80, 3), torch.ones(1, 32, 32, 3), crop, feather=500)
    assert result[0, 40, 40, 0] > 0.98


@pytest.mark.parametrize(("m", "n", "total"), [(1, 1, 1), (1, 7, 7), (5, 2, 5), (3, 6, 6)])
def test_lengths(m, n, total):
    # So large that only two frames are pasted at a time, so that the borders of blocks are crossed.
    crop = Crop(8, 4, 1032, 1028, (1040, 1040), (1024, 1024))
    background = (torch.arange(m)[:, None, None, None] / 10).expand(m, 1040, 1040, 3)
    frames = (torch.arange(n)[:, None, None, None] / 10 + 0.05).expand(n, 1024, 1024, 3)
    ticks = []
    result = paste(background, frames, crop, feather=0, tick=lambda *done: ticks.append(done))
    assert ticks == [(min(done, total), total) for done in range(2, total + 2, 2)]
    assert len(result) == total
    for index in range(total):
        assert torch.equal(result[index, 0], background[min(index, m - 1), 0])
        assert torch.equal(result[index, 30, 30], frames[min(index, n - 1), 0, 0])


def test_a_tick_that_raises_stops():
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paste(noise(1, 80, 90, 3), noise(2, 48, 32, 3), WHOLE, tick=stop)


def test_heads_are_chained():
    background = noise(1, 80, 90, 3)
    other = Crop(54, 10, 86, 58, (80, 90), (48, 32))
    one, two = noise(4, 48, 32, 3, seed=1), noise(6, 48, 32, 3, seed=2)
    result = paste(paste(background, one, WHOLE, feather=0), two, other, feather=0)
    assert torch.equal(inside(WHOLE, result)[:4], one)
    assert torch.equal(inside(WHOLE, result)[5], one[3])
    assert torch.equal(inside(other, result), two)


def test_a_mask_in_the_backgrounds_or_the_crops_coordinates():
    background, frames = noise(1, 80, 90, 3), noise(3, 48, 32, 3, seed=1)
    mask = torch.zeros(80, 90)
    mask[20:40, 25:45] = 1
    cut_mask = mask[10:58, 20:52]
    result = paste(background, frames, WHOLE, feather=0, mask=mask)
    expected = background.repeat(3, 1, 1, 1)
    expected[:, 20:40, 25:45] = frames[:, 10:30, 5:25]
    assert torch.equal(result, expected)
    for form in (cut_mask, mask[None], cut_mask[None].repeat(3, 1, 1)):
        assert torch.equal(paste(background, frames, WHOLE, feather=0, mask=form), expected)


@pytest.mark.parametrize("color_match", [0.0, 0.5])
def test_a_mask_for_every_frame(color_match):
    background, frames = noise(1, 80, 90, 3), noise(2, 48, 32, 3, seed=1)
    masks = torch.stack((torch.zeros(48, 32), torch.ones(48, 32)))
    result = paste(background, frames, WHOLE, feather=0, mask=masks, color_match=color_match)
    assert torch.equal(result[0], background[0])
    assert not torch.equal(inside(WHOLE, result[1]), inside(WHOLE, background[0]))


@pytest.mark.parametrize("feather", [0, 20])
def test_a_colour_offset_is_removed(feather):
    crop = Crop(40, 30, 168, 158, (200, 220), (128, 128))
    background = smooth(200, 220)[None] * 0.6 + 0.2
    frames = inside(crop, background) + torch.tensor([0.06, -0.04, 0.02])
    whole = paste(background, frames, crop, feather=feather, color_match=1.0)
    assert (whole - background).abs().max() < 2e-3
    half = paste(background, frames, crop, feather=feather, color_match=0.5)
    left = (half - background)[0, 90, 100]
    assert left.tolist() == pytest.approx([0.03, -0.02, 0.01], abs=1e-3)


def test_moving_shoulders_move_no_colours():
    crop = Crop(40, 30, 168, 158, (200, 220), (128, 128))
    background = torch.full((1, 200, 220, 3), 0.6)
    background[:, 120:] = 0.2
    frames = inside(crop, background).repeat(40, 1, 1, 1) + 0.05
    for index in range(40):  # up and down by ten pixels
        rise = round(10 * np.sin(index))
        frames[index, 90 - max(rise, 0) :] = 0.25
    result = paste(background, frames, crop, feather=20, color_match=1.0)
    middle = result[:, 70, 100, 0]
    assert (middle - 0.6).abs().max() < 5e-3
    assert middle.diff().abs().max() < 1e-3


def test_jumping_colours_do_not_flicker():
    crop = Crop(40, 30, 168, 158, (200, 220), (128, 128))
    background = torch.full((1, 200, 220, 3), 0.5)
    frames = torch.full((50, 128, 128, 3), 0.5)
    frames[::2] += 0.1
    result = paste(background, frames, crop, color_match=1.0)
    assert (result[:, 94, 104, 0] - frames[:, 64, 64, 0]).diff().abs().max() < 0.01


def test_a_crop_of_the_whole_picture_has_no_seam_to_match():
    frames = noise(2, 64, 64, 3)
    crop = crop_to_cover((64, 64), (64, 64))
    assert torch.equal(paste(noise(1, 64, 64, 3, seed=3), frames, crop, color_match=1.0), frames)


def test_upscaled_frames_fit_their_crop():
    result = paste(noise(1, 80, 90, 3), torch.ones(1, 96, 64, 3), WHOLE, feather=0)
    assert (inside(WHOLE, result) == 1).all()


def test_half_precision_backgrounds_stay_as_they_are():
    background = noise(1, 80, 90, 3).half()
    result = paste(background, noise(1, 48, 32, 3), WHOLE)
    assert result.dtype == torch.float16
    assert torch.equal(result[:, :10], background[:, :10])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"background": torch.rand(1, 80, 90, 4)}, r"background has shape.*alpha"),
        ({"background": torch.rand(80, 90, 3)}, r"background has shape \(80, 90, 3\)"),
        ({"background": torch.rand(1, 90, 80, 3)}, "picture of 90x80, but the background.*80x90"),
        ({"frames": torch.rand(0, 48, 32, 3)}, r"head has shape \(0, 48, 32, 3\)"),
        ({"frames": torch.rand(1, 32, 48, 3)}, "48x32.*portrait of 32x48"),
        ({"background": [torch.rand(80, 90, 3)]}, "background is list"),
        ({"background": torch.ones(1, 80, 90, 3).byte()}, "background is torch.uint8"),
        ({"background": 255 * torch.rand(1, 80, 90, 3)}, "background's values run from .* to 25"),
        ({"frames": 2 * torch.rand(2, 48, 32, 3) - 1}, "head's values run from -0.99.* to 0.99"),
        ({"frames": torch.full((2, 48, 32, 3), torch.nan)}, "head's values run from nan"),
        ({"mask": torch.full((80, 90), torch.nan)}, "mask has NaN"),
        ({"mask": torch.rand(80, 90).numpy()}, "mask has the type ndarray"),
        ({"mask": torch.zeros(1, 64, 64)}, "mask is empty; paint where the head shows"),
        ({"mask": torch.rand(3, 3)}, r"mask has shape \(3, 3\); expected.*\(80, 90\).*\(48, 32\)"),
        ({"mask": torch.rand(3, 80, 90)}, "3 masks; expected 1 or 2"),
        ({"feather": -1}, "feather is -1"),
        ({"color_match": 1.5}, "colour match is 1.5"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    given = {"background": noise(1, 80, 90, 3), "frames": noise(2, 48, 32, 3), "crop": WHOLE}
    with pytest.raises(PortraitError, match=message):
        paste(**given | changes)
