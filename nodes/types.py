"""Custom socket types.

FLASHHEAD_AUDIO_ENCODER  `AudioEncoderModel`: the audio encoder under ComfyUI's memory management
FLASHHEAD_AUDIO          `SpokenAudio`: speech cut into chunks, and the encoder that hears it
FLASHHEAD_STATE          `State`: where a stream is; nothing in it is ever written to
FLASHHEAD_FRAMES         `Frames`: the frames so far, chunk by chunk (inside Incremental Sampler)
FLASHHEAD_CROP           see `crop_type.py`

MODEL and VAE are ComfyUI's own; see `models.py` and `vae.py` for what is inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from comfy_api.latest import io

from ..flashhead.errors import FlashHeadError
from ..flashhead.geometry import ChunkGeometry
from ..flashhead.stream.speech import Speech
from ..flashhead.stream.state import StreamState
from .models import AudioEncoderModel

AudioEncoderType = io.Custom("FLASHHEAD_AUDIO_ENCODER")
SpokenAudioType = io.Custom("FLASHHEAD_AUDIO")
StateType = io.Custom("FLASHHEAD_STATE")
FramesType = io.Custom("FLASHHEAD_FRAMES")


@dataclass(frozen=True)
class SpokenAudio:
    """Speech is encoded chunk by chunk while sampling, so that its length costs no memory.

    source: the AUDIO that it was made of, for a video's sound.
    """

    speech: Speech
    encoder: AudioEncoderModel
    source: dict


@dataclass(frozen=True)
class Sampled:
    """Of a chunk that is sampled and not yet decoded: the frames to show, and the dtype it was
    computed in."""

    fresh: range
    dtype: torch.dtype


@dataclass(frozen=True)
class State:
    """A stream between two nodes, with its tensors on the CPU.

    geometry: of the model's chunks. sampled: None between chunks.
    """

    stream: StreamState
    geometry: ChunkGeometry
    sampled: Sampled | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of its frames."""
        height, width = self.stream.portrait.latents.shape[3:]
        return height * self.geometry.vae_stride[1], width * self.geometry.vae_stride[2]

    def check_between_chunks(self) -> None:
        if self.sampled is not None:
            raise FlashHeadError(
                "The state has a sampled chunk that is not decoded yet; connect the state from "
                "FlashHead Decode Chunk."
            )


@dataclass(frozen=True)
class Frames:
    """Frames of all chunks so far, each held once: a list that shares its beginning."""

    images: torch.Tensor
    before: Frames | None = None

    def chunks(self) -> list[torch.Tensor]:
        """In order."""
        found, place = [], self
        while place is not None:
            found.append(place.images)
            place = place.before
        return found[::-1]
