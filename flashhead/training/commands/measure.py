"""`python -m flashhead.training measure`: what a checkpoint makes of clips."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ...checkpoint.loading import load_bundle
from ...errors import FlashHeadError
from ..data.clip_cache import ClipCache
from ..evaluation.clip_reports import KINDS, as_teacher, mean_figures, report_clip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a checkpoint on a data set of clips; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m flashhead.training measure",
        description="Lip sync, fidelity, drift, seams and flicker against known truth.",
    )
    parser.add_argument("--clips", type=Path, required=True, help="data set of clips, held out")
    parser.add_argument("--output", type=Path, required=True, help="folder of the report")
    parser.add_argument("--checkpoint", help="folder or bundle; not needed for 'drawn'")
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: generated")
    parser.add_argument("--count", type=int, default=8, help="clips to measure")
    parser.add_argument("--repeat", type=int, default=1, help="times that speech is played")
    parser.add_argument("--teacher", action="store_true", help="20 Euler steps, guidance 3")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--cache-seconds", type=float)
    parser.add_argument("--variant")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args(argv)
    try:
        figures = _measure(arguments)
    except FlashHeadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(figures, indent=2))
    return 0


def _measure(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    kinds = arguments.kind or ["generated"]
    bundle = None
    if arguments.checkpoint:
        bundle = load_bundle(arguments.checkpoint, arguments.variant, arguments.device)
        bundle = as_teacher(bundle) if arguments.teacher else bundle
    elif set(kinds) != {"drawn"}:
        raise FlashHeadError("--checkpoint is missing; only the kind 'drawn' does without.")
    clips = ClipCache(arguments.clips)
    settings: dict[str, int | float] = {"seed": arguments.seed}
    if arguments.steps:
        settings["steps"] = arguments.steps
    if arguments.cache_seconds:
        settings["cache_seconds"] = arguments.cache_seconds
    figures = {}
    for kind in kinds:
        reports = []
        for number in range(min(arguments.count, len(clips))):
            report = report_clip(
                bundle,
                clips[number],
                kind,
                other=clips[(number + 1) % len(clips)],
                repeat=arguments.repeat,
                name=f"{kind}-{number:03d}",
                **settings,
            )
            report.save(arguments.output)
            reports.append(report)
            print(f"{report.name}: {_line(report.summary.sync)}", file=sys.stderr, flush=True)
        figures[kind] = mean_figures(reports)
    text = json.dumps(figures, indent=2) + "\n"
    (arguments.output / "figures.json").write_text(text, encoding="utf-8")
    return figures


def _line(sync) -> str:
    return f"correlation {sync.correlation:.3f}, lag {sync.lag}"


if __name__ == "__main__":
    with torch.no_grad():
        raise SystemExit(main())
