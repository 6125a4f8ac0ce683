"""Errors and warnings about a user's input, one class per kind.

Every message is one sentence that says what is wrong, where, and what would be right. Errors
derive from `FlashHeadError`, a `ValueError`, so a caller can catch the lot without hiding a bug;
warnings from `FlashHeadWarning`.
"""

import reprlib


class FlashHeadError(ValueError):
    """Bad input, found before any model runs."""


class CheckpointError(FlashHeadError):
    """A checkpoint file that is missing, truncated, foreign or of the wrong shape."""


class AudioError(FlashHeadError):
    """Audio that is empty, not finite, unreadable or of an impossible shape or rate."""


class PortraitError(FlashHeadError):
    """A portrait that cannot be read or has the wrong shape, range or number of images."""


class SizeError(FlashHeadError):
    """A frame size that the checkpoint's strides cannot make."""


class NonFiniteError(FlashHeadError):
    """Frames that came out as NaN or infinity: the dtype is too narrow for these weights."""


class OutputError(FlashHeadError, OSError):
    """A file that cannot be written where it is wanted, or not to its end."""


class FlashHeadWarning(UserWarning):
    """Input that is used all the same, but of which the user should know something."""


class PortraitWarning(FlashHeadWarning):
    """A portrait that the checkpoint cannot animate well."""


class CheckpointWarning(FlashHeadWarning):
    """Weights that make less than they could."""


class AudioWarning(FlashHeadWarning):
    """Audio that is damaged, mixed in another way than others, or far too loud."""


class MemoryWarning(FlashHeadWarning):
    """A device without the memory for a picture, which is made in tiles instead."""


_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = 20
_short.maxstring = 80


def shown(value: object) -> str:
    """A value from a file for a message, as `repr` but never long or deep."""
    return _short.repr(value)


def reason(error: Exception) -> str:
    """Another library's error for a message: its first line, never long."""
    line = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    return line if len(line) < 200 else line[:200] + "..."


# ComfyUI shows an error's module, which in a node pack is a path to the pack's folder.
for _base in (FlashHeadError, FlashHeadWarning):
    for _kind in (_base, *_base.__subclasses__()):
        _kind.__module__ = "flashhead"
