"""The VAE under ComfyUI's memory management: ours, or core's where it is the same network."""

from dataclasses import dataclass
from typing import Any

import comfy.latent_formats
import comfy.utils
import torch
from comfy import model_management as management

from ..flashhead.checkpoint.weights import Component
from ..flashhead.errors import FlashHeadError
from ..flashhead.geometry import ChunkGeometry
from ..flashhead.models.backend import sdpa
from ..flashhead.models.devices import vae_choices, vae_dtypes
from ..flashhead.models.limits import CheckpointLimits
from ..flashhead.models.vae import VAE
from .models import interruptible, legal, make_backend, make_patcher

_WAN = ChunkGeometry(vae_stride=(4, 8, 8), patch_size=(1, 2, 2), latent_channels=16)


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
        management.load_models_gpu([self.patcher])
        network = self.first_stage_model
        video = network.decode(network.normalize(samples)).float().add(1).div(2).clamp(0, 1)
        return video.to(management.intermediate_device()).movedim(1, -1)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images (T, H, W, 3) in [0, 1] -> latents (1, C, t, h, w) as core exchanges them."""
        management.load_models_gpu([self.patcher])
        video = pixels[..., :3].movedim(-1, 0).unsqueeze(0).mul(2).sub(1)
        latents = self.first_stage_model.denormalize(self.first_stage_model.encode(video))
        return latents.to(management.intermediate_device())

    def decode_tiled(
        self, samples: torch.Tensor, tile_x: int, tile_y: int, overlap: int = 2, **_: Any
    ) -> torch.Tensor:
        """`decode` in overlapping tiles, sizes in latent pixels. All frames of a tile together:
        the network is not causal in time."""
        time, height, width = self.geometry.vae_stride
        video = comfy.utils.tiled_scale_multidim(
            samples,
            lambda part: self.decode(part).movedim(-1, 1),
            tile=(samples.shape[2], tile_y, tile_x),
            overlap=(1, overlap, overlap),
            upscale_amount=(lambda frames: (frames - 1) * time + 1, height, width),
            index_formulas=(lambda frames: frames * time, height, width),
            output_device=management.intermediate_device(),
        )
        return video.movedim(1, -1)

    def encode_tiled(
        self, pixels: torch.Tensor, tile_x: int, tile_y: int, overlap: int = 64, **_: Any
    ) -> torch.Tensor:
        """`encode` in overlapping tiles, sizes in pixels."""
        time, height, width = self.geometry.vae_stride
        video = pixels[..., :3].movedim(-1, 0).unsqueeze(0)
        return comfy.utils.tiled_scale_multidim(
            video,
            lambda part: self.encode(part[0].movedim(0, -1)),
            tile=(video.shape[2], tile_y, tile_x),
            overlap=(1, overlap, overlap),
            upscale_amount=(lambda frames: (frames - 1) // time + 1, height, width),
            index_formulas=(lambda frames: frames // time, height, width),
            out_channels=self.geometry.latent_channels,
            downscale=True,
            output_device=management.intermediate_device(),
        )

    def spacial_compression_decode(self) -> int:
        """Pixels a latent pixel, as core's tiled nodes ask for it."""
        return self.geometry.vae_stride[1]

    spacial_compression_encode = spacial_compression_decode

    def temporal_compression_decode(self) -> int:
        """Frames a latent frame."""
        return self.geometry.vae_stride[0]

    def get_models(self) -> list[Any]:
        return [self.patcher]


def load_vae(
    component: Component, geometry: ChunkGeometry, limits: CheckpointLimits | None = None
) -> FlashHeadVAE:
    """VAE of a checkpoint, in the dtype that ComfyUI uses for VAEs where this one can."""
    device, offload = management.vae_device(), management.vae_offload_device()
    choices = vae_choices(device, component.config)
    chosen = management.vae_dtype(device, choices)
    dtype = legal(chosen, vae_dtypes(component.config), choices, "VAE of this checkpoint")
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
        self._device, self.dtype = vae.device, vae.vae_dtype
        latent_format = comfy.latent_formats.Wan21()
        self.normalize, self.denormalize = latent_format.process_in, latent_format.process_out

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        return self.normalize(self._network.encode(video.to(self._device, self.dtype)).float())

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        latents = self.denormalize(latents.to(self._device, torch.float32))
        return self._network.decode(latents.to(self.dtype)).clamp(-1, 1)


class ExchangedLatents:
    """A VAE whose decoder gets its latents as if nodes had handed them on: un-normalised and
    normalised again, rounding included. So the Sampler gives what its single steps give, to the
    bit."""

    def __init__(self, vae: VAE):
        self._vae = vae
        self.latent_channels, self.stride, self.dtype = vae.latent_channels, vae.stride, vae.dtype
        self.encode, self.normalize, self.denormalize = vae.encode, vae.normalize, vae.denormalize

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self._vae.decode(self.normalize(self.denormalize(latents)))


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
    raise FlashHeadError(
        f"The VAE is a {type(network).__name__}, which FlashHead was not trained with; connect the "
        "one from FlashHead Load Checkpoint, or for Pro wan_2.1_vae.safetensors from Load VAE."
    )
