"""`python -m flashhead.training COMMAND ...`: each command is the module of its name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from ..errors import FlashHeadError

COMMANDS = {
    "draw": "draw clips of talking faces",
    "clips": "cut and filter videos of your own into clips",
    "vae": "train the VAE on clips",
    "audio": "pre-train the audio encoder on speech",
    "encode": "encode clips with the trained VAE and audio encoder",
    "flow": "stage 1: flow matching on encoded clips",
    "distillation": "stage 2: distillation to a few steps",
    "bundle": "put the trained networks into one file",
    "measure": "lip sync, drift, seams and flicker against the truth, with pictures",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; bad input is one line on stderr and exit status 1.

    Without a command, print which there are; an unknown one has exit status 2.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = arguments[0] if arguments else None
    if name not in COMMANDS:
        print("usage: python -m flashhead.training COMMAND ...; COMMAND --help says more\n")
        for command, text in COMMANDS.items():
            print(f"  {command:13} {text}")
        return 0 if name in ("-h", "--help") else 2
    try:
        importlib.import_module(f".commands.{name}", __package__).main(arguments[1:])
    except FlashHeadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
