"""Writing files so that a half-written one never has the file's name."""

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

    A writer that wants a path may write to the file's `name` instead, which is random and does not
    end like `path`'s; so tell it the format where it guesses that by the name.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    file = part.open("xb")  # fails where there is anything, be it a planted symbolic link
    try:
        with file:
            yield file
        with part.open("r+b") as written:
            os.fsync(written.fileno())
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
