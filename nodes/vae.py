"""The VAE under ComfyUI's memory management: ours, or core's where it is the same network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.latent_formats
import torch
from comfy import model_management as management

from ..flashhead.checkpoint.weights import Component
from ..flashhead.errors import FlashHeadError
from ..flashhead.geometry import ChunkGeometry
from ..flashhead.models import memory
from ..flashhead.models.backend import sdpa
from ..flashhead.models.config import VAEConfig
from ..flashhead.models.devices import vae_choices, vae_dtypes
from ..flashhead.models.limits import CheckpointLimits
from ..flashhead.models.tiles import FrugalVAE
from ..flashhead.models.vae import VAE
from .models import interruptible, legal, make_backend, make_patcher
from .progress import warn

_WAN = ChunkGeometry(vae_stride=(4, 8, 8), patch_size=(1, 2, 2), latent_channels=16)


def _tiles(sides: Sequence[int], tile: Sequence[int]) -> int:
    """Pieces a side."""
    return max(-(-side // piece) for side, piece in zip(sides, tile, strict=True))


def frugal(network: VAE, warnings: list[str] | None = None) -> FrugalVAE:
    """A VAE for one run, which goes on in tiles where memory is short. What it says of that is
    shown, logged and added to `warnings`."""

    def say(text: str) -> None:
        warn([text])
        if warnings is not None:
            warnings.append(text)

    return FrugalVAE(network, say)


@dataclass(eq=False)
class FlashHeadVAE:
    """What stands behind VAE; core's VAE Decode and VAE Encode can use it too.

    geometry: of the chunks of the generator that it belongs to. limits: of a checkpoint that is too
    small for any portrait.
    """

    first_stage_model: VAE
    patcher: Any
    geometry: ChunkGeometry
    limits: CheckpointLimits | None = None

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, t, h, w) as core exchanges them -> images (B, T, H, W, 3) in [0, 1]."""
        needed = len(samples) * self.decode_memory(samples.shape[2:])
        management.load_models_gpu([self.patcher], memory_required=needed)
        return self._images(frugal(self.first_stage_model), samples)

    def _images(self, network: VAE, samples: torch.Tensor, tiles: int = 1) -> torch.Tensor:
        video = network.decode(network.normalize(samples), tiles).float().add(1).div(2).clamp(0, 1)
        return video.to(management.intermediate_device()).movedim(1, -1)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images (T, H, W, 3) in [0, 1] -> latents (1, C, t, h, w) as core exchanges them."""
        needed = self.encode_memory(pixels.shape[:3])
        management.load_models_gpu([self.patcher], memory_required=needed)
        return self._latents(frugal(self.first_stage_model), pixels)

    def _latents(self, network: VAE, pixels: torch.Tensor, tiles: int = 1) -> torch.Tensor:
        video = pixels[..., :3].movedim(-1, 0).unsqueeze(0).mul(2).sub(1)
        latents = network.denormalize(network.encode(video, tiles))
        return latents.to(management.intermediate_device())

    def decode_memory(self, latents: Sequence[int]) -> int:
        """Bytes that decoding latents (t, h, w) takes, weights aside."""
        network: Any = self.first_stage_model
        if isinstance(network, CoreWanVAE):
            return network.decode_memory(latents)
        return memory.decode_memory(network.config, network.dtype, latents)

    def encode_memory(self, video: Sequence[int]) -> int:
        """Bytes that encoding a video of (frames, height, width) takes, weights aside."""
        network: Any = self.first_stage_model
        if isinstance(network, CoreWanVAE):
            return network.encode_memory(video)
        return memory.encode_memory(network.config, network.dtype, video)

    def chunk_memory(self, size: tuple[int, int]) -> int:
        """The most that a chunk at (height, width) takes outside of its generator."""
        video = (self.geometry.frames, *size)
        latents = self.geometry.latent_shape(size)[1:]
        calls = self.decode_memory(latents), self.encode_memory(video)
        return max(*calls, memory.color_memory(video))

    def decode_tiled(
        self, samples: torch.Tensor, tile_x: int, tile_y: int, **_: Any
    ) -> torch.Tensor:
        """`decode` in tiles of about such sizes in latent pixels; the result is the same."""
        tiles = _tiles(samples.shape[3:], (tile_y, tile_x))
        needed = len(samples) * self.decode_memory(samples.shape[2:])
        management.load_models_gpu([self.patcher], memory_required=needed // tiles)
        return self._images(self.first_stage_model, samples, tiles)

    def encode_tiled(
        self, pixels: torch.Tensor, tile_x: int, tile_y: int, **_: Any
    ) -> torch.Tensor:
        """`encode` in tiles of about such sizes in pixels; the result is the same."""
        tiles = _tiles(pixels.shape[1:3], (tile_y, tile_x))
        needed = self.encode_memory(pixels.shape[:3])
        management.load_models_gpu([self.patcher], memory_required=needed // tiles)
        return self._latents(self.first_stage_model, pixels, tiles)

    def spacial_compression_decode(self) -> int:
        """Pixels a latent pixel, as core's tiled nodes ask for it."""
        return self.geometry.vae_stride[1]

    spacial_compression_encode = spacial_compression_decode

    def temporal_compression_decode(self) -> int:
        """Frames a latent frame."""
        return self.geometry.vae_stride[0]

    def get_models(self) -> list[Any]:
        return [self.patcher]


def vae_dtype(config: VAEConfig) -> torch.dtype:
    """The dtype that ComfyUI uses for VAEs, where this one can."""
    device = management.vae_device()
    choices = vae_choices(device, config)
    chosen = management.vae_dtype(device, choices)
    return legal(chosen, vae_dtypes(config), choices, "VAE of this checkpoint")


def load_vae(
    component: Component, geometry: ChunkGeometry, limits: CheckpointLimits | None = None
) -> FlashHeadVAE:
    """VAE of a checkpoint, in the dtype that `vae_dtype` says."""
    device, offload = management.vae_device(), management.vae_offload_device()
    dtype = vae_dtype(component.config)
    # The Wan VAE's one wide head is too wide for most attention kernels.
    backend = make_backend(dtype, dtype, device, attention=sdpa)
    network = interruptible(component.load(backend, device=offload, dtype=dtype))
    return FlashHeadVAE(network, make_patcher(network, device, offload), geometry, limits)


class CoreWanVAE:
    """Core's Wan 2.1 VAE (Load VAE), seen as the library's VAE protocol."""

    latent_channels = _WAN.latent_channels
    stride = _WAN.vae_stride

    def __init__(self, vae: Any):
        self._network = vae.first_stage_model
        self._vae, self._device, self.dtype = vae, vae.device, vae.vae_dtype
        latent_format = comfy.latent_formats.Wan21()
        self.normalize, self.denormalize = latent_format.process_in, latent_format.process_out

    # What ComfyUI asks for itself, whose network is not written as ours is.

    def decode_memory(self, latents: Sequence[int]) -> int:
        return int(self._vae.memory_used_decode((1, self.latent_channels, *latents), self.dtype))

    def encode_memory(self, video: Sequence[int]) -> int:
        return int(self._vae.memory_used_encode((1, 3, *video), self.dtype))

    # In tiles they are core's, of 256 pixels a side, which fade into each other and differ a little
    # from the whole. Core's own `encode_tiled` would first load the VAE again, and with that may
    # take the generator off the device.

    def encode(self, video: torch.Tensor, tiles: int = 1) -> torch.Tensor:
        if tiles > 1:
            images = video.add(1).div(2)
            latents = self._vae.encode_tiled_3d(images, tile_x=256, tile_y=256).to(self._device)
        else:
            latents = self._network.encode(video.to(self._device, self.dtype))
        return self.normalize(latents.float())

    def decode(self, latents: torch.Tensor, tiles: int = 1) -> torch.Tensor:
        latents = self.denormalize(latents.to(self._device, torch.float32))
        if tiles > 1:
            images = self._vae.decode_tiled_3d(latents, tile_x=32, tile_y=32)
            return images.to(self._device).mul(2).sub(1)
        return self._network.decode(latents.to(self.dtype)).clamp(-1, 1)


class ExchangedLatents:
    """A VAE whose decoder gets its latents as if nodes had handed them on: un-normalised and
    normalised again, rounding included. So the Sampler gives what its single steps give, to the
    bit."""

    def __init__(self, vae: VAE):
        self._vae = vae
        self.latent_channels, self.stride, self.dtype = vae.latent_channels, vae.stride, vae.dtype
        self.encode, self.normalize, self.denormalize = vae.encode, vae.normalize, vae.denormalize

    def decode(self, latents: torch.Tensor, tiles: int = 1) -> torch.Tensor:
        return self._vae.decode(self.normalize(self.denormalize(latents)), tiles)


def adapt_vae(vae: Any) -> FlashHeadVAE:
    """Ours as it is, core's Wan 2.1 VAE under our protocol; raises for any other."""
    if isinstance(vae, FlashHeadVAE):
        return vae
    network = getattr(vae, "first_stage_model", None)
    family = type(network).__module__
    if family == "comfy.ldm.wan.vae":
        return FlashHeadVAE(CoreWanVAE(vae), vae.patcher, _WAN)
    if family.startswith("comfy.ldm.lightricks"):
        raise FlashHeadError(
            "ComfyUI's own LTX VAE pads its decoder by reflection, where Lite was trained with "
            "zeros; connect the VAE from FlashHead Load Checkpoint instead."
        )
    if family == "comfy.taesd.taehv":
        raise FlashHeadError(
            "ComfyUI reads taew2_1 as the tiny autoencoder of another model; choose 'tiny' as the "
            "VAE in FlashHead Load Checkpoint instead."
        )
    raise FlashHeadError(
        f"The VAE is a {type(network).__name__}, which FlashHead was not trained with; connect the "
        "one from FlashHead Load Checkpoint, or for Pro wan_2.1_vae.safetensors from Load VAE."
    )
