"""What a node shows while it works: ticks, previews and a line of text; and how Cancel gets in."""

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import comfy.model_management
import comfy.utils
import torch
from PIL import Image
from server import PromptServer

from ..flashhead.errors import FlashHeadWarning
from ..flashhead.geometry import FPS
from ..flashhead.stream.clock import Clock
from ..flashhead.stream.loop import Hooks

_PREVIEW_SIZE = 512
# What the user is shown as one stage.
_SHOWN_AS = {"noise": "sample", "conditioning": "sample"}


def check_interrupt() -> None:
    """Raise ComfyUI's interruption if the user has pressed Cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def say(text: str, below: Sequence[str] = ()) -> None:
    """Show a line of text on the running node, in place of the last, with others below it."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and server.last_node_id is not None:
        server.send_progress_text("\n".join([text, *below]), server.last_node_id)


def warn(sentences: Sequence[str]) -> None:
    """Show sentences on the node that is running, and log them."""
    for sentence in sentences:
        logging.warning("FlashHead: %s", sentence)
    if sentences:
        say("\n".join(sentences))


@contextmanager
def shown_warnings() -> Iterator[list[str]]:
    """What the library warns of meanwhile is shown and logged afterwards, and then in the list."""
    sentences: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FlashHeadWarning)
        yield sentences
    for one in caught:
        if issubclass(one.category, FlashHeadWarning):
            sentences.append(str(one.message))
        else:
            warnings.showwarning(one.message, one.category, one.filename, one.lineno)
    warn(sentences)


class Stages:
    """The stages of one chunk: how long each took on a device, and a way in for Cancel."""

    def __init__(self, device: torch.device):
        self.started = time.perf_counter()
        self.ended: set[str] = set()
        self._clock = Clock(device)

    def end(self, name: str) -> None:
        """A stage is over."""
        check_interrupt()
        self.ended.add(name)
        self._clock.lap(_SHOWN_AS.get(name, name))

    def lines(self) -> list[str]:
        """Each stage and its time; waits for the device."""
        return [f"{name} {1000 * time:.0f} ms" for name, time in self._clock.seconds().items()]


class Watch:
    """The progress of one node that makes chunks.

    chunks, steps: how many there will be, and the sampling steps of each. device: whose time the
    stages take. frames: that a chunk makes, where the node does all stages, so that its speed is
    the video's; the last chunk makes as many, though fewer are kept. warnings: sentences that stay
    on the node.
    """

    def __init__(
        self,
        chunks: int,
        steps: int,
        device: torch.device,
        frames: int | None = None,
        warnings: Sequence[str] = (),
    ):
        self._chunks, self._steps, self._device, self._frames = chunks, steps, device, frames
        self._warnings = warnings
        self._bar = comfy.utils.ProgressBar(chunks * steps)
        self._done = 0
        self._stages = Stages(device)
        self.hooks = Hooks(self._step, lambda name: self._stages.end(name))

    def _step(self, _chunk: int, done: int, _steps: int) -> None:
        check_interrupt()
        self._bar.update_absolute(self._done * self._steps + done)

    def chunk(self, frames: torch.Tensor | None = None) -> None:
        """After a chunk; its last frame becomes the preview."""
        check_interrupt()
        self._done += 1
        passed = time.perf_counter() - self._stages.started
        preview = None
        if frames is not None and len(frames):
            picture = Image.fromarray(frames[-1].mul(255).round().byte().cpu().numpy())
            preview = ("JPEG", picture, _PREVIEW_SIZE)
        self._bar.update_absolute(self._done * self._steps, preview=preview)
        parts = [f"chunk {self._done}/{self._chunks}"] if self._chunks > 1 else []
        # A chunk of which a half is recalled says nothing of the speed.
        if self._frames is not None and "sample" in self._stages.ended:
            speed = self._frames / passed
            parts.append(f"{speed:.1f} fps, {speed / FPS:.2f}x real time")
        say(" · ".join(parts + self._stages.lines()), self._warnings)
        self._stages = Stages(self._device)
