"""Sampler: model, audio and portrait -> the frames of the whole clip."""

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io
from PIL import Image

from ..flashhead.checkpoint import Bundle, check_family
from ..flashhead.errors import FlashHeadError
from ..flashhead.generation import chunk_count, generate
from ..flashhead.memory import working_memory
from .models import FlashHeadModel, adapt_vae
from .types import SpokenAudioType

_PREVIEW_SIZE = 512


class Sampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FlashHeadSampler",
            display_name="FlashHead Sampler",
            category="FlashHead",
            description=(
                "Makes the portrait speak. Give the images to Create Video, at 25 fps with the "
                "same audio. The images of a second at 512x512 take 79 MB of memory."
            ),
            inputs=[
                io.Model.Input("model", tooltip="From FlashHead Load Checkpoint."),
                io.Vae.Input(
                    "vae",
                    tooltip="From FlashHead Load Checkpoint; for Pro, also wan_2.1_vae from Load "
                    "VAE.",
                ),
                SpokenAudioType.Input("audio", tooltip="From FlashHead Encode Audio."),
                io.Image.Input(
                    "portrait",
                    tooltip="From FlashHead Prepare Portrait: its size is the video's.",
                ),
                io.Int.Input(
                    "seed",
                    default=42,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed and inputs on the same device give the same frames.",
                ),
                io.Int.Input(
                    "steps",
                    default=4,
                    min=1,
                    max=100,
                    tooltip="Sampling steps of each chunk. Lite and Pro were distilled to 4; 2 is "
                    "faster. The pretrained teacher needs 20.",
                ),
                io.Float.Input(
                    "shift",
                    default=5.0,
                    min=0.01,
                    max=100.0,
                    step=0.01,
                    tooltip="Timestep shift; the model was distilled with 5.",
                ),
                io.Float.Input(
                    "color_match",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How strongly every frame is given the portrait's colours. It keeps "
                    "long videos from drifting; 0 is off.",
                ),
                io.Float.Input(
                    "guidance",
                    default=1.0,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    tooltip="Audio guidance. 1 is off, as Lite and Pro want it; the pretrained "
                    "teacher wants 3. Anything but 1 doubles the work.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", tooltip="25 frames for each second of audio."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        vae,
        audio,
        portrait,
        seed: int,
        steps: int,
        shift: float,
        color_match: float,
        guidance: float,
    ) -> io.NodeOutput:
        vae = adapt_vae(vae)
        bundle = _bundle(model, vae, audio)
        size = tuple(portrait.shape[1:3])
        total = chunk_count(bundle.geometry, audio.frames, audio.mode) * steps
        progress = comfy.utils.ProgressBar(total)

        def on_step(chunk: int, done: int, steps: int) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            progress.update_absolute(chunk * steps + done)

        # Checks its input at once, before anything is loaded.
        chunks = generate(
            bundle,
            portrait,
            audio.source,
            size=size,
            seed=seed,
            steps=steps,
            shift=shift,
            color_match=color_match,
            guidance=guidance,
            audio_mode=audio.mode,
            cache_seconds=audio.cache_seconds,
            on_step=on_step,
        )
        comfy.model_management.load_models_gpu(
            [model, vae.patcher, audio.encoder.patcher],
            memory_required=working_memory(bundle.generator.config, bundle.dtype, size),
        )
        images = torch.empty(
            (audio.frames, *size, 3), device=comfy.model_management.intermediate_device()
        )
        for chunk in chunks:
            images[chunk.start : chunk.start + len(chunk.frames)] = chunk.frames
            preview = ("JPEG", _picture(chunk.frames[-1]), _PREVIEW_SIZE)
            progress.update_absolute((chunk.index + 1) * steps, total, preview)
        return io.NodeOutput(images)


def _bundle(model, vae, audio) -> Bundle:
    if not isinstance(model.model, FlashHeadModel):
        raise FlashHeadError(
            f"The MODEL is a {type(model.model).__name__}, not a FlashHead generator; connect the "
            "one from FlashHead Load Checkpoint."
        )
    generator = model.model.diffusion_model
    check_family(generator.config, vae.first_stage_model)
    return Bundle(model.model.variant, generator, vae.first_stage_model, audio.encoder.network)


def _picture(frame: torch.Tensor) -> Image.Image:
    return Image.fromarray(frame.mul(255).round().byte().cpu().numpy())
