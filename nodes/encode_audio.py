"""Encode Audio: AUDIO and how it is to be heard -> FLASHHEAD_AUDIO."""

from comfy_api.latest import io

from ..flashhead.errors import AudioError
from ..flashhead.media.audio_source import TensorAudio
from ..flashhead.stream.generate import AUDIO_MODES
from ..flashhead.stream.speech import Speech
from . import inputs
from .schema import schema
from .stream import load
from .types import AudioEncoderType, SpokenAudio, SpokenAudioType


class EncodeAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadEncodeAudio",
            display_name="FlashHead Encode Audio",
            description=(
                "Prepares speech for the FlashHead samplers, any sample rate and length. The video "
                "gets 25 frames for each second of it."
            ),
            search_aliases=["wav2vec2", "speech", "talking head"],
            inputs=[
                AudioEncoderType.Input("audio_encoder", tooltip="From FlashHead Load Checkpoint."),
                io.Audio.Input(
                    "audio", tooltip="Speech; several channels are mixed to one for the model."
                ),
                io.Combo.Input(
                    "mode",
                    options=list(AUDIO_MODES),
                    default=AUDIO_MODES[0],
                    tooltip="stream: each chunk hears the past few seconds, memory stays flat "
                    "however long the audio. once: the clip is heard whole, for short clips.",
                ),
                inputs.cache_seconds(
                    "How much of the past a chunk hears in stream mode, in seconds."
                ),
            ],
            outputs=[
                SpokenAudioType.Output(display_name="audio", tooltip="For the FlashHead samplers."),
                io.Int.Output(
                    display_name="frame_count", tooltip="Frames of the video, at 25 a second."
                ),
            ],
        )

    @classmethod
    def execute(cls, audio_encoder, audio, mode: str, cache_seconds: float) -> io.NodeOutput:
        waveform = audio["waveform"]
        if waveform.shape[0] != 1:
            raise AudioError(
                f"The audio is a batch of {waveform.shape[0]} clips; give one clip at a time."
            )
        speech = Speech.of(TensorAudio(waveform[0], audio["sample_rate"]), cache_seconds)
        if mode == AUDIO_MODES[1]:
            load([audio_encoder.patcher])
            speech = speech.encoded(audio_encoder.network, audio_encoder.geometry)
        return io.NodeOutput(SpokenAudio(speech, audio_encoder, audio), speech.frames)
