"""Speakers: in step to the sample, silent where they say nothing, and the mix left alone."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashhead import AudioError, AudioWarning
from flashhead.media.speakers import GATE_OFF, split_speakers

RATE = 16_000


def noise(channels, samples, level=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return level * (2 * torch.rand(channels, samples, generator=generator) - 1)


def rms(wave):
    return wave.square().mean().sqrt().item()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(400, 40_000), st.sampled_from([8000, 16000, 44100]))
def test_channels_come_apart_untouched(channels, samples, rate):
    wave = noise(channels, samples)
    result = split_speakers([(wave, rate)])
    assert result.sample_rate == rate and torch.equal(result.mix, wave)
    assert len(result.speakers) == channels
    for speaker, channel in zip(result.speakers, wave, strict=True):
        assert torch.equal(speaker, channel)


def test_tracks_of_one_rate_are_padded_and_summed():
    one, two = noise(1, 5000), noise(2, 9000, seed=1)
    result = split_speakers([(one, RATE), (two, RATE)], "tracks", gate_db=GATE_OFF)
    assert torch.equal(result.speakers[0][:5000], one[0])
    assert (result.speakers[0][5000:] == 0).all() and len(result.speakers[0]) == 9000
    assert torch.equal(result.speakers[1], two.mean(0))
    expected = two.clone()
    expected[:, :5000] += one
    assert torch.allclose(result.mix, expected, atol=1e-7)


def test_a_sum_of_mono_tracks_is_mono_and_does_not_clip():
    waves = [noise(1, 4000, 0.9, seed) for seed in range(4)]
    result = split_speakers([(wave, RATE) for wave in waves], "tracks")
    total = torch.cat(waves).sum(0, keepdim=True)
    assert total.abs().max() > 1
    assert torch.allclose(result.mix, total / total.abs().max(), atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([8000, 11025, 16000, 22050, 32000, 44100]), st.integers(30_000, 90_000))
def test_rates_differ_and_sync_does_not(rate, samples):
    """A band-limited sound at two rates is the same sound, in step within a hundredth of a
    sample, and as long as it was."""
    top = 48_000
    tones = ((311.0, 0.3), (1234.5, 0.2), (2789.0, 0.1))

    def sound(at_rate, count):
        t = torch.arange(count, dtype=torch.float64) / at_rate
        return sum(a * torch.sin(2 * np.pi * f * t + f) for f, a in tones).float()[None]

    length = -(-samples * top // rate)
    result = split_speakers(
        [(sound(rate, samples), rate), (sound(top, length), top)], "tracks", gate_db=GATE_OFF
    )
    assert result.sample_rate == top
    low, high = result.speakers
    assert len(low) == len(high) == length
    inner = slice(1000, length - 1000)
    assert (low - high)[inner].abs().max() < 2e-3


def talk(level=0.3):
    """Three seconds: speech-like noise in the middle one, a quiet room around it."""
    wave = noise(1, 3 * RATE, 1e-3)[0]
    wave[RATE : 2 * RATE] += noise(1, RATE, level, seed=1)[0]
    return wave


def test_the_gate_silences_the_room_and_touches_no_speech():
    wave = torch.stack((talk(), noise(1, 3 * RATE, 1e-3, seed=2)[0]))
    result = split_speakers([(wave, RATE)], gate_db=-50.0)
    one, two = result.speakers
    assert (two == 0).all()
    # Some air is left around the speech, faded at its far ends.
    assert torch.equal(one[RATE - 1000 : 2 * RATE + 4000], wave[0, RATE - 1000 : 2 * RATE + 4000])
    assert (one[: RATE - 3000] == 0).all() and (one[2 * RATE + 6000 :] == 0).all()
    gain = one[RATE - 2500 : RATE] / wave[0, RATE - 2500 : RATE]
    assert gain.diff().abs().max() < 0.01 and gain.min() == 0 and gain.max() == 1
    assert torch.equal(result.mix, wave)


def test_the_gate_goes_by_level_and_can_be_off():
    quiet = noise(1, RATE, 0.01)  # -45 dB
    assert torch.equal(split_speakers([(quiet, RATE)]).speakers[0], quiet[0])
    assert (split_speakers([(quiet, RATE)], gate_db=-40.0).speakers[0] == 0).all()
    faint = noise(1, RATE, 1e-5)
    assert (split_speakers([(faint, RATE)]).speakers[0] == 0).all()
    off = split_speakers([(faint, RATE)], gate_db=GATE_OFF)
    assert torch.equal(off.speakers[0], faint[0])


def test_a_constant_offset_is_no_sound():
    wave = noise(1, RATE, 1e-5) + 0.02
    assert (split_speakers([(wave, RATE)]).speakers[0] == 0).all()


def test_equal_loudness_goes_by_what_is_spoken():
    loud, soft = noise(1, 3 * RATE, 0.6)[0], talk(0.06)  # the pauses of one do not count
    wave = torch.stack((loud, soft, torch.zeros_like(loud)))
    result = split_speakers([(wave, RATE)], loudness="equal")
    levels = [rms(track[RATE : 2 * RATE]) for track in result.speakers]
    assert levels[0] == pytest.approx(levels[1], rel=0.03) and levels[2] == 0
    assert rms(wave[1]) < levels[0] < rms(wave[0, RATE : 2 * RATE])
    assert torch.equal(result.mix, wave)
    assert max(track.abs().max() for track in result.speakers) <= 1 + 1e-6


def test_equal_loudness_balances_a_sum_of_tracks():
    loud, soft = talk(0.6), talk(0.06).roll(RATE)
    result = split_speakers([(loud, RATE), (soft, RATE)], "tracks", "equal")
    mix = result.mix[0]
    assert rms(mix[RATE : 2 * RATE]) == pytest.approx(rms(mix[2 * RATE :]), rel=0.05)


def test_equal_loudness_never_clips():
    spiky = talk(0.05)
    spiky[RATE + 100] = 0.9
    result = split_speakers([(torch.stack((spiky, talk(0.9))), RATE)], loudness="equal")
    assert max(track.abs().max() for track in result.speakers) <= 1 + 1e-6


def test_the_caller_keeps_what_was_given():
    wave = noise(2, RATE, 1e-5)
    kept = wave.clone()
    split_speakers([(wave, RATE)], loudness="equal")
    assert torch.equal(wave, kept)


@pytest.mark.parametrize(
    ("audio", "options", "message"),
    [
        ([], {}, "No audio"),
        ([(noise(2, 100), RATE)] * 2, {}, "2 audios.*choose tracks"),
        ([(noise(5, 100), RATE)], {}, "5 speakers in the channels; at most 4"),
        ([(noise(1, 100), RATE)] * 5, {"source": "tracks"}, "5 speakers in the tracks"),
        ([(noise(1, 100), RATE)], {"source": "files"}, "channels or tracks"),
        ([(noise(1, 100), RATE)], {"loudness": "loud"}, "as recorded or equal"),
        ([(noise(1, 100), RATE)], {"gate_db": 3.0}, "gate is 3 dB"),
        ([(torch.zeros(1, 0), RATE)], {}, "empty"),
        ([(torch.full((1, 9), float("nan")), RATE)], {}, "NaN"),
    ],
)
def test_bad_input_is_refused(audio, options, message):
    with pytest.raises(AudioError, match=message):
        split_speakers(audio, **options)


def test_a_track_whose_channels_cancel_is_its_loudest_channel():
    voice = noise(1, 16_000)
    wide = torch.cat([voice, -0.99 * voice])
    with pytest.warns(AudioWarning, match="cancel"):
        found = split_speakers([(wide, 16_000), (voice, 16_000)], "tracks", gate_db=GATE_OFF)
    assert torch.equal(found.speakers[0], voice[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", AudioWarning)  # speaker by speaker, nothing is mixed
        split_speakers([(wide, 16_000)], "channels")
