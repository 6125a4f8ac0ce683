"""ComfyUI nodes: sockets, progress and memory management around the library. No maths here."""

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from .encode_audio import EncodeAudio
from .load_checkpoint import LoadCheckpoint
from .paths import register_folders
from .prepare_portrait import PreparePortrait
from .sampler import Sampler


class FlashHeadExtension(ComfyExtension):
    @override
    async def on_load(self) -> None:
        register_folders()

    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadCheckpoint, EncodeAudio, PreparePortrait, Sampler]
