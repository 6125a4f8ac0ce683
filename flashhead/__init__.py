"""SoulX-FlashHead: one portrait and speech to a talking-head video, chunk by chunk.

bundle = flashhead.load_bundle("SoulX-FlashHead-1_3B", variant="lite", device="cuda")
for chunk in flashhead.generate(bundle, "portrait.png", waveform, sample_rate):
    ...  # chunk.frames: (n, H, W, 3) in [0, 1]
"""

from .batch import Session, generate_batch
from .checkpoint import Bundle, load_bundle
from .conversion import convert
from .errors import (
    AudioError,
    CheckpointError,
    FlashHeadError,
    NonFiniteError,
    PortraitError,
    PortraitWarning,
    SizeError,
)
from .generation import generate
from .live import LiveStream
from .settings import Settings
from .stream import Chunk

__all__ = [
    "AudioError",
    "Bundle",
    "CheckpointError",
    "Chunk",
    "FlashHeadError",
    "LiveStream",
    "NonFiniteError",
    "PortraitError",
    "PortraitWarning",
    "Session",
    "Settings",
    "SizeError",
    "convert",
    "generate",
    "generate_batch",
    "load_bundle",
]
