"""When a video's frames are shown, and which one is at each frame of another rate."""

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from statistics import median_low
from typing import BinaryIO

import av

from ..geometry import FPS

# Seconds; containers round times, most of them to milliseconds.
_ROUNDING = Fraction(1, 2000)
_LONGEST = Fraction(600)  # seconds of one frame; where it stays longer, the clock leapt


def constant_times(frames: int, rate: Fraction) -> list[Fraction]:
    """When each of `frames` begins at `rate` a second, and last when they end; in seconds."""
    return [index / rate for index in range(frames + 1)]


def file_times(
    video: str | BinaryIO, start: float = 0, seconds: float = 0
) -> list[Fraction] | None:
    """`constant_times` of a video file whose frames last as long as they like, from its packets.

    Of the part from `start`, `seconds` long (0: to the end). None where the file does not say.
    """
    try:
        with av.open(video) as container:
            stream = container.streams.video[0]
            base = stream.time_base
            packets = [packet for packet in container.demux(stream) if packet.size]
    except (av.FFmpegError, IndexError):
        return None
    if base is None or not packets or any(packet.pts is None for packet in packets):
        return None
    first, last = int(start / base), int((start + seconds) / base)
    shown = sorted(
        (packet.pts or 0, packet.duration or 0)
        for packet in packets
        if not packet.is_discard
        and (packet.pts or 0) >= first
        and not (seconds and (packet.pts or 0) >= last)
    )
    if len(shown) < 2:
        return None
    times = [(pts - shown[0][0]) * base for pts, _ in shown]
    return [*times, times[-1] + (shown[-1][1] * base or times[-1] / (len(times) - 1))]


def held_frames(times: Sequence[Fraction], rate: int = FPS) -> list[int]:
    """At each frame of `rate` frames a second, the index of the frame that began last.

    times: as from `constant_times`. The result is as long in seconds, to the nearest frame; a leap
    of the clock, as joined and interrupted recordings have it, counts as one frame more.
    """
    lengths = [after - before for before, after in pairwise(times)]
    usual = min(median_low(lengths), _LONGEST)
    kept = (length if length <= _LONGEST else usual for length in lengths)
    *starts, end = accumulate(kept, initial=Fraction(0))
    count = max(1, round(end * rate))
    return [
        max(0, bisect_right(starts, Fraction(index, rate) + _ROUNDING) - 1)
        for index in range(count)
    ]
