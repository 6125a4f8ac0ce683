"""Reports on clips whose truth is known: generated, reconstructed, or the clips themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...geometry import SAMPLE_RATE
from ...models.bundle import Bundle
from ...stream.generate import generate
from ..data.clips import Clip
from .clip_regions import clip_frames, portrait_image, regions_of_clip
from .report import Report, evaluate

KINDS = ("generated", "shuffled", "silent", "reconstructed", "drawn")
"""Generated from the clip's portrait and speech, from another clip's speech, from silence; the
clip's own frames through the VAE, chunk by chunk; the clip's own frames."""


def report_clip(
    bundle: Bundle | None,
    clip: Clip,
    kind: str = "generated",
    *,
    other: Clip | None = None,
    repeat: int = 1,
    name: str = "clip",
    **settings: Any,
) -> Report:
    """Measure one clip.

    Args:
        bundle: the checkpoint; only the kind "drawn" needs none.
        clip: with openness, pose and region masks.
        kind: one of `KINDS`.
        other: whose speech "shuffled" uses; sync is still measured against `clip`.
        repeat: times that the speech is played, one after another, for long streams.
        settings: of `generate`, such as steps, guidance or seed.

    Raises:
        ValueError: an unknown kind, "shuffled" without another clip, a kind that needs a bundle
            without one, or a clip that does not know its openness.
    """
    if kind not in KINDS:
        raise ValueError(f"Unknown kind '{kind}'; expected one of {', '.join(KINDS)}.")
    if clip.openness is None:
        raise ValueError("The clip does not know its openness, which lip sync is measured against.")
    speech, truth = clip.waveform.repeat(repeat), clip.openness.repeat(repeat)
    if kind == "shuffled":
        if other is None:
            raise ValueError("The kind 'shuffled' needs another clip's speech.")
        speech = other.waveform.repeat(1 + len(speech) // len(other.waveform))[: len(speech)]
    if kind == "silent":
        speech, truth = torch.zeros_like(speech), torch.zeros_like(truth)
    blocks: Iterator[Tensor]
    if kind == "drawn":
        blocks = iter([clip_frames(clip)])
        truth = clip.openness
    elif bundle is None:
        raise ValueError(f"The kind '{kind}' needs a checkpoint.")
    elif kind == "reconstructed":
        blocks = reconstruct(bundle, clip)
        truth = clip.openness
    else:
        height, width = clip.video.shape[1:3]
        chunks = generate(
            bundle,
            portrait_image(clip),
            speech,
            SAMPLE_RATE,
            size=(height, width),
            **settings,
        )
        blocks = (chunk.frames for chunk in chunks)
    return evaluate(
        blocks,
        portrait_image(clip),
        regions_of_clip(clip),
        frames=len(truth),
        truth=truth,
        name=name,
    )


@torch.no_grad()
def reconstruct(bundle: Bundle, clip: Clip) -> Iterator[Tensor]:
    """The new frames (n, H, W, 3) in [0, 1] of each whole chunk of the clip, encoded and decoded;
    of the first chunk all frames."""
    geometry = bundle.geometry
    frames = 2 * clip_frames(clip) - 1
    start, skip = 0, 0
    while start + geometry.frames <= clip.frames:
        video = frames[start : start + geometry.frames].movedim(3, 0)[None]
        made = bundle.vae.decode(bundle.vae.encode(video)).float().cpu()
        yield ((made[0].movedim(0, 3) + 1) / 2).clamp(0, 1)[skip:]
        start, skip = start + geometry.new_frames, geometry.motion_frames


def as_teacher(bundle: Bundle) -> Bundle:
    """The same networks, sampled as the teacher is: 20 Euler steps, audio guidance 3."""
    return replace(bundle, variant="pretrained")


def mean_figures(reports: Sequence[Report]) -> dict[str, float]:
    """Means of the figures of several videos; a figure's mean leaves out videos that lack it."""
    flat = [_flatten(report.summary.to_json()) for report in reports]
    means = {}
    for name in flat[0]:
        values = [value for figures in flat if (value := figures.get(name)) is not None]
        if values:
            means[name] = sum(values) / len(values)
    return means


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, float | None]:
    flat: dict[str, float | None] = {}
    for key, value in values.items():
        flat |= (
            _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat
