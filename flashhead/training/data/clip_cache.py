"""Clips of equal length on disk, as arrays that are mapped and not read.

Drawing takes longer than one training step, so a data set is drawn once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from ...errors import FlashHeadError
from ...geometry import SAMPLES_PER_FRAME
from .clips import Clip

_INDEX = "clips.json"
_FIELDS = (
    "video",
    "waveform",
    "portrait",
    "openness",
    "width",
    "mouth",
    "face",
    "eyes",
    "pose",
)


def write_clips(folder: str | Path, clips: Iterable[Clip], count: int) -> Path:
    """Store `count` clips of equal size that have all fields but the context.

    The index comes last, so a folder whose writing was cut off is not taken for a data set.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _INDEX).unlink(missing_ok=True)
    arrays: dict[str, np.memmap] = {}
    identities: list[int | None] = []
    for number, clip in zip(range(count), clips, strict=False):
        for name in _FIELDS:
            value = getattr(clip, name).numpy()
            if name not in arrays:
                arrays[name] = np.lib.format.open_memmap(
                    folder / f"{name}.npy", "w+", value.dtype, (count, *value.shape)
                )
            arrays[name][number] = value
        identities.append(clip.identity)
    if len(identities) != count:
        raise FlashHeadError(f"{folder}: {len(identities)} clips came, and {count} were asked for.")
    for array in arrays.values():
        array.flush()
    (folder / _INDEX).write_text(json.dumps({"identities": identities}) + "\n", encoding="utf-8")
    return folder


class ClipCache(Sequence[Clip]):
    """The clips of a folder that `write_clips` made."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        index = self.folder / _INDEX
        if not index.is_file():
            raise FlashHeadError(f"{index} does not exist; make the data set first.")
        self.identities = json.loads(index.read_text(encoding="utf-8"))["identities"]
        self.arrays = {
            name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in _FIELDS
        }

    def __len__(self) -> int:
        return len(self.identities)

    @property
    def frames(self) -> int:
        """Of each clip."""
        return self.arrays["video"].shape[1]

    def __getitem__(self, index: int) -> Clip:
        return self.part(index, 0, self.frames)

    def part(self, index: int, start: int, frames: int) -> Clip:
        """Some frames of one clip; only they are read."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        stop = start + frames
        values = {}
        for name, array in self.arrays.items():
            row = array[index]
            if name == "waveform":
                row = row[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
            elif name != "portrait":
                row = row[start:stop]
            values[name] = torch.from_numpy(np.array(row))
        return Clip(**values, identity=self.identities[index])
