"""The three networks under ComfyUI's memory management.

Each is built on ComfyUI's layers and attention, so weight dtype, offload and LoRA are ComfyUI's.
"""

import comfy.latent_formats
import comfy.ldm.modules.attention
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.supported_models_base
import torch

from ..flashhead.audio_encoder import AudioEncoder
from ..flashhead.backend import Backend, sdpa
from ..flashhead.checkpoint import load_audio_encoder
from ..flashhead.errors import FlashHeadError
from ..flashhead.generator import Generator
from ..flashhead.vae import VAE
from ..flashhead.weights import Component

_SUPPORTED = [torch.bfloat16, torch.float16, torch.float32]
USE_SAMPLER = (
    "This MODEL is a FlashHead generator, which ordinary samplers cannot run; connect it to the "
    "FlashHead Sampler node instead."
)


def _attention(q, k, v, heads):
    # Looked up at every call: command line options and other packs may change it.
    return comfy.ldm.modules.attention.optimized_attention(q, k, v, heads)


def _cast(parameter, dtype, device):
    return comfy.model_management.cast_to(parameter, dtype=dtype, device=device)


def _backend(
    weight_dtype: torch.dtype, dtype: torch.dtype, device: torch.device, attention=_attention
) -> Backend:
    operations = comfy.ops.pick_operations(weight_dtype, dtype, load_device=device)
    return Backend(operations, attention, _cast, dtype, device)


def _patcher(network, load_device, offload_device):
    archive = getattr(comfy.model_management, "archive_model_dtypes", None)
    if archive is not None:
        archive(network)
    # Which patcher ComfyUI uses is decided when its server starts, after this module may load.
    kind = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return kind(network, load_device=load_device, offload_device=offload_device)


class FlashHeadModel(comfy.model_base.BaseModel):
    """What stands behind MODEL: the generator as `diffusion_model`."""

    def __init__(self, generator: Generator, variant: str, weight_dtype: torch.dtype):
        config = comfy.supported_models_base.BASE({"disable_unet_model_creation": True})
        family = comfy.latent_formats.LTXV if variant == "lite" else comfy.latent_formats.Wan21
        config.latent_format = family()
        config.sampling_settings = {"shift": 5.0}
        dtype = generator.backend.dtype
        config.set_inference_dtype(weight_dtype, dtype if dtype != weight_dtype else None)
        super().__init__(config, model_type=comfy.model_base.ModelType.FLOW)
        self.variant = variant
        self.weight_dtype = weight_dtype
        self.diffusion_model = generator

    def get_dtype(self):
        return self.weight_dtype

    def extra_conds(self, **kwargs):
        raise FlashHeadError(USE_SAMPLER)

    def apply_model(self, *args, **kwargs):
        raise FlashHeadError(USE_SAMPLER)


def load_model(component: Component, variant: str, weight_dtype: torch.dtype | None):
    """MODEL of a checkpoint's generator; `weight_dtype` None lets ComfyUI choose."""
    management = comfy.model_management
    device, offload = management.get_torch_device(), management.unet_offload_device()
    if weight_dtype is None:
        weight_dtype = management.unet_dtype(device, supported_dtypes=_SUPPORTED)
    dtype = management.unet_manual_cast(weight_dtype, device, _SUPPORTED) or weight_dtype
    backend = _backend(weight_dtype, dtype, device)
    generator = component.load(backend, device=offload, dtype=weight_dtype)
    return _patcher(FlashHeadModel(generator, variant, weight_dtype), device, offload)


class FlashHeadVAE:
    """What stands behind VAE; core's VAE Decode and VAE Encode can use it too."""

    def __init__(self, network: VAE, patcher):
        self.first_stage_model = network
        self.patcher = patcher

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, t, h, w) as core exchanges them -> images (B, T, H, W, 3) in [0, 1]."""
        comfy.model_management.load_models_gpu([self.patcher])
        network = self.first_stage_model
        video = network.decode(network.normalize(samples)).float().add(1).div(2).clamp(0, 1)
        return video.to(comfy.model_management.intermediate_device()).movedim(1, -1)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Images (T, H, W, 3) in [0, 1] -> latents (1, C, t, h, w) as core exchanges them."""
        comfy.model_management.load_models_gpu([self.patcher])
        video = pixels[..., :3].movedim(-1, 0).unsqueeze(0).mul(2).sub(1)
        latents = self.first_stage_model.denormalize(self.first_stage_model.encode(video))
        return latents.to(comfy.model_management.intermediate_device())

    def get_models(self) -> list:
        return [self.patcher]


def load_vae(component: Component) -> FlashHeadVAE:
    """VAE of a checkpoint, in the dtype that ComfyUI uses for VAEs."""
    management = comfy.model_management
    device, offload = management.vae_device(), management.vae_offload_device()
    dtype = management.vae_dtype(device, _SUPPORTED)
    # The Wan VAE's one wide head is too wide for most attention kernels.
    backend = _backend(dtype, dtype, device, attention=sdpa)
    network = component.load(backend, device=offload, dtype=dtype)
    return FlashHeadVAE(network, _patcher(network, device, offload))


class CoreWanVAE:
    """Core's Wan 2.1 VAE (Load VAE), seen as the library's VAE protocol."""

    latent_channels = 16
    stride = (4, 8, 8)

    def __init__(self, vae):
        self._network = vae.first_stage_model
        self._device, self._dtype = vae.device, vae.vae_dtype
        self._format = comfy.latent_formats.Wan21()

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        return self.normalize(self._network.encode(video.to(self._device, self._dtype)).float())

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        latents = self.denormalize(latents.to(self._device, torch.float32))
        return self._network.decode(latents.to(self._dtype)).clamp(-1, 1)

    def normalize(self, latents: torch.Tensor) -> torch.Tensor:
        return self._format.process_in(latents)

    def denormalize(self, latents: torch.Tensor) -> torch.Tensor:
        return self._format.process_out(latents)


def adapt_vae(vae) -> FlashHeadVAE:
    """Ours as it is, core's Wan 2.1 VAE under our protocol; raises for any other."""
    if isinstance(vae, FlashHeadVAE):
        return vae
    network = getattr(vae, "first_stage_model", None)
    family = type(network).__module__
    if family == "comfy.ldm.wan.vae":
        return FlashHeadVAE(CoreWanVAE(vae), vae.patcher)
    if family.startswith("comfy.ldm.lightricks"):
        raise FlashHeadError(
            "ComfyUI's own LTX VAE pads its decoder by reflection, where Lite was trained with "
            "zeros; connect the VAE from FlashHead Load Checkpoint instead."
        )
    raise FlashHeadError(
        f"The VAE is a {type(network).__name__}, which FlashHead was not trained with; connect the "
        "one from FlashHead Load Checkpoint, or for Pro wan_2.1_vae.safetensors from Load VAE."
    )


class AudioEncoderModel:
    """What stands behind FLASHHEAD_AUDIO_ENCODER."""

    def __init__(self, network: AudioEncoder, patcher):
        self.network = network
        self.patcher = patcher

    def get_models(self) -> list:
        return [self.patcher]


def load_encoder(component: Component) -> AudioEncoderModel:
    """The audio encoder of a checkpoint; it computes in float32."""
    management = comfy.model_management
    device, offload = management.get_torch_device(), management.text_encoder_offload_device()
    backend = _backend(torch.float32, torch.float32, device)
    network = load_audio_encoder(component, backend, device=offload)
    return AudioEncoderModel(network, _patcher(network, device, offload))
