"""A drawn face that says the example speech: the pocket checkpoint, which comes along.

`python -m flashhead.demo --output demo.mp4` downloads nothing; it hands the package's own portrait,
speech and checkpoint to the command line's `generate`.
"""

import argparse
import ctypes
import sys
from collections.abc import Sequence

from . import pocket
from .cli.main import main as run_command
from .cli.output import safe_streams
from .examples import SPEECH
from .variants import REPOSITORY

NOTICE = (
    f"Made with the pocket checkpoint, for the drawn faces in {pocket.FOLDER / 'portraits'}; for "
    f"photographs give `python -m flashhead generate --checkpoint` the folder of {REPOSITORY}."
)

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Have freed memory used again instead of given back to the system.

    By default glibc maps every large tensor afresh, and where networks are small, clearing its
    pages takes longer than filling them. The price is a higher peak (half more in the
    demonstration). It changes the whole process, so it is for one that is ours: call it before any
    work. Does nothing where the C library has no such switch.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the demonstration video; returns the exit status of `generate`."""
    faces = pocket.portraits()
    parser = argparse.ArgumentParser(prog="flashhead.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", required=True, help="the .mp4 to write")
    parser.add_argument("--face", choices=faces, default=next(iter(faces)))
    parser.add_argument("--audio", default=str(SPEECH))
    given = parser.parse_args(argv)
    if argv is None:  # a process of our own
        keep_freed_memory()
    command = ["generate", "--checkpoint", pocket.NAME, "--enlarge", "4"]
    command += ["--portrait", str(faces[given.face])]
    command += ["--audio", given.audio, "--output", given.output]
    status = run_command(command)
    if status == 0:
        with safe_streams():
            print(NOTICE)
    return status


if __name__ == "__main__":
    sys.exit(main())
