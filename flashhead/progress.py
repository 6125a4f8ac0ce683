"""A progress bar for a terminal, plain lines for a log."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

from .config import FPS

_BAR = 20
_SECONDS_BETWEEN_LINES = 5.0


class Progress:
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
        self._stream = stream
        self._terminal = stream is not None and stream.isatty()
        self._chunks = chunks
        self._clock = clock
        self._start = clock()
        self._last_line = -float("inf")
        self._shown = 0  # characters of the line on the terminal
        self.frames = 0

    @property
    def seconds(self) -> float:
        return self._clock() - self._start

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
        if self._terminal or self._stream is None:
            return
        now, last = self._clock(), index + 1 == self._chunks
        if last or now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            print(f"{text}, {self.frames} frames, {self.speed}", file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the terminal's line clean for what is said next."""
        if self._shown:
            print("\r" + " " * self._shown + "\r", end="", file=self._stream, flush=True)
            self._shown = 0

    def _redraw(self, done: float, text: str) -> None:
        filled = round(_BAR * done / self._chunks)
        line = f"[{'#' * filled}{'-' * (_BAR - filled)}] {text}"
        if self.frames:
            line += f", {self.speed}"
        line = line[: shutil.get_terminal_size().columns - 1]
        print("\r" + line.ljust(self._shown), end="", file=self._stream, flush=True)
        self._shown = len(line)
