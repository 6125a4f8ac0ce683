"""The Live node: sound over its websocket, pictures and sound back while the prompt runs."""

from __future__ import annotations

import io
import json
import struct
import time

import av
import numpy as np
import pytest
import torch
import websocket
from PIL import Image

import flashhead

from .graphs import lite, node
from .server import FIXTURES, PORTRAIT, ComfyServer, PromptFailed

RATE = 44_100
HELLO = {"rate": RATE, "samples": "float32", "frames": "png", "late": "keep"}
NODE = "live"


def live(**settings) -> dict:
    whole = lite()
    graph = {name: whole[name] for name in ("load", "picture", "portrait")}
    inputs = {key: value for key, value in whole["sampler"]["inputs"].items() if key != "audio"}
    inputs |= {"audio_encoder": ["load", 2], "cache_seconds": 2.0, "wait_seconds": 60.0}
    return graph | {NODE: node("FlashHeadLive", **inputs | settings)}


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    """Gets louder and lower."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * t * np.sin(2 * np.pi * (300 - 40 * t) * t)).astype(np.float32)


class Client:
    """Of one Live node; says hello when the node is ready to hear it."""

    def __init__(self, server: ComfyServer, hello: dict | str | bytes = HELLO, seconds: float = 60):
        address = f"ws://127.0.0.1:{server.port}/flashhead/live/{NODE}"
        until = time.monotonic() + seconds
        while True:
            self.socket = websocket.create_connection(address, timeout=60, http_no_proxy=["*"])
            if isinstance(hello, bytes):
                self.socket.send_binary(hello)
            else:
                self.socket.send(json.dumps(hello) if isinstance(hello, dict) else hello)
            self.answer = self.read()
            if not self.answer.get("idle") or time.monotonic() > until:
                return
            self.socket.close()
            time.sleep(0.05)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, samples: np.ndarray, blocks: tuple[int, ...] = (1009, 333, 4801)) -> None:
        done = turn = 0
        while done < len(samples):
            block = samples[done : done + blocks[turn % len(blocks)]]
            self.socket.send_binary(block.tobytes())
            done, turn = done + len(block), turn + 1

    def stop(self) -> None:
        self.socket.send('{"type": "stop"}')

    def read(self) -> dict:
        """The next message; of a chunk also its "pictures" and "samples"."""
        message = self.socket.recv()
        if isinstance(message, str):
            return json.loads(message)
        (length,) = struct.unpack("<I", message[:4])
        header = json.loads(message[4 : 4 + length])
        place = 4 + length + header["sound"]
        header["samples"] = message[4 + length : place]
        header["pictures"] = []
        for size in header["frames"]:
            picture = Image.open(io.BytesIO(message[place : place + size]))
            header["pictures"].append(np.asarray(picture, dtype=np.int16))
            place += size
        assert place == len(message)
        return header

    def all(self) -> list[dict]:
        """Every message until the last."""
        messages = [self.read()]
        while messages[-1]["type"] == "chunk":
            messages.append(self.read())
        return messages


def resampled(samples: np.ndarray) -> torch.Tensor:
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=16_000)
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = RATE
    parts = [f.to_ndarray()[0] for given in (frame, None) for f in resampler.resample(given)]
    return torch.from_numpy(np.concatenate(parts))


def expected(heard: torch.Tensor) -> np.ndarray:
    """The library's own live stream, of 2.5 s."""
    bundle = flashhead.load_bundle(FIXTURES / "tiny-checkpoint", "lite")
    settings = flashhead.Settings(size=(64, 64), cache_seconds=2.0)
    stream = flashhead.LiveStream(bundle, FIXTURES / "goldens" / PORTRAIT, settings)
    chunks = [*stream.push(heard[:40_000]), *stream.finish()]
    return torch.cat([chunk.frames for chunk in chunks]).mul(255).round().numpy().astype(np.int16)


def interrupted(server: ComfyServer, prompt_id: str) -> bool:
    server.wait(prompt_id, timeout=20, check=False)
    return bool(server.events_of(prompt_id, "execution_interrupted"))


def test_a_client_gets_the_librarys_frames_and_its_own_sound(server: ComfyServer):
    prompt_id = server.queue(live())
    sound = tone(2.5)
    with Client(server) as client:
        assert client.answer == {
            "type": "ready", "fps": 25, "width": 64, "height": 64, "chunk_frames": 24,
        }  # fmt: skip
        with Client(server) as second:
            assert "one at a time" in second.answer["message"]
        client.say(sound)
        client.stop()
        *chunks, last = client.all()
    assert last == {"type": "end", "seconds": 62 / 25, "error": None}
    assert [chunk["index"] for chunk in chunks] == [0, 1, 2]
    assert [chunk["start"] for chunk in chunks] == [0, 24, 48]
    assert b"".join(chunk["samples"] for chunk in chunks) == sound.tobytes()
    assert [len(chunk["samples"]) // 4 for chunk in chunks[:2]] == [24 * RATE // 25] * 2
    frames = np.stack([picture for chunk in chunks for picture in chunk["pictures"]])
    wanted = expected(resampled(sound))
    assert frames.shape == wanted.shape
    assert np.abs(frames - wanted).max() <= 1
    entry = server.wait(prompt_id)
    assert server.outputs(entry, NODE, "text") == ["2.48 s made"]
    lines = [event["data"]["text"] for event in server.events_of(prompt_id, "text")]
    assert any("real time" in line and "after the sound" in line for line in lines)


def test_sound_that_comes_too_fast_is_left_out_and_that_is_said(server: ComfyServer):
    prompt_id = server.queue(live())
    hello = {"rate": 16_000, "samples": "int16"}
    with Client(server, hello) as client:
        client.socket.send_binary((tone(10, 16_000) * 3000).astype("<i2").tobytes())
        client.stop()
        *chunks, last = client.all()
    # 10 s are 10 chunks and 0.4 s; two wait.
    assert chunks[-1]["dropped"] == pytest.approx(8 * 24 / 25)
    assert last["seconds"] == pytest.approx(10 - 8 * 24 / 25)
    server.wait(prompt_id)
    lines = [event["data"]["text"] for event in server.events_of(prompt_id, "text")]
    assert any("too slow: 7.7 s of sound left out" in line for line in lines)


@pytest.mark.parametrize(
    ("hello", "complaint"),
    [
        ("hello", "JSON object"),
        ("[" * 9999, "JSON object"),
        (b"\0\0\0\0", "first message must be text"),
        ({"rate": 7}, "rate is 7; expected a whole number of Hz, 8000 to 192000"),
        ({"rate": RATE, "samples": "float64"}, "expected float32 or int16"),
    ],
)
def test_a_wrong_hello_is_explained_and_the_next_client_is_served(
    server: ComfyServer, hello: dict | str | bytes, complaint: str
):
    prompt_id = server.queue(live())
    with Client(server, hello) as client:
        assert client.answer["type"] == "error"
        assert complaint in client.answer["message"]
    with Client(server) as client:
        client.stop()
        assert client.read() == {"type": "end", "seconds": 0.0, "error": None}
    server.wait(prompt_id)


def test_sound_that_is_not_a_number_is_explained(server: ComfyServer):
    prompt_id = server.queue(live(wait_seconds=1.0))
    with Client(server) as client:
        client.say(np.full(100, np.nan, dtype=np.float32))
        assert "NaN" in client.read()["message"]
    server.wait(prompt_id)


@pytest.mark.parametrize(
    ("origin", "header"),
    [("null", {}), ("http://127.0.0.1:1", {}), (None, {"Sec-Fetch-Site": "same-site"})],
)
def test_a_page_of_another_origin_is_refused(server: ComfyServer, origin: str, header: dict):
    """A browser lets any page open a websocket; a sandboxed frame's origin is null."""
    address = f"ws://127.0.0.1:{server.port}/flashhead/live/{NODE}"
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        websocket.create_connection(
            address, timeout=60, http_no_proxy=["*"], origin=origin, header=header
        )


def test_without_a_running_node_a_client_is_told_so(server: ComfyServer):
    with Client(server, seconds=0) as client:
        assert client.answer["idle"]
        assert "run its workflow first" in client.answer["message"]


def test_a_client_that_vanishes_ends_the_prompt(server: ComfyServer):
    prompt_id = server.queue(live(wait_seconds=1.0))
    with Client(server) as client:
        client.say(tone(1.0))
        assert client.read()["type"] == "chunk"
        client.socket.sock.close()
    entry = server.wait(prompt_id)
    assert server.outputs(entry, NODE, "text") == ["0.96 s made"]


def test_nobody_comes(server: ComfyServer):
    with pytest.raises(PromptFailed, match="Nobody connected within 1 s"):
        server.run(live(wait_seconds=1.0))


def test_cancel_while_waiting(server: ComfyServer):
    prompt_id = server.queue(live())
    with Client(server) as client:
        server.interrupt()
        assert client.read() == {
            "type": "end", "seconds": 0.0, "error": "The workflow was cancelled.",
        }  # fmt: skip
    assert interrupted(server, prompt_id)


def test_cancel_while_rendering(server: ComfyServer):
    prompt_id = server.queue(live(steps=100))
    with Client(server) as client:
        client.say(tone(20))
        assert client.read()["type"] == "chunk"
        server.interrupt()
        assert client.all()[-1]["error"] == "The workflow was cancelled."
    assert interrupted(server, prompt_id)
