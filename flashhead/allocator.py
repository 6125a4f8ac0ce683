"""glibc's allocator, set for large tensors on the CPU."""

from __future__ import annotations

import ctypes
import sys

# From malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Have freed memory used again instead of given back to the system.

    By default every large tensor is mapped afresh, and where networks are small, clearing its pages
    takes longer than filling them. The price is a higher peak (half more in the demonstration). It
    changes the whole process, so it is for one that is ours: call it before any work. Does nothing
    where the C library has no such switch.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
