"""A training clip: frames, speech in time with them, and what is known of the face."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ...geometry import SAMPLES_PER_FRAME


@dataclass(frozen=True)
class Clip:
    """T frames at 25 fps and what belongs to them.

    video: (T, H, W, 3) uint8. waveform: (T * 640,) float32 at 16 kHz. portrait: (H, W, 3) uint8, a
    neutral still of the same face. openness, width: (T,) of the mouth in [0, 1]. mouth, face, eyes:
    (T, H, W) uint8 region masks in [0, 255]. pose: (T, 3), the head's shift right and down in
    pixels and its roll in radians, clockwise. context: (N,) float32, speech before the first frame.
    identity: number in the repertoire. What is not known is None.
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
        """Frames `start` to `start + frames`, with that much speech before them as `context`.

        Where the clip has less before it, the context begins with silence.
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


class ClipDataset(torch.utils.data.IterableDataset):
    """An endless stream of random cuts from clips, the same for the same seed.

    frames: of each cut, such as 33 + 4 * 24 for five chunks of Lite's stride. context_samples: of
    speech before it, such as 8 s for the audio cache.
    """

    def __init__(
        self, clips: Sequence[Clip], frames: int, *, context_samples: int = 0, seed: int = 0
    ):
        self.clips = [index for index in range(len(clips)) if clips[index].frames >= frames]
        if not self.clips:
            raise ValueError(f"None of {len(clips)} clips has {frames} frames.")
        self.source, self.frames, self.context_samples = clips, frames, context_samples
        self.seed = seed

    def __iter__(self) -> Iterator[Clip]:
        worker = torch.utils.data.get_worker_info()
        number = 0 if worker is None else worker.id
        rng = torch.Generator().manual_seed(self.seed * 1009 + number)
        while True:
            pick = self.clips[int(torch.randint(len(self.clips), (), generator=rng))]
            clip = self.source[pick]
            start = int(torch.randint(clip.frames - self.frames + 1, (), generator=rng))
            yield clip.cut(start, self.frames, self.context_samples)


def collate(clips: Sequence[Clip]) -> dict[str, Tensor | list[int | None]]:
    """A batch: each field stacked; fields that some clip lacks are left out."""
    batch: dict[str, Tensor | list[int | None]] = {}
    for field in fields(Clip):
        values = [getattr(clip, field.name) for clip in clips]
        if field.name == "identity":
            batch["identity"] = values
        elif all(value is not None for value in values):
            batch[field.name] = torch.stack(values)
    return batch
