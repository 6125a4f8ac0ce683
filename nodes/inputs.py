"""Sockets and widgets that several nodes have, in the order in which they show them."""

from comfy_api.latest import io

from ..flashhead.geometry import CHUNK_FRAMES, FPS
from ..flashhead.stream.audio_context import CACHE_SECONDS
from ..flashhead.stream.settings import LONGEST_CACHE
from .schema import make
from .types import PreparedAudioType, StateType


def model() -> io.Input:
    return io.Model.Input(
        "model", tooltip="From FlashHead Load Checkpoint; LoRA loaders and the like may be between."
    )


def vae() -> io.Input:
    return io.Vae.Input(
        "vae",
        tooltip="From FlashHead Load Checkpoint; for Pro, also wan_2.1_vae from Load VAE.",
    )


def audio() -> io.Input:
    return PreparedAudioType.Input("audio", tooltip="From FlashHead Prepare Audio.")


def portrait(optional: bool = False) -> io.Input:
    return io.Image.Input(
        "portrait",
        optional=optional,
        tooltip="From FlashHead Prepare Portrait: its size is the video's."
        + (" Leave it out to go on from a state." if optional else ""),
    )


def state(tooltip: str, optional: bool = False) -> io.Input:
    return StateType.Input("state", optional=optional, tooltip=tooltip)


def seed() -> io.Input:
    return io.Int.Input(
        "seed",
        default=42,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="The same seed and inputs on the same device give the same frames.",
    )


def sampling() -> list[io.Input]:
    """steps, shift"""
    return [
        io.Int.Input(
            "steps",
            default=4,
            min=1,
            max=100,
            tooltip="Sampling steps of each chunk. Lite and Pro were distilled to 4; 2 is faster. "
            "The pretrained teacher needs 20.",
        ),
        make(
            io.Float.Input,
            "shift",
            default=5.0,
            min=0.01,
            max=100.0,
            step=0.01,
            advanced=True,
            tooltip="Timestep shift; the model was distilled with 5.",
        ),
    ]


def color_match() -> io.Input:
    return io.Float.Input(
        "color_match",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="How strongly every frame is given the portrait's colours. It keeps long videos "
        "from drifting; 0 is off.",
    )


def guidance() -> io.Input:
    return make(
        io.Float.Input,
        "guidance",
        default=1.0,
        min=0.0,
        max=20.0,
        step=0.1,
        advanced=True,
        tooltip="Audio guidance. 1 is off, as Lite and Pro want it; the pretrained teacher wants "
        "3. Anything but 1 doubles the work.",
    )


def cache_seconds(tooltip: str) -> io.Input:
    return make(
        io.Float.Input,
        "cache_seconds",
        default=CACHE_SECONDS,
        min=CHUNK_FRAMES / FPS,
        max=LONGEST_CACHE,
        step=0.04,
        advanced=True,
        tooltip=f"{tooltip} The model was trained with {CACHE_SECONDS:g}.",
    )


def images_and_state() -> list[io.Output]:
    """What a node gives that makes a whole clip of images."""
    return [
        io.Image.Output(display_name="images", tooltip="25 frames for each second of audio."),
        state_output("Where the stream is, to go on from with other audio."),
    ]


def whole_clip() -> list[io.Input]:
    """What a node that makes a whole clip takes."""
    return [
        model(),
        vae(),
        audio(),
        portrait(optional=True),
        seed(),
        *sampling(),
        color_match(),
        guidance(),
        state(
            "A stream to go on with, instead of a portrait and a seed: from another sampler, or "
            "from FlashHead Load State.",
            optional=True,
        ),
    ]


def state_output(tooltip: str) -> io.Output:
    return StateType.Output(display_name="state", tooltip=tooltip)
