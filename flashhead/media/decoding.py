"""The frames of a sound file, however it is joined together, and what of it is damaged."""

import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer

from ..errors import AudioError

RATES = range(2_000, 768_001)
"""Hz; others are no sound but a damaged header."""

_GAP = range(50, 600_000)  # milliseconds that a clock may leap and mean lost sound
_TAGS = (b"ID3", b"TAG")  # between joined mp3s
_MISSING = 0.25  # seconds under its header's length at which a file counts as cut off
# Demuxers that take the length of a track from its header, not from the size of what is left.
_KNOW_LENGTH = ("flac", "aiff", "au", "mov,mp4,m4a,3gp,3g2,mj2")


@dataclass
class Damage:
    """What of a file's sound cannot be had, in seconds of the sound that can.

    seconds: of it. clock: how far the file's own times went. header: how far they should go, where
    that is known. broken: reading ended by an error. lost: where something is left out.
    """

    seconds: float = 0.0
    clock: float = 0.0
    header: float = 0.0
    broken: bool = False
    lost: list[float] = field(default_factory=list)

    def lose(self) -> None:
        """Something is left out here."""
        if self.lost[-1:] != [self.seconds]:
            self.lost.append(self.seconds)

    def sentences(self) -> Iterator[str]:
        cut = self.header - max(self.seconds, self.clock) > _MISSING
        if cut or self.broken:
            of = f" of {self.header:.2f} s" if cut else ""
            yield (
                f"the sound breaks off at {self.seconds:.2f} s{of}; the file is damaged or cut "
                "off, and what can be decoded is used"
            )
        # At the end of what is whole, it is a tag.
        inside = [at for at in self.lost if at < self.seconds or not (self.header or self.broken)]
        if inside:
            more = f" and at {len(inside) - 1} later places" if inside[1:] else ""
            yield (
                f"some sound at {inside[0]:.2f} s{more} is missing or cannot be decoded, and is "
                "left out"
            )


def audio_tracks(path: Path) -> int:
    """How many audio tracks a file has. Raises `AudioError` for none, or a file that is none."""
    with _opened(path, _parts(path, Damage())[0]) as container:
        count = len(container.streams.audio)
    if not count:
        raise AudioError(f"{path} has no audio track; give a file with sound")
    return count


def decode(path: Path, track: int, damage: Damage) -> Iterator[av.AudioFrame]:
    """The frames of an audio track that can be decoded; `damage` is told what cannot.

    Raises `AudioError` where nothing can be read at all, or the sample rate is not in `RATES`.
    """
    for part in _parts(path, damage):
        try:
            with _opened(path, part) as container:
                if track < len(container.streams.audio):
                    yield from _frames(container, track, path, damage, part is not None)
        except AudioError:
            if not damage.seconds:
                raise
            damage.lose()


def _frames(
    container: InputContainer, track: int, path: Path, damage: Damage, joined: bool
) -> Iterator[av.AudioFrame]:
    stream = container.streams.audio[track]
    if getattr(stream, "codec_context", None) is None:  # older PyAVs crash without a decoder
        return
    if not joined:
        damage.header = _header_seconds(container, stream, path)
    first: float | None = None
    end: float | None = None
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                if bytes(packet)[:3] not in _TAGS:
                    damage.lose()
                continue
            for frame in frames:
                if not frame.samples:
                    continue
                if frame.sample_rate not in RATES and damage.seconds:
                    damage.lose()
                    continue
                if frame.sample_rate not in RATES:
                    raise AudioError(
                        f"{path} has a sample rate of {frame.sample_rate} Hz; expected "
                        f"{RATES.start} to {RATES.stop - 1}"
                    )
                start, seconds = frame.time, frame.samples / frame.sample_rate
                if start is not None and round(1000 * (start - (end or start))) in _GAP:
                    damage.lose()
                damage.seconds += seconds
                end = None if start is None else start + seconds
                if end is not None:
                    first = start if first is None else first
                    damage.clock = end - (first or 0.0)
                yield frame
    except (av.FFmpegError, OSError):
        damage.broken = True


def _header_seconds(container: InputContainer, stream: av.AudioStream, path: Path) -> float:
    """How long the track is by its header; 0 where that is not known, or only guessed."""
    name, seconds = container.format.name, 0.0
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    with path.open("rb") as file:
        if name in _KNOW_LENGTH or (name == "mp3" and _counts_frames(file)):
            return seconds
        if name == "wav":
            # FFmpeg goes by the file's size. What is written to a pipe has no true length.
            promised = int.from_bytes(file.read(8)[4:], "little") + 8
            missing, rate = promised - path.stat().st_size, stream.codec_context.bit_rate
            return seconds + 8 * missing / rate if rate and promised < 2**31 - 2**16 else 0.0
    if name.startswith("matroska") and len(container.streams) == 1:
        return (container.duration or 0) / av.time_base
    return 0.0


def _counts_frames(file: BinaryIO) -> bool:
    """Whether an mp3 says how many frames it has, after tags of any size."""
    head = file.read(10)
    if head[:3] == b"ID3":
        size = 0
        for byte in head[6:]:
            size = size << 7 | byte
        file.seek(10 + size)
    return bool(re.search(b"Xing|Info|VBRI", file.read(1024)))


def _parts(path: Path, damage: Damage) -> list[range | None]:
    """The bytes of each file where several are joined that FFmpeg does not read on through; else
    [None]. `damage` is told of one that breaks off inside its last page."""
    with path.open("rb") as file:
        magic = file.read(4)
        if magic not in (b"OggS", b"RIFF"):
            return [None]
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            starts = _ogg_starts(data, damage) if magic == b"OggS" else _wav_starts(data)
            bounds = [*starts, len(data)]
    return [range(*part) for part in pairwise(bounds)] if len(starts) > 1 else [None]


def _wav_starts(data: mmap.mmap) -> list[int]:
    starts, at = [], 0
    while data[at : at + 4] == b"RIFF":
        starts.append(at)
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
    return starts


def _ogg_starts(data: mmap.mmap, damage: Damage) -> list[int]:
    pages = [(at.start(), at[1][0] & 2) for at in re.finditer(rb"OggS\0(.)", data, re.S)]
    last = pages[-1][0] if pages else len(data)
    # A page's head is 27 bytes, the last of which counts the sizes of its segments.
    head = data[last : last + 27 + 255]
    segments = head[27 : 27 + head[26]] if len(head) > 26 else b""
    damage.broken |= last + 27 + len(segments) + sum(segments) > len(data)
    # The tracks of one stream begin together.
    return [0] + [
        at for (_, before), (at, begins) in pairwise([(0, 2), *pages]) if begins and not before
    ]


class _Part:
    """Some bytes of a file, as PyAV reads them."""

    def __init__(self, file: BinaryIO, span: range) -> None:
        self._file, self._stop = file, span.stop
        file.seek(span.start)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._stop - self._file.tell()))


@contextmanager
def _opened(path: Path, part: range | None) -> Iterator[InputContainer]:
    try:
        with path.open("rb") as file:
            source = str(path) if part is None else _Part(file, part)
            # Tags in a foreign encoding are no reason to refuse the sound.
            with av.open(source, "r", metadata_errors="ignore") as container:
                yield container
    except (av.FFmpegError, OSError) as error:
        raise AudioError(
            f"{path} cannot be read as audio ({error.strerror}); give a wav, mp3, flac, m4a or ogg"
        ) from error
