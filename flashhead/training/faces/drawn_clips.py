"""Clips of drawn faces, with their mouths, regions and poses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...geometry import SAMPLES_PER_FRAME
from ..data.clips import Clip
from ..speech.tracks import SpeechSettings, speech_track
from .draw import draw, draw_portrait
from .identities import REPERTOIRE, Identity
from .motions import babble, idle

_BATCH = 48


def draw_clip(
    identity: Identity,
    openness: Tensor,
    width: Tensor,
    size: int,
    rng: torch.Generator,
    *,
    waveform: Tensor | None = None,
    number: int | None = None,
) -> Clip:
    """Draw a clip whose mouth moves as given and everything else at random.

    Args:
        identity: whose face.
        openness, width: of the mouth, (T,) each in [0, 1].
        size: side in pixels.
        rng: of the random motion.
        waveform: (T * 640,) at 16 kHz, by default silence.
        number: of the identity in the repertoire, if it is there.
    """
    frames = len(openness)
    motion = replace(idle(frames, rng), openness=openness, width=width)
    parts = [
        draw(identity, motion.part(start, min(frames, start + _BATCH)), size)
        for start in range(0, frames, _BATCH)
    ]
    video, face, mouth, eyes = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("video", "face", "mouth", "eyes")
    )
    silence = torch.zeros(frames * SAMPLES_PER_FRAME)
    return Clip(
        video=video,
        waveform=silence if waveform is None else waveform,
        portrait=draw_portrait(identity, size),
        openness=openness,
        width=width,
        mouth=mouth,
        face=face,
        eyes=eyes,
        pose=motion.pose * motion.pose.new_tensor([size / 2, size / 2, 1.0]),
        identity=number,
    )


def babbling_clips(
    size: int, frames: int, seed: int, people: Sequence[Identity] = REPERTOIRE
) -> Iterator[Clip]:
    """Endless silent clips that babble, one face after another, to train a VAE on."""
    number = 0
    while True:
        rng = torch.Generator().manual_seed(seed * 1_000_003 + number)
        who = number % len(people)
        openness, width = babble(frames, rng)
        yield draw_clip(people[who], openness, width, size, rng, number=who)
        number += 1


def speaking_clips(
    size: int,
    frames: int,
    seed: int,
    people: Sequence[Identity] = REPERTOIRE,
    *,
    held_out: bool = False,
) -> Iterator[Clip]:
    """Endless clips that talk, one face after another; `held_out` chooses the test's speech.

    Raises:
        FlashHeadError: espeak-ng's library is not installed.
    """
    settings = SpeechSettings(held_out=held_out)
    number = 0
    while True:
        rng = torch.Generator().manual_seed(seed * 1_000_003 + number)
        who = number % len(people)
        track = speech_track(frames, rng, settings)
        yield draw_clip(
            people[who],
            track.openness,
            track.width,
            size,
            rng,
            waveform=track.waveform,
            number=who,
        )
        number += 1
