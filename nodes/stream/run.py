"""What the nodes of a stream share: checks, the chunk loop on ComfyUI's models, a whole clip."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import torch

from ...flashhead.errors import FlashHeadError
from ...flashhead.geometry import SAMPLE_RATE, ChunkGeometry
from ...flashhead.image.portrait import load_portrait, prepare_portrait
from ...flashhead.models import memory
from ...flashhead.models.bundle import Bundle, check_encoder, check_family
from ...flashhead.models.limits import portrait_warnings
from ...flashhead.models.tiles import FrugalVAE
from ...flashhead.models.vae import VAE
from ...flashhead.stream import state as streams
from ...flashhead.stream.generate import render_clip
from ...flashhead.stream.loop import ChunkLoop, Hooks, Recall
from ...flashhead.stream.settings import Settings
from ...flashhead.variants import VARIANTS
from ..models import AudioEncoderModel, flashhead_model, predictor
from ..progress import Watch, warn
from ..types import PreparedAudio, State
from ..vae import ExchangedLatents, FlashHeadVAE, adapt_vae, frugal


def load(patchers: list[Any], *needed: int) -> None:
    """Have ComfyUI load what is needed now, with room for the largest of these numbers of bytes."""
    comfy.model_management.load_models_gpu(patchers, memory_required=max(needed))


def sampling_needs(
    model: Any, encoder: AudioEncoderModel, size: tuple[int, int], seconds: float
) -> tuple[int, int]:
    """Bytes that sampling a chunk takes, and encoding its audio, with so much of the past."""
    generator = model.model.diffusion_model
    config, dtype = generator.config, generator.backend.dtype
    return (
        memory.sampling_memory(config, dtype, config.geometry.latent_shape(size)[1:]),
        memory.audio_memory(encoder.network.config, round(seconds * SAMPLE_RATE)),
    )


def settings_of(steps: int = 0, **choices: Any) -> Settings:
    """Settings of a node's widgets, of which 0 steps mean the model's own."""
    return Settings(steps=steps or None, **choices)


def steps_of(model: Any, settings: Settings) -> int:
    """Sampling steps of each chunk."""
    return settings.steps or VARIANTS[flashhead_model(model).variant].steps


def portrait_of(image: torch.Tensor) -> torch.Tensor:
    """A portrait IMAGE of the video's size as the model takes it, (3, H, W) in [-1, 1]."""
    picture = load_portrait(image)
    return prepare_portrait(picture, (picture.height, picture.width))


def _condition(
    vae: FlashHeadVAE, portrait: torch.Tensor, network: VAE | None = None
) -> streams.PortraitCondition:
    size = (portrait.shape[1], portrait.shape[2])
    vae.geometry.check_size(size)
    warn(portrait_warnings(vae.limits, portrait))
    load([vae.patcher], vae.encode_memory((vae.geometry.frames, *size)))
    network = network or frugal(vae.first_stage_model)
    return streams.encode_portrait(network, vae.geometry, portrait)


def start(
    vae: FlashHeadVAE, portrait: torch.Tensor, seed: int, network: VAE | None = None
) -> State:
    """The state before the first chunk of a portrait (3, H, W) in [-1, 1].

    network: what encodes it, where a run has its own.
    """
    return State(streams.start_stream(_condition(vae, portrait, network), seed), vae.geometry)


def switch(vae: FlashHeadVAE, portrait: torch.Tensor, state: State) -> State:
    """The same stream with another portrait (3, H, W) in [-1, 1] of the same size."""
    state.check_between_chunks()
    check_vae(vae, state)
    (height, width), found = state.size, portrait.shape[1:]
    if tuple(found) != (height, width):
        raise FlashHeadError(
            f"The portrait is {found[1]}x{found[0]} and the stream {width}x{height}; prepare the "
            "portrait at the stream's size."
        )
    return replace(state, stream=streams.switch_portrait(state.stream, _condition(vae, portrait)))


def check_vae(vae: FlashHeadVAE, state: State) -> None:
    """Raise unless a state was made by a VAE of this family."""
    if vae.geometry != state.geometry:
        raise FlashHeadError(
            "The state was started with the VAE of the other variant; connect the VAE that Start "
            "Stream has."
        )


def check_model(model: Any, encoder: AudioEncoderModel, geometry: ChunkGeometry) -> None:
    """Raise unless a model, an audio encoder and a state's or VAE's geometry belong together."""
    generator = flashhead_model(model).diffusion_model
    if generator.config.geometry != geometry:
        raise FlashHeadError(
            "The state was started with the VAE of the other variant than this model's; connect "
            "model and VAE of one checkpoint."
        )
    check_encoder(generator.config, encoder.network.config)


@dataclass(frozen=True)
class StreamModels:
    """Model, VAE and audio encoder of a stream, checked to belong together."""

    model: Any
    vae: FlashHeadVAE
    encoder: AudioEncoderModel

    def __post_init__(self) -> None:
        check_family(flashhead_model(self.model).diffusion_model.config, self.vae.first_stage_model)
        check_model(self.model, self.encoder, self.vae.geometry)

    def load(self, size: tuple[int, int], seconds: float) -> None:
        """seconds: of audio that is encoded with each chunk."""
        needed = sampling_needs(self.model, self.encoder, size, seconds)
        patchers = [self.model, self.vae.patcher, self.encoder.patcher]
        load(patchers, self.vae.chunk_memory(size), *needed)

    def coder(self, warnings: list[str]) -> FrugalVAE:
        """The VAE for one run; `warnings` gets what it says."""
        return frugal(ExchangedLatents(self.vae.first_stage_model), warnings)

    def loop(self, settings: Settings, hooks: Hooks, vae: FrugalVAE) -> ChunkLoop:
        """The library's chunk loop on these models, which must be loaded. vae: a `coder`."""
        base, limits = self.model.model, self.vae.limits
        bundle = Bundle(base.variant, base.diffusion_model, vae, self.encoder.network, limits)
        return ChunkLoop(bundle, settings, predict=predictor(self.model), hooks=hooks)


class Run:
    """A clip to be made, checked before any work.

    Made of what is connected to a node of `inputs.whole_clip`, and of its widgets. size: (height,
    width). portrait: (3, H, W) in [-1, 1], or None to go on from `state`.
    """

    def __init__(
        self,
        model: Any,
        vae: Any,
        audio: PreparedAudio,
        portrait: torch.Tensor | None = None,
        state: State | None = None,
        **choices: Any,
    ):
        self.models = StreamModels(model, adapt_vae(vae), audio.encoder)
        self.geometry = self.models.vae.geometry
        audio.clip.check(self.geometry)
        if portrait is not None and state is None:
            portrait = portrait_of(portrait)
            self.size = (portrait.shape[1], portrait.shape[2])
            self.geometry.check_size(self.size)
        elif state is not None and portrait is None:
            state.check_between_chunks()
            check_vae(self.models.vae, state)
            self.size = state.size
        else:
            what = "nothing" if state is None else "both"
            raise FlashHeadError(
                "Connect a portrait to start a stream, or a state to go on with one; "
                f"{what} is connected."
            )
        self.clip, self.sound = audio.clip, audio.source
        self.warnings: list[str] = []  # shown already; what the chunks show takes their place
        self.portrait, self.state = portrait, state
        cache = audio.clip.cache_seconds
        self.settings = settings_of(size=self.size, cache_seconds=cache, **choices)

    def chunks(self, recall: Recall | None = None) -> Iterator[tuple[torch.Tensor, State]]:
        """New frames (n, H, W, 3) of each chunk, on the device, and the state after it."""
        vae, device = self.models.vae, self.models.model.load_device
        state, warnings = self.state, [*self.warnings]
        coder = self.models.coder(warnings)
        if self.portrait is not None:
            state = start(vae, self.portrait, self.settings.seed, coder)
            # Shown by `start` already; what the chunks show takes its place.
            warnings += portrait_warnings(vae.limits, self.portrait)
        assert state is not None  # one of both is given
        # Last, because to load the VAE alone may have taken the others off the device.
        self.models.load(self.size, self.settings.cache_seconds)
        count = self.clip.plan(self.geometry).chunks
        steps = steps_of(self.models.model, self.settings)
        watch = Watch(count, steps, device, self.geometry.new_frames, warnings)
        loop = self.models.loop(self.settings, watch.hooks, coder)
        audio = (self.clip.chunk_audio(self.geometry, chunk) for chunk in range(count))
        # To the device once, not at every chunk; kept states share one portrait, on the CPU.
        beginning = state.stream.to(device if recall is None else torch.device("cpu"))
        for chunk, stream in render_clip(loop, beginning, audio, recall=recall):
            watch.chunk(chunk.frames)
            yield chunk.frames, State(stream, self.geometry)
            del chunk  # not held while the next one is made
