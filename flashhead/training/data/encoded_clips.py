"""Encoded clips: the latents and audio features of a clip, made once by the frozen networks.

A clip's chunk n covers its frames n * new_frames to n * new_frames + 33, so that it shares its
first `motion_frames` with the chunk before, as chunks of a stream do (DESIGN §1.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...geometry import CHUNK_FRAMES, FPS, SAMPLES_PER_FRAME, ChunkGeometry
from ...image.color import ColorTarget, color_target
from ...models.vae import VAE
from ...models.wav2vec2 import AudioEncoder
from ...stream.audio_context import CACHE_SECONDS, HALF_WINDOW, frame_context
from ..files import save_tensors
from .chunk_batch import ChunkBatch
from .latent_regions import pool_region


def cached_samples(speech: Tensor, end: int, cache_seconds: float = CACHE_SECONDS) -> Tensor:
    """The contents of a stream's audio cache once `end` frames of a clip's speech were pushed.

    speech (N,) at 16 kHz -> (cache_seconds * 16000,): silence before the clip, and after its end.
    """
    length = round(cache_seconds * FPS) * SAMPLES_PER_FRAME
    stop = end * SAMPLES_PER_FRAME
    known = speech[max(0, stop - length) : stop]
    cache = torch.zeros(length, dtype=torch.float32)
    first = length - (stop - max(0, stop - length))
    cache[first : first + len(known)] = known
    return cache


@dataclass(frozen=True)
class EncodedClip:
    """n consecutive chunks of one clip.

    latents: (n, C, T, h, w). reference: (C, T, h, w), of the portrait. features: (n, 2 + 33,
    layers, channels), audio features of each chunk's frames and the two before them. face: (n, T,
    h, w) in [0, 1], weights of the face loss. mouth: (n, 33, 2), openness and width in [0, 1], NaN
    where they are not known. color_mean, color_std: (3, 1, 1, 1), the portrait's in Lab.
    """

    latents: Tensor
    reference: Tensor
    features: Tensor
    face: Tensor
    mouth: Tensor
    color_mean: Tensor
    color_std: Tensor

    @property
    def chunks(self) -> int:
        return self.latents.shape[0]

    @property
    def context(self) -> Tensor:
        """The audio context of each chunk's frames, (n, 33, 5, layers, channels)."""
        return frame_context(self.features.float(), HALF_WINDOW, CHUNK_FRAMES)

    def save(self, path: Path) -> None:
        """Write to a safetensors file, in the tensors' dtypes."""
        save_tensors(path, {f.name: getattr(self, f.name).contiguous() for f in fields(self)})

    @classmethod
    def load(cls, path: Path) -> EncodedClip:
        """Read a file that `save` wrote."""
        return cls(**load_file(path))

    def half(self) -> EncodedClip:
        """Latents, features and masks in float16, for storage; colours keep their precision."""
        kept = ("color_mean", "color_std")
        return EncodedClip(
            **{
                f.name: value if f.name in kept else value.half()
                for f in fields(self)
                for value in (getattr(self, f.name),)
            }
        )


@torch.no_grad()
def encode_clip(
    vae: VAE,
    encoder: AudioEncoder,
    geometry: ChunkGeometry,
    *,
    frames: Tensor,
    portrait: Tensor,
    speech: Tensor,
    face: Tensor,
    mouth: Tensor,
    context: Tensor | None = None,
    cache_seconds: float = CACHE_SECONDS,
) -> EncodedClip:
    """Encode all whole chunks of a clip.

    Args:
        frames: (F, 3, H, W) in [-1, 1] at 25 fps, F at least 33.
        portrait: (3, H, W) in [-1, 1].
        speech: (N,) at 16 kHz, in time with the frames.
        face: (F, H, W) in [0, 1], the weight of each pixel in the face loss.
        mouth: (F, 2), openness and width in [0, 1], NaN where they are not known.
        context: speech before the first frame, whole frames of it (a multiple of 640 samples).
        cache_seconds: the audio cache; a chunk's own 33 / 25 s means training without one.

    Raises:
        ValueError: fewer frames than a chunk has, or a context of a fraction of a frame.
    """
    before = 0
    if context is not None:
        before, rest = divmod(len(context), SAMPLES_PER_FRAME)
        if rest:
            raise ValueError(f"A context of {len(context)} samples is no whole number of frames.")
        speech = torch.cat([context, speech])
    if len(frames) < geometry.frames:
        raise ValueError(
            f"A clip of {len(frames)} frames is too short; a chunk has {geometry.frames}."
        )
    count = 1 + (len(frames) - geometry.frames) // geometry.new_frames
    starts = [n * geometry.new_frames for n in range(count)]

    def cut(values: Tensor) -> Tensor:
        return torch.stack([values[start : start + geometry.frames] for start in starts])

    # One by one: a chunk's activations in a VAE take gigabytes at the published sizes.
    latents = [vae.encode(video.movedim(0, 1)[None]).cpu() for video in cut(frames)]
    still = portrait[None, :, None]
    colors = color_target(still)
    ends = [before + start + geometry.frames for start in starts]
    caches = torch.stack([cached_samples(speech, end, cache_seconds) for end in ends])
    total = caches.shape[1] // SAMPLES_PER_FRAME
    features = encoder.encode(caches, total)
    # Frames before the cache are its first one again, as `frame_context` clamps them.
    tail = torch.arange(total - geometry.frames - HALF_WINDOW, total).clamp_min(0)
    return EncodedClip(
        latents=torch.cat(latents),
        reference=vae.encode(still.expand(-1, -1, geometry.frames, -1, -1))[0].cpu(),
        features=features[:, tail].cpu(),
        face=pool_region(cut(face).unsqueeze(1), geometry.vae_stride)[:, 0],
        mouth=cut(mouth),
        color_mean=colors.mean[0],
        color_std=colors.std[0],
    )


def gather_chunks(clips: Sequence[EncodedClip], indices: Sequence[int]) -> ChunkBatch:
    """One chunk of each clip, by its number."""
    pairs = list(zip(clips, indices, strict=True))

    def stack(name: str) -> Tensor:
        return torch.stack([getattr(clip, name)[index] for clip, index in pairs]).float()

    return ChunkBatch(
        latents=stack("latents"),
        reference=torch.stack([clip.reference for clip in clips]).float(),
        context=frame_context(stack("features"), HALF_WINDOW, CHUNK_FRAMES),
        face=stack("face").unsqueeze(1),
        mouth=stack("mouth"),
    )


def gather_colors(clips: Sequence[EncodedClip]) -> ColorTarget:
    """The portraits' colours, (B, 3, 1, 1, 1) each."""
    return ColorTarget(
        torch.stack([clip.color_mean for clip in clips]),
        torch.stack([clip.color_std for clip in clips]),
    )
