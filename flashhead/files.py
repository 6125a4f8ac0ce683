"""Writing files so that a half-written one never has the file's name."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write that replaces `path` when the block ends without an exception.

    Until then it is a hidden file beside `path`, and what was at `path` stays. An exception (an
    interrupt too) deletes it. Its contents are flushed to the disk before it gets its name.
    """
    with replacing_path(path) as part, part.open("wb") as file:
        yield file


@contextmanager
def replacing_path(path: Path) -> Iterator[Path]:
    """As `replacing`, for a writer that wants a path: yields that of an empty temporary file.

    The writer may truncate the file or write over it. Its name is random and does not end like
    `path`'s, so tell the writer the format where it guesses by the name.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    part.open("xb").close()  # fails where there is anything, be it a planted symbolic link
    try:
        yield part
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    with suppress(OSError, AttributeError):  # Windows cannot open a folder
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
