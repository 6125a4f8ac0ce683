"""Custom socket types, and what is passed through them.

FLASHHEAD_AUDIO_ENCODER  `AudioEncoderModel`: the audio encoder under ComfyUI's memory management
FLASHHEAD_AUDIO          `PreparedAudio`: speech cut into chunks, and its audio encoder
FLASHHEAD_STATE          `State`: where a stream is; nothing in it is ever written to
FLASHHEAD_CROP           `flashhead.image.crop.Crop`: where a portrait was cut out of a picture

MODEL and VAE are ComfyUI's own; see `models.py` and `vae.py` for what is inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy_api.latest import io

from ..flashhead.errors import AudioError, FlashHeadError
from ..flashhead.geometry import ChunkGeometry
from ..flashhead.media.audio_source import TensorAudio
from ..flashhead.stream.clip import SpeechClip
from ..flashhead.stream.state import StreamState
from .models import AudioEncoderModel

AudioEncoderType = io.Custom("FLASHHEAD_AUDIO_ENCODER")
PreparedAudioType = io.Custom("FLASHHEAD_AUDIO")
StateType = io.Custom("FLASHHEAD_STATE")
CropType = io.Custom("FLASHHEAD_CROP")
Audio = dict[str, Any]
"""ComfyUI's AUDIO: "waveform" (1, channels, samples) and "sample_rate", in Hz."""


def single_clip(audio: object, name: str) -> tuple[Any, Any]:
    """Waveform, (channels, samples) or (samples,), and rate of an AUDIO that is one clip.

    Other packs give a waveform without a batch or channels; it is taken as that. Raises
    `AudioError` for what is no AUDIO, for a batch, and for other shapes; the rest `TensorAudio`
    checks. name: of the socket.
    """
    if audio is None:
        raise AudioError(
            f"The {name} is empty: what is connected has no sound, as a video without a sound "
            "track; connect something with sound."
        )
    if not isinstance(audio, Mapping):
        raise AudioError(
            f"The {name} is a {type(audio).__name__}; expected an AUDIO as Load Audio gives it, a "
            "dict of a waveform and a sample_rate."
        )
    for key in ("waveform", "sample_rate"):
        if audio.get(key) is None:
            raise AudioError(
                f"The {name} has no {key}; expected an AUDIO as Load Audio gives it, a dict of a "
                "waveform and a sample_rate."
            )
    waveform = audio["waveform"]
    shape = tuple(getattr(waveform, "shape", (0,)))
    if len(shape) == 3 and shape[0] > 1:
        raise AudioError(f"The {name} is a batch of {shape[0]} clips; give one clip at a time.")
    if len(shape) not in (1, 2, 3) or 0 in shape[:-2]:
        raise AudioError(
            f"The {name} has a waveform of shape {shape}; expected (1, channels, samples)."
        )
    return waveform[0] if len(shape) == 3 else waveform, audio["sample_rate"]


@dataclass(frozen=True)
class PreparedAudio:
    """Speech that is encoded chunk by chunk while sampling, so that its length costs no memory.

    source: what it was made of, for a video's sound.
    """

    clip: SpeechClip
    encoder: AudioEncoderModel
    source: TensorAudio


@dataclass(frozen=True)
class State:
    """A stream between two nodes.

    geometry: of the model's chunks. sampled: of a chunk that is sampled and not yet decoded, which
    of its frames will be shown, and the rest of a `SampledChunk`; None between chunks.
    """

    stream: StreamState
    geometry: ChunkGeometry
    sampled: tuple[range, torch.dtype, torch.Tensor | None] | None = None

    def on_cpu(self) -> State:
        """The same with its tensors on the CPU, as nodes give it on: what ComfyUI caches then
        takes no memory of the device."""
        return replace(self, stream=self.stream.to(torch.device("cpu")))

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
