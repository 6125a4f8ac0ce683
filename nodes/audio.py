"""Audio nodes: Prepare Audio, which the samplers need, and Split Speakers."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..flashhead.errors import AudioError
from ..flashhead.media.audio_source import TensorAudio
from ..flashhead.media.speakers import (
    DEFAULT_GATE,
    GATE_OFF,
    LOUDNESS,
    MAX_SPEAKERS,
    SOURCES,
    split_speakers,
)
from ..flashhead.stream.clip import AUDIO_MODES, SpeechClip
from . import inputs
from .models import AudioEncoderModel
from .schema import schema
from .stream.run import load
from .types import AudioEncoderType, PreparedAudio, PreparedAudioType


class PrepareAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadEncodeAudio",  # its first name, in saved workflows
            display_name="FlashHead Prepare Audio",
            description=(
                "Prepares speech for the FlashHead samplers, any sample rate and length. The video "
                "gets 25 frames for each second of it."
            ),
            search_aliases=["encode audio", "wav2vec2", "speech", "talking head"],
            inputs=[
                AudioEncoderType.Input("audio_encoder", tooltip="From FlashHead Load Checkpoint."),
                io.Audio.Input(
                    "audio", tooltip="Speech; several channels are mixed to one for the model."
                ),
                io.Combo.Input(
                    "mode",
                    options=list(AUDIO_MODES),
                    default=AUDIO_MODES[0],
                    tooltip="stream: each chunk is encoded with the past few seconds while it is "
                    "sampled; memory stays flat however long the audio. once: the clip is encoded "
                    "whole, here and now; for short clips.",
                ),
                inputs.cache_seconds(
                    "How much of the past is encoded with each chunk in stream mode, in seconds."
                ),
            ],
            outputs=[
                PreparedAudioType.Output(
                    display_name="audio", tooltip="For the FlashHead samplers."
                ),
                io.Int.Output(
                    display_name="frame_count", tooltip="Frames of the video, at 25 a second."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        audio_encoder: AudioEncoderModel,
        audio: dict[str, Any],
        mode: str,
        cache_seconds: float,
    ) -> io.NodeOutput:
        clip = SpeechClip.of(TensorAudio(*_clip(audio, "audio")), cache_seconds)
        if mode == AUDIO_MODES[1]:
            load([audio_encoder.patcher])
            clip = clip.encoded(audio_encoder.network, audio_encoder.geometry)
        return io.NodeOutput(PreparedAudio(clip, audio_encoder, audio), clip.frames)


class SplitSpeakers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadSplitSpeakers",
            display_name="FlashHead Split Speakers",
            description=(
                "One audio per speaker, all of the same length, each for a face of its own; in "
                "silence the face idles. The mix is the video's sound."
            ),
            search_aliases=["talking head", "split channels", "dialogue", "multi speaker"],
            inputs=[
                io.Audio.Input(
                    "audio",
                    tooltip="All speakers, one per channel; or, with tracks, the first speaker.",
                ),
                io.Combo.Input(
                    "source",
                    options=list(SOURCES),
                    default=SOURCES[0],
                    tooltip="channels: left is speaker 1, right is speaker 2. tracks: each audio "
                    "is a speaker, starting together; rates and lengths may differ.",
                ),
                io.Combo.Input(
                    "loudness",
                    options=list(LOUDNESS),
                    default=LOUDNESS[0],
                    tooltip="as recorded: samples stay as they are. equal: all speak equally loud, "
                    "in the mix too when it is made of tracks.",
                ),
                io.Float.Input(
                    "gate_db",
                    default=DEFAULT_GATE,
                    min=GATE_OFF,
                    max=0.0,
                    step=1.0,
                    tooltip="What is quieter becomes true silence in a speaker's audio, so that "
                    "noise does not move the mouth. Raise it if others can be heard in a track; "
                    f"{GATE_OFF:g} is off. The mix is never gated.",
                ),
                *(
                    io.Audio.Input(
                        f"audio_{k}", optional=True, tooltip=f"Speaker {k}, with source = tracks."
                    )
                    for k in range(2, MAX_SPEAKERS + 1)
                ),
            ],
            outputs=[
                *(
                    io.Audio.Output(
                        display_name=f"speaker_{k}",
                        tooltip=f"What speaker {k} says, for a FlashHead Prepare Audio; silence if "
                        "there is no such speaker.",
                    )
                    for k in range(1, MAX_SPEAKERS + 1)
                ),
                io.Audio.Output(display_name="mix", tooltip="All of them: the video's sound."),
            ],
        )

    @classmethod
    def execute(
        cls,
        audio: dict[str, Any],
        source: str,
        loudness: str,
        gate_db: float,
        **others: dict[str, Any] | None,
    ) -> io.NodeOutput:
        # A gap between connected tracks stays a silent speaker, so that numbers keep their place.
        names = ["audio", *(f"audio_{k}" for k in range(2, MAX_SPEAKERS + 1))]
        given = {"audio": audio} | others
        present = [k for k, name in enumerate(names) if given.get(name) is not None]
        tracks = [_clip(given[names[k]], names[k]) for k in present]
        result = split_speakers(tracks, source, loudness, gate_db)
        places = present if source == "tracks" else range(len(result.speakers))
        voices = dict(zip(places, result.speakers, strict=True))
        silence = torch.zeros(result.mix.shape[1])
        outputs = [voices.get(k, silence)[None] for k in range(MAX_SPEAKERS)] + [result.mix]
        return io.NodeOutput(
            *({"waveform": output[None], "sample_rate": result.sample_rate} for output in outputs)
        )


def _clip(audio: Any, name: str) -> tuple[torch.Tensor, int]:
    """Waveform (channels, samples) and rate of an AUDIO that is one clip."""
    waveform = audio["waveform"]
    if waveform.shape[0] != 1:
        raise AudioError(
            f"The {name} is a batch of {waveform.shape[0]} clips; give one clip at a time."
        )
    return waveform[0], audio["sample_rate"]
