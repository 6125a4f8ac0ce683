"""GET /flashhead/live/{node id}, a websocket: sound in, moving picture and sound out.

web/docs/FlashHeadLive.md describes the messages.
"""

import asyncio
import io
import json
import struct
from typing import Any
from urllib.parse import urlsplit

from aiohttp import WSMessage, WSMsgType, web
from comfy.cli_args import args
from PIL import Image
from server import PromptServer

from ...flashhead.errors import FlashHeadError, shown
from ...flashhead.files import read_object
from ...flashhead.geometry import FPS
from ...flashhead.media.live_audio import LATE, RATES, SAMPLE_KINDS
from .session import Client, LiveError, Session, Shown, find

ROUTE = "/flashhead/live/{node_id}"
PICTURES = {"jpeg": {"quality": 90}, "png": {"compress_level": 1}}

_HELLO_SECONDS = 10
_LARGEST_MESSAGE = 16 << 20
# A network that is cut says nothing; a ping that is not answered does.
_PING_SECONDS = 20


def register_route() -> None:
    """Once, and only in a server."""
    server = getattr(PromptServer, "instance", None)
    if server is None or any(getattr(route, "path", None) == ROUTE for route in server.routes):
        return
    server.routes.get(ROUTE)(_live)


async def _live(request: web.Request) -> web.WebSocketResponse:
    if _is_foreign(request):
        raise web.HTTPForbidden(
            text="A page of another origin cannot speak through FlashHead Live; ComfyUI's option "
            "--enable-cors-header ORIGIN allows it."
        )
    socket = web.WebSocketResponse(
        heartbeat=_PING_SECONDS, max_msg_size=_LARGEST_MESSAGE, compress=False
    )
    await socket.prepare(request)
    try:
        await _serve(socket, request.match_info["node_id"])
    except FlashHeadError as error:
        await _say(socket, type="error", message=str(error), idle=getattr(error, "idle", False))
    except (ConnectionError, asyncio.TimeoutError):
        pass
    await socket.close()
    return socket


def _is_foreign(request: web.Request) -> bool:
    """Whether another page than ComfyUI's own asks, which browsers let open a websocket to any
    server. Programs give no origin, or the server's."""
    headers, allowed = request.headers, args.enable_cors_header
    origin = headers.get("Origin")
    if origin is None or allowed in ("*", origin):
        return False
    # What the browser itself says also holds behind a proxy that gives another host.
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site != "same-origin"
    hosts = (headers.get("Host"), headers.get("X-Forwarded-Host"))
    return urlsplit(origin).netloc.lower() not in {host.lower() for host in hosts if host}


async def _serve(socket: web.WebSocketResponse, node_id: str) -> None:
    session = find(node_id)
    hello = _read_hello(await socket.receive(timeout=_HELLO_SECONDS))
    client = Client(hello, session.geometry)
    (height, width), frames = session.size, session.geometry.new_frames
    with session.serving(client):
        await _say(socket, type="ready", fps=FPS, width=width, height=height, chunk_frames=frames)
        sender = asyncio.create_task(_send(socket, session, client))
        try:
            await _receive(socket, session, client)
        finally:
            sender.cancel()


async def _receive(socket: web.WebSocketResponse, session: Session, client: Client) -> None:
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            session.push(client, message.data)
        elif message.type is WSMsgType.TEXT:
            if _object(message.data).get("type") != "stop":
                raise LiveError('After the first message text can only be {"type": "stop"}.')
            session.stop(client)


async def _send(socket: web.WebSocketResponse, session: Session, client: Client) -> None:
    try:
        while True:
            message = await client.outbox.get()
            if isinstance(message, dict):
                await _say(socket, **message)
                # Which also ends `_receive`.
                await socket.close()
                return
            # Off the event loop, and while the next chunk is rendered.
            await socket.send_bytes(await asyncio.to_thread(_pack, message, client.hello))
            session.sent(client)
    except ConnectionError:
        pass  # `_receive` gets it too


async def _say(socket: web.WebSocketResponse, **message: object) -> None:
    if not socket.closed:
        await socket.send_str(json.dumps(message))


def _object(text: str) -> dict[str, Any]:
    try:
        return read_object(text)
    except ValueError as error:
        raise LiveError("A text message must be a JSON object.") from error


def _read_hello(message: WSMessage) -> dict[str, Any]:
    if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
        raise ConnectionError
    if message.type is not WSMsgType.TEXT:
        raise LiveError(
            'The first message must be text that describes the sound: {"rate": 48000, "samples": '
            '"float32"}.'
        )
    defaults = {"samples": "float32", "frames": "jpeg", "late": LATE[0]}
    hello = defaults | _object(message.data)
    rate = hello.get("rate")
    if type(rate) is not int or rate not in RATES:
        raise LiveError(
            f"The sound's rate is {shown(rate)}; expected a whole number of Hz, "
            f"{RATES.start} to {RATES.stop - 1}."
        )
    for key, known in (("samples", SAMPLE_KINDS), ("frames", PICTURES), ("late", LATE)):
        if hello[key] not in list(known):
            raise LiveError(f'"{key}" is {shown(hello[key])}; expected {" or ".join(known)}.')
    return hello


def _pack(chunk: Shown, hello: dict[str, Any]) -> bytes:
    """uint32 length of the header (little-endian), JSON header, sound, pictures."""
    kind, pictures = hello["frames"], [io.BytesIO() for _ in chunk.frames]
    for frame, picture in zip(chunk.frames, pictures, strict=True):
        Image.fromarray(frame).save(picture, kind, **PICTURES[kind])
    header = {
        "type": "chunk",
        "index": chunk.index,
        "start": chunk.start,
        "dropped": round(chunk.dropped, 3),
        "rate": hello["rate"],
        "sound": chunk.sound.nbytes,
        "frames": [len(picture.getvalue()) for picture in pictures],
    }
    text = json.dumps(header).encode()
    parts = [struct.pack("<I", len(text)), text, chunk.sound.tobytes()]
    return b"".join([*parts, *(picture.getvalue() for picture in pictures)])
