"""ComfyUI nodes: sockets, progress and memory management around the library. No maths here."""

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from .decode_chunk import DecodeChunk
from .encode_audio import EncodeAudio
from .example import Example
from .generate_video import GenerateVideo
from .incremental_sampler import IncrementalSampler
from .kept_chunk import KeptDecodeChunk, KeptSampleChunk
from .live import Live
from .live_route import register_route
from .load_checkpoint import LoadCheckpoint
from .paste_back import PasteBack
from .paths import register_folders
from .prepare_portrait import PreparePortrait
from .sample_chunk import SampleChunk
from .sampler import Sampler
from .segment import AppendFrames, JoinFrames, Segment, SpeechSlice
from .split_speakers import SplitSpeakers
from .start_stream import StartStream
from .state_files import LoadState, SaveState
from .switch_portrait import SwitchPortrait


class FlashHeadExtension(ComfyExtension):
    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        # Here and not in on_load, which ComfyUI 0.3.64 does not call.
        register_folders()
        register_route()
        return [
            LoadCheckpoint,
            Example,
            EncodeAudio,
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
            Segment,
            KeptSampleChunk,
            KeptDecodeChunk,
            SpeechSlice,
            AppendFrames,
            JoinFrames,
        ]
