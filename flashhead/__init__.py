"""SoulX-FlashHead: one portrait and speech to a talking-head video, chunk by chunk.

bundle = flashhead.load_bundle("SoulX-FlashHead-1_3B", variant="lite", device="cuda")
for chunk in flashhead.generate(bundle, "portrait.png", waveform, sample_rate):
    ...  # chunk.frames: (n, H, W, 3) in [0, 1]
"""

from .checkpoint.conversion import convert
from .checkpoint.loading import load_bundle
from .errors import (
    AudioError,
    AudioWarning,
    CheckpointError,
    FlashHeadError,
    FlashHeadWarning,
    NonFiniteError,
    OutputError,
    PortraitError,
    PortraitWarning,
    SizeError,
)
from .image.faces import frame_portrait
from .media.audio_source import AudioSource, FileAudio
from .media.video_writer import VideoWriter
from .models.bundle import Bundle
from .stream.batch import Session, generate_batch
from .stream.generate import generate
from .stream.live import LiveStream
from .stream.loop import Chunk
from .stream.settings import Settings

__all__ = [
    "AudioError",
    "AudioSource",
    "AudioWarning",
    "Bundle",
    "CheckpointError",
    "Chunk",
    "FileAudio",
    "FlashHeadError",
    "FlashHeadWarning",
    "LiveStream",
    "NonFiniteError",
    "OutputError",
    "PortraitError",
    "PortraitWarning",
    "Session",
    "Settings",
    "SizeError",
    "VideoWriter",
    "convert",
    "frame_portrait",
    "generate",
    "generate_batch",
    "load_bundle",
]
