"""Finished chunks of Incremental Sampler, from one run to the next.

They live as long as ComfyUI keeps the MODEL that made them; freeing that frees them.
"""

from __future__ import annotations

import hashlib
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ...flashhead.stream.loop import SampledChunk
from ...flashhead.stream.state import StreamState
from ..types import State
from .run import Run

_kept: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
_numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_counter = itertools.count()
_CPU = torch.device("cpu")


def _number(thing: Any) -> int:
    """A number for an object that no other one ever has."""
    if thing not in _numbers:
        _numbers[thing] = next(_counter)
    return _numbers[thing]


def _digest(*parts: Any) -> str:
    """A key for values: tensors by their content, numbers and text as they are."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            found.update(repr((part.dtype, tuple(part.shape))).encode())
            data = part.detach().cpu().contiguous().numpy().tobytes()
        else:
            data = repr(part).encode()
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()


def _state_digest(state: State) -> str:
    stream = state.stream
    color = stream.portrait.color
    tensors = (stream.portrait.latents, color.mean, color.std, stream.motion, stream.audio.samples)
    return _digest(*tensors, *stream.rng, stream.index, stream.shown)


def _keys(run: Run) -> Iterator[str]:
    """Of each chunk in turn, a key for all that leads to its latents and one for its frames."""
    settings, clip = run.settings, run.audio.clip
    key = _digest(
        _digest(run.portrait, settings.seed) if run.state is None else _state_digest(run.state),
        *(_number(one.patcher) for one in (run.models.vae, run.models.encoder)),
        clip.cache_seconds,
        settings.steps,
        settings.shift,
        settings.guidance,
    )
    # A whole clip's features change everywhere with any sample of it.
    whole = None if clip.features is None else _digest(clip.features)
    for chunk in range(clip.plan(run.geometry).chunks):
        audio = clip.chunk_audio(run.geometry, chunk)
        assert audio.shown is not None
        key = _digest(key, _digest(whole or audio.samples, len(audio.shown)))
        yield key
        key = _digest(key, settings.color_match)
        yield key


def _to_cpu(value: Any) -> Any:
    if isinstance(value, SampledChunk):
        return SampledChunk(value.latents.cpu(), value.shown, value.dtype)
    if isinstance(value, torch.Tensor | StreamState):
        return value.to(_CPU)
    return tuple(map(_to_cpu, value))


class KeptChunks:
    """A `Recall` for one run: what earlier runs of the same node made of the same input is not
    computed again. `owner`: the node's id; two samplers with one MODEL keep their own."""

    def __init__(self, run: Run, owner: str):
        keys = [f"{owner}/{key}" for key in _keys(run)]
        self._results = _kept.setdefault(run.models.model, {})
        # What this run does not use is forgotten before it takes memory of its own.
        for key in [key for key in self._results if key.startswith(f"{owner}/")]:
            if key not in keys:
                del self._results[key]
        self._next = iter(keys)

    def __call__(self, stage: str, compute: Callable[[], Any]) -> Any:
        key = next(self._next)
        if key in self._results:
            return self._results[key]
        result = compute()
        self._results[key] = _to_cpu(result)
        return result
