"""What a Live node that runs shares with the client that speaks to it.

The node's thread takes pieces of sound and gives pictures; the client's connection runs in the
server's event loop. A `Session` stands between them and holds only a few seconds of either.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...flashhead.errors import FlashHeadError
from ...flashhead.geometry import FPS, ChunkGeometry
from ...flashhead.media.live_audio import LiveAudio, Piece

# Chunks on their way to a client; while it is slower than that, nothing is rendered.
UNDERWAY = 2
_LOOK_SECONDS = 0.05


class LiveError(FlashHeadError):
    """What a client did wrong, or cannot have now. idle: no node of that id runs."""

    def __init__(self, message: str, idle: bool = False):
        super().__init__(message)
        self.idle = idle


@dataclass(frozen=True)
class Shown:
    """A chunk for the client.

    frames: (n, H, W, 3) uint8. index, start: of the chunk and of its first frame in the session.
    """

    frames: np.ndarray
    sound: np.ndarray
    index: int
    start: int
    dropped: float


class Client:
    """One connection. `outbox`, of chunks and at last a text message, is for the event loop; the
    rest is the session's. hello: its first message, see `route.py`."""

    def __init__(self, hello: dict[str, Any], geometry: ChunkGeometry):
        self.hello = hello
        self.audio = LiveAudio(hello["rate"], hello["samples"], hello["late"], geometry)
        self.outbox: asyncio.Queue[Shown | dict[str, Any]] = asyncio.Queue()
        self.stopped = False
        self.underway = 0
        self._loop = asyncio.get_running_loop()

    def post(self, message: Shown | dict[str, Any]) -> None:
        """From any thread."""
        try:
            self._loop.call_soon_threadsafe(self.outbox.put_nowait, message)
        except RuntimeError:  # the server is shutting down and its loop is closed
            pass


class Session:
    """size: (height, width) of the pictures."""

    def __init__(self, size: tuple[int, int], geometry: ChunkGeometry):
        self.size, self.geometry = size, geometry
        self.chunks = self.frames = 0
        self._changed = threading.Condition()
        self._client: Client | None = None
        self._ended = self._had_client = False
        self._alone_since = time.monotonic()

    # The client's side

    @contextmanager
    def serving(self, client: Client) -> Iterator[None]:
        """The session is this client's meanwhile; what it said last goes with it.

        Raises `LiveError` where another client has the session, or it is over.
        """
        with self._changed:
            if self._ended:
                raise LiveError("The node has just stopped; run the workflow again.", idle=True)
            if self._client is not None:
                raise LiveError(
                    "Another client is connected to this node; a node serves one at a time."
                )
            self._client, self._had_client = client, True
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._client, self._alone_since = None, time.monotonic()
                # A client may say stop and leave.
                self._ended |= client.stopped
                self._changed.notify_all()

    def push(self, client: Client, data: bytes) -> None:
        """Raises `AudioError`."""
        with self._changed:
            if not client.stopped:
                client.audio.push(data)
                self._changed.notify_all()

    def stop(self, client: Client) -> None:
        """The client has said all: the session ends when that is rendered."""
        with self._changed:
            if not client.stopped:
                client.audio.finish()
            client.stopped = True
            self._changed.notify_all()

    def sent(self, client: Client) -> None:
        """One chunk less is on its way."""
        with self._changed:
            client.underway -= 1
            self._changed.notify_all()

    # The node's side

    def pieces(self, patience: float, check: Callable[[], None]) -> Iterator[Piece]:
        """What is said, piece by piece, until a client says stop or is gone for `patience` s.

        check: called all the while; may raise. Raises `LiveError` where nobody came at all.
        """
        while True:
            check()
            with self._changed:
                if self._ended:
                    return
                client, piece = self._client, None
                if client is None:
                    if time.monotonic() - self._alone_since > patience:
                        break
                elif client.underway < UNDERWAY:
                    if client.audio.waiting:
                        piece = client.audio.take()
                    elif client.stopped:
                        piece = client.audio.rest()
                        if piece is None:
                            return
                if piece is None:
                    self._changed.wait(_LOOK_SECONDS)
            if piece is not None:
                yield piece
        if not self._had_client:
            raise LiveError(
                f"Nobody connected within {patience:g} s; press Start microphone in the node, or "
                "connect to its socket while the workflow runs."
            )

    def show(self, frames: torch.Tensor, piece: Piece) -> float:
        """Send a chunk (n, H, W, 3) in [0, 1] and its sound to the client, if it is still there.

        Returns the seconds of the client's sound that came too fast to be rendered.
        """
        pixels, dropped = frames.mul(255).round().byte().cpu().numpy(), 0.0
        with self._changed:
            client = self._client
            if client is not None:
                client.underway += 1
                dropped = client.audio.dropped
                client.post(Shown(pixels, piece.sound, self.chunks, self.frames, dropped))
            self.chunks += 1
            self.frames += len(pixels)
        return dropped

    def end(self, error: str | None = None) -> None:
        """Tell the client; `error` is why, where it did not say stop."""
        with self._changed:
            self._ended = True
            if self._client is not None:
                seconds = self.frames / FPS
                self._client.post({"type": "end", "seconds": seconds, "error": error})


_running: dict[str, Session] = {}


def find(node_id: str) -> Session:
    """The session of a node that runs. Raises `LiveError` where it does not."""
    session = _running.get(node_id)
    if session is None:
        sentence = f"No FlashHead Live node {node_id} is waiting for sound; run its workflow first."
        raise LiveError(sentence, idle=True)
    return session


@contextmanager
def running(node_id: str, session: Session) -> Iterator[None]:
    """Clients find the session by its node's id meanwhile, and are told how it ends."""
    _running[node_id] = session
    try:
        yield
        session.end()
    except BaseException as failure:
        session.end(str(failure).strip() or "The workflow was cancelled.")
        raise
    finally:
        del _running[node_id]
