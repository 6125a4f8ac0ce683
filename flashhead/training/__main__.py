"""`python -m flashhead.training COMMAND ...`: every command is a module that runs by itself too."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from .commands.options import run_main

COMMANDS = {
    "draw": ("draw_clips", "draw clips of talking faces"),
    "vae": ("train_vae", "train the VAE on clips"),
    "audio": ("train_audio", "pre-train the audio encoder on speech"),
    "encode": ("encode_clips", "encode clips with the trained VAE and audio encoder"),
    "flow": ("train_flow", "stage 1: flow matching on encoded clips"),
    "distillation": ("train_distillation", "stage 2: distillation to a few steps"),
    "bundle": ("write_bundle", "put the trained networks into one file"),
    "measure": ("measure", "lip sync, drift, seams and flicker against the truth, with pictures"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; without one, say which there are."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] not in COMMANDS:
        wanted = arguments[:1] not in ([], ["-h"], ["--help"])
        print("usage: python -m flashhead.training COMMAND ...; COMMAND --help says more\n")
        for name, (_, text) in COMMANDS.items():
            print(f"  {name:13} {text}")
        return 2 if wanted or not arguments else 0
    module = importlib.import_module(f".commands.{COMMANDS[arguments[0]][0]}", __package__)
    return run_main(lambda _: module.main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main())
