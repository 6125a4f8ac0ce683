"""Random batches of videos, with the regions and mouths of their faces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.clip_dataset import ClipDataset


@dataclass(frozen=True)
class VideoBatch:
    """B parts of clips.

    video: (B, 3, T, H, W) in [-1, 1]. mouth, eyes, face: region masks (B, T, H, W) in [0, 1].
    openness, width: of the mouth, (B, T) in [0, 1].
    """

    video: Tensor
    mouth: Tensor
    eyes: Tensor
    face: Tensor
    openness: Tensor
    width: Tensor


def draw_videos(
    clips: ClipDataset, batch: int, frames: int, rng: torch.Generator, device: torch.device
) -> VideoBatch:
    """`batch` random parts of random clips, of `frames` frames each; the mouths must be known."""
    parts = []
    for _ in range(batch):
        pick = int(torch.randint(len(clips), (), generator=rng))
        start = int(torch.randint(clips.frames - frames + 1, (), generator=rng))
        parts.append(clips.part(pick, start, frames))

    def stack(name: str) -> Tensor:
        return torch.stack([getattr(part, name) for part in parts]).to(device)

    video = stack("video").permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    mouth, eyes, face = (stack(name).float() / 255 for name in ("mouth", "eyes", "face"))
    return VideoBatch(video, mouth, eyes, face, stack("openness"), stack("width"))
