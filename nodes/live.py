"""Live: a portrait that speaks what a microphone or a program says, while it says it."""

from __future__ import annotations

import time

import torch
from comfy_api.latest import io

from ..flashhead.geometry import FPS
from ..flashhead.media.live_audio import Piece
from ..flashhead.stream.settings import Settings
from ..flashhead.stream.speech import Speech
from . import inputs
from .live_session import Session, running
from .progress import Stages, check_interrupt, say
from .schema import make, schema
from .stream import Run, decode, load, parked, plan, portrait_doubts, sample, start
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
                inputs.cache_seconds("How much of the past a chunk hears, in seconds."),
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
        state, doubts = start(vae, portrait, seed), portrait_doubts(vae, portrait)
        shared = plan(model, settings, state)

        def render(audio: SpokenAudio, stages: Stages):
            latents, sampled = sample(model, shared, audio, 0, state, stages)
            return decode(vae, latents, sampled, color_match, stages)

        # A device's first chunk takes far longer than the next: nobody has to wait for it.
        say("getting ready", doubts)
        render(silence, Stages(model.load_device))
        session = Session(run.size, geometry)
        with running(cls.hidden.unique_id, session):
            try:
                waiting = "waiting for sound: press Start microphone, or connect to the socket"
                say(waiting, doubts)
                for piece in session.pieces(wait_seconds, check_interrupt):
                    stages = Stages(model.load_device)
                    frames, state = render(spoken(piece.heard, piece.frames), stages)
                    session.show(frames, piece)
                    say(_line(session, piece, stages), doubts)
            except BaseException as failure:
                session.end(str(failure).strip() or "The workflow was cancelled.")
                raise
            session.end()
        made = f"{session.frames / FPS:.2f} s made"
        return io.NodeOutput(parked(state), ui={"text": [made]})


def _line(session: Session, piece: Piece, stages: Stages) -> str:
    """What the node's line of text says after a chunk that was sent."""
    now = time.perf_counter()
    speed = piece.frames / FPS / max(now - stages.started, 1e-9)
    parts = [
        f"{session.frames / FPS:.1f} s",
        f"{speed:.2f}x real time",
        f"{1000 * (now - piece.complete):.0f} ms after the sound",
    ]
    if session.dropped:
        parts.insert(0, f"too slow: {session.dropped:.1f} s of sound left out")
    return " · ".join(parts + stages.lines())
