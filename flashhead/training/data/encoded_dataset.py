"""Encoded clips in memory, and random batches of their chunks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ...errors import FlashHeadError
from ...image.color import ColorTarget
from .chunk_batch import ChunkBatch
from .encoded_clips import EncodedClip, gather_chunks, gather_colors


class EncodedDataset:
    """Encoded clips, held in memory in the precision that they were stored in.

    Raises:
        FlashHeadError: no clips.
    """

    def __init__(self, clips: Sequence[EncodedClip]):
        if not clips:
            raise FlashHeadError("There are no encoded clips to train on; encode some first.")
        self.clips = list(clips)

    @classmethod
    def load(cls, folder: str | Path) -> EncodedDataset:
        """All clips of a folder, in the order of their names."""
        paths = sorted(Path(folder).glob("*.safetensors"))
        return cls([EncodedClip.load(path) for path in paths])

    def _pick(self, count: int, rng: torch.Generator, least: int = 1) -> list[EncodedClip]:
        """Random clips of those that have at least `least` chunks."""
        fitting = [clip for clip in self.clips if clip.chunks >= least]
        picks = torch.randint(len(fitting), (count,), generator=rng).tolist()
        return [fitting[pick] for pick in picks]

    def draw_chunks(self, count: int, rng: torch.Generator) -> ChunkBatch:
        """A batch of `count` random chunks of random clips."""
        clips = self._pick(count, rng)
        return gather_chunks(
            clips, [int(torch.randint(clip.chunks, (), generator=rng)) for clip in clips]
        )

    @property
    def knows_mouth(self) -> bool:
        """Whether openness and width of the mouth are known in every clip."""
        return not any(bool(clip.mouth.isnan().any()) for clip in self.clips)

    def draw_runs(
        self, count: int, most: int, rng: torch.Generator
    ) -> tuple[list[ChunkBatch], ColorTarget]:
        """k consecutive chunks of each of `count` random clips, and the portraits' colours.

        k is uniform from 1 to `most`, or to the number that the longest clip has.

        Returns:
            k batches of `count` chunks each, in order, and the colours of the clips.
        """
        longest = min(most, max(clip.chunks for clip in self.clips))
        length = 1 + int(torch.randint(longest, (), generator=rng))
        clips = self._pick(count, rng, length)
        starts = [int(torch.randint(clip.chunks - length + 1, (), generator=rng)) for clip in clips]
        chunks = [gather_chunks(clips, [s + n for s in starts]) for n in range(length)]
        return chunks, gather_colors(clips)
