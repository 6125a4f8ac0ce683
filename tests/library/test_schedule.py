"""Timesteps: the published ones, and the formula behind them."""

import numpy as np
import pytest

from flashhead import FlashHeadError
from flashhead.stream.sampling import timesteps


@pytest.mark.parametrize("steps", [2, 4, 8, 20])
def test_matches_the_published_schedule(steps, golden):
    expected = golden("timesteps")[f"steps_{steps}"]
    # float32 holds 1000 to 6e-5, so 1e-6 is relative here.
    np.testing.assert_allclose(timesteps(steps), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 50])
@pytest.mark.parametrize("shift", [0.2, 1.0, 3.0, 12.0])
def test_follows_the_formula(steps, shift):
    raw = {2: [1000, 500], 4: [1000, 750, 500, 250]}.get(steps, np.linspace(1000, 1, steps))
    raw = np.array([*raw, 0]) / 1000
    expected = 1000 * shift * raw / (1 + (shift - 1) * raw)
    np.testing.assert_allclose(timesteps(steps, shift), expected, rtol=1e-5)


def test_four_steps_are_the_numbers_of_the_paper():
    assert timesteps(4).tolist() == pytest.approx([1000, 937.5, 833.3333, 625, 0])


@pytest.mark.parametrize("steps", [0, -1, 2.5, 1001, 10**12])
def test_impossible_steps_are_refused(steps):
    with pytest.raises(FlashHeadError, match=f"{steps}.*steps"):
        timesteps(steps)


@pytest.mark.parametrize("shift", [0, -5.0, float("nan"), float("inf")])
def test_impossible_shifts_are_refused(shift):
    with pytest.raises(FlashHeadError, match="shift"):
        timesteps(4, shift)
