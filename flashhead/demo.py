"""The whole Lite path on the example portrait and speech, with random weights.

`python -m flashhead.demo --output demo.mp4` needs no download: it makes a miniature checkpoint in a
temporary folder and hands it to the command line's `generate`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import cli
from .allocator import keep_freed_memory
from .layout import REPOSITORY
from .miniature import write_checkpoint

EXAMPLES = Path(__file__).parent / "examples"
NOTICE = (
    "Note: the weights of this run are random, so the picture is noise while the path is real; for "
    f"a talking head give `python -m flashhead generate --checkpoint` the folder of {REPOSITORY}."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the demonstration video; returns the exit status of `generate`."""
    parser = argparse.ArgumentParser(prog="flashhead.demo", description=__doc__.partition("\n")[0])
    parser.add_argument("--output", required=True, help="the .mp4 to write")
    parser.add_argument("--portrait", default=str(EXAMPLES / "portrait.png"))
    parser.add_argument("--audio", default=str(EXAMPLES / "speech.wav"))
    parser.add_argument("--size", default="512x512", metavar="WxH")
    given = parser.parse_args(argv)
    if argv is None:  # a process of our own
        keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="flashhead-") as folder:
        checkpoint = write_checkpoint(folder)
        command = ["generate", "--checkpoint", str(checkpoint)]
        for option in ("portrait", "audio", "output", "size"):
            command += [f"--{option}", getattr(given, option)]
        status = cli.main(command)
    if status == 0:
        print(NOTICE)
    return status


if __name__ == "__main__":
    sys.exit(main())
