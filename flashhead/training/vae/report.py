"""How well a VAE reconstructs clips of drawn faces: picture, mouth, and the mouth's openness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from ...models.ltx_vae import LTXVAE
from ..data.clip_dataset import ClipDataset
from ..data.clips import Clip
from ..evaluation.openness import MouthMeter
from ..evaluation.regions import Regions
from ..faces.draw import draw, undo_drawn_pose
from ..faces.identities import REPERTOIRE
from ..faces.motions import Motion
from ..optimisation.updates import device_of
from ..signals import correlation


@lru_cache
def mouth_meter(identity: int, size: int) -> MouthMeter:
    """The openness meter of one of the repertoire's faces, for frames without head movement."""
    two = replace(Motion.neutral(2), openness=torch.tensor([0.0, 1.0]))
    drawing = draw(REPERTOIRE[identity], two, size)
    face, mouth, eyes = (
        getattr(drawing, name).float().amax(0) / 255 for name in ("face", "mouth", "eyes")
    )
    return MouthMeter.of(drawing.video[0].float() / 255, Regions.of(face, mouth, eyes))


def measure_openness(frames: Tensor, clip: Clip) -> Tensor:
    """Height of the dark in the mouth (T,) in pixels, of frames (T, H, W, 3) in [0, 1] whose head
    moves as the clip's."""
    if clip.identity is None or clip.pose is None:
        raise ValueError("The clip does not know its identity or pose: it is not a drawn one.")
    return mouth_meter(clip.identity, frames.shape[1]).read(undo_drawn_pose(frames, clip.pose))


def psnr(error: Tensor, weight: Tensor) -> float:
    """In dB, from squared errors (..., 3) of values in [0, 1], averaged by weight (...)."""
    mean = (error.mean(-1) * weight).sum() / weight.sum()
    return float(-10 * torch.log10(mean.clamp_min(1e-10)))


@torch.no_grad()
def reconstruct(vae: LTXVAE, frames: Tensor) -> Tensor:
    """Frames (T, H, W, 3) in [0, 1], encoded and decoded."""
    video = frames.permute(3, 0, 1, 2)[None] * 2 - 1
    made = vae.decode(vae.encode(video.to(device_of(vae)))).float().cpu()
    return ((made[0].permute(1, 2, 3, 0) + 1) / 2).clamp(0, 1)


@torch.no_grad()
def vae_report(vae: LTXVAE, clips: ClipDataset) -> dict[str, float]:
    """Figures of the reconstructions, averaged over drawn clips.

    psnr, mouth_psnr, eyes_psnr: in dB. openness: correlation of the openness measured in the
    reconstruction with the true one. openness_limit: the same measured in the clips themselves.
    openness_least: the openness of the worst clip.
    """
    rows: list[Mapping[str, float]] = []
    for index in range(len(clips)):
        clip = clips[index]
        frames = clip.video.float() / 255
        if clip.mouth is None or clip.eyes is None or clip.openness is None:
            raise ValueError("The clip does not know its mouth or eyes: it is not a drawn one.")
        made = reconstruct(vae, frames)
        error = (made - frames).square()
        rows.append(
            {
                "psnr": psnr(error, torch.ones(error.shape[:-1])),
                "mouth_psnr": psnr(error, clip.mouth.float() / 255),
                "eyes_psnr": psnr(error, clip.eyes.float() / 255),
                "openness": correlation(measure_openness(made, clip), clip.openness),
                "openness_limit": correlation(measure_openness(frames, clip), clip.openness),
            }
        )
    report = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    return {**report, "openness_least": min(row["openness"] for row in rows)}
