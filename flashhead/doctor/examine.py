"""The sections of the page, in the order in which they are looked into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from . import machine
from .files import OnBytes, Place, checkpoint_rows
from .host import Host
from .report import Section
from .self_test import self_test


def examine(host: Host, place: Place, on_bytes: OnBytes | None = None) -> Iterator[Section]:
    """Each section as it is found out, so that a crash leaves those before it.

    on_bytes: see `checkpoint_rows`.
    """
    sections = (
        ("software", machine.software(host), False),
        ("device", machine.device(host), False),
        ("computing", machine.computing(host), False),
        ("memory", machine.memory(host), False),
        ("video", machine.encoders(), False),
        ("checkpoint", checkpoint_rows(place, on_bytes), True),
        ("self-test: pocket's frames against stored ones, errors of 255", self_test(host), True),
    )
    for title, rows, vital in sections:
        yield Section.of(title, rows, vital=vital, passing=host.passing)


def verdict(sections: Iterable[Section]) -> tuple[int, str]:
    """How many rows have to be mended, and the page's last line."""
    count = sum(row.wrong for section in sections for row in section.rows)
    return count, f"{count} to mend, marked WRONG" if count else "nothing wrong was found"
