"""Rows of facts: lines of the page, and entries for programs, with nothing private in either."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import reason

COLUMNS = 100
_LABEL = 15
_MOST_LINES = 4  # of a row


class Row(NamedTuple):
    """text: for people. facts: for programs. wrong: whether it has to be mended."""

    label: str
    text: str
    facts: Mapping[str, Any] = {}
    wrong: bool = False

    def lines(self) -> list[str]:
        """At most `COLUMNS` characters each, in ASCII for any terminal."""
        gap = " " * max(2, _LABEL - len(self.label))
        line = f"  {self.label}{gap}{'WRONG: ' if self.wrong else ''}{self.text}"
        return textwrap.wrap(
            re.sub("[^ -~]", lambda c: ascii(c[0])[1:-1], shareable(line)),
            COLUMNS,
            subsequent_indent=" " * (_LABEL + 2),
            break_on_hyphens=False,
            max_lines=_MOST_LINES,
            placeholder=" ...",
        )

    def entry(self) -> dict[str, Any]:
        """In JSON's types."""
        told = {"label": shareable(self.label), "text": shareable(self.text)}
        return told | {"wrong": self.wrong, **self.facts}


def page(title: str, rows: Iterable[Row]) -> str:
    """A section of the page."""
    return "\n".join([title, *(line for row in rows for line in row.lines())])


def why(error: Exception) -> str:
    """An exception of any kind in one line."""
    return f"{type(error).__name__}: {reason(error)}"


def shareable(text: str) -> str:
    """A text without the user's name: the home folder is ~, and folders of users are ..."""
    home = Path(os.path.expanduser("~"))
    if home.name:
        # As it is, and as an error's repr of a path on Windows.
        for folder in (str(home), str(home).replace("\\", "\\\\"), str(home.resolve())):
            text = re.sub(rf"{re.escape(folder)}(?![\w.-])", "~", text)
        text = re.sub(rf"(?<=[/\\]){re.escape(home.name)}(?=[/\\])", "...", text)
    return re.sub(r"(?i)([/\\]+(?:home|users)[/\\]+)[^/\\\s'\"]+", r"\1...", text)
