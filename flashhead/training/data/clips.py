"""A training clip: frames, speech in time with them, and what is known of the face."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...geometry import SAMPLES_PER_FRAME


@dataclass(frozen=True)
class Clip:
    """T frames at 25 fps and what is known of them; what is not known is None.

    video: (T, H, W, 3) uint8. waveform: (T * 640,) float32 at 16 kHz. portrait: (H, W, 3) uint8, a
    neutral still of the same face. openness, width: (T,) of the mouth in [0, 1]. mouth, face, eyes:
    (T, H, W) uint8 region masks in [0, 255]. pose: (T, 3), the head's shift right and down in
    pixels and its roll in radians, clockwise. context: (N,) float32, the speech at 16 kHz before
    the first frame. identity: number of a drawn face in `faces.identities.REPERTOIRE`.

    Raises:
        ValueError: fields of unequal length.
    """

    video: Tensor
    waveform: Tensor
    portrait: Tensor
    openness: Tensor | None = None
    width: Tensor | None = None
    mouth: Tensor | None = None
    face: Tensor | None = None
    eyes: Tensor | None = None
    pose: Tensor | None = None
    context: Tensor | None = None
    identity: int | None = None

    def __post_init__(self) -> None:
        frames = len(self.video)
        if len(self.waveform) != frames * SAMPLES_PER_FRAME:
            raise ValueError(
                f"A clip of {frames} frames has {len(self.waveform)} samples; expected "
                f"{frames * SAMPLES_PER_FRAME}."
            )
        for name in ("openness", "width", "mouth", "face", "eyes", "pose"):
            value = getattr(self, name)
            if value is not None and len(value) != frames:
                raise ValueError(f"A clip of {frames} frames has {len(value)} of {name}.")

    @property
    def frames(self) -> int:
        return len(self.video)

    def cut(self, start: int, frames: int, context_samples: int = 0) -> Clip:
        """Frames `start` to `start + frames`, with the speech before them as `context`.

        The context has `context_samples`; where less speech is known, it begins with silence.

        Raises:
            ValueError: frames that the clip does not have.
        """
        if start < 0 or frames < 1 or start + frames > self.frames:
            raise ValueError(f"Frames {start} to {start + frames} of a clip of {self.frames}.")
        stop = start + frames
        parts = {
            name: value[start:stop]
            for name in ("video", "openness", "width", "mouth", "face", "eyes", "pose")
            if (value := getattr(self, name)) is not None
        }
        first = start * SAMPLES_PER_FRAME
        before = self.waveform[:first]
        if self.context is not None:
            before = torch.cat([self.context, before])
        before = before[max(0, len(before) - context_samples) :]
        silence = before.new_zeros(context_samples - len(before))
        return replace(
            self,
            waveform=self.waveform[first : stop * SAMPLES_PER_FRAME],
            context=torch.cat([silence, before]) if context_samples else None,
            **parts,
        )
