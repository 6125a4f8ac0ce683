"""Live: a portrait that speaks what a microphone or a program says, while it says it."""

from __future__ import annotations

import time

import torch
from comfy_api.latest import io

from ..flashhead.clock import Clock
from ..flashhead.config import CHUNK_FRAMES, FPS
from ..flashhead.settings import LONGEST_CACHE, Settings
from ..flashhead.speech import Speech
from . import inputs
from .live_audio import Piece
from .live_session import Session, running
from .progress import check_interrupt, say
from .schema import make, schema
from .stream import Run, decode, load, parked, plan, sample, start
from .types import AudioEncoderType, SpokenAudio
from .vae import adapt_vae


class Live(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadLive",
            display_name="FlashHead Live",
            description=(
                "Makes the portrait speak what you say into the microphone, while you say it. "
                "Press Start microphone in the node: the workflow runs until you press Stop. "
                "Other programs can send sound to the node's websocket instead."
            ),
            search_aliases=["microphone", "real time", "streaming", "avatar", "websocket"],
            is_output_node=True,
            not_idempotent=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                inputs.model(),
                inputs.vae(),
                AudioEncoderType.Input("audio_encoder", tooltip="From FlashHead Load Checkpoint."),
                inputs.portrait(),
                inputs.seed(),
                *inputs.sampling(),
                inputs.color_match(),
                inputs.guidance(),
                make(
                    io.Float.Input,
                    "cache_seconds",
                    default=8.0,
                    min=CHUNK_FRAMES / FPS,
                    max=LONGEST_CACHE,
                    step=0.04,
                    advanced=True,
                    tooltip="How much of the past a chunk hears, in seconds. The model was trained "
                    "with 8.",
                ),
                make(
                    io.Float.Input,
                    "wait_seconds",
                    default=30.0,
                    min=1.0,
                    max=86_400.0,
                    step=1.0,
                    advanced=True,
                    tooltip="The workflow ends when nobody has been connected for so long.",
                ),
            ],
            outputs=[inputs.state_output("Where the stream is, to go on from with other audio.")],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        # Unequal to itself: what is said is another thing each time.
        return float("nan")

    @classmethod
    def execute(
        cls,
        model,
        vae,
        audio_encoder,
        portrait,
        seed: int,
        steps: int,
        shift: float,
        color_match: float,
        guidance: float,
        cache_seconds: float,
        wait_seconds: float,
    ) -> io.NodeOutput:
        settings = Settings(
            seed=seed,
            steps=steps,
            shift=shift,
            color_match=color_match,
            guidance=guidance,
            cache_seconds=cache_seconds,
        )
        vae = adapt_vae(vae)
        geometry = vae.geometry

        def spoken(samples: torch.Tensor, frames: int) -> SpokenAudio:
            return SpokenAudio(Speech(samples, frames, cache_seconds), audio_encoder, {})

        silence = spoken(torch.zeros(geometry.new_samples), geometry.new_frames)
        run = Run(model, vae, silence, settings, portrait, None)
        load([model, vae.patcher, audio_encoder.patcher], model, run.size)
        state = start(vae, portrait, seed)
        shared = plan(model, settings, state)

        def render(audio: SpokenAudio, report: Report):
            latents, sampled = sample(model, shared, audio, 0, state, report)
            return decode(vae, latents, sampled, color_match, report)

        # A device's first chunk takes far longer than the next: nobody has to wait for it.
        say("getting ready")
        render(silence, Report(model.load_device))
        session = Session(run.size, geometry)
        with running(cls.hidden.unique_id, session):
            try:
                say("waiting for sound: press Start microphone, or connect to the socket")
                for piece in session.pieces(wait_seconds, check_interrupt):
                    report = Report(model.load_device)
                    frames, state = render(spoken(piece.heard, piece.frames), report)
                    session.show(frames, piece)
                    report.chunk(session, piece)
            except BaseException as failure:
                session.end(str(failure).strip() or "The workflow was cancelled.")
                raise
            session.end()
        made = f"{session.frames / FPS:.2f} s made"
        return io.NodeOutput(parked(state), ui={"text": [made]})


class Report:
    """What the node's line of text says of one chunk; and how Cancel gets in."""

    def __init__(self, device: torch.device):
        self._clock, self._started = Clock(device), time.perf_counter()

    def step(self, done: int, steps: int) -> None:
        """After a sampling step."""
        check_interrupt()

    def stage(self, name: str) -> None:
        """After a stage of a chunk."""
        check_interrupt()
        self._clock.lap(name)

    def chunk(self, session: Session, piece: Piece) -> None:
        """After a chunk that was sent."""
        now = time.perf_counter()
        speed = piece.frames / FPS / max(now - self._started, 1e-9)
        parts = [
            f"{session.frames / FPS:.1f} s",
            f"{speed:.2f}x real time",
            f"{1000 * (now - piece.complete):.0f} ms after the sound",
        ]
        if session.dropped:
            parts.insert(0, f"too slow: {session.dropped:.1f} s of sound left out")
        stages = self._clock.seconds().items()
        parts += [f"{name} {1000 * seconds:.0f} ms" for name, seconds in stages]
        say(" · ".join(parts))
