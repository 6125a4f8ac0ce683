"""A real ComfyUI with this node pack in it, and a small client for its HTTP and websocket API.

    with ComfyServer(comfyui, base) as server:
        entry = server.run({"1": {"class_type": "EmptyImage", "inputs": {...}}, ...})
        (image,) = server.images(entry, "2")

The server is ComfyUI's own ``main.py``, run by the interpreter that runs the tests, on the CPU, in
a base directory of its own. Nothing is read from or written to the ComfyUI checkout.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import wave
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import websocket
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
PACK_NAME = "ComfyUI-FlashHead"
CHECKPOINT = "tiny"
CHECKPOINT_PARTS = ("Model_Lite", "VAE_LTX", "Model_Pro", "VAE_Wan", "wav2vec2-base-960h")
WAN_VAE = "wan_2.1_vae.safetensors"
PORTRAIT = "portrait.png"
SPEECH = "speech.wav"

# What a user's copy of the pack holds, with or without an __init__.py yet.
NOT_INSTALLED = (".*", "__pycache__", "tests", "benchmarks", "build", "dist", "out", "*.egg-info")
STUB_ENTRY = """\
from comfy_api.latest import ComfyExtension


class Stub(ComfyExtension):
    async def get_node_list(self):
        return []


async def comfy_entrypoint():
    return Stub()
"""

FINAL_EVENTS = ("execution_success", "execution_error", "execution_interrupted")


class ServerFailed(RuntimeError):
    """The server did not start, or died. The message ends with its log."""


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


class ComfyServer:
    """A running ComfyUI. Everything under ``base`` is the server's own and may be edited.

    comfyui: the checkout. base: an empty directory (models/, input/, output/, ... are made in it).
    pack_name: folder name of the pack under custom_nodes. pack: directory installed as the pack.
    link: link to the pack instead of copying it. extra: files of other packs to install.
    arguments, environment: added to ComfyUI's.
    broken: module name → exception name. Importing that module *from the pack* raises that
        exception, as a missing or damaged package does; ComfyUI itself still gets it.
        ``flashhead`` is always broken so: the pack must reach its library relatively, even where
        a pip-installed one is at hand.
    """

    def __init__(
        self,
        comfyui: Path,
        base: Path,
        *,
        pack_name: str = PACK_NAME,
        pack: Path = ROOT,
        link: bool = False,
        extra: Sequence[Path] = (),
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        broken: Mapping[str, str] | None = None,
        start_seconds: float = 120,
    ):
        self.comfyui = Path(comfyui)
        self.base = Path(base)
        self.pack_name = pack_name
        self.pack_path = self.base / "custom_nodes" / pack_name
        self.log_path = self.base / "server.log"
        self.start_log = ""  # what was logged until the server answered
        self.client_id = uuid.uuid4().hex
        self.events: list[dict[str, Any]] = []
        self._arguments = list(arguments)
        self._extra = list(extra)
        self._environment = dict(environment or {})
        self._broken = {"flashhead": "ModuleNotFoundError", **(broken or {})}
        self._start_seconds = start_seconds
        self._process: subprocess.Popen | None = None
        self._socket: websocket.WebSocket | None = None
        self._arrived = threading.Condition()
        self._furnish(pack, link)

    # Life

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts ComfyUI and returns once it answers; about 10 s."""
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, str(self.comfyui / "main.py"), "--cpu"]
        command += ["--base-directory", str(self.base), "--disable-all-custom-nodes"]
        names = [self.pack_name, *(path.name for path in self._extra)]
        command += ["--whitelist-custom-nodes", *names]
        command += ["--database-url", "sqlite:///:memory:", "--disable-auto-launch"]
        command += ["--port", str(self.port), *self._arguments]
        environment = os.environ | {
            "PYTHONPATH": str(self.base / "python"),
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",
            "NO_PROXY": "*",
            **self._environment,
        }
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.base,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._until(self._answers, self._start_seconds, "start")
            self.start_log = self.log
            self._listen()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server and everything it started. Harmless when it is not running."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is None:
            return
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, sign)
                self._process.wait(10)
                break
            except ProcessLookupError:
                self._process.wait(10)
                break
            except subprocess.TimeoutExpired:
                continue
        self._process = None

    @property
    def log(self) -> str:
        """What the server has printed so far, without its colours.

        ComfyUI holds back what is printed; what is logged is here at once.
        """
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    @property
    def pid(self) -> int:
        """The server's process, for measuring its memory."""
        if self._process is None:
            raise ServerFailed("the server is not running")
        return self._process.pid

    # Files

    def place_input(self, name: str, content: Path | bytes) -> str:
        """Puts a file into input/ and returns its name, as loaders list it."""
        path = self.base / "input" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            shutil.copyfile(content, path)
        return name

    def output_path(self, item: Mapping[str, str]) -> Path:
        """The file behind one {"filename", "subfolder", "type"} of a node's result."""
        return self.base / item["type"] / item.get("subfolder", "") / item["filename"]

    def fetch_output(self, item: Mapping[str, str]) -> bytes:
        """The same file as the page gets it, over HTTP."""
        keys = ("filename", "subfolder", "type")
        query = urllib.parse.urlencode({key: item[key] for key in keys if key in item})
        return self._request(f"/view?{query}")

    def outputs(self, entry: Mapping, node: str, key: str = "images") -> list[dict[str, str]]:
        """A node's results out of a history entry; the key of images *and* videos is "images"."""
        return entry["outputs"].get(node, {}).get(key, [])

    def images(self, entry: Mapping, node: str) -> list[Image.Image]:
        """A node's images, decoded."""
        items = self.outputs(entry, node)
        return [Image.open(io.BytesIO(self.fetch_output(item))) for item in items]

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
        entry = self._until(
            lambda: self.get(f"/history/{prompt_id}").get(prompt_id), timeout, "finish a prompt"
        )
        final = self.wait_event(*FINAL_EVENTS, prompt_id=prompt_id, timeout=10)
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
            return [event for event in self.events if _matches(event, prompt_id, kinds)]

    def wait_event(
        self,
        *kinds: str,
        prompt_id: str | None = None,
        timeout: float = 60,
        where: Callable[[dict[str, Any]], bool] = lambda event: True,
    ) -> dict[str, Any]:
        """The first event of these kinds (and of that prompt, where given), waiting for it."""

        def first() -> dict[str, Any] | None:
            found = (e for e in self.events if _matches(e, prompt_id, kinds) and where(e))
            return next(found, None)

        with self._arrived:
            event = self._arrived.wait_for(first, timeout) and first()
        if not event:
            raise TimeoutError(f"no {' or '.join(kinds)} in {timeout} s; log:\n{self._tail()}")
        return event

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
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return answer.read()

    # Inside

    def _furnish(self, pack: Path, link: bool) -> None:
        for name in ("input", "output", "temp", "models", "custom_nodes", "python"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        if link:
            self.pack_path.symlink_to(pack, target_is_directory=True)
        else:
            ignored = shutil.ignore_patterns(*NOT_INSTALLED)
            shutil.copytree(pack, self.pack_path, ignore=ignored, dirs_exist_ok=True)
            for folder, _, _ in os.walk(self.pack_path, topdown=False):
                if not os.listdir(folder):  # as in a git checkout
                    os.rmdir(folder)
            if not (self.pack_path / "__init__.py").exists():
                (self.pack_path / "__init__.py").write_text(STUB_ENTRY)
        for path in self._extra:
            shutil.copyfile(path, self.base / "custom_nodes" / path.name)
        checkpoint = self.base / "models" / "flashhead" / CHECKPOINT
        for part in CHECKPOINT_PARTS:
            shutil.copytree(FIXTURES / "tiny-checkpoint" / part, checkpoint / part)
        # What ComfyUI users have the Wan VAE as: the same keys in a safetensors file.
        wan = torch.load(checkpoint / "VAE_Wan" / "Wan2.1_VAE.pth", weights_only=True)
        (self.base / "models" / "vae").mkdir()
        save_file(wan, self.base / "models" / "vae" / WAN_VAE)
        self.place_input(PORTRAIT, FIXTURES / "goldens" / "portrait.png")
        self.place_input(SPEECH, hum(seconds=1.5))
        settings = self.base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(QUIET_SETTINGS))
        (self.base / "python" / "sitecustomize.py").write_text(
            BREAK_IMPORTS.format(packs=str(self.base / "custom_nodes"), broken=self._broken)
        )

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system_stats"))
        except OSError:
            return False

    def _until(self, ready: Callable[[], Any], timeout: float, what: str) -> Any:
        """Asks ``ready`` until it says something true; fails at once when the server dies."""
        deadline = time.monotonic() + timeout
        while not (answer := ready()):
            code = self._process.poll() if self._process else None
            if code is not None:
                raise ServerFailed(f"ComfyUI ended with code {code}; log:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"ComfyUI did not {what} in {timeout} s; log:\n{self._tail()}")
            time.sleep(0.05)
        return answer

    def _tail(self, lines: int = 60) -> str:
        return "\n".join(self.log.splitlines()[-lines:])

    def _listen(self) -> None:
        address = f"ws://127.0.0.1:{self.port}/ws?clientId={self.client_id}"
        self._socket = websocket.create_connection(address, timeout=30, http_no_proxy=["*"])
        self._socket.settimeout(None)
        threading.Thread(target=self._read, args=(self._socket,), daemon=True).start()

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
                self.events.append(event)
                self._arrived.notify_all()


def hum(seconds: float, sample_rate: int = 16000) -> bytes:
    """A mono 16-bit WAV file: a tone whose loudness goes up and down like syllables."""
    count = round(seconds * sample_rate)
    times = (i / sample_rate for i in range(count))
    tones = (math.sin(2 * math.pi * 180 * t) * math.sin(math.pi * 3 * t) ** 2 for t in times)
    samples = [round(12000 * tone) for tone in tones]
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        out.writeframes(struct.pack(f"<{count}h", *samples))
    return file.getvalue()


def _matches(event: Mapping[str, Any], prompt_id: str | None, kinds: Sequence[str]) -> bool:
    ours = prompt_id is None or event["data"].get("prompt_id") == prompt_id
    return ours and (not kinds or event["type"] in kinds)


def _binary(message: bytes) -> tuple[str, dict[str, Any]]:
    """Binary messages: uint32 kind, then for a text (3) uint32 length of the node's id, the id and
    the text; for a picture uint32 format (1: JPEG, 2: PNG) and the file."""
    kind, second = struct.unpack(">II", message[:8])
    if kind == 3:
        node, text = message[8 : 8 + second], message[8 + second :]
        return "text", {"node": node.decode(), "text": text.decode()}
    picture = {"kind": kind, "format": {1: "JPEG", 2: "PNG"}.get(second), "image": message[8:]}
    return "preview", picture


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# The first visit's welcome and tours would cover the page.
QUIET_SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Release.Status": "skip",
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Workflow.WarnBlueprintOverwrite": False,
    "Comfy.Locale": "en",
}

# Python runs this at start-up. It looks at who imports: the core keeps what the pack must not get.
BREAK_IMPORTS = """\
import builtins
import importlib
import os
import sys

PACKS = os.path.realpath({packs!r})
BROKEN = {broken!r}
original_import = builtins.__import__
original_import_module = importlib.import_module


def check(name, importer):
    file = (importer or {{}}).get("__file__")
    failure = BROKEN.get(name.partition(".")[0])
    links = [os.path.realpath(entry) for entry in os.scandir(PACKS)] if failure else []
    if file and any(os.path.realpath(file).startswith(link + os.sep) for link in links):
        raise getattr(builtins, failure)(name + " is made to fail in this test")


def import_(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0:
        check(name, globals)
    return original_import(name, globals, locals, fromlist, level)


def import_module(name, package=None):
    check(name, sys._getframe(1).f_globals)
    return original_import_module(name, package)


builtins.__import__ = import_
importlib.import_module = import_module
"""
