"""Sockets and widgets that several nodes have, in the order in which they show them."""

from comfy_api.latest import io

from ..flashhead.geometry import CHUNK_FRAMES, FPS
from ..flashhead.stream.audio_context import CACHE_SECONDS
from ..flashhead.stream.settings import LONGEST_CACHE
from .schema import number, output
from .types import PreparedAudioType, StateType


def model() -> io.Input:
    return io.Model.Input(
        "model", tooltip="From FlashHead Load Checkpoint; LoRA loaders and the like may be between."
    )


def vae() -> io.Input:
    return io.Vae.Input(
        "vae", tooltip="From FlashHead Load Checkpoint; for Pro, also wan_2.1_vae from Load VAE."
    )


def audio() -> io.Input:
    return PreparedAudioType.Input("audio", tooltip="From FlashHead Prepare Audio.")


def portrait(optional: bool = False) -> io.Input:
    tooltip = "From FlashHead Prepare Portrait: its size is the video's."
    if optional:
        tooltip += " Leave it out to go on from a state."
    return io.Image.Input("portrait", optional=optional, tooltip=tooltip)


def state(tooltip: str, optional: bool = False) -> io.Input:
    return StateType.Input("state", optional=optional, tooltip=tooltip)


def seed() -> io.Input:
    tooltip = "The same seed and inputs on the same device give the same frames."
    return number("seed", (42, 0, 0xFFFFFFFFFFFFFFFF), tooltip, control_after_generate=True)


def sampling() -> list[io.Input]:
    """steps, shift"""
    steps = (
        "Sampling steps of each chunk. 0 is the model's own number: 4 for Lite and Pro (2 is "
        "faster), 1 for Pro, one step, 20 for the pretrained teacher."
    )
    shift = "Timestep shift; the model was distilled with 5."
    return [
        number("steps", (0, 0, 100), steps),
        number("shift", (5.0, 0.01, 100.0, 0.01), shift, advanced=True),
    ]


def color_match() -> io.Input:
    return number(
        "color_match",
        (1.0, 0.0, 1.0, 0.01),
        "How strongly every frame is given the portrait's colours. It keeps long videos from "
        "drifting; 0 is off.",
    )


def guidance() -> io.Input:
    return number(
        "guidance",
        (1.0, 0.0, 20.0, 0.1),
        "Audio guidance. 1 is off, as Lite and Pro want it; the pretrained teacher wants 3. "
        "Anything but 1 doubles the work.",
        advanced=True,
    )


def settings() -> list[io.Input]:
    """seed, steps, shift, color_match, guidance"""
    return [seed(), *sampling(), color_match(), guidance()]


def cache_seconds(tooltip: str) -> io.Input:
    values = (CACHE_SECONDS, CHUNK_FRAMES / FPS, LONGEST_CACHE, 0.04)
    tooltip += f" The model was trained with {CACHE_SECONDS:g}."
    return number("cache_seconds", values, tooltip, advanced=True)


def whole_clip() -> list[io.Input]:
    """What a node that makes a whole clip takes."""
    before = (
        "A stream to go on with, instead of a portrait and a seed: from another sampler, or from "
        "FlashHead Load State."
    )
    sockets = [model(), vae(), audio(), portrait(optional=True)]
    return [*sockets, *settings(), state(before, optional=True)]


def state_output(text: str = "Where the stream is, to go on from with other audio.") -> io.Output:
    return output(StateType, "state", text)


def images_and_state() -> list[io.Output]:
    """What a node gives that makes a whole clip of images."""
    return [output(io.Image, "images", "25 frames for each second of audio."), state_output()]
