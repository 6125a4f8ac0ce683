"""Load Checkpoint: a folder, a one-file bundle or pocket -> MODEL, VAE and audio encoder."""

from collections.abc import Callable
from typing import Any

import comfy.ldm.modules.attention
from comfy_api.latest import io
from comfy_api.torch_helpers import set_torch_compile_wrapper

from ..flashhead.checkpoint.layout import TINY_VAE
from ..flashhead.dtypes import STORAGE_DTYPES
from ..flashhead.errors import FlashHeadError
from .models import load_encoder, load_model
from .paths import checkpoint_names, open_named
from .schema import choice, make, output, schema
from .types import AudioEncoderType
from .vae import load_vae

_DEFAULT = "default"


def attentions() -> list[str]:
    """Attention kernels that ComfyUI, or a pack, has registered by now; its own choice first."""
    return [_DEFAULT, *comfy.ldm.modules.attention.REGISTERED_ATTENTION_FUNCTIONS]


def choose_attention(name: str) -> Callable[..., Any] | None:
    """ComfyUI's attention of that name as an override; None for ComfyUI's own choice.

    Raises `FlashHeadError` where it is not installed.
    """
    if name == _DEFAULT:
        return None
    kernel = comfy.ldm.modules.attention.get_attention_function(name, default=None)
    if kernel is None:
        raise FlashHeadError(
            f"ComfyUI has no '{name}' attention here, because its package is not installed; choose "
            f"one of {', '.join(attentions())}."
        )
    return lambda _usual, *args, **keywords: kernel(*args, **keywords)


def compiled(model: Any) -> Any:
    """A clone of the MODEL whose generator goes through torch.compile, as core's node does it."""
    dynamic = getattr(model, "is_dynamic", lambda: False)()
    model = model.clone(disable_dynamic=True) if dynamic else model.clone()
    set_torch_compile_wrapper(model=model, backend="inductor", dynamic=False)
    return model


class LoadCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadLoadCheckpoint",
            display_name="FlashHead Load Checkpoint",
            description="Loads a SoulX-FlashHead checkpoint: the published folder in "
            "models/flashhead, with the wav2vec2-base-960h folder inside it, a one-file bundle "
            "there, or the small one that comes with this pack.",
            search_aliases=["talking head", "SoulX", "model loader", "wav2vec2"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=checkpoint_names(),
                    tooltip="Generator folder or one-file bundle in models/flashhead. Lite is the "
                    "fast one, Pro the sharp one; 'Pro, one step' is Pro with LeapTalk's files, "
                    "which are looked for in or beside its folder. pocket comes with the pack, to "
                    "try things on any computer: drawn faces only, at 96x96.",
                ),
                choice(
                    "weight_dtype",
                    [_DEFAULT, *STORAGE_DTYPES],
                    "Dtype that the generator's weights are kept in. 'default' is what ComfyUI "
                    "chooses for your device; fp32 takes twice the memory of 16 bits, fp8 about "
                    "half, at some loss.",
                ),
                choice(
                    "attention",
                    attentions(),
                    "Attention kernel of the generator. 'default' is ComfyUI's own choice; the "
                    "others are those that it has here.",
                    optional=True,
                    advanced=True,
                ),
                make(
                    io.Boolean.Input,
                    "compile",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="torch.compile the generator: the first chunk takes a minute or more, "
                    "later ones less time. Needs Triton on a GPU, a C++ compiler on a CPU.",
                ),
                choice(
                    "vae",
                    (_DEFAULT, TINY_VAE),
                    "'default' is the checkpoint's own VAE. 'tiny' is taew2_1, for Pro in one or "
                    "four steps: much faster, less sharp. It comes with LeapTalk, and may be in "
                    "models/vae_approx too.",
                    optional=True,
                    advanced=True,
                ),
            ],
            outputs=[
                output(io.Model, "model", "The generator, for the FlashHead samplers."),
                output(io.Vae, "vae", "The video autoencoder."),
                output(AudioEncoderType, "audio_encoder", "wav2vec2, for FlashHead Prepare Audio."),
            ],
        )

    @classmethod
    def validate_inputs(cls, attention: str | None = _DEFAULT) -> bool | str:
        # A workflow from another computer may name one that is not in this one's list.
        try:
            if attention is not None:  # None is one that another node gives
                choose_attention(attention)
        except FlashHeadError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        weight_dtype: str,
        attention: str = _DEFAULT,
        compile: bool = False,
        vae: str = _DEFAULT,
    ) -> io.NodeOutput:
        kernel = choose_attention(attention)
        opened = open_named(checkpoint, None if vae == _DEFAULT else vae)
        model = load_model(opened.generator, opened.variant, STORAGE_DTYPES.get(weight_dtype))
        if kernel is not None:
            model.model_options["transformer_options"]["optimized_attention_override"] = kernel
        return io.NodeOutput(
            compiled(model) if compile else model,
            load_vae(opened.vae, opened.geometry, opened.limits),
            load_encoder(opened.audio_encoder, opened.geometry),
        )
