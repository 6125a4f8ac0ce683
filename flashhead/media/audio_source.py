"""Audio from a file or from memory, read in blocks, from the start as often as is needed.

The audio encoder gets it at 16 kHz mono (`speech_blocks`), the video file at its own rate and
channels (`AudioSource.blocks`); neither needs all of it in memory.
"""

import math
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Protocol, runtime_checkable

import av
import numpy as np
import torch

from ..errors import AudioError, AudioWarning
from ..files import fault_of
from .decoding import RATES, Damage, audio_tracks, decode
from .resample import FrameResampler, resample_to_speech

_MAX_CHANNELS = 64
HIGHEST = 2**16
"""The AAC encoder does not end, or fails, at samples somewhat above this."""
_LOUD = 8.0  # the peak above which samples are hardly meant at full scale ±1

# Of power: a block is sound above the first, and its channels cancel where their mean has less
# than the second of what independent channels would leave.
_AUDIBLE = 1e-6
_CANCELLED = 1e-3


@dataclass(frozen=True)
class Mix:
    """How channels become one for the audio encoder: their mean, or `channel` alone where they
    cancel each other. warning: a sentence for the user, or nothing."""

    channel: int | None = None
    warning: str = ""

    def __call__(self, part: torch.Tensor) -> torch.Tensor:
        """(channels, n) -> (n,)"""
        return part.mean(0) if self.channel is None else part[self.channel]

    def warn(self) -> None:
        """To be called where the mix is used."""
        if self.warning:
            warnings.warn(self.warning, AudioWarning, stacklevel=3)


@runtime_checkable
class AudioSource(Protocol):
    """Audio of a known length, at its own sample rate and channel count.

    One that has a `mix` (`Mix`) says itself how its channels become one.
    """

    sample_rate: int  # Hz
    channels: int
    samples: int  # per channel

    def blocks(self) -> Iterator[torch.Tensor]:
        """The audio from its start: float32 (channels, n) on the CPU, full scale ±1."""
        ...


class TensorAudio:
    """Audio that is already in memory.

    `waveform`: tensor or array, (samples,) or (channels, samples); floats at full scale ±1, or
    integers of any width at their own full scale (unsigned ones centred on their middle).
    `sample_rate`: Hz. The waveform is neither copied nor changed. Raises `AudioError` for another
    shape or type, no samples, NaN, infinity or more than `HIGHEST`, or a rate that is not a whole
    number in `RATES`. Warns of samples far above full scale.
    """

    def __init__(self, waveform: torch.Tensor | np.ndarray, sample_rate: float) -> None:
        self.sample_rate = _whole(sample_rate)
        if self.sample_rate not in RATES:
            raise AudioError(
                f"sample rate is {sample_rate!r}; give a whole number of Hz, such as 44100, from "
                f"{RATES.start} to {RATES.stop - 1}"
            )
        if not isinstance(waveform, torch.Tensor | np.ndarray):
            raise AudioError(
                f"audio is a {type(waveform).__name__}; give a torch tensor or a numpy array of "
                "shape (samples,) or (channels, samples)"
            )
        shape = tuple(waveform.shape)
        if len(shape) not in (1, 2):
            raise AudioError(
                f"audio has shape {shape}; give (samples,) or (channels, samples), without a batch"
            )
        if 0 in shape:
            raise AudioError(f"audio of shape {shape} is empty; give at least one sample")
        self._waveform = waveform[None] if len(shape) == 1 else waveform
        self.channels, self.samples = (int(n) for n in self._waveform.shape)
        if self.channels > _MAX_CHANNELS:
            raise AudioError(
                f"audio of shape {shape} would have {self.channels} channels; the layout is "
                "(channels, samples), so transpose it"
            )
        _, self.mix = _checked(self.blocks(), "the audio", self.sample_rate)

    def blocks(self) -> Iterator[torch.Tensor]:
        """The audio from its start in blocks of a second: float32 (channels, n) on the CPU."""
        for start in range(0, self.samples, self.sample_rate):
            yield _to_float(self._waveform[:, start : start + self.sample_rate])


class FileAudio:
    """The audio of any file that PyAV reads: wav, mp3, flac, m4a, ogg, opus, a video.

    It is the first track that can be decoded. The file is decoded once here, to count and check
    its samples, and again at every `blocks()`, a second at a time. A packet that does not decode is
    left out, as players do. Raises `AudioError` for a file that is missing, is not audio, has no
    audio track, holds no sample, holds NaN, infinity or more than `HIGHEST`, or has a rate outside
    `RATES`. Warns of sound that breaks off or is damaged, of another track than the first, and of
    samples far above full scale.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Absolute, because FFmpeg takes a relative "a:b.wav" for a protocol.
        self.path = Path(path).absolute()
        if not self.path.is_file():
            raise AudioError(f"{self.path} is not a file; give the path of an audio file")
        if fault := fault_of(self.path):
            raise AudioError(f"{self.path} {fault}")
        tracks = range(audio_tracks(self.path))
        firsts = ((track, next(decode(self.path, track, Damage()), None)) for track in tracks)
        self._track, first = next((found for found in firsts if found[1]), (0, None))
        if first is None:
            raise AudioError(f"no audio could be decoded from {self.path}; it is empty or cut off")
        self.sample_rate, self._layout = first.sample_rate, first.layout
        self.channels = self._layout.nb_channels
        damage = Damage()
        blocks = self._blocks(damage)
        self.samples, self.mix = _checked(blocks, str(self.path), self.sample_rate)
        said = list(damage.sentences())
        if self._track:
            said.insert(0, f"audio track {self._track + 1} is used; none before it can be decoded")
        for sentence in said:
            warnings.warn(f"{self.path}: {sentence}", AudioWarning, stacklevel=2)

    def blocks(self) -> Iterator[torch.Tensor]:
        """The file decoded from its start in blocks of about a second: float32 (channels, n).

        Raises `AudioError` at the end if the file is no longer as long as it was.
        """
        samples = 0
        for block in self._blocks(Damage()):
            samples += block.shape[1]
            yield block
        if samples != self.samples:
            raise AudioError(
                f"{self.path} had {self.samples} samples when it was opened and has {samples} now; "
                "leave the file alone while it is in use"
            )

    def _blocks(self, damage: Damage) -> Iterator[torch.Tensor]:
        pending: list[torch.Tensor] = []
        held = 0
        frames = decode(self.path, self._track, damage)
        for piece in _planes(frames, self.sample_rate, self._layout):
            pending.append(piece)
            held += piece.shape[1]
            if held >= self.sample_rate:
                yield torch.cat(pending, 1)
                pending, held = [], 0
        if pending:
            yield torch.cat(pending, 1)


def speech_blocks(source: AudioSource, block: int) -> Iterator[torch.Tensor]:
    """Cuts a source into equal blocks for the audio encoder: 16 kHz, one channel.

    That is the mean of its channels, or, where they cancel each other, the loudest; then an
    `AudioWarning` says so.

    Yields float32 tensors of `block` samples, ceil(speech_length / block) of them; the last one is
    padded with silence. Memory does not grow with length. Raises `ValueError` for a block under 1.
    """
    if block < 1:
        raise ValueError(f"block is {block} samples; it must be at least 1")
    mix = getattr(source, "mix", Mix())
    mix.warn()
    mono = map(mix, source.blocks())
    held = torch.empty(0, dtype=torch.float32, device="cpu")
    for part in resample_to_speech(mono, source.sample_rate):
        held = torch.cat((held, part))
        whole = len(held) // block * block
        yield from held[:whole].split(block) if whole else ()
        held = held[whole:]
    if len(held):
        yield torch.nn.functional.pad(held, (0, block - len(held)))


def peak_of(samples: torch.Tensor, name: str, start: float, rate: int) -> float:
    """The largest magnitude of (..., n) samples that begin at `start`, in samples.

    Raises `AudioError` where it is NaN, infinite or above `HIGHEST`.
    """
    peak = samples.abs().max().item()
    if not peak <= HIGHEST:
        fits = (samples.abs() <= HIGHEST).reshape(-1, samples.shape[-1]).all(0)
        at = int(fits.int().argmin())
        value = samples[..., at].abs().max().item()
        what = f"a sample of {value:.3g}" if math.isfinite(value) else "NaN or infinity"
        raise AudioError(
            f"{name} holds {what} at {(start + at) / rate:.2f} s; every sample must be finite and "
            f"at full scale ±1, never above {HIGHEST}"
        )
    return peak


def loudness_warning(name: str, peak: float) -> str:
    """A sentence about samples that were hardly meant at full scale ±1, or nothing."""
    if peak <= _LOUD:
        return ""
    return (
        f"{name} reaches {peak:.5g} where full scale is 1, so that the video's sound is distorted; "
        "divide it by the full scale that it was made for (16-bit values: 32768)"
    )


def _checked(blocks: Iterable[torch.Tensor], name: str, rate: int) -> tuple[int, Mix]:
    """The samples per channel of all blocks, each of which is checked, and how to mix them.

    Raises `AudioError`, and warns, about their magnitude.
    """
    samples, peak, audible, cancelled, powers = 0, 0.0, 0.0, 0.0, torch.zeros(1)
    for block in blocks:
        peak = max(peak, peak_of(block, name, samples, rate))
        count = block.shape[1]
        samples += count
        if len(block) > 1:
            own = block.square().mean(1)
            powers = powers + own * count
            if own.max() > _AUDIBLE:
                audible += count
                left = block.mean(0).square().mean()
                cancelled += count * bool(left < _CANCELLED * own.sum() / len(block) ** 2)
    warning = loudness_warning(name, peak)
    if warning:
        warnings.warn(warning, AudioWarning, stacklevel=3)
    if not cancelled:
        return samples, Mix()
    text = (
        f"the channels of {name} cancel each other for {round(cancelled / rate, 1):g} s when mixed"
    )
    if cancelled > audible / 2:
        channel = int(powers.argmax())
        return samples, Mix(channel, f"{text}; speech is taken from channel {channel + 1} alone")
    return samples, Mix(None, f"{text}, and the mouth will rest there; mend them, or give one")


def _whole(number: object) -> int:
    """The whole number that an int, a float or a scalar tensor is; 0 for anything else."""
    if isinstance(number, torch.Tensor | np.ndarray) and math.prod(number.shape) == 1:
        number = number.item()
    if isinstance(number, int | float | np.number) and not isinstance(number, bool):
        return int(number) if math.isfinite(number) and number == int(number) else 0
    return 0


def _to_float(samples: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Float32 on the CPU, integers scaled so that their full range is [-1, 1)."""
    if isinstance(samples, torch.Tensor):
        samples = samples.detach().to("cpu")
        if samples.is_floating_point():
            return samples.to(torch.float32)
        samples = samples.numpy()
    if samples.dtype.kind not in "iuf":
        raise AudioError(f"audio has dtype {samples.dtype}; give integers or floating point")
    if samples.dtype.kind != "f":
        info = np.iinfo(samples.dtype)
        half = 2.0 ** (info.bits - 1)
        samples = (samples.astype(np.float64) - (0.0 if info.min else half)) / half
    with np.errstate(over="ignore"):  # infinity, which is refused with its time
        return torch.from_numpy(samples.astype(np.float32))


def _planes(
    frames: Iterator[av.AudioFrame], rate: int, layout: av.AudioLayout
) -> Iterator[torch.Tensor]:
    """Frames as float32 (channels, n), all at one rate (Hz) and layout.

    Some files change format on the way (joined mp3s, broadcast recordings); the odd parts are
    converted.
    """

    def kind(frame: av.AudioFrame) -> tuple[bool, int, str, str]:
        # PyAV (18.1) counts one plane too many from eight on, and crashes reading it.
        readable = frame.layout.nb_channels < 8 or not frame.format.is_planar
        readable &= "64" not in frame.format.name  # no array of it either
        fits = frame.layout.nb_channels == layout.nb_channels and frame.sample_rate == rate
        return readable and fits, frame.sample_rate, frame.layout.name, frame.format.name

    for (as_it_is, own_rate, own_layout, own_format), run in groupby(frames, kind):
        if as_it_is:
            yield from map(_plane, run)
        else:
            converter = FrameResampler((own_format, own_layout, own_rate), layout.name, rate)
            for frame in chain(run, [None]):  # None empties the converter
                yield from map(_plane, converter.push(frame))


def _plane(frame: av.AudioFrame) -> torch.Tensor:
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    return _to_float(array)
