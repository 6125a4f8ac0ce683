"""Estimates of the memory that a chunk takes in addition to the weights."""

import math
from collections.abc import Sequence

import torch

from ..geometry import CHUNK_FRAMES
from .config import GeneratorConfig

# Counted, not measured: the widest decoder stage holds about 8 values a pixel in five tensors at
# once, colour matching three float32 values in about ten; a transformer block holds about 12
# tensors of its width and two of its FFN's.
_VIDEO_VALUES = 40
_COLOR_BYTES = 120
_TOKEN_WIDTHS = 12


def transformer_memory(config: GeneratorConfig, dtype: torch.dtype, latents: Sequence[int]) -> int:
    """Peak bytes of activations in one denoising step, for one sample's latents (T, h, w)."""
    tokens = math.prod(latents) // math.prod(config.patch_size)
    return tokens * (_TOKEN_WIDTHS * config.dim + 2 * config.ffn_dim) * dtype.itemsize


def working_memory(config: GeneratorConfig, dtype: torch.dtype, size: tuple[int, int]) -> int:
    """Estimated bytes at the peak of generating one chunk at (height, width), without weights."""
    stride = config.vae_stride
    latents = ((CHUNK_FRAMES - 1) // stride[0] + 1, size[0] // stride[1], size[1] // stride[2])
    pixels = CHUNK_FRAMES * size[0] * size[1]
    video = pixels * (_VIDEO_VALUES * dtype.itemsize + _COLOR_BYTES)
    return max(transformer_memory(config, dtype, latents), video)


def fits(needed: int, device: torch.device) -> bool:
    """Whether `needed` bytes are free on a CUDA device; True elsewhere, where torch cannot tell."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    # Memory that torch's allocator holds but does not use can be used without asking the device.
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return needed < free + cached
