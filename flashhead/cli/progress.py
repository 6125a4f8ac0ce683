"""A progress bar for a terminal, plain lines for a log."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

from ..geometry import FPS

_BAR = 20
_SECONDS_BETWEEN_LINES = 5.0


class _Line:
    """One line on a terminal that is written over; elsewhere, when it is time for the next line."""

    def __init__(self, stream: TextIO | None, clock: Callable[[], float] = time.monotonic):
        self._stream = stream
        self._terminal = stream is not None and stream.isatty()
        self._clock = clock
        self._start = clock()
        self._last_line = -float("inf")
        self._shown = 0  # characters of the line on the terminal

    @property
    def seconds(self) -> float:
        return self._clock() - self._start

    def close(self) -> None:
        """Leave the terminal's line clean for what is said next."""
        if self._shown:
            print("\r" + " " * self._shown + "\r", end="", file=self._stream, flush=True)
            self._shown = 0

    def _bar(self, fraction: float, text: str) -> None:
        filled = round(_BAR * fraction)
        line = f"[{'#' * filled}{'-' * (_BAR - filled)}] {text}"
        line = line[: shutil.get_terminal_size().columns - 1]
        print("\r" + line.ljust(self._shown), end="", file=self._stream, flush=True)
        self._shown = len(line)

    def _log(self, text: str, *, last: bool) -> None:
        now = self._clock()
        if last or now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            print(text, file=self._stream, flush=True)


class Progress(_Line):
    """How far a run is: chunk, step, frames a second and speed against real time.

    On a terminal one line is kept up to date. Elsewhere a line is printed after the first chunk,
    the last, and every few seconds between.

    Args:
        stream: where to write, usually stderr; None is nowhere.
        chunks: how many there will be.
        clock: seconds, for tests.
    """

    def __init__(
        self, stream: TextIO | None, chunks: int, clock: Callable[[], float] = time.monotonic
    ):
        super().__init__(stream, clock)
        self._chunks = chunks
        self.frames = 0

    @property
    def speed(self) -> str:
        fps = self.frames / max(self.seconds, 1e-9)
        return f"{fps:.1f} fps, {fps / FPS:.2f}x real time"

    def step(self, chunk: int, done: int, steps: int) -> None:
        """Steps done of a chunk (both counted from 0); fits `generate`'s `on_step`."""
        if self._terminal:
            # Decoding and writing count as one step more.
            self._redraw(
                chunk + done / (steps + 1), f"chunk {chunk + 1}/{self._chunks} {done}/{steps}"
            )

    def chunk(self, index: int, frames: int) -> None:
        """A chunk (from 0) with that many frames is written."""
        self.frames += frames
        text = f"chunk {index + 1}/{self._chunks}"
        if self._terminal:
            self._redraw(index + 1, text)
        elif self._stream is not None:
            last = index + 1 == self._chunks
            self._log(f"{text}, {self.frames} frames, {self.speed}", last=last)

    def _redraw(self, done: float, text: str) -> None:
        if self.frames:
            text += f", {self.speed}"
        self._bar(done / self._chunks, text)


class ByteProgress(_Line):
    """How much of a file is written; on a terminal a bar, elsewhere a line now and then."""

    def update(self, done: int, total: int) -> None:
        """Bytes written of all; fits `convert`'s `on_bytes`."""
        text = f"{done / 1e9:.2f} of {total / 1e9:.2f} GB"
        if self._terminal:
            self._bar(done / max(total, 1), text)
        elif self._stream is not None:
            self._log(text, last=done == total)
