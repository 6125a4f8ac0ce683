"""The sections of the page, in the order in which they are looked into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from . import machine
from .files import OnBytes, Place, checkpoint_rows
from .host import Host
from .report import Row, why
from .self_test import self_test

Section = tuple[str, list[Row]]


def examine(host: Host, place: Place, on_bytes: OnBytes | None = None) -> Iterator[Section]:
    """Titles and rows as they are found out, so that a crash leaves those before it.

    Where a section fails, its last row says so. on_bytes: see `checkpoint_rows`.
    """
    for title, rows, vital in (
        ("software", machine.software(host), False),
        ("device", machine.device(host), False),
        ("computing", machine.computing(host), False),
        ("memory", machine.memory(host), False),
        ("video", machine.encoders(), False),
        ("checkpoint", checkpoint_rows(place, on_bytes), True),
        ("self-test: pocket's frames against stored ones, errors of 255", self_test(host), True),
    ):
        found: list[Row] = []
        try:
            found.extend(rows)
        except host.passing:
            raise
        except Exception as error:
            found.append(Row("failed", why(error), wrong=vital))
        yield title, found


def verdict(sections: Iterable[Section]) -> tuple[int, str]:
    """How many rows have to be mended, and the page's last line."""
    count = sum(row.wrong for _, rows in sections for row in rows)
    return count, f"{count} to mend, marked WRONG" if count else "nothing wrong was found"
