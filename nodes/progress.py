"""What a node shows while it works: ticks, previews and a line of text; and how Cancel gets in."""

import time

import comfy.model_management
import comfy.utils
import torch
from PIL import Image
from server import PromptServer

from ..flashhead.clock import Clock
from ..flashhead.config import FPS

_PREVIEW_SIZE = 512


def check_interrupt() -> None:
    """Raise ComfyUI's interruption if the user has pressed Cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def say(text: str) -> None:
    """Show a line of text on the node that is running."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and server.last_node_id is not None:
        server.send_progress_text(text, server.last_node_id)


class Watch:
    """The progress of one node that makes chunks.

    chunks, steps: how many there will be, and the sampling steps of each. device: whose time the
    stages take.
    """

    def __init__(self, chunks: int, steps: int, device: torch.device):
        self._chunks, self._steps, self._device = chunks, steps, device
        self._bar = comfy.utils.ProgressBar(chunks * max(1, steps))
        self._done = 0
        self._started = time.perf_counter()
        self._clock = Clock(device)

    def step(self, done: int, steps: int) -> None:
        """After a sampling step."""
        check_interrupt()
        self._bar.update_absolute(self._done * self._steps + done)

    def stage(self, name: str) -> None:
        """After a stage of a chunk."""
        check_interrupt()
        self._clock.lap(name)

    def chunk(self, frames: torch.Tensor | None = None) -> None:
        """After a chunk; its last frame becomes the preview."""
        self._done += 1
        now, started, clock = time.perf_counter(), self._started, self._clock
        preview = None if frames is None or not len(frames) else _preview(frames[-1])
        total = self._chunks * max(1, self._steps)
        self._bar.update_absolute(self._done * max(1, self._steps), total, preview)
        say(self._line(now - started, clock.seconds(), 0 if frames is None else len(frames)))
        self._started, self._clock = time.perf_counter(), Clock(self._device)

    def _line(self, passed: float, stages: dict[str, float], frames: int) -> str:
        parts = [f"chunk {self._done}/{self._chunks}"] if self._chunks > 1 else []
        if frames and passed and "sample" in stages:
            speed = frames / passed
            parts.append(f"{speed:.1f} fps, {speed / FPS:.2f}x real time")
        parts += [f"{name} {1000 * seconds:.0f} ms" for name, seconds in stages.items()]
        return " · ".join(parts)


def _preview(frame: torch.Tensor) -> tuple[str, Image.Image, int]:
    picture = Image.fromarray(frame.mul(255).round().byte().cpu().numpy())
    return ("JPEG", picture, _PREVIEW_SIZE)
