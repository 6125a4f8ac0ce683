"""`doctor`: what is here, what would be used and why, and whether it computes what it should."""

import argparse
import json
import os
from pathlib import Path

import torch

from ..doctor.examine import examine, verdict
from ..doctor.files import place_at
from ..doctor.host import library_host
from ..doctor.report import page
from ..errors import FlashHeadError
from ..files import check_output
from ..models.devices import default_device
from ..pocket import NAME as POCKET
from .convert import add_parts, parts_of
from .generate import CHECKPOINT_VARIABLE
from .output import Progress, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", help=f"to look into; default: {CHECKPOINT_VARIABLE} or {POCKET}")
    add_parts(parser)
    add("--verify", action="store_true", help="compare checksums, for which files are read whole")
    add("--device", help="such as cuda, cuda:1, xpu, mps or cpu; default: the first that is there")
    add("--json", metavar="FILE", help="write the facts there too, or to stdout alone (-)")


def run(arguments: argparse.Namespace) -> None:
    try:
        device = torch.device(arguments.device) if arguments.device else default_device()
    except RuntimeError as error:
        raise FlashHeadError(f"'{arguments.device}' is no device that torch knows.") from error
    if arguments.json not in (None, "-"):
        check_output(Path(arguments.json).absolute())
    named = arguments.checkpoint or os.environ.get(CHECKPOINT_VARIABLE) or POCKET
    place, found = place_at(named, **parts_of(arguments)), []
    with Progress(1.0, quiet=not arguments.verify) as progress:

        def on_bytes(read: int, total: int) -> None:
            progress.part(read / total, f"checksums: {read / 1e9:.2f} of {total / 1e9:.2f} GB")

        for section in examine(library_host(device), place, on_bytes if arguments.verify else None):
            found.append(section)
            if arguments.json != "-":
                say(page(*section), result=True)
    wrong, last = verdict(found)
    facts = {title: [row.entry() for row in rows] for title, rows in found}
    text = json.dumps(facts | {"result": last, "wrong": wrong}, indent=2)
    say(text if arguments.json == "-" else last, result=True)
    if arguments.json not in (None, "-"):
        Path(arguments.json).write_text(text + "\n", encoding="ascii")
    if wrong:
        raise FlashHeadError(last)
