"""`info`: what a checkpoint is."""

import argparse

from ..checkpoint.info import describe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="published folder, component folder, file or bundle")
    parser.add_argument(
        "--sha256", action="store_true", help="checksums too, for which files are read"
    )


def run(arguments: argparse.Namespace) -> None:
    print(describe(arguments.path, sha256=arguments.sha256))
