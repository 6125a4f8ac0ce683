"""An auxiliary prediction of the mouth from latents, for stage 1 on clips whose mouth is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call


class MouthHead(nn.Module):
    """Clean latents (B, C, T, h, w) -> openness and width (B, 1 + (T - 1) * stride, 2).

    Each latent frame predicts those of the frames that it codes. The head is trained beside the
    generator, and is no part of it.
    """

    def __init__(self, channels: int, stride: int, size: tuple[int, int], hidden: int = 64):
        super().__init__()
        self.stride = stride
        self.reduce = nn.Conv3d(channels, hidden // 4, (1, 3, 3), padding=(0, 1, 1))
        self.mix = nn.Linear(hidden // 4 * size[0] * size[1], hidden)
        self.out = nn.Linear(hidden, 2 * stride)

    def forward(self, latents: Tensor) -> Tensor:
        x = nn.functional.silu(self.reduce(latents)).transpose(1, 2).flatten(2)
        frames = self.out(nn.functional.silu(self.mix(x))).unflatten(-1, (self.stride, 2))
        # The first latent codes one frame, which is predicted as the last of a group.
        return torch.cat([frames[:, 0, -1:], frames[:, 1:].flatten(1, 2)], dim=1)


def mouth_losses(
    head: MouthHead, clean: Tensor, predicted: Tensor, mouth: Tensor, new: Tensor
) -> dict[str, Tensor]:
    """Losses that train the head on true latents, and the generator through the head.

    Args:
        clean: true latents (B, C, T, h, w).
        predicted: the generator's, with gradients.
        mouth: (B, frames, 2), the truth.
        new: (B, 1, T, 1, 1), 1 where the generator had to predict.

    Returns:
        "mouth_head": the head's error on true latents, which trains the head alone.
        "mouth": its error on predicted latents, over the frames to predict, which trains the
        generator alone.
    """
    frozen = {name: value.detach() for name, value in head.named_parameters()}
    read = functional_call(head, frozen, (predicted,))
    counts = torch.full((new.shape[2],), head.stride, device=new.device)
    counts[0] = 1
    weight = new[:, 0, :, 0, 0].repeat_interleave(counts, dim=1).unsqueeze(-1)
    error = ((read - mouth).square() * weight).sum() / (2 * weight.sum()).clamp_min(1)
    return {
        "mouth_head": (head(clean.detach()) - mouth).square().mean(),
        "mouth": error,
    }
