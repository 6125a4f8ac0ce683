"""Audio nodes: Prepare Audio, which the samplers need, and Split Speakers."""

import torch
from comfy_api.latest import io

from ..flashhead.media import speakers
from ..flashhead.media.audio_source import TensorAudio
from ..flashhead.models.memory import audio_memory
from ..flashhead.stream.clip import AUDIO_MODES, SpeechClip
from . import inputs
from .models import AudioEncoderModel
from .progress import shown_warnings
from .schema import choice, number, output, schema
from .stream.run import load
from .types import Audio, AudioEncoderType, PreparedAudio, PreparedAudioType, single_clip

_SPEAKERS = range(1, speakers.MAX_SPEAKERS + 1)


class PrepareAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadEncodeAudio",  # its first name, in saved workflows
            display_name="FlashHead Prepare Audio",
            description="Prepares speech for the FlashHead samplers, any sample rate and length. "
            "The video gets 25 frames for each second of it.",
            search_aliases=["encode audio", "wav2vec2", "speech", "talking head"],
            inputs=[
                AudioEncoderType.Input("audio_encoder", tooltip="From FlashHead Load Checkpoint."),
                io.Audio.Input(
                    "audio", tooltip="Speech; several channels are mixed to one for the model."
                ),
                choice(
                    "mode",
                    AUDIO_MODES,
                    "stream: each chunk is encoded with the past few seconds while it is sampled; "
                    "memory stays flat however long the audio. once: the clip is encoded whole, "
                    "here and now; for short clips.",
                ),
                inputs.cache_seconds(
                    "How much of the past is encoded with each chunk in stream mode, in seconds."
                ),
            ],
            outputs=[
                output(PreparedAudioType, "audio", "For the FlashHead samplers."),
                output(io.Int, "frame_count", "Frames of the video, at 25 a second."),
            ],
        )

    @classmethod
    def execute(
        cls, audio_encoder: AudioEncoderModel, audio: Audio, mode: str, cache_seconds: float
    ) -> io.NodeOutput:
        with shown_warnings():
            source = TensorAudio(*single_clip(audio, "audio"))
            clip = SpeechClip.of(source, cache_seconds)
        if mode == AUDIO_MODES[1]:
            needed = audio_memory(audio_encoder.network.config, len(clip.samples))
            load([audio_encoder.patcher], needed)
            clip = clip.encoded(audio_encoder.network, audio_encoder.geometry)
        return io.NodeOutput(PreparedAudio(clip, audio_encoder, source), clip.frames)


class SplitSpeakers(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadSplitSpeakers",
            display_name="FlashHead Split Speakers",
            description="One audio per speaker, all of the same length, each for a face of its "
            "own; in silence the face idles. The mix is the video's sound.",
            search_aliases=["talking head", "split channels", "dialogue", "multi speaker"],
            inputs=[
                io.Audio.Input(
                    "audio",
                    tooltip="All speakers, one per channel; or, with tracks, the first speaker.",
                ),
                choice(
                    "source",
                    speakers.SOURCES,
                    "channels: left is speaker 1, right is speaker 2. tracks: each audio is a "
                    "speaker, starting together; rates and lengths may differ.",
                ),
                choice(
                    "loudness",
                    speakers.LOUDNESS,
                    "as recorded: samples stay as they are. equal: all speak equally loud, in the "
                    "mix too when it is made of tracks.",
                ),
                number(
                    "gate_db",
                    (speakers.DEFAULT_GATE, speakers.GATE_OFF, 0.0, 1.0),
                    "What is quieter becomes true silence in a speaker's audio, so that noise does "
                    "not move the mouth. Raise it if others can be heard in a track; "
                    f"{speakers.GATE_OFF:g} is off. The mix is never gated.",
                ),
                *(
                    io.Audio.Input(
                        f"audio_{k}", optional=True, tooltip=f"Speaker {k}, with source = tracks."
                    )
                    for k in _SPEAKERS[1:]
                ),
            ],
            outputs=[
                *(
                    output(
                        io.Audio,
                        f"speaker_{k}",
                        f"What speaker {k} says, for a FlashHead Prepare Audio; silence if there "
                        "is no such speaker.",
                    )
                    for k in _SPEAKERS
                ),
                output(io.Audio, "mix", "All of them: the video's sound."),
            ],
        )

    @classmethod
    def execute(
        cls, audio: Audio, source: str, loudness: str, gate_db: float, **others: Audio | None
    ) -> io.NodeOutput:
        names = ["audio", *(f"audio_{k}" for k in _SPEAKERS[1:])]
        given = [(name, ({"audio": audio} | others).get(name)) for name in names]
        tracks = {name: single_clip(track, name) for name, track in given if track is not None}
        with shown_warnings():
            result = speakers.split_speakers([*tracks.values()], source, loudness, gate_db)
        # A gap between connected tracks stays a silent speaker: the others keep their numbers.
        own = tracks if source == "tracks" else names
        voices = dict(zip(own, result.speakers, strict=False))
        silence = torch.zeros(result.mix.shape[1])
        outputs = [voices.get(name, silence)[None] for name in names] + [result.mix]
        return io.NodeOutput(
            *({"waveform": output[None], "sample_rate": result.sample_rate} for output in outputs)
        )
