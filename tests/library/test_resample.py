"""Streaming resampling: exact length, no offset, no drift, with torchaudio and without."""

import builtins
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashhead.media import resample
from flashhead.media.resample import SPEECH_RATE, resample_to_speech, speech_length

RATES = (8000, 22050, 44100, 48000, 44101)


def run(signal, rate, block=4096):
    return torch.cat(list(resample_to_speech(iter(signal.split(block)), rate)))


def sine(frequency, rate, seconds):
    return torch.sin(2 * torch.pi * frequency * torch.arange(int(rate * seconds)) / rate)


@pytest.fixture
def without_torchaudio(monkeypatch):
    """A function that makes `import torchaudio` raise the given error."""
    original = builtins.__import__

    def install(error):
        def refuse(name, *args, **kwargs):
            if name.split(".")[0] == "torchaudio":
                raise error
            return original(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", refuse)
        resample._torchaudio_resample.cache_clear()

    yield install
    resample._torchaudio_resample.cache_clear()


@pytest.fixture(params=["torchaudio", "pyav"])
def backend(request, without_torchaudio):
    if request.param == "pyav":
        without_torchaudio(ImportError("No module named 'torchaudio'"))
    elif resample._torchaudio_resample() is None:
        pytest.skip("torchaudio does not load here")
    return request.param


@pytest.mark.parametrize(
    "error",
    [
        ImportError("No module named 'torchaudio'"),
        OSError("libcudart.so.13: cannot open shared object file"),
        RuntimeError("PyTorch has CUDA version 12.8 whereas TorchAudio has 13.0"),
    ],
)
def test_absent_or_broken_torchaudio_changes_nothing_to_hear(error, without_torchaudio, capfd):
    without_torchaudio(error)
    heard = run(sine(440, 44100, 1), 44100)
    assert heard.shape == (16000,)
    assert torch.allclose(heard[500:-500], sine(440, 16000, 1)[500:-500], atol=1e-3)
    assert capfd.readouterr() == ("", "")


def test_torchaudio_is_not_imported_before_it_is_needed():
    code = "import sys, flashhead.media.audio_source; sys.exit('torchaudio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
@pytest.mark.parametrize("block", [777, 50_000])
def test_blocks_give_what_the_whole_signal_gives(rate, block):
    whole = resample._torchaudio_resample()
    if whole is None:
        pytest.skip("torchaudio does not load here")
    signal = torch.randn(rate * 7 + 123, generator=torch.Generator().manual_seed(0))
    expected = whole(signal, rate, SPEECH_RATE)
    heard = run(signal, rate, block)
    assert heard.shape == expected.shape
    assert (heard - expected).abs().max() < 1e-6


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_keeps_its_level_and_phase(rate, backend):
    heard = run(sine(1000, rate, 3), rate)
    expected = sine(1000, SPEECH_RATE, 3)
    assert (heard - expected)[500:-500].abs().max() < 0.01


@pytest.mark.parametrize("rate", [22050, 44100, 44101, 48000])
def test_what_16_khz_cannot_hold_does_not_fold_back(rate, backend):
    heard = run(0.5 * sine(10_500, rate, 2), rate)
    assert heard[500:-500].abs().max() < 0.02


@pytest.mark.parametrize("rate", RATES)
def test_clicks_stay_where_they_are_to_the_end(rate, backend):
    seconds = (0.5, 7.25, 19.5)
    signal = torch.zeros(rate * 20)
    for second in seconds:
        # A bump wide enough to pass the filter whole: its peak is the click's place.
        at = torch.arange(-rate // 100, rate // 100) / rate
        start = round(second * rate) + int(at[0] * rate)
        signal[start : start + len(at)] += torch.exp(-((at / 0.0005) ** 2))
    heard = run(signal, rate, 65_536)
    for second in seconds:
        centre = round(second * SPEECH_RATE)
        around = heard[centre - 160 : centre + 160]
        assert abs(int(around.argmax()) - 160) <= 1
        assert around.max() == pytest.approx(1, abs=0.05)


@given(
    rate=st.sampled_from((*RATES, 7919, 11025, 12000, 32000, 96000, 192000))
    | st.integers(2000, 200_000),
    samples=st.integers(1, 12_000),
    block=st.integers(1, 9000),
    use_torchaudio=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_length_is_exact(rate, samples, block, use_torchaudio):
    if not use_torchaudio or resample._torchaudio_resample() is None:
        kernel, resample._MAX_KERNEL = resample._MAX_KERNEL, 0
    else:
        kernel = resample._MAX_KERNEL
    try:
        blocks = torch.ones(samples).split(max(block, samples // 50 + 1))
        heard = torch.cat(list(resample_to_speech(iter(blocks), rate)))
    finally:
        resample._MAX_KERNEL = kernel
    assert heard.dtype == torch.float32
    assert len(heard) == speech_length(samples, rate) == math.ceil(samples * 16000 / rate)
    assert heard.isfinite().all()


@pytest.mark.parametrize("rate", [44101, 44099, 15_999])
def test_rates_without_a_common_divisor_stay_off_torchaudios_giant_kernel(rate, monkeypatch):
    def forbidden():
        raise AssertionError(f"{rate} Hz would need a kernel of gigabytes")

    monkeypatch.setattr(resample, "_torchaudio_resample", forbidden)
    assert len(run(torch.zeros(rate), rate)) == SPEECH_RATE


def test_16_khz_passes_bit_for_bit():
    signal = torch.from_numpy(np.random.default_rng(0).standard_normal(5000).astype(np.float32))
    assert torch.equal(run(signal, SPEECH_RATE), signal)


def test_silence_stays_silent(backend):
    assert not run(torch.zeros(44100), 44100).any()
