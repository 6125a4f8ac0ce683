"""Live: a portrait that speaks what a microphone or a program says, while it says it."""

import time
from typing import Any

import torch
from comfy_api.latest import io

from ...flashhead.geometry import FPS
from ...flashhead.media.live_audio import Piece
from ...flashhead.models.limits import portrait_warnings
from ...flashhead.stream.loop import ChunkAudio, Hooks
from .. import inputs
from ..models import AudioEncoderModel
from ..progress import Stages, check_interrupt, say
from ..schema import number, schema
from ..stream.run import StreamModels, portrait_of, settings_of, start
from ..types import AudioEncoderType, State
from ..vae import adapt_vae
from .session import Session, running


class Live(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadLive",
            display_name="FlashHead Live",
            description="Makes the portrait speak what you say into the microphone, while you say "
            "it. Press Start microphone in the node: the workflow runs until you press Stop. Other "
            "programs can send sound to the node's websocket instead.",
            search_aliases=["microphone", "real time", "streaming", "avatar", "websocket"],
            is_output_node=True,
            not_idempotent=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                inputs.model(),
                inputs.vae(),
                AudioEncoderType.Input("audio_encoder", tooltip="From FlashHead Load Checkpoint."),
                inputs.portrait(),
                *inputs.settings(),
                inputs.cache_seconds(
                    "How much of the past is encoded with each chunk, in seconds."
                ),
                number(
                    "wait_seconds",
                    (30.0, 1.0, 86_400.0, 1.0),
                    "The workflow ends when nobody has been connected for so long.",
                    advanced=True,
                ),
            ],
            outputs=[inputs.state_output()],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> float:
        # Unequal to itself: what is said is another thing each time.
        return float("nan")

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        audio_encoder: AudioEncoderModel,
        portrait: torch.Tensor,
        wait_seconds: float,
        **choices: Any,
    ) -> io.NodeOutput:
        models = StreamModels(model, adapt_vae(vae), audio_encoder)
        geometry = models.vae.geometry
        picture = portrait_of(portrait)
        size = (picture.shape[1], picture.shape[2])
        settings = settings_of(size=size, **choices)
        geometry.check_size(size)
        warnings = portrait_warnings(models.vae.limits, picture)
        coder = models.coder(warnings)
        stream = start(models.vae, picture, settings.seed, coder).stream
        models.load(size, settings.cache_seconds)  # last: see `Run.chunks`
        stages = Stages(model.load_device)
        hooks = Hooks(lambda *_: check_interrupt(), lambda name: stages.end(name))
        loop = models.loop(settings, hooks, coder)
        # A device's first chunk takes far longer than the next: nobody has to wait for it.
        say("getting ready", warnings)
        loop.step(ChunkAudio(torch.zeros(geometry.new_samples)), stream)
        session = Session(size, geometry)
        with running(cls.hidden.unique_id, session):
            say("waiting for sound: press Start microphone, or connect to the socket", warnings)
            for piece in session.pieces(wait_seconds, check_interrupt):
                stages = Stages(model.load_device)
                shown = range(geometry.motion_frames, geometry.motion_frames + piece.frames)
                (frames,), stream = loop.step(ChunkAudio(piece.speech, shown), stream)
                dropped = session.show(frames, piece)
                below = [*warnings, piece.warning] if piece.warning else warnings
                say(_line(session, piece, stages, dropped), below)
        made = f"{session.frames / FPS:.2f} s made"
        return io.NodeOutput(State(stream, geometry).on_cpu(), ui={"text": [made]})


def _line(session: Session, piece: Piece, stages: Stages, dropped: float) -> str:
    """What the node's line of text says after a chunk that was sent."""
    now = time.perf_counter()
    speed = piece.frames / FPS / max(now - stages.started, 1e-9)
    parts = [
        f"{session.frames / FPS:.1f} s",
        f"{speed:.2f}x real time",
        f"{1000 * (now - piece.complete_at):.0f} ms after the sound",
    ]
    if dropped:
        parts.insert(0, f"too slow: {dropped:.1f} s of sound left out")
    return " · ".join(parts + stages.lines())
