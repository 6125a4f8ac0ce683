"""A batch of encoded chunks: the tensors that one training step gets."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChunkBatch:
    """Ground truth of B chunks, float32.

    latents: (B, C, T, h, w) of the chunk's frames. reference: (B, C, T, h, w) of the portrait.
    context: (B, frames, 5, layers, channels), the audio context of each frame, encoded with the
    audio cache. face: (B, 1, T, h, w) in [0, 1], the weight of each latent in the face loss.
    mouth: (B, frames, 2), openness and width in [0, 1], NaN where they are not known.
    """

    latents: Tensor
    reference: Tensor
    context: Tensor
    face: Tensor
    mouth: Tensor

    @property
    def size(self) -> int:
        return self.latents.shape[0]

    def to(self, device: torch.device | str) -> ChunkBatch:
        """The same on another device."""
        return ChunkBatch(*(getattr(self, f.name).to(device) for f in fields(self)))
