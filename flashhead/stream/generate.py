"""A portrait and a clip of speech to chunks of frames."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from ..errors import AudioError
from ..geometry import FPS, SAMPLES_PER_FRAME, ChunkGeometry, frame_count
from ..image.portrait import Portrait, load_portrait
from ..media.audio_source import AudioSource, TensorAudio, speech_blocks
from ..media.resample import speech_length
from ..models.bundle import Bundle
from .audio_context import CACHE_SECONDS, frame_context
from .live import LiveStream, OnChunkStep
from .loop import Chunk
from .settings import Settings

AUDIO_MODES = ("stream", "once")


def audio_source(
    waveform: Tensor | np.ndarray | AudioSource, sample_rate: int | None
) -> AudioSource:
    """A source from either way of giving audio; raises `AudioError`."""
    if hasattr(waveform, "blocks"):
        return waveform
    if sample_rate is None and isinstance(waveform, Tensor | np.ndarray):
        raise AudioError("A waveform came without its sample_rate in Hz.")
    return TensorAudio(waveform, sample_rate)


def chunk_count(geometry: ChunkGeometry, frames: int, audio_mode: str) -> int:
    """Chunks that a clip of `frames` frames takes; once mode keeps the whole first chunk."""
    first = geometry.frames if audio_mode == "once" else geometry.new_frames
    return 1 + math.ceil(max(0, frames - first) / geometry.new_frames)


def generate(
    bundle: Bundle,
    portrait: Portrait,
    waveform: Tensor | np.ndarray | AudioSource,
    sample_rate: int | None = None,
    *,
    size: tuple[int, int] | None = None,
    seed: int = 42,
    steps: int | None = None,
    shift: float = 5.0,
    color_match: float = 1.0,
    guidance: float | None = None,
    audio_mode: str = "stream",
    cache_seconds: float = CACHE_SECONDS,
    seam_fade: int | None = None,
    switches: Mapping[float, Portrait] | None = None,
    on_step: OnChunkStep | None = None,
) -> Iterator[Chunk]:
    """Make a portrait speak, chunk by chunk.

    Input is checked at once; the work is done as the iterator is walked. One chunk is held at a
    time, and the waveform is resampled as it is needed.

    Args:
        bundle: a loaded checkpoint.
        portrait: path, PIL image or (H, W, 3) tensor in [0, 1]; cropped to cover the size.
        waveform: (N,) or (channels, N), any rate; or an `AudioSource`, such as a file.
        sample_rate: of a waveform tensor, in Hz.
        size: (height, width) in pixels, multiples of the checkpoint's strides; None is the
            checkpoint's own: 512x512, and 96x96 for the pocket one.
        seed: 0 to 2^64 - 1. The same seed and input on the same device give the same frames.
        steps: sampling steps; None is the variant's own: 4 for Lite and Pro, 20 for the teacher.
        shift: of the timesteps.
        color_match: strength of the colour matching, 0 (off) to 1.
        guidance: audio guidance scale; None is the variant's own: 1 (off) for Lite and Pro, 3 for
            the teacher.
        audio_mode: "stream" hears the audio as it comes, with a cache of the past; "once" encodes
            the clip whole (memory grows with its length).
        cache_seconds: the past that stream mode hears.
        seam_fade: frames that the jump where a chunk begins takes to fade out, 0 (off) to 15; None
            is the checkpoint's own: 0, and 6 for the pocket one.
        switches: seconds -> another portrait, from the first chunk that starts then or later;
            audio and noise go on.
        on_step: called with (chunk, steps done, steps); may raise to stop.

    Returns:
        An iterator of `Chunk`, with max(1, round(seconds x 25)) frames in all.

    Raises:
        FlashHeadError: bad input, before any work; or frames that are not finite, at their chunk.
    """
    size = size or bundle.native_size
    settings = Settings(size, seed, steps, shift, color_match, guidance, cache_seconds, seam_fade)
    bundle.geometry.check_size(size)
    if audio_mode not in AUDIO_MODES:
        raise AudioError(
            f"Unknown audio mode '{audio_mode}'; expected one of {', '.join(AUDIO_MODES)}."
        )
    picture = load_portrait(portrait)
    source = audio_source(waveform, sample_rate)
    later = [(at, load_portrait(other)) for at, other in sorted((switches or {}).items())]

    def run() -> Iterator[Chunk]:
        live = LiveStream(bundle, picture, settings, on_step)
        renders = (_stream if audio_mode == "stream" else _once)(live, source)
        total, start = frame_count(source.samples, source.sample_rate), 0
        while start < total:
            while later and start >= later[0][0] * FPS:
                live.switch(later.pop(0)[1])
            chunk = Chunk(next(renders), live.state.index - 1, start).head(total - start)
            start += len(chunk.frames)
            yield chunk
            del chunk  # not held while the next one is made

    return run()


def _stream(live: LiveStream, source: AudioSource) -> Iterator[Tensor]:
    for samples in speech_blocks(source, live.geometry.new_samples):
        yield live.advance(samples)


def once_samples(geometry: ChunkGeometry, samples: int) -> int:
    """16 kHz samples that a clip is padded to in once mode: a chunk and whole slices."""
    first = geometry.frames * SAMPLES_PER_FRAME
    slices = math.ceil(max(0, samples - first) / geometry.new_samples)
    return first + slices * geometry.new_samples


def _once(live: LiveStream, source: AudioSource) -> Iterator[Tensor]:
    geometry = live.geometry
    samples = speech_length(source.samples, source.sample_rate)
    speech = torch.cat(list(speech_blocks(source, geometry.new_samples)))[:samples]
    padded = torch.zeros(once_samples(geometry, samples), dtype=torch.float32)
    padded[: len(speech)] = speech
    with torch.no_grad():
        features = live.bundle.audio_encoder.encode(padded[None])
    start, skip = 0, 0
    while start + geometry.frames <= features.shape[1]:
        context = frame_context(features, start, geometry.frames)
        yield live.render(context)[skip:]
        start, skip = start + geometry.new_frames, geometry.motion_frames
