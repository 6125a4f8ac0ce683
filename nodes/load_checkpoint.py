"""Load Checkpoint: a published folder -> MODEL, VAE and audio encoder."""

import torch
from comfy_api.latest import io

from .models import load_encoder, load_model, load_vae
from .paths import checkpoint_names, open_named
from .types import AudioEncoderType

_DTYPES = {
    "default": None,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class LoadCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FlashHeadLoadCheckpoint",
            display_name="FlashHead Load Checkpoint",
            category="FlashHead",
            description=(
                "Loads a SoulX-FlashHead checkpoint from models/flashhead: the published folder, "
                "with the wav2vec2-base-960h folder inside it."
            ),
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=checkpoint_names(),
                    tooltip="Generator folder or one-file bundle in models/flashhead. Lite is the "
                    "fast one, Pro the sharp one.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(_DTYPES),
                    default="default",
                    tooltip="Dtype that the generator's weights are kept in. 'default' is what "
                    "ComfyUI chooses for your device; fp32 takes twice the memory of the others.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="The generator, for the FlashHead Sampler."
                ),
                io.Vae.Output(display_name="vae", tooltip="The video autoencoder."),
                AudioEncoderType.Output(
                    display_name="audio_encoder", tooltip="wav2vec2, for FlashHead Encode Audio."
                ),
            ],
        )

    @classmethod
    def execute(cls, checkpoint: str, weight_dtype: str) -> io.NodeOutput:
        opened = open_named(checkpoint)
        return io.NodeOutput(
            load_model(opened.generator, opened.variant, _DTYPES[weight_dtype]),
            load_vae(opened.vae),
            load_encoder(opened.audio_encoder),
        )
