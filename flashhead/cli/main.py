"""The command line: `python -m flashhead generate`, `convert`, `info` and `doctor`.

Exit status: 0 done, 1 bad input or a run that failed (one line on stderr), 2 wrong usage, 130
interrupted; what was finished of a video by then is kept, playable, and of a bundle nothing.
"""

import argparse
from collections.abc import Sequence

import av

from ..errors import FlashHeadError
from ..models.tiles import is_out_of_memory
from . import convert, doctor, generate, info
from .output import safe_streams, say, warnings_in_lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; wrong usage raises argparse's `SystemExit(2)`."""
    with safe_streams():
        return _run(argv)


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="flashhead", description="SoulX-FlashHead: a portrait and speech to a talking head."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module, text in (
        ("generate", generate, "make a video"),
        ("convert", convert, "put a checkpoint into one file"),
        ("info", info, "say what a checkpoint is, from its headers"),
        ("doctor", doctor, "say what is here and whether it works, for a bug report"),
    ):
        command = commands.add_parser(name, help=text)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    try:
        with warnings_in_lines(quiet=getattr(arguments, "quiet", False)):
            arguments.run(arguments)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except (FlashHeadError, OSError, av.FFmpegError) as error:
        say(f"error: {' '.join(str(error).split())}")
        return 1
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        say("error: the device ran out of memory; try a smaller --size, or --dtype bf16 or fp16")
        return 1
    return 0
