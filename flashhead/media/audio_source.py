"""Audio from a file or from memory, read in blocks, from the start as often as is needed.

The audio encoder gets it at 16 kHz mono (`speech_blocks`), the video file at its own rate and
channels (`AudioSource.blocks`); neither needs all of it in memory.
"""

import operator
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, groupby
from pathlib import Path
from typing import Protocol, runtime_checkable

import av
import numpy as np
import torch

from ..errors import AudioError
from .resample import FrameResampler, resample_to_speech

_MAX_CHANNELS = 64


@runtime_checkable
class AudioSource(Protocol):
    """Audio of a known length, at its own sample rate and channel count."""

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
    shape or type, no samples, NaN or infinity, or a rate that is not a positive whole number.
    """

    def __init__(self, waveform: torch.Tensor | np.ndarray, sample_rate: int) -> None:
        try:
            self.sample_rate = operator.index(sample_rate)
        except TypeError:
            self.sample_rate = 0
        if self.sample_rate < 1 or isinstance(sample_rate, bool):
            raise AudioError(
                f"sample rate is {sample_rate!r}; give a positive whole number of Hz, such as 44100"
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
        _check_finite(self.blocks(), "audio", self.sample_rate)

    def blocks(self) -> Iterator[torch.Tensor]:
        """The audio from its start in blocks of a second: float32 (channels, n) on the CPU."""
        for start in range(0, self.samples, self.sample_rate):
            yield _to_float(self._waveform[:, start : start + self.sample_rate])


class FileAudio:
    """The first audio track of any file that PyAV reads: wav, mp3, flac, m4a, ogg, opus, a video.

    The file is decoded once here, to count and check its samples, and again at every `blocks()`,
    a second at a time. A packet that does not decode is left out, as players do. Raises
    `AudioError` for a file that is missing, is not audio, has no audio track, holds no sample or
    holds NaN or infinity.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Absolute, because FFmpeg takes a relative "a:b.wav" for a protocol.
        self.path = Path(path).absolute()
        if not self.path.is_file():
            raise AudioError(f"{self.path} is not a file; give the path of an audio file")
        first = next(_decode(self.path), None)
        if first is None:
            raise AudioError(f"no audio could be decoded from {self.path}; it is empty or cut off")
        self.sample_rate, self._layout = first.sample_rate, first.layout
        self.channels = self._layout.nb_channels
        self.samples = _check_finite(self._blocks(), str(self.path), self.sample_rate)

    def blocks(self) -> Iterator[torch.Tensor]:
        """The file decoded from its start in blocks of about a second: float32 (channels, n).

        Raises `AudioError` at the end if the file is no longer as long as it was.
        """
        samples = 0
        for block in self._blocks():
            samples += block.shape[1]
            yield block
        if samples != self.samples:
            raise AudioError(
                f"{self.path} had {self.samples} samples when it was opened and has {samples} now; "
                "leave the file alone while it is in use"
            )

    def _blocks(self) -> Iterator[torch.Tensor]:
        pending: list[torch.Tensor] = []
        for piece in _planes(_decode(self.path), self.sample_rate, self._layout):
            pending.append(piece)
            if sum(part.shape[1] for part in pending) >= self.sample_rate:
                yield torch.cat(pending, 1)
                pending = []
        if pending:
            yield torch.cat(pending, 1)


def speech_blocks(source: AudioSource, block: int) -> Iterator[torch.Tensor]:
    """Cuts a source into equal blocks for the audio encoder: 16 kHz, the mean of the channels.

    Yields float32 tensors of `block` samples, ceil(speech_length / block) of them; the last one is
    padded with silence. Memory does not grow with length. Raises `ValueError` for a block under 1.
    """
    if block < 1:
        raise ValueError(f"block is {block} samples; it must be at least 1")
    mono = (part.mean(0) for part in source.blocks())
    held = torch.empty(0, dtype=torch.float32, device="cpu")
    for part in resample_to_speech(mono, source.sample_rate):
        held = torch.cat((held, part))
        whole = len(held) // block * block
        yield from held[:whole].split(block) if whole else ()
        held = held[whole:]
    if len(held):
        yield torch.nn.functional.pad(held, (0, block - len(held)))


def _check_finite(blocks: Iterable[torch.Tensor], name: str, sample_rate: int) -> int:
    """The samples per channel of all blocks. Raises `AudioError` at one that is not finite."""
    start = 0
    for block in blocks:
        finite = np.isfinite(block.numpy()).all(0)
        if not finite.all():
            second = (start + int(finite.argmin())) / sample_rate
            raise AudioError(
                f"{name} holds NaN or infinity at {second:.2f} s; every sample must be finite"
            )
        start += block.shape[1]
    return start


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


def _decode(path: Path) -> Iterator[av.AudioFrame]:
    """The frames of a file's first audio track, up to where the file ends or breaks off."""
    try:
        # Tags in a foreign encoding are no reason to refuse the sound.
        container = av.open(str(path), metadata_errors="ignore")
    except (av.FFmpegError, OSError) as error:
        raise AudioError(
            f"{path} cannot be read as audio ({error.strerror}); give a wav, mp3, flac, m4a or ogg"
        ) from error
    with container:
        if not container.streams.audio:
            raise AudioError(f"{path} has no audio track; give a file with sound")
        with suppress(av.FFmpegError, OSError):
            for packet in container.demux(container.streams.audio[0]):
                with suppress(av.FFmpegError):
                    yield from (frame for frame in packet.decode() if frame.samples)


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
