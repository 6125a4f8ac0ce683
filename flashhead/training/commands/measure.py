"""`python -m flashhead.training measure`: how well a checkpoint animates clips."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ...checkpoint.loading import load_bundle
from ...errors import FlashHeadError
from ..data.clip_dataset import ClipDataset
from ..evaluation.clip_reports import KINDS, as_teacher, mean_figures, report_clip
from .options import command_parser, parse


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command: a picture and figures for each clip, and their means in figures.json."""
    parser = command_parser(
        "measure", "Lip sync, fidelity, drift, seams and flicker against known truth."
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
    arguments = parse(parser, argv)
    kinds = arguments.kind or ["generated"]
    bundle = None
    if arguments.checkpoint:
        bundle = load_bundle(arguments.checkpoint, arguments.variant, arguments.device)
        bundle = as_teacher(bundle) if arguments.teacher else bundle
    elif set(kinds) != {"drawn"}:
        raise FlashHeadError("--checkpoint is missing; only the kind 'drawn' does without.")
    clips = ClipDataset(arguments.clips, needed=("openness", "mouth", "face", "pose"))
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
            if sync := report.summary.sync:
                line = f"{report.name}: correlation {sync.correlation:.3f}, lag {sync.lag}"
                print(line, file=sys.stderr, flush=True)
        figures[kind] = mean_figures(reports)
    text = json.dumps(figures, indent=2)
    (arguments.output / "figures.json").write_text(text + "\n", encoding="utf-8")
    print(text)
