"""Finished chunks of Incremental Sampler, from one run to the next.

ComfyUI's own cache keeps the results of expanded nodes too, but since 0.33 its default is to drop
what a run has not asked for yet as soon as the first node of the run is done: before the sampler
has expanded. So they are kept here as well, as long as the MODEL that made them is kept by ComfyUI;
freeing that frees them.
"""

from __future__ import annotations

import hashlib
import itertools
import weakref
from collections.abc import Iterable
from typing import Any

import torch

from .types import State

_kept: weakref.WeakKeyDictionary[Any, dict[str, tuple]] = weakref.WeakKeyDictionary()
_numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_counter = itertools.count()


def number(thing: Any) -> int:
    """A number for an object that no other one ever has."""
    if thing not in _numbers:
        _numbers[thing] = next(_counter)
    return _numbers[thing]


def digest(*parts: Any) -> str:
    """A name for what these values lead to: tensors and bytes by content, numbers and text."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            found.update(repr((part.dtype, tuple(part.shape))).encode())
            part = part.detach().cpu().contiguous().numpy().tobytes()
        elif not isinstance(part, bytes):
            part = repr(part).encode()
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()


def state_digest(state: State) -> str:
    """A name for a stream's state, by content."""
    stream = state.stream
    color = stream.portrait.color
    tensors = (stream.portrait.latents, color.mean, color.std, stream.motion, stream.audio.samples)
    return digest(*tensors, *stream.rng, stream.index, stream.shown)


def kept(model: Any, key: str) -> tuple | None:
    """What a chunk node gave for a key, if it is still kept."""
    return _kept.get(model, {}).get(key)


def keep(model: Any, key: str, outputs: tuple) -> None:
    """Keep a chunk node's outputs as long as the MODEL lives."""
    _kept.setdefault(model, {})[key] = outputs


def keep_only(model: Any, owner: str, keys: Iterable[str]) -> None:
    """Forget what the run of a sampler that begins does not use. Keys begin with their owner's
    name and a slash, so that two samplers with one MODEL do not forget each other's."""
    results, wanted = _kept.get(model, {}), set(keys)
    for key in [key for key in results if key.startswith(f"{owner}/") and key not in wanted]:
        del results[key]
