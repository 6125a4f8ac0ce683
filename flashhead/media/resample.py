"""Streaming resampling of mono audio to the 16 kHz that the audio encoder hears (§1.3)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator

import av
import numpy as np
import torch

SPEECH_RATE = 16_000

# The most taps torchaudio's kernel may have: where the two rates share no large divisor it grows
# out of all proportion (700 million at 44101 Hz), while PyAV's filter bank stays bounded.
_MAX_KERNEL = 2_000_000
_FILTER_WIDTH = 6  # zero crossings on each side, torchaudio's default
_ROLLOFF = 0.99  # torchaudio's default


def speech_length(samples: int, sample_rate: int) -> int:
    """Samples at 16 kHz that cover `samples` at `sample_rate`: ceil(samples·16000/sample_rate)."""
    return -(-samples * SPEECH_RATE // sample_rate)


def resample_to_speech(blocks: Iterable[torch.Tensor], sample_rate: int) -> Iterator[torch.Tensor]:
    """Resamples a mono stream to 16 kHz, holding a few seconds of it at most.

    `blocks`: float32 (n,) tensors on the CPU, at `sample_rate` Hz, of any lengths. Yields float32
    (m,) tensors whose lengths add up to `speech_length` of the total. Sample 0 stays at time 0.
    Input already at 16 kHz passes through untouched.
    """
    if sample_rate == SPEECH_RATE:
        yield from blocks
        return
    resample = _torchaudio_resample() if _kernel_size(sample_rate) <= _MAX_KERNEL else None
    if resample is None:
        yield from _with_pyav(blocks, sample_rate)
    else:
        yield from _with_torchaudio(blocks, sample_rate, resample)


@functools.cache
def _torchaudio_resample() -> Callable[[torch.Tensor, int, int], torch.Tensor] | None:
    """torchaudio's resampler, or None where torchaudio is absent or does not load (§3.1)."""
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError, RuntimeError):
        return None
    return resample


def _ratio(sample_rate: int) -> tuple[int, int]:
    divisor = math.gcd(sample_rate, SPEECH_RATE)
    return sample_rate // divisor, SPEECH_RATE // divisor


def _half_width(orig: int, new: int) -> int:
    """Input samples that one output sample reaches back, as torchaudio computes it."""
    return math.ceil(_FILTER_WIDTH * orig / (min(orig, new) * _ROLLOFF))


def _kernel_size(sample_rate: int) -> int:
    orig, new = _ratio(sample_rate)
    return new * (2 * _half_width(orig, new) + orig)


def _with_torchaudio(
    blocks: Iterable[torch.Tensor],
    sample_rate: int,
    resample: Callable[[torch.Tensor, int, int], torch.Tensor],
) -> Iterator[torch.Tensor]:
    # Every `orig` input samples make `new` output samples, so windows cut at multiples of `orig`,
    # with a margin that covers the filter on each side, give what the whole signal would give.
    orig, new = _ratio(sample_rate)
    margin = orig * math.ceil(_half_width(orig, new) / orig + 1)
    step = max(margin, orig * math.ceil(2 * sample_rate / orig))
    left = 0
    buffer = torch.empty(0, dtype=torch.float32, device="cpu")
    for block in blocks:
        buffer = torch.cat((buffer, block))
        while len(buffer) >= left + step + margin:
            window = resample(buffer[: left + step + margin], orig, new)
            yield window[left // orig * new : (left + step) // orig * new]
            buffer = buffer[left + step - margin :]
            left = margin
    if len(buffer) > left:
        yield resample(buffer, orig, new)[left // orig * new :]


def _with_pyav(blocks: Iterable[torch.Tensor], sample_rate: int) -> Iterator[torch.Tensor]:
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=SPEECH_RATE)
    taken = given = 0
    for block in blocks:
        if not len(block):
            continue
        array = np.ascontiguousarray(block.numpy())[None]
        frame = av.AudioFrame.from_ndarray(array, format="fltp", layout="mono")
        frame.sample_rate = sample_rate
        taken += len(block)
        for resampled in _samples(resampler, frame):
            given += len(resampled)
            yield resampled
    if taken:
        # The filter's end may come out some samples short or long of the exact length.
        missing = max(0, speech_length(taken, sample_rate) - given)
        silence = torch.zeros(missing, dtype=torch.float32, device="cpu")
        yield torch.cat((*_samples(resampler, None), silence))[:missing]


def _samples(resampler: av.AudioResampler, frame: av.AudioFrame | None) -> Iterator[torch.Tensor]:
    for resampled in resampler.resample(frame):
        yield torch.from_numpy(resampled.to_ndarray()[0])
