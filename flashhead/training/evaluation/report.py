"""A video's report: one picture (contact sheet, mouths, curves) and one JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...geometry import FPS
from .frames import FrameMeasures, measure_frames
from .openness import INSIDE, Color
from .pictures import contact_sheet, curves, stack
from .regions import Regions
from .summary import Summary, summarize

SHEET_FRAMES = 24
CURVE_SECONDS = 12
TOP_DB = 60


@dataclass
class _SheetFrames:
    """Keeps the frames that the contact sheet shows, while blocks of frames pass through."""

    wanted: set[int]
    kept: list[tuple[int, Tensor]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    count: int = 0

    def watch(self, blocks: Iterable[Tensor]) -> Iterable[Tensor]:
        for block in blocks:
            self.starts.append(self.count)
            for number in range(self.count, self.count + len(block)):
                if number in self.wanted:
                    self.kept.append((number, block[number - self.count].cpu()))
            self.count += len(block)
            yield block


@dataclass(frozen=True)
class Report:
    """The measures of one video, and the numbered frames (`sheet`) for its picture."""

    name: str
    summary: Summary
    measures: FrameMeasures
    truth: Tensor | None
    starts: Sequence[int]
    sheet: Sequence[tuple[int, Tensor]]

    def picture(self) -> Image.Image:
        """Contact sheet over curves: openness for the first seconds, fidelity for the whole."""
        shown = min(len(self.measures), CURVE_SECONDS * FPS)
        mouth = {"measured": _scaled(self.measures.openness)[:shown]}
        if self.truth is not None:
            mouth["true"] = _scaled(self.truth)[:shown]
        measures = self.measures
        fidelity = {
            name: getattr(measures, name).clamp_max(TOP_DB) for name in ("identity", "background")
        }
        return stack(
            [
                contact_sheet(self.sheet),
                curves(mouth, title=f"{self.name}: mouth openness, scaled", marks=self.starts),
                curves(fidelity, title=f"PSNR to the portrait, dB, up to {TOP_DB}"),
                curves(
                    {"all": 255 * measures.change, "background": 255 * measures.flicker},
                    title="difference to the frame before, of 255",
                    marks=self.starts,
                ),
            ]
        )

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write NAME.png and NAME.json; returns their paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        picture, figures = folder / f"{self.name}.png", folder / f"{self.name}.json"
        self.picture().save(picture)
        figures.write_text(json.dumps(self.summary.to_json(), indent=2) + "\n", encoding="utf-8")
        return picture, figures


def _scaled(values: Tensor) -> Tensor:
    """To [0, 1] by their extremes."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp_min(1e-6)


def evaluate(
    blocks: Iterable[Tensor],
    portrait: Tensor,
    regions: Regions,
    *,
    frames: int,
    truth: Tensor | None = None,
    starts: Sequence[int] | None = None,
    inside: tuple[Color, ...] = INSIDE,
    name: str = "video",
) -> Report:
    """Measure a video once, block by block, in the memory of one block.

    Args:
        blocks: of frames (n, H, W, 3) in [0, 1], such as the chunks of `flashhead.generate`.
        portrait: (H, W, 3) in [0, 1], mouth closed, as the model was given it.
        regions: where its mouth, head and background are.
        frames: how many there will be, about: the contact sheet's are chosen by it.
        truth: openness (T,) in [0, 1] that the audio asks for.
        starts: first frames of the chunks; None means that every block is one.
        inside: sRGB colours of the mouth's inside in [0, 1].
        name: of the report's files.
    """
    keeper = _SheetFrames({int(f) for f in torch.linspace(0, max(0, frames - 1), SHEET_FRAMES)})
    measures = measure_frames(keeper.watch(blocks), portrait, regions, inside=inside)
    chunks = keeper.starts if starts is None else list(starts)
    ends = (portrait <= 0.5 / 255) | (portrait >= 254.5 / 255)
    summary = summarize(
        measures,
        truth=truth,
        starts=chunks,
        portrait_clipped=float(ends.any(2).float().mean()),
    )
    return Report(name, summary, measures, truth, chunks, keeper.kept)
