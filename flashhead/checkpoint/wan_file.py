"""The file that the Wan 2.1 VAE comes in: Wan-AI's .pth, or the same keys as safetensors."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from ..models.wan_vae import WanVAE
from .configs import read_wan_config
from .weights import Component, Weights

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def is_wan(keys: Iterable[str]) -> bool:
    """Whether a file's keys look like the Wan VAE's."""
    return any(key.startswith(("encoder.downsamples.", "decoder.upsamples.")) for key in keys)


def channels_last(tensor: Tensor) -> Tensor:
    """A weight laid out as its convolution wants it, or each call would do it over."""
    layout = _CHANNELS_LAST.get(tensor.ndim, torch.contiguous_format)
    return tensor.contiguous(memory_format=layout)


def open_wan_vae(file: Weights) -> Component:
    """The Wan 2.1 VAE; its sizes are read off the weights. Raises `CheckpointError`."""
    config = read_wan_config(file.shapes, file.where)
    return Component(
        partial(WanVAE, config), config, file, file.shapes, lambda key: channels_last(file[key])
    ).checked()
