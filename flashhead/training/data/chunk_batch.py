"""What a training step sees of chunks: tensors that a frozen VAE and audio encoder made."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChunkBatch:
    """Ground truth of B chunks, float32.

    latents: (B, C, T, h, w) of the chunk's frames. reference: (B, C, T, h, w) of the portrait.
    context: (B, frames, 5, layers, channels), heard through the audio cache. face: (B, 1, T, h, w)
    in [0, 1], how much of each latent lies in the face region. mouth: (B, frames, 2), openness
    and width in [0, 1].
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
