"""Several speakers in one call: their chunks are made side by side on one device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import FlashHeadError
from ..geometry import frame_count
from ..image.portrait import Portrait, prepare_portrait
from ..media.audio_source import AudioSource, speech_blocks
from ..models.bundle import Bundle
from .clip import ClipPlan
from .generate import audio_source
from .loop import Chunk, ChunkAudio, ChunkLoop, Hooks, OnStep
from .settings import Settings
from .state import select_sessions


@dataclass(frozen=True)
class Session:
    """One speaker: portrait, waveform and sample rate as for `generate`, and a seed."""

    portrait: Portrait
    waveform: Tensor | np.ndarray | AudioSource
    sample_rate: int | None = None
    seed: int = 42


def generate_batch(
    bundle: Bundle,
    sessions: Sequence[Session],
    settings: Settings | None = None,
    on_step: OnStep | None = None,
) -> Iterator[list[Chunk | None]]:
    """Make several portraits speak at once, each what it would say alone in mode "stream".

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
    size = settings.size or bundle.native_size
    bundle.geometry.check_size(size)
    for session in sessions:
        replace(settings, seed=session.seed)  # checks the seed
    portraits = torch.stack([prepare_portrait(session.portrait, size) for session in sessions])
    sources = [audio_source(session.waveform, session.sample_rate) for session in sessions]

    def run() -> Iterator[list[Chunk | None]]:
        loop = ChunkLoop(bundle, settings, sessions=len(sessions), hooks=Hooks(on_step))
        state = loop.start(portraits, tuple(session.seed for session in sessions))
        geometry = bundle.geometry
        plans = [ClipPlan(geometry, frame_count(s.samples, s.sample_rate)) for s in sources]
        blocks = [speech_blocks(source, geometry.new_samples) for source in sources]
        active = list(range(len(sources)))
        while active:
            samples = torch.stack([next(blocks[session]) for session in active])
            frames, state = loop.step(ChunkAudio(samples), state)
            index, start = state.index - 1, (state.index - 1) * geometry.new_frames
            chunks: list[Chunk | None] = [None] * len(sources)
            for session, new in zip(active, frames, strict=True):
                chunks[session] = Chunk(new[: len(plans[session].span(index))], index, start)
            yield chunks
            going = [n for n, session in enumerate(active) if plans[session].chunks > state.index]
            if 0 < len(going) < len(active):
                state = select_sessions(state, going)
            active = [active[n] for n in going]

    return run()
