"""A real ComfyUI with this node pack in it, and a small client for its HTTP and websocket API.

    with ComfyServer(comfyui, base) as server:
        entry = server.run({"1": {"class_type": "EmptyImage", "inputs": {...}}, ...})
        (image,) = server.images(entry, "2")

The server is ComfyUI's own ``main.py``, run by the interpreter that runs the tests, on the CPU, in
a base directory of its own. Nothing is read from or written to the ComfyUI checkout.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from .client import ComfyClient, PromptFailed, PromptRejected
from .install import (
    CHECKPOINT,
    FIXTURES,
    PORTRAIT,
    ROOT,
    SPEECH,
    WAN_VAE,
    hum,
    install_pack,
    prepare,
)

__all__ = [
    "CHECKPOINT",
    "FIXTURES",
    "PORTRAIT",
    "ROOT",
    "SPEECH",
    "WAN_VAE",
    "ComfyServer",
    "PromptFailed",
    "PromptRejected",
    "ServerFailed",
    "hum",
]

PACK_NAME = "ComfyUI-FlashHead"


class ServerFailed(RuntimeError):
    """The server did not start, or died. The message ends with its log."""


class ComfyServer(ComfyClient):
    """A running ComfyUI. Everything under ``base`` is the server's own and may be edited.

    comfyui: the checkout. base: an empty directory (models/, input/, output/, ... are made in it).
    pack_name: folder name of the pack under custom_nodes. link: a directory to link there instead,
        in place of a copy of this pack as the registry gives it to users.
    extra: files of other packs to install.
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
        link: Path | None = None,
        extra: Sequence[Path] = (),
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        broken: Mapping[str, str] | None = None,
        start_seconds: float = 120,
    ):
        super().__init__()
        self.comfyui = Path(comfyui)
        self.base = Path(base)
        self.pack_name = pack_name
        self.pack_path = self.base / "custom_nodes" / pack_name
        self.log_path = self.base / "server.log"
        self.start_log = ""  # what was logged until the server answered
        self._arguments = list(arguments)
        self._extra = list(extra)
        self._environment = dict(environment or {})
        self._start_seconds = start_seconds
        self._process: subprocess.Popen | None = None
        prepare(self.base, {"flashhead": "ModuleNotFoundError", **(broken or {})}, extra)
        if link is None:
            install_pack(self.pack_path)
        else:
            self.pack_path.symlink_to(link, target_is_directory=True)

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
            "COVERAGE_PROCESS_START": "",  # sitecustomize.py begins it later
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
            self.until(self._answers, self._start_seconds, "start")
            self.start_log = self.log
            self.listen()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server and everything it started. Harmless when it is not running."""
        self.hang_up()
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

    # Inside

    def check_alive(self) -> None:
        code = self._process.poll() if self._process else None
        if code is not None:
            raise ServerFailed(f"ComfyUI ended with code {code}; {self.log_tail()}")

    def log_tail(self, lines: int = 60) -> str:
        return "\n".join(["log:", *self.log.splitlines()[-lines:]])

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system_stats"))
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
