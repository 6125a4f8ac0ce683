"""Resampling of mono audio, block by block, so that an hour takes no more memory than a minute.

The audio encoder takes 16 kHz (DESIGN §1.3). torchaudio resamples where it works, FFmpeg (through
PyAV) where it does not (§3.1), and wherever the target is another rate.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from fractions import Fraction

import av
import av.filter
import torch
from torch import Tensor

from ..geometry import SAMPLE_RATE

# The most taps torchaudio's kernel may have: where the two rates share no large divisor it grows
# out of all proportion (700 million at 44101 Hz), while FFmpeg's filter bank stays bounded.
_MAX_KERNEL = 2_000_000
# The same low-pass in both: flat to 0.9 of the lower Nyquist frequency (7.2 kHz for the audio
# encoder; -0.03 dB), and 76 dB down from there on, so that nothing folds back.
_FILTER_WIDTH = 48  # zero crossings on each side
_ROLLOFF = 0.95  # of that frequency, where it is 6 dB down
_KAISER_BETA = 8.0
_SECONDS_AT_ONCE = 8  # torchaudio makes its kernel anew at each call


def resampled_length(samples: int, sample_rate: int, new_rate: int) -> int:
    """Samples at `new_rate` that cover `samples` at `sample_rate`: their quotient, rounded up."""
    return -(-samples * new_rate // sample_rate)


def speech_length(samples: int, sample_rate: int) -> int:
    """Samples at 16 kHz that cover `samples` at `sample_rate`: ceil(samples·16000/sample_rate)."""
    return resampled_length(samples, sample_rate, SAMPLE_RATE)


def resample_to_speech(blocks: Iterable[Tensor], sample_rate: int) -> Iterator[Tensor]:
    """Resamples a mono stream to 16 kHz, holding some seconds of it at most.

    `blocks`: float32 (n,) tensors on the CPU, at `sample_rate` Hz, of any lengths. Yields float32
    (m,) tensors whose lengths add up to `speech_length` of the total. Sample 0 stays at time 0.
    Input already at 16 kHz passes through untouched.
    """
    if sample_rate == SAMPLE_RATE:
        yield from blocks
        return
    # In lowest terms: every `orig` input samples make `new` output samples.
    divisor = math.gcd(sample_rate, SAMPLE_RATE)
    orig, new = sample_rate // divisor, SAMPLE_RATE // divisor
    # Input samples that one output sample reaches back, and the taps, as torchaudio computes them.
    reach = math.ceil(_FILTER_WIDTH * orig / (min(orig, new) * _ROLLOFF))
    resample = _torchaudio_resample() if new * (2 * reach + orig) <= _MAX_KERNEL else None
    if resample is None:
        yield from resample_stream(blocks, sample_rate, SAMPLE_RATE)
        return
    # Parts that are cut at multiples of `orig`, with a margin that covers the filter on each side,
    # give what the whole signal would give.
    margin = orig * math.ceil(reach / orig + 1)
    step = max(margin, orig * math.ceil(_SECONDS_AT_ONCE * sample_rate / orig))
    left = 0
    buffer = _silence(0)
    for block in blocks:
        buffer = torch.cat((buffer, block))
        while len(buffer) >= left + step + margin:
            part = resample(buffer[: left + step + margin], orig, new)
            yield part[left // orig * new : (left + step) // orig * new]
            buffer = buffer[left + step - margin :]
            left = margin
    if len(buffer) > left:
        yield resample(buffer, orig, new)[left // orig * new :]


def resample_stream(blocks: Iterable[Tensor], sample_rate: int, new_rate: int) -> Iterator[Tensor]:
    """Resamples a mono stream between any two rates with FFmpeg.

    Blocks as in `resample_to_speech`; the lengths add up to `resampled_length` of the total.
    Sample 0 stays at time 0.
    """
    resampler = StreamResampler(sample_rate, new_rate)
    taken = given = 0
    for block in blocks:
        ready = resampler.push(block)
        taken, given = taken + len(block), given + len(ready)
        yield ready
    # The filter's end may come out some samples short or long of the exact length.
    missing = max(0, resampled_length(taken, sample_rate, new_rate) - given)
    yield torch.cat((resampler.flush(), _silence(missing)))[:missing]


class StreamResampler:
    """FFmpeg's resampler for a mono stream that arrives piece by piece.

    Each answer is as much as the input so far allows: the filter holds back some milliseconds,
    which `flush` gives. Its delay is taken off, so that sample 0 stays at time 0. All samples are
    float32 (n,) on the CPU.
    """

    def __init__(self, sample_rate: int, new_rate: int) -> None:
        self._resampler = FrameResampler(("flt", "mono", sample_rate), "mono", new_rate)
        self._sample_rate = sample_rate

    def push(self, samples: Tensor) -> Tensor:
        """What `samples` add to the output; may be empty."""
        if not len(samples):
            return samples
        array = samples.contiguous().numpy()[None]
        frame = av.AudioFrame.from_ndarray(array, format="flt", layout="mono")
        frame.sample_rate = self._sample_rate
        return self._resampled(frame)

    def flush(self) -> Tensor:
        """The rest of the output. Nothing may be pushed afterwards."""
        return self._resampled(None)

    def _resampled(self, frame: av.AudioFrame | None) -> Tensor:
        parts = [torch.from_numpy(part.to_ndarray()[0]) for part in self._resampler.push(frame)]
        return torch.cat(parts) if parts else _silence(0)


class FrameResampler:
    """FFmpeg's resampler with this room's filter, which `av.AudioResampler` cannot be given.

    given: the sample format, layout and rate (Hz) of the frames to come. They follow one another,
    whatever their times. What comes out is interleaved float32 in `layout`, at `rate` Hz.
    """

    def __init__(self, given: tuple[str, str, int], layout: str, rate: int) -> None:
        sample_format, given_layout, self._rate = given
        self._graph, self._taken = av.filter.Graph(), 0
        # FFmpeg's cutoff is of the new rate, even where the old one is lower.
        cutoff = _ROLLOFF * min(1, self._rate / rate)
        taps = f"filter_size={2 * _FILTER_WIDTH}:filter_type=kaiser:kaiser_beta={_KAISER_BETA:g}"
        made = f"sample_fmts=flt:sample_rates={rate}:channel_layouts={layout}"
        first = self._graph.add_abuffer(
            format=sample_format,
            layout=given_layout,
            sample_rate=self._rate,
            time_base=Fraction(1, self._rate),
        )
        for name, options in (
            ("aresample", f"{rate}:cutoff={cutoff:.9f}:{taps}"),
            ("aformat", made),
            ("abuffersink", None),
        ):
            last = self._graph.add(name, options)
            first.link_to(last)
            first = last
        self._graph.configure()

    def push(self, frame: av.AudioFrame | None) -> Iterator[av.AudioFrame]:
        """What a frame adds, or None, after which nothing comes."""
        if frame is not None:
            frame.pts, frame.time_base = self._taken, Fraction(1, self._rate)
            self._taken += frame.samples
        self._graph.push(frame)
        # FFmpeg says so when it wants more, or has no more.
        with suppress(BlockingIOError, EOFError):
            while True:
                part = self._graph.pull()
                assert isinstance(part, av.AudioFrame)
                yield part


def _silence(samples: int) -> Tensor:
    return torch.zeros(samples, dtype=torch.float32, device="cpu")


@functools.cache
def _torchaudio_resample() -> Callable[[Tensor, int, int], Tensor] | None:
    """torchaudio's resampler, or None where torchaudio is absent or does not load (§3.1)."""
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError, RuntimeError):
        return None
    return functools.partial(
        resample,
        lowpass_filter_width=_FILTER_WIDTH,
        rolloff=_ROLLOFF,
        resampling_method="sinc_interp_kaiser",
        beta=_KAISER_BETA,
    )
