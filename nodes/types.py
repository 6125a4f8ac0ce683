"""Custom socket types.

FLASHHEAD_AUDIO_ENCODER  `AudioEncoderModel`: the audio encoder under ComfyUI's memory management
FLASHHEAD_AUDIO          `SpokenAudio`: checked audio, how it is to be heard, and by which encoder

MODEL and VAE are ComfyUI's own; see `models.py` for what is inside.
"""

from dataclasses import dataclass

from comfy_api.latest import io

from ..flashhead.audio_source import AudioSource
from ..flashhead.config import frame_count
from .models import AudioEncoderModel

AudioEncoderType = io.Custom("FLASHHEAD_AUDIO_ENCODER")
SpokenAudioType = io.Custom("FLASHHEAD_AUDIO")


@dataclass(frozen=True)
class SpokenAudio:
    """Audio is encoded chunk by chunk while sampling, so that its length costs no memory."""

    source: AudioSource
    encoder: AudioEncoderModel
    mode: str
    cache_seconds: float

    @property
    def frames(self) -> int:
        return frame_count(self.source.samples, self.source.sample_rate)
