"""Chunks of the real loop, timed as a whole or stage by stage."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flashhead import Bundle, LiveStream, Settings
from flashhead.stream.clock import Clock
from flashhead.stream.loop import Hooks

from .watch import stopwatch, watch_waits

# The loop's stages, by the names in the table. "sample" ends with the last step.
_NAMES = {"color": "colour", "encode": "re-encode"}


def to_bytes(frames: Tensor) -> Tensor:
    """Frames in [0, 1] -> uint8 on the CPU, as a program takes them on."""
    return frames.mul(255).round_().to(torch.uint8).cpu()


class TimedStream:
    """A `flashhead.LiveStream` (`live`) whose chunks can be timed by the loop's own hooks."""

    def __init__(self, bundle: Bundle, portrait: str, settings: Settings):
        self._clock: Clock | None = None
        hooks = Hooks(lambda _, done, __: self._lap(f"step {done}"), self._lap)
        self.live = LiveStream(bundle, portrait, settings, hooks=hooks)
        self.device = self.live.state.portrait.latents.device

    def _lap(self, stage: str) -> None:
        if self._clock is not None and stage != "sample":
            self._clock.lap(_NAMES.get(stage, stage))

    def by_stage(self, samples: Tensor) -> tuple[Tensor, dict[str, float], list[str]]:
        """The next chunk; the stream stays where it is.

        Returns its new frames (n, H, W, 3) uint8, the seconds of each stage, and where the CPU
        waited for the device before the transfer.
        """
        state = self.live.state
        clock = self._clock = Clock(self.device)
        try:
            with watch_waits(self.device) as waits:
                frames = self.live.advance(samples)
        finally:
            self._clock, self.live.state = None, state
        pixels = to_bytes(frames)
        clock.lap("transfer")
        return pixels, clock.seconds(), waits

    def whole(self, samples: Tensor) -> tuple[Tensor, float]:
        """The next chunk as bytes, by the public interface, and the seconds."""
        with stopwatch(self.device) as seconds:
            frames = to_bytes(self.live.advance(samples))
        return frames, seconds[0]


def speech_like(count: int, seed: int) -> Tensor:
    """Samples at 16 kHz with a syllable's rise and fall; nothing that depends on a file."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, generator=rng)
    seconds = torch.arange(count) / 16_000
    return 0.1 * noise * (1 + torch.sin(2 * math.pi * 4 * seconds))
