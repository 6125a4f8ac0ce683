"""Streaming resampling: exact length, no offset, no drift, with torchaudio and without."""

import contextlib
import importlib.util
import math
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flashhead.geometry import SAMPLE_RATE
from flashhead.media import resample
from flashhead.media.resample import (
    StreamResampler,
    resample_stream,
    resample_to_speech,
    resampled_length,
    speech_length,
)

RATES = (8000, 22050, 44100, 48000, 44101)


def run(signal, rate, block=4096, function=resample_to_speech):
    return torch.cat(list(function(iter(signal.split(block)), rate)))


def sine(frequency, rate, seconds):
    at = torch.arange(int(rate * seconds), dtype=torch.float64) / rate
    return torch.sin(2 * torch.pi * frequency * at).float()


def fresh_resample_to_speech():
    """`resample_to_speech` of a process that has not looked for torchaudio yet."""
    spec = importlib.util.spec_from_file_location("flashhead.media.fresh", resample.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.resample_to_speech


@contextlib.contextmanager
def without_torchaudio(error):
    """`import torchaudio` raises `error`, even where it was imported before."""

    class Refuse:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "torchaudio":
                raise error

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            patch.delitem(sys.modules, name)
        patch.setattr(sys, "meta_path", [Refuse, *sys.meta_path])
        yield


@pytest.fixture(scope="module")
def with_torchaudio():
    try:
        import torchaudio.functional  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        pytest.skip("torchaudio does not load here")
    return resample_to_speech


@pytest.fixture(scope="module")
def with_pyav():
    function = fresh_resample_to_speech()
    with without_torchaudio(ImportError("No module named 'torchaudio'")):
        run(torch.zeros(10), 44100, function=function)
    return function


@pytest.fixture(params=["torchaudio", "pyav"])
def function(request):
    return request.getfixturevalue(f"with_{request.param}")


@pytest.mark.parametrize(
    "error",
    [
        ImportError("No module named 'torchaudio'"),
        OSError("libcudart.so.13: cannot open shared object file"),
        RuntimeError("PyTorch has CUDA version 12.8 whereas TorchAudio has 13.0"),
    ],
)
def test_an_absent_or_broken_torchaudio_makes_no_difference(error, capfd):
    with without_torchaudio(error):
        speech = run(sine(440, 44100, 1), 44100, function=fresh_resample_to_speech())
    assert speech.shape == (16000,)
    assert torch.allclose(speech[500:-500], sine(440, 16000, 1)[500:-500], atol=1e-3)
    assert capfd.readouterr() == ("", "")


def test_torchaudio_is_not_imported_before_it_is_needed():
    code = "import sys, flashhead.media.audio_source; sys.exit('torchaudio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
@pytest.mark.parametrize("block", [777, 50_000])
def test_blocks_give_what_the_whole_signal_gives(rate, block, with_torchaudio):
    signal = torch.randn(rate * 19 + 123, generator=torch.Generator().manual_seed(0))
    expected = resample._torchaudio_resample()(signal, rate, SAMPLE_RATE)
    speech = run(signal, rate, block)
    assert speech.shape == expected.shape
    assert (speech - expected).abs().max() < 1e-6


@pytest.mark.parametrize("rate", [8000, 11025, 24000, 44100, 96000])
def test_with_and_without_torchaudio_it_is_the_same_filter(rate, with_torchaudio, with_pyav):
    signal = torch.randn(rate * 9 + 123, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    difference = run(signal, rate) - run(signal, rate, function=with_pyav)
    assert difference[100:-100].abs().max() < 5e-3


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_keeps_its_level_and_phase(rate, function):
    speech = run(sine(1000, rate, 3), rate, function=function)
    expected = sine(1000, SAMPLE_RATE, 3)
    assert (speech - expected)[500:-500].abs().max() < 0.01


def live(blocks, rate):
    """As live audio goes."""
    resampler = StreamResampler(rate, SAMPLE_RATE)
    for block in blocks:
        yield resampler.push(block)
    yield resampler.flush()


def decibels(signal):
    """Against a sine of amplitude 1; the ends are left out."""
    return 10 * math.log10(2 * signal[2000:-2000].double().square().mean().item() + 1e-20)


@pytest.mark.parametrize("backend", ["torchaudio", "pyav", "live"])
@pytest.mark.parametrize("rate", [11025, 22050, 24000, 32000, 44100, 44101, 48000, 96000, 192000])
def test_the_band_is_kept_and_what_16_khz_cannot_hold_does_not_fold_back(rate, backend, request):
    function = live if backend == "live" else request.getfixturevalue(f"with_{backend}")

    def level(frequency):
        return decibels(run(sine(frequency, rate, 1), rate, function=function))

    for frequency in (100, 3000, 0.9 * min(rate, SAMPLE_RATE) / 2):
        assert level(frequency) == pytest.approx(0, abs=0.1)
    for frequency in (8050, 8200, 8500, 9000, 10_500, 15_000, 17_000, 40_000):
        if frequency < rate / 2:
            assert level(frequency) < -75


@pytest.mark.parametrize("backend", ["torchaudio", "pyav", "live"])
@pytest.mark.parametrize("frequency", [1000, 3300, 3600, 3950])
def test_telephone_sound_gets_no_images(frequency, backend, request):
    function = live if backend == "live" else request.getfixturevalue(f"with_{backend}")
    speech = run(sine(frequency, 8000, 2), 8000, function=function)[4000:-4000].double()
    spectrum = torch.fft.rfft(speech * torch.hann_window(len(speech)).double()).abs()
    above = torch.arange(len(spectrum)) * SAMPLE_RATE / len(speech) > 4020
    assert 20 * math.log10(spectrum[above].max() * 4 / len(speech)) < -75


@pytest.mark.parametrize("rate", RATES)
def test_clicks_stay_where_they_are_to_the_end(rate, function):
    seconds = (0.5, 7.25, 19.5)
    signal = torch.zeros(rate * 20)
    for second in seconds:
        # A bump wide enough to pass the filter whole: its peak tells where the click is.
        at = torch.arange(-rate // 100, rate // 100) / rate
        start = round(second * rate) + int(at[0] * rate)
        signal[start : start + len(at)] += torch.exp(-((at / 0.0005) ** 2))
    speech = run(signal, rate, 65_536, function)
    for second in seconds:
        centre = round(second * SAMPLE_RATE)
        around = speech[centre - 160 : centre + 160]
        assert abs(int(around.argmax()) - 160) <= 1
        assert around.max() == pytest.approx(1, abs=0.05)


@given(
    rate=st.sampled_from((*RATES, 7919, 11025, 12000, 32000, 96000, 192000))
    | st.integers(2000, 200_000),
    samples=st.integers(1, 12_000),
    block=st.integers(1, 9000),
    use_pyav=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_length_is_exact(with_pyav, rate, samples, block, use_pyav):
    function = with_pyav if use_pyav else resample_to_speech
    speech = run(torch.ones(samples), rate, max(block, samples // 50 + 1), function)
    assert speech.dtype == torch.float32
    assert len(speech) == speech_length(samples, rate) == math.ceil(samples * 16000 / rate)
    assert speech.isfinite().all()


@given(st.integers(2000, 200_000), st.integers(2000, 200_000), st.integers(1, 12_000))
@settings(max_examples=30, deadline=None)
def test_the_length_is_exact_between_any_two_rates(rate, new_rate, samples):
    blocks = torch.ones(samples).split(samples // 5 + 1)
    found = torch.cat(list(resample_stream(blocks, rate, new_rate)))
    assert len(found) == resampled_length(samples, rate, new_rate)
    assert len(found) == math.ceil(samples * new_rate / rate)


@pytest.mark.parametrize("rate", [44101, 44099, 15_999])
def test_rates_without_a_common_divisor_stay_off_torchaudios_giant_kernel(rate, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError(f"{rate} Hz would need a kernel of gigabytes")

    functional = types.ModuleType("torchaudio.functional")
    functional.resample = forbidden
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    monkeypatch.setitem(sys.modules, "torchaudio.functional", functional)
    function = fresh_resample_to_speech()
    assert len(run(torch.zeros(rate), rate, function=function)) == SAMPLE_RATE
    with pytest.raises(AssertionError, match="gigabytes"):  # other rates do go there
        run(torch.zeros(44100), 44100, function=function)


def test_16_khz_passes_bit_for_bit():
    signal = torch.from_numpy(np.random.default_rng(0).standard_normal(5000).astype(np.float32))
    assert torch.equal(run(signal, SAMPLE_RATE), signal)


def test_silence_stays_silent(function):
    assert not run(torch.zeros(44100), 44100, function=function).any()
