"""What commands say on stderr: lines, warnings, and how far a run is."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from ..errors import FlashHeadWarning

_SECONDS_BETWEEN_LINES = 5.0


def say(line: str) -> None:
    """A line of its own, above the bar if one is shown."""
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


@contextmanager
def warnings_in_lines() -> Iterator[None]:
    """Warnings as one line each, as often as they come."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", FlashHeadWarning)
        warnings.showwarning = lambda text, *_, **__: say(f"warning: {text}")
        yield


class Progress:
    """A bar on a terminal; elsewhere a line after the first part, the last, and every few seconds.

    Use it as a context manager: it clears the bar at the end.
    """

    def __init__(self, total: float, *, quiet: bool):
        self._total, terminal = total, sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            leave=False,
            file=sys.stderr,
            disable=quiet or not terminal,
            bar_format="[{bar:20}] {desc}",
            dynamic_ncols=True,
        )
        self._prints = not quiet and not terminal
        self._start = time.monotonic()
        self._last_line = -float("inf")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def show(self, done: float, text: str) -> None:
        """On a terminal alone: that much is done, for which a log has no line."""
        self._bar.n = done
        self._bar.set_description_str(text)

    def part(self, done: float, text: str) -> None:
        """A part is finished."""
        self.show(done, text)
        now, last = time.monotonic(), done >= self._total
        if self._prints and (last or now - self._last_line >= _SECONDS_BETWEEN_LINES):
            self._last_line = now
            say(text)
