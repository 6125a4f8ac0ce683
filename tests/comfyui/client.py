"""ComfyUI's HTTP and websocket API: queue prompts, follow their events, fetch their results."""

from __future__ import annotations

import json
import struct
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import websocket

FINAL_EVENTS = ("execution_success", "execution_error", "execution_interrupted")


class PromptRejected(RuntimeError):
    """ComfyUI refused to queue a prompt (HTTP 400).

    ``error`` is its summary; ``node_errors`` maps a node id to {"class_type", "errors": [...]}.
    """

    def __init__(self, answer: Mapping[str, Any]):
        self.error = answer.get("error") or {}
        self.node_errors = answer.get("node_errors") or {}
        super().__init__(json.dumps(answer, indent=1))

    def messages(self, node: str | None = None) -> list[str]:
        """Every complaint, of one node or of all, as "message: details"."""
        chosen = self.node_errors if node is None else {node: self.node_errors.get(node, {})}
        errors = [error for found in chosen.values() for error in found.get("errors", [])]
        return [f"{error.get('message')}: {error.get('details')}" for error in errors]


class PromptFailed(RuntimeError):
    """A queued prompt did not succeed. ``event``: execution_error's or _interrupted's data."""

    def __init__(self, kind: str, event: Mapping[str, Any]):
        self.kind = kind
        self.event = dict(event)
        what = event.get("exception_message", "").strip() or kind
        where = f"{event.get('node_type')} (node {event.get('node_id')})"
        trace = "".join(event.get("traceback", []))
        super().__init__(f"{where}: {what}\n{trace}".rstrip())


class ComfyClient:
    """A connection to the ComfyUI at ``self.url``, which a subclass starts."""

    url: str

    def __init__(self) -> None:
        self.client_id = uuid.uuid4().hex
        # By prompt; None has those that belong to no prompt.
        self._events: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._socket: websocket.WebSocket | None = None
        self._arrived = threading.Condition()

    def check_alive(self) -> None:
        """Raises where the server is known to have died."""

    def log_tail(self) -> str:
        """The last lines that the server printed, for messages of failures."""
        return ""

    # Prompts

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """What the frontend is told of every node, or of one; {} for an unknown one."""
        path = "/object_info" if node is None else f"/object_info/{urllib.parse.quote(node)}"
        answer = self.get(path)
        return answer if node is None else answer.get(node, {})

    def queue(self, prompt: Mapping[str, Any], **extra: Any) -> str:
        """Queues an API-format prompt. Raises PromptRejected where ComfyUI finds it invalid."""
        body = {"prompt": prompt, "client_id": self.client_id, **extra}
        try:
            return self.post("/prompt", body)["prompt_id"]
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            raise PromptRejected(json.loads(error.read())) from None

    def wait(self, prompt_id: str, timeout: float = 60, *, check: bool = True) -> dict[str, Any]:
        """Waits for a queued prompt and returns its history entry ("outputs", "status").

        Raises PromptFailed unless it succeeded or ``check`` is False; TimeoutError when it is late.
        """
        final = self.wait_event(*FINAL_EVENTS, prompt_id=prompt_id, timeout=timeout)
        history = f"/history/{prompt_id}"
        entry = self.until(lambda: self.get(history).get(prompt_id), 10, "file a prompt")
        if check and final["type"] != "execution_success":
            raise PromptFailed(final["type"], final["data"])
        return entry

    def run(self, prompt: Mapping[str, Any], timeout: float = 60, *, check: bool = True) -> dict:
        """``queue`` and ``wait``."""
        return self.wait(self.queue(prompt), timeout, check=check)

    def interrupt(self) -> None:
        """Stops the prompt that runs now."""
        self.post("/interrupt", {})

    def free(self) -> None:
        """Unloads models and forgets cached results, so that a rerun runs every node."""
        self.post("/free", {"unload_models": True, "free_memory": True})

    # Events

    def events_of(self, prompt_id: str, *kinds: str) -> list[dict[str, Any]]:
        """The websocket's events of one prompt, in order: {"type", "data"}.

        Kinds: execution_start, execution_cached, executing, progress, progress_state, executed,
        execution_success, execution_error, execution_interrupted; preview, a picture that a
        node sent while the prompt ran, with the image file's bytes as data["image"]; and text, a
        line that a node shows, as data["text"].
        """
        with self._arrived:
            found = self._events[prompt_id]
            return [event for event in found if not kinds or event["type"] in kinds]

    def wait_event(
        self,
        *kinds: str,
        prompt_id: str,
        timeout: float = 60,
        where: Callable[[dict[str, Any]], bool] = lambda event: True,
    ) -> dict[str, Any]:
        """The first event of these kinds of a prompt for which ``where`` holds, waiting for it."""

        def first() -> dict[str, Any] | None:
            found = (e for e in self._events[prompt_id] if e["type"] in kinds and where(e))
            return next(found, None)

        deadline = time.monotonic() + timeout
        while True:
            with self._arrived:
                event = self._arrived.wait_for(first, min(1, deadline - time.monotonic()))
            if event:
                return event
            self.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {' or '.join(kinds)} in {timeout} s; {self.log_tail()}")

    # HTTP

    def get(self, path: str) -> Any:
        """GET, decoded from JSON."""
        return json.loads(self._request(path))

    def post(self, path: str, body: Any) -> Any:
        """POST of JSON, and the answer decoded, None where it is empty."""
        answer = self._request(path, json.dumps(body).encode())
        return json.loads(answer) if answer else None

    def _request(self, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        request = urllib.request.Request(self.url + path, body, headers)
        with self._opener.open(request, timeout=60) as answer:
            return answer.read()

    # The websocket

    def listen(self) -> None:
        """Begins to collect the server's events."""
        address = f"{self.url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
        self._socket = websocket.create_connection(address, timeout=30, http_no_proxy=["*"])
        self._socket.settimeout(None)
        threading.Thread(target=self._read, args=(self._socket,), daemon=True).start()

    def hang_up(self) -> None:
        """Ends ``listen``. Harmless when it has not begun."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # Inside

    def until(self, ready: Callable[[], Any], timeout: float, what: str) -> Any:
        """Asks ``ready`` until it says something true; fails at once when the server dies."""
        deadline = time.monotonic() + timeout
        while not (answer := ready()):
            self.check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"ComfyUI did not {what} in {timeout} s; {self.log_tail()}")
            time.sleep(0.05)
        return answer

    def _read(self, connection: websocket.WebSocket) -> None:
        running = None
        while True:
            try:
                message = connection.recv()
            except (OSError, websocket.WebSocketException):
                return
            if isinstance(message, bytes):
                kind, data = _binary(message)
                event = {"type": kind, "data": {"prompt_id": running, **data}}
            elif message:
                event = json.loads(message)
                if event["type"] == "execution_start":
                    running = event["data"]["prompt_id"]
            else:
                return
            with self._arrived:
                self._events[event["data"].get("prompt_id")].append(event)
                self._arrived.notify_all()


def _binary(message: bytes) -> tuple[str, dict[str, Any]]:
    """Binary messages: uint32 kind, then for a text (3) uint32 length of the node's id, the id and
    the text; for a picture uint32 format (1: JPEG, 2: PNG) and the file."""
    kind, second = struct.unpack(">II", message[:8])
    if kind == 3:
        node, text = message[8 : 8 + second], message[8 + second :]
        return "text", {"node": node.decode(), "text": text.decode()}
    picture = {"kind": kind, "format": {1: "JPEG", 2: "PNG"}.get(second), "image": message[8:]}
    return "preview", picture
