"""How much memory a chunk takes beside the weights, for hosts that plan ahead."""

from __future__ import annotations

import math

from .checkpoint import Bundle

# Counted, not measured: the widest decoder stage holds about 8 values a pixel in five tensors at
# once, colour matching three float32 values in about ten.
_VIDEO_VALUES = 40
_COLOR_BYTES = 120
_TOKEN_WIDTHS = 12


def working_memory(bundle: Bundle, size: tuple[int, int], batch: int = 1) -> int:
    """Bytes that generating one chunk at (height, width) takes at its peak, as an estimate."""
    config, geometry = bundle.generator.config, bundle.geometry
    value = bundle.dtype.itemsize
    tokens = math.prod(geometry.latent_shape(size)[1:]) // math.prod(config.patch_size)
    transformer = tokens * (_TOKEN_WIDTHS * config.dim + 2 * config.ffn_dim) * value
    pixels = geometry.frames * size[0] * size[1]
    return batch * max(transformer, pixels * (_VIDEO_VALUES * value + _COLOR_BYTES))
