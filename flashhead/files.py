"""What is wrong with a file before it is read; and writing files so that a half-written one never
has the file's name, and none is lost to another.

What is written has a hidden name of its own beside the file until it is complete. Of two runs that
write one file the second finds that it is no longer what it was when it began, and lets it stay.
"""

import json
import os
import secrets
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO

from .errors import FlashHeadWarning, OutputError

_LFS_POINTER = b"version https://git-lfs"
_WEB_PAGES = (b"<!doctype html", b"<html")
# Bytes of a file's name that its hidden one repeats; a file system takes 255 in all, some 143.
_REPEATED = 80


def fault_of(path: Path) -> str | None:
    """Why a path cannot be a file of data, as the end of a sentence about it; None where it can.

    A pipe or a device is not opened: reading one may never end.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is a folder, a pipe or a device; expected a file"
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if head.startswith(_LFS_POINTER):
        return (
            "is a Git LFS pointer, a few lines of text in the file's place; run `git lfs pull` in "
            "its repository, or download the file itself"
        )
    if head.lstrip().lower().startswith(_WEB_PAGES):
        return "is a web page saved in the file's place; download the file itself"
    return None


def read_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises `ValueError` for any other text, be it nested without end."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"it is a {type(value).__name__}; expected a JSON object")
    return value


def check_output(path: Path) -> None:
    """Raise `OutputError` unless a file can be written at `path`, by writing a small one beside it.

    For the start of a long run; what is at `path` is not touched.
    """
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()  # raises for a name that is too long
        if not path.parent.is_dir():
            raise OutputError(f"there is no folder {path.parent} to write {path} in; make it first")
        if path.is_dir():
            raise OutputError(f"{path} is a folder; give the name of a file to write")
        if path.exists() and not path.is_file():
            raise OutputError(f"{path} is a device or pipe; give the name of a file to write")
        if path.exists() and not os.access(path, os.W_OK):
            raise OutputError(f"{path} is write-protected; give another name")
        with hidden_file(path, ".part") as probe:
            try:
                probe.write(bytes(4096))
                probe.flush()
            finally:
                Path(probe.name).unlink()
    except OutputError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path} cannot be written: {reason}; give another name") from error


def hidden_file(path: Path, ending: str) -> BinaryIO:
    """Open a new file beside `path`, hidden and of a name that no other run has, to become `path`
    later; where it is, is its `name`."""
    repeated = os.fsencode(path.name)[:_REPEATED].decode(sys.getfilesystemencoding(), "ignore")
    # "x" fails where there is anything, be it a planted symbolic link.
    return path.with_name(f".{repeated}.{secrets.token_hex(4)}{ending}").open("xb")


def stamp(path: Path) -> tuple[int, int] | None:
    """What tells the file at `path` from one that takes its place later; None for no file."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def put(part: Path, path: Path, seen: tuple[int, int] | None, *, numbered: bool = False) -> Path:
    """Give a complete file its name, and return that.

    It replaces what is at `path` only if that is what was there when its `stamp` was `seen`.
    Otherwise it becomes the first of NAME_2, NAME_3, ... that is free, with a warning; or, if it
    must not be `numbered`, `OutputError` is raised.
    """
    if seen is not None and stamp(path) == seen:
        os.replace(part, path)
        return path
    others = (path.with_stem(f"{path.stem[:60]}_{number}") for number in count(2))
    for target in chain([path], others if numbered else ()):
        with suppress(FileExistsError):
            target.open("xb").close()  # ours from here on
            break
    else:
        raise OutputError(f"{path} was written by another run meanwhile; it stays as it is")
    try:
        os.replace(part, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    if target != path:
        text = f"{path} was written by another run meanwhile and stays; this one's file is {target}"
        warnings.warn(text, FlashHeadWarning, stacklevel=2)
    return target


@contextmanager
def replacing(path: Path, *, new: bool = False) -> Iterator[BinaryIO]:
    """Open a file to write that replaces `path` when the block ends without an exception; `new`:
    if there is none.

    Until then it is a hidden file beside `path`, and what was at `path` stays. An exception (an
    interrupt too) deletes it. Its contents are flushed to the disk before it gets its name, by
    `put`. Raises `OutputError`, also an `OSError`, for a disk that does not take it, or where
    another run wrote `path` meanwhile.

    A writer that wants a path may write to the file's `name` instead, which is random and does not
    end like `path`'s; so tell it the format where it guesses that by the name.
    """
    seen, file = None if new else stamp(path), hidden_file(path, ".part")
    part = Path(file.name)
    try:
        with file:
            yield file
        with part.open("r+b") as written:
            os.fsync(written.fileno())
        put(part, path, seen)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OutputError) or not isinstance(error, OSError):
            raise
        if error.filename not in (None, str(part)):
            raise  # of what is read
        raise OutputError(f"{path} could not be written: {error.strerror or error}") from error
    with suppress(OSError, AttributeError):  # Windows cannot open a folder
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
