"""Finished chunks of Incremental Sampler, from one run to the next.

They live as long as ComfyUI keeps the MODEL that made them; freeing that frees them.
"""

import hashlib
import itertools
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from ...flashhead.stream.loop import Recall, SampledChunk
from ...flashhead.stream.state import StreamState
from .run import Run

_kept: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()
# Unlike id(), a number is never given again when its object is gone.
_numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_counter = itertools.count()


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


def _keys(run: Run) -> Iterator[str]:
    """Of each chunk in turn, a key for all that leads to its latents and one for its frames."""
    settings, clip = run.settings, run.clip
    patchers = run.models.vae.patcher, run.models.encoder.patcher
    beginning: tuple[Any, ...] = run.portrait, settings.seed
    if run.state is not None:
        stream, portrait = run.state.stream, run.state.stream.portrait
        pictures = portrait.latents, portrait.color.mean, portrait.color.std, stream.motion
        beginning = *pictures, stream.audio.samples, *stream.rng, stream.index, stream.shown
    numbers = (_numbers.setdefault(patcher, next(_counter)) for patcher in patchers)
    choices = clip.cache_seconds, settings.steps, settings.shift, settings.guidance
    key = _digest(_digest(*beginning), *numbers, *choices)
    # A whole clip's features change everywhere with any sample of it.
    whole = None if clip.features is None else _digest(clip.features)
    plan = clip.plan(run.geometry)
    for chunk in range(plan.chunks):
        audio = whole or clip.chunk_audio(run.geometry, chunk).samples
        key = _digest(key, _digest(audio, len(plan.span(chunk))))
        yield key
        key = _digest(key, settings.color_match)
        yield key


def _to_cpu(value: Any) -> Any:
    if isinstance(value, SampledChunk):
        return replace(value, latents=value.latents.cpu(), audio_finite=None)
    if isinstance(value, StreamState):
        return value.to(torch.device("cpu"))
    if isinstance(value, torch.Tensor):
        return value.to("cpu", copy=True)  # not a view, which would keep the whole chunk
    return tuple(map(_to_cpu, value))


def recall_of(run: Run, owner: str) -> Recall:
    """For one run: what earlier runs of the same node made of the same input is not computed again.

    owner: the node's id; two samplers with one MODEL keep their own.
    """
    keys = [f"{owner}/{key}" for key in _keys(run)]
    results = _kept.setdefault(run.models.model, {})
    # What this run does not use is forgotten before it takes memory of its own.
    for key in results.keys() - keys:
        if key.startswith(f"{owner}/"):
            del results[key]
    coming = iter(keys)

    def recall(_stage: str, compute: Callable[[], Any]) -> Any:
        key = next(coming)
        if key in results:
            return results[key]
        result = compute()
        results[key] = _to_cpu(result)
        return result

    return recall
