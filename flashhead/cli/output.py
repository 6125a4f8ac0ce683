"""What commands say: results on stdout; lines, warnings and how far a run is on stderr.

In `safe_streams` neither can end a run: characters that its encoding lacks are escaped, and what
nobody takes (a pipe whose reader has gone, a closed terminal, a full disk) is dropped.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from tqdm import tqdm

from ..errors import FlashHeadWarning

_SECONDS_BETWEEN_LINES = 5.0


class _Stream:
    """A text stream to which writing does not fail."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        self._try(self._stream.write, text.encode(encoding, "backslashreplace").decode(encoding))

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, write: Callable[..., Any], *text: str) -> None:
        try:
            write(*text)
        except (OSError, ValueError):  # the latter of one that was closed
            # Else Python would try again at exit what is held back, and change the status.
            with suppress(OSError, ValueError):
                file, sink = self._stream.fileno(), os.open(os.devnull, os.O_WRONLY)
                os.dup2(sink, file)
                os.close(sink)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Have nothing that is written to stdout or stderr fail, whoever writes it."""
    # A file that is opened later would take a closed stream's place (`2>&-`), and get what C code
    # writes there.
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(file)
    given = (
        open(os.devnull, "w") if stream is None or stream.closed else stream  # noqa: SIM115
        for stream in (sys.stdout, sys.stderr)
    )
    out, err = (cast(TextIO, _Stream(stream)) for stream in given)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            err.flush()


def say(line: str, *, result: bool = False) -> None:
    """A line of its own, above the bar if one is shown; a `result` is for stdout."""
    stream = sys.stdout if result else sys.stderr
    tqdm.write(line, file=stream)
    stream.flush()


@contextmanager
def warnings_in_lines(*, quiet: bool = False) -> Iterator[None]:
    """Warnings as one line each, and each of them once; none if `quiet`."""
    said = set()

    def show(text: str) -> None:
        if not quiet and text not in said:
            said.add(text)
            say(f"warning: {text}")

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # for programmers
        warnings.simplefilter("always", FlashHeadWarning)
        warnings.showwarning = lambda text, *_, **__: show(str(text))
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
