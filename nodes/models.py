"""Generator and audio encoder under ComfyUI's memory management.

Each is built on ComfyUI's layers and attention, so weight dtype, offload and LoRA are ComfyUI's.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import comfy.latent_formats
import comfy.ldm.modules.attention
import comfy.model_base
import comfy.model_patcher
import comfy.ops
import comfy.patcher_extension
import comfy.supported_models_base
import torch
from comfy import model_management as management

from ..flashhead.checkpoint.loading import load_audio_encoder
from ..flashhead.checkpoint.storage import in_float8
from ..flashhead.checkpoint.weights import Component
from ..flashhead.dtypes import FLOAT8, STORAGE_DTYPES, torch_name
from ..flashhead.errors import FlashHeadError
from ..flashhead.geometry import ChunkGeometry
from ..flashhead.models.backend import Backend, sdpa
from ..flashhead.models.devices import AUDIO_DTYPE, generator_choices
from ..flashhead.models.generator import Generator, TimeCondition
from ..flashhead.models.wav2vec2 import AudioEncoder
from ..flashhead.stream.sampling import TRAIN_TIMESTEPS, Predict
from .progress import check_interrupt, warn

Network = TypeVar("Network", bound=torch.nn.Module)
# What the generator's weights may be kept in, the best first, as ComfyUI asks for them.
_DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def _attention(*tensors_and_heads: Any, **options: Any) -> torch.Tensor:
    # Looked up at every call: command line options and other packs may change it.
    return comfy.ldm.modules.attention.optimized_attention(*tensors_and_heads, **options)


def legal(
    dtype: torch.dtype,
    allowed: Iterable[torch.dtype],
    choices: Sequence[torch.dtype],
    network: str,
) -> torch.dtype:
    """The dtype that ComfyUI, or a flag that it was started with, chose for a network; where that
    is not allowed the first of the choices, and a line that says so."""
    if dtype in allowed:
        return dtype
    warn([f"The {network} cannot use {torch_name(dtype)}; it uses {torch_name(choices[0])}."])
    return choices[0]


def make_backend(
    weight_dtype: torch.dtype,
    dtype: torch.dtype,
    device: torch.device,
    attention: Callable[..., torch.Tensor] = _attention,
) -> Backend:
    """ComfyUI's layers for weights of one dtype, computing in another."""
    operations = comfy.ops.pick_operations(weight_dtype, dtype, load_device=device)
    return Backend(operations, attention, management.cast_to, dtype, device)


def make_patcher(
    network: torch.nn.Module,
    load_device: torch.device,
    offload_device: torch.device,
    disable_dynamic: bool = False,
) -> Any:
    """ComfyUI's handle of a network, with which it loads, offloads and patches it."""
    archive = getattr(management, "archive_model_dtypes", None)
    if archive is not None:
        archive(network)
    # Which patcher ComfyUI uses is decided when its server starts, after this module may load.
    kind = comfy.model_patcher.ModelPatcher
    if not disable_dynamic:
        kind = getattr(comfy.model_patcher, "CoreModelPatcher", kind)
    return kind(network, load_device=load_device, offload_device=offload_device)


def interruptible(network: Network) -> Network:
    """Let Cancel stop a network between two of its layers, where it has no steps to stop at."""
    for layer in network.modules():
        if not any(layer.children()):
            layer.register_forward_pre_hook(lambda *_: check_interrupt())
    return network


class FlashHeadModel(comfy.model_base.HunyuanDiT):
    """What stands behind MODEL: the generator as `diffusion_model`.

    It is of HunyuanDiT's class for one thing: core's LoRA loader then knows PEFT's keys, such as
    LeapTalk's (`base_model.model.blocks…`), beside its own (`diffusion_model.blocks…`).
    """

    def __init__(self, generator: Generator, variant: str, weight_dtype: torch.dtype):
        config = comfy.supported_models_base.BASE({"disable_unet_model_creation": True})
        # Wan's latents are exchanged un-normalised; other families' as they are.
        wan = generator.config.vae_stride == (4, 8, 8) and generator.config.out_dim == 16
        config.latent_format = comfy.latent_formats.Wan21() if wan else comfy.latent_formats.LTXV()
        config.sampling_settings = {"shift": 5.0}
        dtype = generator.backend.dtype
        config.set_inference_dtype(weight_dtype, dtype if dtype != weight_dtype else None)
        # HunyuanDiT's own would make its network.
        comfy.model_base.BaseModel.__init__(self, config, comfy.model_base.ModelType.FLOW)
        self.variant, self.weight_dtype, self.diffusion_model = variant, weight_dtype, generator

    def get_dtype(self) -> torch.dtype:
        return self.weight_dtype

    def apply_model(self, *_: Any, **_keywords: Any) -> Any:
        raise FlashHeadError(
            "This MODEL is a FlashHead generator, which ordinary samplers cannot run; connect it "
            "to the FlashHead Sampler node instead."
        )

    extra_conds = apply_model


def predictor(model: Any) -> Predict:
    """A MODEL's generator as the library's sampler calls it, behind ComfyUI's wrappers.

    torch.compile, for one, is such a wrapper: it puts another `diffusion_model` in for the time of
    a call.
    """
    extension, kind = comfy.patcher_extension, comfy.patcher_extension.WrappersMP.APPLY_MODEL
    base, given = model.model, model.model_options.get("transformer_options", {})
    wrappers = model.get_all_wrappers(kind) + extension.get_all_wrappers(kind, given)

    def predict(x: torch.Tensor, time: TimeCondition, *conditions: Any) -> torch.Tensor:
        def velocity(x: torch.Tensor, sigma: torch.Tensor, *_: Any, **_kwargs: Any) -> torch.Tensor:
            options = {"transformer_options": given | {"sigmas": sigma}}
            return base.diffusion_model(x, time, *conditions, options)

        executor = extension.WrapperExecutor.new_class_executor(velocity, base, wrappers)
        sigma = time.timesteps / TRAIN_TIMESTEPS
        return executor.execute(x, sigma, None, None, None, given)

    return predict


def flashhead_model(model: Any) -> FlashHeadModel:
    """What is behind a MODEL; raises unless it is a generator of ours."""
    if not isinstance(model.model, FlashHeadModel):
        raise FlashHeadError(
            f"The MODEL is a {type(model.model).__name__}, not a FlashHead generator; connect the "
            "one from FlashHead Load Checkpoint."
        )
    return model.model


def generator_dtypes(
    elements: int, weight_dtype: torch.dtype | None = None
) -> tuple[torch.dtype, torch.dtype]:
    """What a generator's weights are kept in and what it computes in; None lets ComfyUI choose."""
    device = management.get_torch_device()
    choices = generator_choices(device)
    if weight_dtype is None:
        weight_dtype = management.unet_dtype(device, elements, _DTYPES)
        weight_dtype = legal(weight_dtype, STORAGE_DTYPES.values(), choices, "generator")
    return weight_dtype, management.unet_manual_cast(weight_dtype, device, choices) or weight_dtype


def load_model(
    component: Component,
    variant: str,
    weight_dtype: torch.dtype | None,
    disable_dynamic: bool = False,
) -> Any:
    """MODEL of a checkpoint's generator; `weight_dtype` None lets ComfyUI choose.

    In float8 only the blocks' matrices are kept so; everything else in the computing dtype.
    """
    device, offload = management.get_torch_device(), management.unet_offload_device()
    count = sum(map(math.prod, component.shapes.values()))
    weight_dtype, dtype = generator_dtypes(count, weight_dtype)
    backend = make_backend(weight_dtype, dtype, device)

    def kept(key: str, shape: tuple[int, ...]) -> torch.dtype:
        return dtype if weight_dtype == FLOAT8 and not in_float8(key, shape) else weight_dtype

    generator = component.load(backend, device=offload, dtype=kept)
    model = FlashHeadModel(generator, variant, weight_dtype)
    patcher = make_patcher(model, device, offload, disable_dynamic)
    # How ComfyUI makes another one that it loads whole, which torch.compile needs.
    patcher.cached_patcher_init = (load_model, (component, variant, weight_dtype))
    return patcher


@dataclass(eq=False)
class AudioEncoderModel:
    """What stands behind FLASHHEAD_AUDIO_ENCODER. geometry: of the chunks of the generator that
    it came with."""

    network: AudioEncoder
    patcher: Any
    geometry: ChunkGeometry

    def get_models(self) -> list[Any]:
        """What ComfyUI's memory management asks of an object that is passed between nodes."""
        return [self.patcher]


def load_encoder(component: Component, geometry: ChunkGeometry) -> AudioEncoderModel:
    """The audio encoder of a checkpoint. It computes in float32, which Sage and Flash refuse, so
    its attention is torch's."""
    device, offload = management.get_torch_device(), management.text_encoder_offload_device()
    backend = make_backend(AUDIO_DTYPE, AUDIO_DTYPE, device, attention=sdpa)
    network = interruptible(load_audio_encoder(component, backend, device=offload))
    return AudioEncoderModel(network, make_patcher(network, device, offload), geometry)
