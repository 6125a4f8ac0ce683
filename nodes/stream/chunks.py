"""The Sampler's own steps as nodes: Start Stream, Sample Chunk, Decode Chunk, Switch Portrait."""

from typing import Any

import comfy.model_management
import torch
from comfy_api.latest import io

from ...flashhead.errors import FlashHeadError
from ...flashhead.models.limits import native_fade
from ...flashhead.stream.loop import ChunkDecoder, ChunkSampler, SampledChunk, plan_stream
from ...flashhead.stream.settings import Settings
from .. import inputs
from ..models import predictor
from ..progress import Watch
from ..schema import number, output, schema
from ..types import PreparedAudio, State
from ..vae import adapt_vae, frugal
from .run import (
    check_model,
    check_vae,
    load,
    portrait_of,
    sampling_needs,
    settings_of,
    start,
    steps_of,
    switch,
)


class StartStream(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadStartStream",
            display_name="FlashHead Start Stream",
            description="Begins a stream that is made chunk by chunk: give the state to FlashHead "
            "Sample Chunk.",
            search_aliases=["talking head", "chunk", "autoregressive"],
            inputs=[inputs.vae(), inputs.portrait(), inputs.seed()],
            outputs=[inputs.state_output("The stream before its first chunk.")],
        )

    @classmethod
    def execute(cls, vae: Any, portrait: torch.Tensor, seed: int) -> io.NodeOutput:
        return io.NodeOutput(start(adapt_vae(vae), portrait_of(portrait), seed).on_cpu())


class SwitchPortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadSwitchPortrait",
            display_name="FlashHead Switch Portrait",
            description="From the next chunk on the stream shows another portrait of the same "
            "size; audio and noise go on as they were.",
            search_aliases=["talking head", "change face", "swap portrait"],
            inputs=[
                inputs.state("From Start Stream, Decode Chunk, a sampler or Load State."),
                inputs.vae(),
                inputs.portrait(),
            ],
            outputs=[inputs.state_output("The stream with the other portrait.")],
        )

    @classmethod
    def execute(cls, state: State, vae: Any, portrait: torch.Tensor) -> io.NodeOutput:
        return io.NodeOutput(switch(adapt_vae(vae), portrait_of(portrait), state).on_cpu())


class SampleChunk(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadSampleChunk",
            display_name="FlashHead Sample Chunk",
            description="Samples one chunk of a stream. Its latent can be changed or replaced "
            "before FlashHead Decode Chunk, which takes the state along.",
            search_aliases=["talking head", "chunk", "autoregressive"],
            inputs=[
                inputs.model(),
                inputs.audio(),
                inputs.state("From Start Stream, Decode Chunk, a sampler or Load State."),
                number(
                    "chunk",
                    (0, 0, 1_000_000),
                    "Which part of the audio it speaks: 0 is the first, one more for each Sample "
                    "Chunk that follows. A chunk has 24 new frames with Lite, 28 with Pro.",
                ),
                *inputs.sampling(),
                inputs.guidance(),
            ],
            outputs=[
                output(io.Latent, "latent", "33 frames, the first of which repeat."),
                inputs.state_output("For Decode Chunk, with the latent."),
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, audio: PreparedAudio, state: State, chunk: int, **choices: Any
    ) -> io.NodeOutput:
        settings = settings_of(**choices)
        check_model(model, audio.encoder, state.geometry)
        state.check_between_chunks()
        part = audio.clip.chunk_audio(state.geometry, chunk)
        needed = sampling_needs(model, audio.encoder, state.size, audio.clip.cache_seconds)
        load([model, audio.encoder.patcher], *needed)
        watch = Watch(1, steps_of(model, settings), model.load_device)
        base, generator = model.model, model.model.diffusion_model
        plan = plan_stream(generator, base.variant, settings, state.stream.portrait.latents.shape)
        encoder, cache = audio.encoder.network, audio.clip.cache_seconds
        sampler = ChunkSampler(generator, encoder, plan, cache, predictor(model), watch.hooks)
        sampled, stream = sampler.sample(part, state.stream)
        watch.chunk()
        latents = base.process_latent_out(sampled.latents)
        after = State(stream, state.geometry, (sampled.shown, sampled.dtype, sampled.audio_finite))
        device = comfy.model_management.intermediate_device()
        return io.NodeOutput({"samples": latents.to(device)}, after.on_cpu())


class DecodeChunk(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadDecodeChunk",
            display_name="FlashHead Decode Chunk",
            description="Decodes one chunk, matches its colours to the portrait's, and encodes its "
            "last frames again: the next chunk moves on from them.",
            search_aliases=["talking head", "chunk", "vae decode"],
            inputs=[
                inputs.vae(),
                io.Latent.Input("latent", tooltip="From FlashHead Sample Chunk."),
                inputs.state("From the Sample Chunk that the latent is of."),
                inputs.color_match(),
            ],
            outputs=[
                output(
                    io.Image,
                    "images",
                    "The chunk's new frames: 24 with Lite, 28 with Pro; fewer at the end of the "
                    "audio.",
                ),
                inputs.state_output("For the next Sample Chunk."),
            ],
        )

    @classmethod
    def execute(
        cls, vae: Any, latent: dict[str, Any], state: State, color_match: float
    ) -> io.NodeOutput:
        vae = adapt_vae(vae)
        Settings(color_match=color_match)  # checks its range
        check_vae(vae, state)
        expected = tuple(state.stream.portrait.latents.shape)
        if tuple(latent["samples"].shape) != expected:
            raise FlashHeadError(
                f"The latent has shape {tuple(latent['samples'].shape)}; expected {expected}, one "
                "chunk of this stream as FlashHead Sample Chunk gives it."
            )
        if state.sampled is None:
            raise FlashHeadError(
                "The state has no sampled chunk; connect latent and state of the same FlashHead "
                "Sample Chunk."
            )
        load([vae.patcher], vae.chunk_memory(state.size))
        watch = Watch(1, 1, vae.patcher.load_device)
        fade = native_fade(vae.limits)
        coder = frugal(vae.first_stage_model)
        decoder = ChunkDecoder(coder, vae.geometry, color_match, fade, watch.hooks)
        latents = vae.first_stage_model.normalize(latent["samples"])
        sampled = SampledChunk(latents, *state.sampled)
        (frames,), stream = decoder.decode(sampled, state.stream)
        watch.chunk(frames)
        images = frames.to(comfy.model_management.intermediate_device())
        return io.NodeOutput(images, State(stream, state.geometry).on_cpu())
