"""Push interface for live audio: feed samples as they come, get chunks as they fill."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import AudioError
from ..geometry import SAMPLE_RATE, frame_count
from ..image.portrait import Portrait, prepare_portrait
from ..media.audio_source import HIGHEST
from ..models.bundle import Bundle
from .loop import Chunk, ChunkAudio, ChunkLoop, Hooks, OnStep
from .settings import Settings
from .state import StreamState


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
        hooks: the same and more, see `Hooks`; instead of `on_step`.

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
        on_step: OnStep | None = None,
        *,
        hooks: Hooks | None = None,
    ):
        self.bundle, self.settings = bundle, settings or Settings()
        self.loop = ChunkLoop(bundle, self.settings, hooks=hooks or Hooks(on_step))
        self.geometry = bundle.geometry
        self.state: StreamState = self.loop.start(prepare_portrait(portrait, self.loop.size))
        self._pending = torch.empty(0, dtype=torch.float32)
        self._pushed = 0  # samples
        self._shown = 0  # frames

    def switch(self, portrait: Portrait) -> None:
        """Go on with another portrait: from the next chunk its face, colours and motion; audio and
        noise go on as they were."""
        self.state = self.loop.switch(self.state, prepare_portrait(portrait, self.loop.size))

    def advance(self, samples: Tensor) -> Tensor:
        """One chunk from `geometry.new_samples` samples (or fewer: silence is added): its new
        frames (n, H, W, 3)."""
        return self._render(ChunkAudio(samples))

    def push(self, samples: Tensor) -> Iterator[Chunk]:
        """Feed mono samples (n,) at 16 kHz, any number of them; yields the chunks they fill.

        The samples are taken at once; the chunks are made as the iterator is walked.
        """
        if samples.ndim != 1 or not bool((samples.abs() <= HIGHEST).all()):
            raise AudioError(
                f"Live audio of shape {tuple(samples.shape)} was pushed; expected finite mono "
                f"samples (n,) at 16 kHz and full scale ±1, none above {HIGHEST}."
            )
        self._pending = torch.cat([self._pending, samples.float().cpu()])
        self._pushed += samples.shape[0]
        return self._chunks()

    def finish(self) -> Iterator[Chunk]:
        """The rest, filled up with silence and cut to round(seconds x 25) frames in all."""
        if self._pushed:
            total = frame_count(self._pushed, SAMPLE_RATE)
            yield from self._chunks(total)
            if self._shown < total:
                yield self._chunk(total)

    def _chunks(self, total: int | None = None) -> Iterator[Chunk]:
        """Chunks of the samples that wait, as long as they fill one; `total`: of the video."""
        while self._pending.shape[0] >= self.geometry.new_samples:
            yield self._chunk(total)

    def _chunk(self, total: int | None) -> Chunk:
        first, new, start = self.geometry.motion_frames, self.geometry.new_frames, self._shown
        count = new if total is None else min(new, total - start)
        samples = self._pending[: self.geometry.new_samples]
        frames = self._render(ChunkAudio(samples, range(first, first + count)))
        # Not before, so that a chunk that fails can be done again.
        self._pending = self._pending[self.geometry.new_samples :]
        self._shown += count
        return Chunk(frames, self.state.index - 1, start)

    def _render(self, audio: ChunkAudio) -> Tensor:
        frames, self.state = self.loop.step(audio, self.state)
        return frames[0]
