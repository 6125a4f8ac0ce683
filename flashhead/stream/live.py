"""Push interface for live audio: feed samples as they come, get chunks as they fill."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..errors import AudioError
from ..geometry import SAMPLE_RATE, frame_count
from ..image.portrait import Portrait, prepare_portrait
from ..models.bundle import Bundle
from .loop import Chunk, condition_on, hear_chunk, plan_stream, render_chunk
from .settings import Settings
from .state import PortraitCondition, StreamState, start_stream, switch_portrait

OnChunkStep = Callable[[int, int, int], None]


class LiveStream:
    """One portrait that speaks what it is fed.

    All that changes is `state`, a frozen `StreamState`: keep it to resume or redo, set it to go
    back. The bundle is only read, so any number of streams can share one.

    Args:
        bundle: a loaded checkpoint.
        portrait: path, PIL image or (H, W, 3) tensor in [0, 1].
        settings: size, seed, steps and so on.
        on_step: called with (chunk, steps done, steps) after each sampling step; may raise to
            stop, which leaves the state as it was before the chunk.

    Raises:
        FlashHeadError: a portrait or size that cannot be used.

    Warns:
        PortraitWarning: a portrait that a small checkpoint cannot animate.
    """

    def __init__(
        self,
        bundle: Bundle,
        portrait: Portrait,
        settings: Settings | None = None,
        on_step: OnChunkStep | None = None,
    ):
        self.bundle = bundle
        self.settings = settings or Settings()
        self.size = self.settings.size or bundle.native_size
        self.geometry = bundle.geometry
        self.on_step = on_step
        self.geometry.check_size(self.size)
        condition = self._condition(portrait)
        self.state = start_stream(condition, self.settings.seed, self.settings.cache_seconds)
        self._plan = plan_stream(bundle.generator, bundle.variant, self.settings, condition.latents)
        self._pending = torch.empty(0, dtype=torch.float32)
        self._heard = 0
        self._shown = 0

    def switch(self, portrait: Portrait) -> None:
        """Go on with another portrait: from the next chunk its face, colours and motion; audio and
        noise go on as they were."""
        self.state = switch_portrait(self.state, self._condition(portrait))

    def _condition(self, portrait: Portrait) -> PortraitCondition:
        return condition_on(self.bundle, prepare_portrait(portrait, self.size).unsqueeze(0))

    def advance(self, samples: Tensor) -> Tensor:
        """One chunk from exactly `geometry.new_samples` samples: its new frames (n, H, W, 3)."""
        context, state = hear_chunk(self.bundle.audio_encoder, self.geometry, samples, self.state)
        return self.render(context, state)[self.geometry.motion_frames :]

    def render(self, context: Tensor, state: StreamState | None = None) -> Tensor:
        """One chunk from audio context (1, frames, 5, layers, channels): all its frames."""
        state = state or self.state
        index = state.index

        def step(done: int, steps: int) -> None:
            if self.on_step is not None:
                self.on_step(index, done, steps)

        frames, state = render_chunk(self.bundle, self._plan, context, state, self.settings, step)
        self.state = state
        return frames[0]

    def push(self, samples: Tensor) -> Iterator[Chunk]:
        """Feed mono samples (n,) at 16 kHz, any number of them; yields the chunks they fill.

        The samples are taken at once; the chunks are made as the iterator is walked.
        """
        if samples.ndim != 1 or not bool(torch.isfinite(samples).all()):
            raise AudioError(
                f"Live audio of shape {tuple(samples.shape)} was pushed; expected finite mono "
                "samples (n,) at 16 kHz."
            )
        self._pending = torch.cat([self._pending, samples.float().cpu()])
        self._heard += samples.shape[0]
        return self._chunks()

    def finish(self) -> Iterator[Chunk]:
        """The rest, filled up with silence and cut to round(seconds x 25) frames in all."""
        if not self._heard:
            return
        total = frame_count(self._heard, SAMPLE_RATE)
        yield from self._chunks(total)
        if self._shown < total:
            missing = self.geometry.new_samples - self._pending.shape[0]
            self._pending = torch.cat([self._pending, torch.zeros(missing, dtype=torch.float32)])
            yield from self._chunks(total)

    def _chunks(self, total: int | None = None) -> Iterator[Chunk]:
        size = self.geometry.new_samples
        while self._pending.shape[0] >= size:
            frames = self.advance(self._pending[:size])
            # Not before, so that a chunk that fails can be done again.
            self._pending = self._pending[size:]
            chunk = Chunk(frames, self.state.index - 1, self._shown)
            if total is not None:
                chunk = chunk.head(total - self._shown)
            self._shown += len(chunk.frames)
            yield chunk
