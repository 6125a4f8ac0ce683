"""Batches of videos with their regions and mouths, from stored clips."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.clip_cache import ClipCache


@dataclass(frozen=True)
class VideoBatch:
    """video (B, 3, T, H, W) in [-1, 1]; mouth, eyes, face (B, T, H, W); openness, width (B, T)."""

    video: Tensor
    mouth: Tensor
    eyes: Tensor
    face: Tensor
    openness: Tensor
    width: Tensor


def draw_videos(
    clips: ClipCache, batch: int, frames: int, rng: torch.Generator, device: torch.device
) -> VideoBatch:
    """Random parts of random clips."""
    parts = []
    for _ in range(batch):
        pick = int(torch.randint(len(clips), (), generator=rng))
        start = int(torch.randint(clips.frames - frames + 1, (), generator=rng))
        parts.append(clips.part(pick, start, frames))

    def stack(name: str) -> Tensor:
        return torch.stack([getattr(part, name) for part in parts]).to(device)

    video = stack("video").permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    regions = (stack(name).float() / 255 for name in ("mouth", "eyes", "face"))
    return VideoBatch(video, *regions, stack("openness"), stack("width"))
