"""Peak bytes of activations, weights aside, of each call that networks are used in.

Counted on the meta device, attention as a fused kernel; a test counts again. What libraries take
for themselves, such as cuDNN's workspace, comes on top.
"""

import math
from collections.abc import Sequence

import torch

from ..geometry import CHUNK_FRAMES, SAMPLE_RATE
from .config import (
    AudioEncoderConfig,
    CheckpointConfigs,
    GeneratorConfig,
    LTXVAEConfig,
    TinyVAEConfig,
    VAEConfig,
)
from .devices import Precision

Shape = Sequence[int]
# Tensors of the widest activation that are alive at a VAE's peak: (decode, encode).
_LTX_TENSORS, _WAN_TENSORS, _TINY_TENSORS = (6.4, 6.5), (11.4, 8.8), (2.35, 2.2)
# In colour matching: bytes of a pixel that waits or is done, and of those that it is at work on.
_PIXEL_BYTES, _WORK_BYTES, _PIXELS_AT_WORK = 18, 120, 2**20


def sampling_memory(config: GeneratorConfig, dtype: torch.dtype, latents: Shape) -> int:
    """Of a denoising step on latents (t, h, w) of one sample, with the audio's keys and values."""
    tokens = math.prod(latents) // math.prod(config.patch_size)
    step = tokens * (6 * config.dim + 2 * config.ffn_dim)
    audio = 2 * config.num_layers * latents[0] * config.audio_tokens * config.dim
    return (step + audio) * dtype.itemsize


def decode_memory(config: VAEConfig, dtype: torch.dtype, latents: Shape) -> int:
    """Of decoding latents (t, h, w)."""
    (t, h, w), stride = latents, config.stride
    video = (1 + (t - 1) * stride[0], h * stride[1], w * stride[2])
    return _vae_memory(config, dtype, video, decode=True)


def encode_memory(config: VAEConfig, dtype: torch.dtype, video: Shape) -> int:
    """Of encoding a video of (frames, height, width)."""
    return _vae_memory(config, dtype, video, decode=False)


def _vae_memory(config: VAEConfig, dtype: torch.dtype, video: Shape, *, decode: bool) -> int:
    frames, height, width = video
    if isinstance(config, LTXVAEConfig):  # all frames at once
        positions = frames * height * width // config.patch_size**2
        tensors, channels = _LTX_TENSORS, config.block_out_channels[0]
    else:  # a group of frames at a time, with what is kept of those before
        positions = config.stride[0] * height * width
        tensors, channels = _WAN_TENSORS, config.widths[0]
        if isinstance(config, TinyVAEConfig):  # whose widths are the other way round
            tensors, channels = _TINY_TENSORS, config.widths[-1]
    pixels = 3 * math.prod(video)
    return int((positions * channels * tensors[0 if decode else 1] + pixels) * dtype.itemsize)


def color_memory(video: Shape) -> int:
    """Of matching the colours of (frames, height, width), and of the images that are made then."""
    pixels = math.prod(video)
    matching = _PIXEL_BYTES * pixels + _WORK_BYTES * min(pixels, _PIXELS_AT_WORK)
    return max(matching, 3 * 12 * pixels)


def audio_memory(config: AudioEncoderConfig, samples: int) -> int:
    """Of encoding samples at 16 kHz, in float32: the first convolution's result, twice."""
    return 2 * config.conv_dim[0] * samples // config.conv_stride[0] * torch.float32.itemsize


def working_memory(
    sizes: CheckpointConfigs, dtypes: Precision, size: tuple[int, int], seconds: float = 8.0
) -> int:
    """Of a run at (height, width): the most that one call takes, the portrait's and the chunks'.

    seconds: of audio that is encoded at once.
    """
    latents = sizes.generator.geometry.latent_shape(size)[1:]
    video = (CHUNK_FRAMES, *size)
    return max(
        sampling_memory(sizes.generator, dtypes.generator, latents),
        decode_memory(sizes.vae, dtypes.vae, latents),
        encode_memory(sizes.vae, dtypes.vae, video),
        color_memory(video),
        audio_memory(sizes.audio_encoder, round(seconds * SAMPLE_RATE)),
    )


def fits(needed: int, device: torch.device) -> bool:
    """Whether `needed` bytes are free on a CUDA device; True elsewhere, where torch cannot tell."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    # Memory that torch's allocator holds but does not use can be used without asking the device.
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return needed < free + cached
