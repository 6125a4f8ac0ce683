"""Audio features to the tokens that cross-attention reads (DESIGN §1.2, step 3)."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .backend import TORCH, Backend
from .config import GeneratorConfig


def group_audio_context(audio: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Gather the audio context of each latent frame into one vector.

    `audio` is (B, frames, window, layers, channels) with frames = 1 + n * stride: for each frame
    the features of the frames around it. The first frame is a latent frame of its own and keeps its
    whole window. Each later group of `stride` frames is one: it takes the first frame's window up
    to the centre, the middle frames' centres, and the last frame's window from the centre on.

    Returns (B, window*layers*channels) and (B, n, (window+stride-1)*layers*channels). Raises
    `ValueError` for another number of frames.
    """
    frames, window = audio.shape[1:3]
    if frames < 1 or (frames - 1) % stride:
        raise ValueError(
            f"Audio context of {frames} frames does not fit the latents: "
            f"expected 1 + n * {stride} frames."
        )
    centre = window // 2
    first = audio[:, 0].flatten(1)
    groups = rearrange(audio[:, 1:], "b (n f) w l c -> b n f w (l c)", f=stride)
    later = torch.cat(
        [groups[:, :, 0, : centre + 1], groups[:, :, 1:-1, centre], groups[:, :, -1, centre:]],
        dim=2,
    )
    return first, later.flatten(2)


class AudioProjection(nn.Module):
    """Audio context (B, frames, window, layers, channels) -> tokens (B, T, tokens, dim)."""

    def __init__(self, config: GeneratorConfig, backend: Backend = TORCH):
        super().__init__()
        ops = backend.operations
        self.stride = config.vae_stride[0]
        self.tokens = config.audio_tokens
        hidden, window = config.audio_hidden, config.audio_window
        self.proj1 = ops.Linear(window * config.audio_width, hidden)
        self.proj1_vf = ops.Linear((window + self.stride - 1) * config.audio_width, hidden)
        self.proj2 = ops.Linear(hidden, hidden)
        self.proj3 = ops.Linear(hidden, config.audio_tokens * config.dim)
        self.norm = ops.LayerNorm(config.dim)

    def forward(self, audio: Tensor) -> Tensor:
        first, later = group_audio_context(audio, self.stride)
        x = torch.cat([self.proj1(first).unsqueeze(1), self.proj1_vf(later)], dim=1)
        x = self.proj3(functional.relu(self.proj2(functional.relu(x))))
        # torch's layer norm computes in float32 whatever the dtype, as the published model does.
        return self.norm(x.unflatten(-1, (self.tokens, -1)))
