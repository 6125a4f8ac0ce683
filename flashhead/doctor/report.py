"""Rows of facts in sections, as a page of text and as JSON, with nothing private in either."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import reason

COLUMNS = 100
_LABEL = 15
_MOST_LINES = 4  # of a row


class Row(NamedTuple):
    """A line of the page.

    text: what people read. facts: for programs, in JSON's types. wrong: whether it has to be mended
    before a video can be made.
    """

    label: str
    text: str
    facts: Mapping[str, Any] = {}
    wrong: bool = False


@dataclass
class Section:
    """A title and its rows."""

    title: str
    rows: list[Row] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        title: str,
        rows: Iterable[Row],
        *,
        vital: bool = False,
        passing: tuple[type[BaseException], ...] = (),
    ) -> Section:
        """The rows as they come. Where one raises, a row says so, and it is wrong if `vital`.

        passing: exceptions that go through, such as a host's for Cancel.
        """
        section = cls(title)
        try:
            for row in rows:
                section.rows.append(row)
        except passing:
            raise
        except Exception as error:
            section.rows.append(Row("failed", why(error), wrong=vital))
        return section

    def page(self) -> str:
        """Lines of at most `COLUMNS` characters, in ASCII for any terminal."""
        lines = [self.title]
        for row in self.rows:
            gap = max(2, _LABEL - len(row.label))
            line = f"  {row.label}{' ' * gap}{'WRONG: ' if row.wrong else ''}{row.text}"
            line = re.sub("[^ -~]", lambda c: ascii(c[0])[1:-1], shareable(line))
            lines += textwrap.wrap(
                line,
                COLUMNS,
                subsequent_indent=" " * (_LABEL + 2),
                break_on_hyphens=False,
                max_lines=_MOST_LINES,
                placeholder=" ...",
            )
        return "\n".join(lines)

    def facts(self) -> list[dict[str, Any]]:
        """The rows for JSON."""
        return [
            {"label": shareable(row.label), "text": shareable(row.text), "wrong": row.wrong}
            | dict(row.facts)
            for row in self.rows
        ]


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
