"""Encoding of clips of pixels and speech, for both stages of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ...errors import FlashHeadError
from ...geometry import SAMPLES_PER_FRAME, ChunkGeometry
from ...models.vae import VAE
from ...models.wav2vec2 import AudioEncoder
from ...stream.audio_context import CACHE_SECONDS
from .clip_dataset import ClipDataset
from .clips import Clip
from .encoded_clips import EncodedClip, encode_clip

FACE_LEVEL = 0.2


def face_weight(clip: Clip, level: float = FACE_LEVEL) -> Tensor:
    """Weight of each pixel in the face loss, (T, H, W) in [0, 1]: mouth and eyes 1, the rest of the
    face `level`; 1 everywhere if the clip does not know its face."""
    if clip.face is None:
        return torch.ones(clip.video.shape[:3])
    weight = level * clip.face.float() / 255
    for mask in (clip.mouth, clip.eyes):
        if mask is not None:
            weight = torch.maximum(weight, mask.float() / 255)
    return weight


def mouth_truth(clip: Clip) -> Tensor:
    """Openness and width (T, 2) in [0, 1]; NaN if the clip does not know them."""
    if clip.openness is None or clip.width is None:
        return torch.full((clip.frames, 2), torch.nan)
    return torch.stack([clip.openness, clip.width], dim=1).float()


def encode(
    vae: VAE,
    encoder: AudioEncoder,
    geometry: ChunkGeometry,
    clip: Clip,
    *,
    cache_seconds: float = CACHE_SECONDS,
    level: float = FACE_LEVEL,
) -> EncodedClip:
    """All whole chunks of a clip; see `encode_clip`."""
    return encode_clip(
        vae,
        encoder,
        geometry,
        frames=clip.video.movedim(3, 1).float() / 127.5 - 1,
        portrait=clip.portrait.movedim(2, 0).float() / 127.5 - 1,
        speech=clip.waveform,
        face=face_weight(clip, level),
        mouth=mouth_truth(clip),
        context=clip.context,
        cache_seconds=cache_seconds,
    )


def encode_clips(
    vae: VAE,
    encoder: AudioEncoder,
    geometry: ChunkGeometry,
    clips: ClipDataset,
    folder: str | Path,
    *,
    cache_seconds: float = CACHE_SECONDS,
    offsets: int = 1,
) -> Iterator[Path]:
    """Encode clips into a folder, in safetensors files in float16 named NUMBER-OFFSET.

    A clip whose file is there already is not read, so an interrupted run goes on. With more
    `offsets` than one, each clip is encoded again from frames that lie evenly between those at
    which its chunks begin. Yields each file as it is done.

    Raises:
        SizeError: clips of a size that does not fit the VAE and the generator's patches.
        FlashHeadError: clips with fewer frames than a chunk has after the last offset.
    """
    folder = Path(folder)
    last = (offsets - 1) * geometry.new_frames // offsets
    geometry.check_size(clips.size)
    if clips.frames - last < geometry.frames:
        raise FlashHeadError(
            f"The clips have {clips.frames} frames; expected at least {last + geometry.frames}: a "
            f"chunk has {geometry.frames}, and the last offset begins at frame {last}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(len(clips)):
        for offset in range(offsets):
            path = folder / f"{index:06d}-{offset}.safetensors"
            if not path.exists():
                start = offset * geometry.new_frames // offsets
                clip = skip_frames(clips[index], start) if start else clips[index]
                made = encode(vae, encoder, geometry, clip, cache_seconds=cache_seconds)
                made.half().save(path)
            yield path


def skip_frames(clip: Clip, start: int) -> Clip:
    """The clip from frame `start` on; all speech before it becomes its context."""
    before = 0 if clip.context is None else len(clip.context)
    return clip.cut(start, clip.frames - start, before + start * SAMPLES_PER_FRAME)
