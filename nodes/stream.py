"""The steps of a stream, each as the nodes Start Stream, Switch Portrait, Sample Chunk and Decode
Chunk do it; the samplers are made of the same steps.

A node gives its state on with the tensors on the CPU (`parked`), so that what ComfyUI caches takes
no memory of the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import comfy.model_management
import torch

from ..flashhead.errors import FlashHeadError
from ..flashhead.image.portrait import prepare_portrait
from ..flashhead.models.bundle import check_encoder, check_family
from ..flashhead.models.limits import native_fade, portrait_warnings
from ..flashhead.models.memory import working_memory
from ..flashhead.stream.loop import check_finite, decode_chunk, plan_stream, sample_chunk
from ..flashhead.stream.sampling import SamplingPlan
from ..flashhead.stream.settings import Settings
from ..flashhead.stream.state import (
    PortraitCondition,
    encode_portrait,
    start_stream,
    switch_portrait,
)
from .models import flashhead_model, predictor
from .progress import Watch, warn
from .types import Sampled, SpokenAudio, State
from .vae import FlashHeadVAE, adapt_vae

_CPU = torch.device("cpu")


def parked(state: State) -> State:
    """The state with its tensors on the CPU."""
    return replace(state, stream=state.stream.to(_CPU))


def load(patchers: list, model=None, size: tuple[int, int] | None = None) -> None:
    """Have ComfyUI load what is needed now, with room to make a chunk of a model and size."""
    needed = 0
    if model is not None:
        generator = model.model.diffusion_model
        needed = working_memory(generator.config, generator.backend.dtype, size)
    comfy.model_management.load_models_gpu(patchers, memory_required=needed)


def portrait_doubts(vae: FlashHeadVAE, portrait: torch.Tensor) -> list[str]:
    """Why the VAE's checkpoint cannot animate a portrait IMAGE; a sentence each."""
    size = tuple(portrait.shape[1:3])
    return portrait_warnings(vae.limits, prepare_portrait(portrait, size))


def _condition(vae: FlashHeadVAE, portrait: torch.Tensor) -> PortraitCondition:
    size = tuple(portrait.shape[1:3])
    vae.geometry.check_size(size)
    picture = prepare_portrait(portrait, size)
    warn(portrait_warnings(vae.limits, picture))
    load([vae.patcher])
    return encode_portrait(vae.first_stage_model, vae.geometry, picture)


def start(vae: FlashHeadVAE, portrait: torch.Tensor, seed: int) -> State:
    """The state before the first chunk, from a portrait IMAGE of the video's size."""
    return State(start_stream(_condition(vae, portrait), seed), vae.geometry)


def switch(vae: FlashHeadVAE, portrait: torch.Tensor, state: State) -> State:
    """The same stream with another portrait of the same size."""
    state.check_between_chunks()
    check_vae(vae, state)
    if tuple(portrait.shape[1:3]) != state.size:
        (height, width), (found_height, found_width) = state.size, portrait.shape[1:3]
        raise FlashHeadError(
            f"The portrait is {found_width}x{found_height} and the stream {width}x{height}; "
            "prepare the portrait at the stream's size."
        )
    return replace(state, stream=switch_portrait(state.stream, _condition(vae, portrait)))


def check_vae(vae: FlashHeadVAE, state: State) -> None:
    """Raise unless a state was made by a VAE of this family."""
    if vae.geometry != state.geometry:
        raise FlashHeadError(
            "The state was started with the VAE of the other variant; connect the VAE that Start "
            "Stream has."
        )


def check_latents(latents: torch.Tensor, state: State) -> None:
    """Raise unless latents have the shape of a chunk of the state's stream."""
    expected, found = tuple(state.stream.portrait.latents.shape), tuple(latents.shape)
    if found != expected:
        raise FlashHeadError(
            f"The latent has shape {found}; expected {expected}, one chunk of this stream as "
            "FlashHead Sample Chunk gives it."
        )


def check_model(model, audio: SpokenAudio, state_geometry) -> None:
    """Raise unless model, audio and state belong together."""
    generator = flashhead_model(model).diffusion_model
    if model.model.geometry != state_geometry:
        raise FlashHeadError(
            "The state was started with the VAE of the other variant than this model's; connect "
            "model and VAE of one checkpoint."
        )
    check_encoder(generator.config, audio.encoder.network.config)
    audio.speech.check(model.model.geometry)


def plan(model, settings: Settings, state: State) -> SamplingPlan:
    """What all chunks of a run share. The model must be loaded."""
    return plan_stream(
        model.model.diffusion_model, model.model.variant, settings, state.stream.portrait.latents
    )


def sample(
    model, plan: SamplingPlan, audio: SpokenAudio, chunk: int, state: State, watch: Watch
) -> tuple[torch.Tensor, State]:
    """Latents of a chunk as core exchanges them, (1, C, T, h, w), and the state to decode with."""
    generator, geometry = model.model.diffusion_model, state.geometry
    context, stream = audio.speech.hear(
        audio.encoder.network, geometry, chunk, state.stream, watch.stage
    )
    latents, stream = sample_chunk(
        generator, plan, context, stream, watch.step, watch.stage, predictor(model)
    )
    sampled = Sampled(audio.speech.new_frames(geometry, chunk), generator.backend.dtype)
    return model.model.process_latent_out(latents), State(stream, geometry, sampled)


def decode(
    vae: FlashHeadVAE, latents: torch.Tensor, state: State, color_match: float, watch: Watch
) -> tuple[torch.Tensor, State]:
    """The chunk's new frames (n, H, W, 3) in [0, 1], and the state to go on from.

    The latents are as core exchanges them.
    """
    if state.sampled is None:
        raise FlashHeadError(
            "The state has no sampled chunk; connect latent and state of the same FlashHead "
            "Sample Chunk."
        )
    network = vae.first_stage_model
    frames, stream = decode_chunk(
        network,
        vae.geometry,
        network.normalize(latents),
        state.stream,
        color_match,
        watch.stage,
        native_fade(vae.limits),
    )
    check_finite(frames, stream, state.sampled.dtype)
    fresh = state.sampled.fresh
    return frames[0, fresh.start : fresh.stop], State(stream, state.geometry)


@dataclass(frozen=True)
class Run:
    """A clip to be made, checked before any work."""

    model: object
    vae: FlashHeadVAE
    audio: SpokenAudio
    settings: Settings
    portrait: torch.Tensor | None
    state: State | None

    def __post_init__(self) -> None:
        if (self.portrait is None) == (self.state is None):
            what = "nothing" if self.state is None else "both"
            raise FlashHeadError(
                "Connect a portrait to start a stream, or a state to go on with one; "
                f"{what} is connected."
            )
        generator = flashhead_model(self.model).diffusion_model
        check_family(generator.config, self.vae.first_stage_model)
        check_model(self.model, self.audio, self.vae.geometry)
        if self.state is not None:
            self.state.check_between_chunks()
            check_vae(self.vae, self.state)
        else:
            self.vae.geometry.check_size(self.size)

    @classmethod
    def of(cls, model, vae, audio: SpokenAudio, portrait, state, **choices) -> Run:
        """From what is connected to a node of `inputs.whole_clip`, and its widgets."""
        return cls(model, adapt_vae(vae), audio, Settings(**choices), portrait, state)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.state.size if self.portrait is None else tuple(self.portrait.shape[1:3])

    @property
    def chunks(self) -> int:
        return self.audio.speech.chunks(self.vae.geometry)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, State]]:
        """New frames and state of each chunk, on the device."""
        load([self.model, self.vae.patcher, self.audio.encoder.patcher], self.model, self.size)
        device = self.model.load_device
        state = self.state or start(self.vae, self.portrait, self.settings.seed)
        state = replace(state, stream=state.stream.to(device))  # once, not at every chunk
        shared = plan(self.model, self.settings, state)
        made = self.vae.geometry.new_frames
        # Shown by `start` already; what the chunks show takes its place.
        doubts = [] if self.portrait is None else portrait_doubts(self.vae, self.portrait)
        watch = Watch(self.chunks, shared.steps, device, made, doubts)
        for chunk in range(self.chunks):
            latents, state = sample(self.model, shared, self.audio, chunk, state, watch)
            frames, state = decode(self.vae, latents, state, self.settings.color_match, watch)
            watch.chunk(frames)
            yield frames, state
