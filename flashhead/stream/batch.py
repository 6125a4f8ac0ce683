"""Several speakers in one call: their chunks are made side by side on one device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import FlashHeadError
from ..geometry import frame_count
from ..image.portrait import Portrait, load_portrait, prepare_portrait
from ..media.audio_source import AudioSource, speech_blocks
from ..models.bundle import Bundle
from .generate import audio_source
from .live import OnChunkStep
from .loop import Chunk, condition_on, hear_chunk, plan_stream, render_chunk
from .settings import Settings
from .state import select_sessions, start_stream


@dataclass(frozen=True)
class Session:
    """One speaker: portrait, waveform and sample rate as for `generate`, and a seed."""

    portrait: Portrait
    waveform: Tensor | AudioSource
    sample_rate: int | None = None
    seed: int = 42


def generate_batch(
    bundle: Bundle,
    sessions: Sequence[Session],
    settings: Settings | None = None,
    on_step: OnChunkStep | None = None,
) -> Iterator[list[Chunk | None]]:
    """Make several portraits speak at once, each what it would say alone in stream mode.

    Input is checked at once; the work is done as the iterator is walked. Memory grows with the
    number of sessions. A session that is over leaves the batch.

    Args:
        bundle: a loaded checkpoint.
        sessions: the speakers; their audio may differ in length and rate.
        settings: shared by all; its seed is not used, each session has its own.
        on_step: called with (chunk, steps done, steps); may raise to stop.

    Returns:
        An iterator of lists, one `Chunk` for each session, or None where it is over.

    Raises:
        FlashHeadError: bad input, before any work; or frames that are not finite, at their chunk.
    """
    settings = settings or Settings()
    if not sessions:
        raise FlashHeadError("A batch of no sessions was asked for; give at least one.")
    settings = replace(settings, size=settings.size or bundle.native_size)
    bundle.geometry.check_size(settings.size)
    for session in sessions:
        replace(settings, seed=session.seed)  # checks the seed
    pictures = [load_portrait(session.portrait) for session in sessions]
    sources = [audio_source(session.waveform, session.sample_rate) for session in sessions]
    seeds = tuple(session.seed for session in sessions)
    return _run(bundle, pictures, sources, seeds, settings, on_step)


def _run(bundle, pictures, sources, seeds, settings, on_step) -> Iterator[list[Chunk | None]]:
    geometry = bundle.geometry
    portraits = torch.stack([prepare_portrait(picture, settings.size) for picture in pictures])
    state = start_stream(condition_on(bundle, portraits), seeds, settings.cache_seconds)
    plan = plan_stream(bundle.generator, bundle.variant, settings, state.portrait.latents)
    totals = [frame_count(source.samples, source.sample_rate) for source in sources]
    speech = [speech_blocks(source, geometry.new_samples) for source in sources]
    active, start = list(range(len(sources))), 0
    while active:
        index = state.index

        def step(done: int, steps: int, index: int = index) -> None:
            if on_step is not None:
                on_step(index, done, steps)

        samples = torch.stack([next(speech[session]) for session in active])
        context, state = hear_chunk(bundle.audio_encoder, geometry, samples, state)
        frames, state = render_chunk(bundle, plan, context, state, settings, step)
        chunks: list[Chunk | None] = [None] * len(sources)
        for session, new in zip(active, frames[:, geometry.motion_frames :], strict=True):
            chunks[session] = Chunk(new, index, start).head(totals[session] - start)
        start += geometry.new_frames
        yield chunks
        going = [place for place, session in enumerate(active) if totals[session] > start]
        if 0 < len(going) < len(active):
            state = select_sessions(state, going)
        active = [active[place] for place in going]
