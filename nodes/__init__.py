"""ComfyUI nodes: sockets, progress and memory management around the library. No maths here."""

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from .audio import PrepareAudio, SplitSpeakers
from .checkpoint import LoadCheckpoint
from .doctor import Doctor
from .example import Example
from .live.node import Live
from .live.route import register_route
from .paths import register_folders
from .portrait import PasteBack, PreparePortrait
from .stream.chunks import DecodeChunk, SampleChunk, StartStream, SwitchPortrait
from .stream.samplers import GenerateVideo, IncrementalSampler, Sampler
from .stream.state_files import LoadState, SaveState


class FlashHeadExtension(ComfyExtension):
    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        # Here and not in on_load, which ComfyUI 0.3.64 does not call.
        register_folders()
        register_route()
        return [
            LoadCheckpoint,
            Example,
            PrepareAudio,
            PreparePortrait,
            Sampler,
            GenerateVideo,
            IncrementalSampler,
            StartStream,
            SampleChunk,
            DecodeChunk,
            SwitchPortrait,
            SaveState,
            LoadState,
            Live,
            PasteBack,
            SplitSpeakers,
            Doctor,
        ]
