"""Split Speakers: channels or tracks -> an AUDIO per speaker on one timeline, and the mix."""

import torch
from comfy_api.latest import io

from ..flashhead.errors import AudioError
from ..flashhead.media.speakers import (
    DEFAULT_GATE,
    GATE_OFF,
    LOUDNESS,
    MAX_SPEAKERS,
    SOURCES,
    split_speakers,
)
from .schema import schema


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
                    "noise does not move the mouth. Raise it if others are heard in a track; "
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
                        tooltip=f"What speaker {k} says, for a FlashHead Encode Audio; silence if "
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
        audio,
        source: str,
        loudness: str,
        gate_db: float,
        audio_2=None,
        audio_3=None,
        audio_4=None,
    ) -> io.NodeOutput:
        # A gap between connected tracks stays a silent speaker, so that numbers keep their place.
        tracks = [audio, audio_2, audio_3, audio_4]
        present = [k for k, track in enumerate(tracks) if track is not None]
        result = split_speakers([_clip(tracks[k], k) for k in present], source, loudness, gate_db)
        places = present if source == "tracks" else range(len(result.speakers))
        voices = dict(zip(places, result.speakers, strict=True))
        silence = torch.zeros(result.mix.shape[1])
        tracks = [voices.get(k, silence)[None] for k in range(MAX_SPEAKERS)] + [result.mix]
        return io.NodeOutput(
            *({"waveform": track[None], "sample_rate": result.sample_rate} for track in tracks)
        )


def _clip(audio: dict, index: int) -> tuple[torch.Tensor, int]:
    waveform = audio["waveform"]
    if waveform.shape[0] != 1:
        name = "audio" if index == 0 else f"audio_{index + 1}"
        raise AudioError(
            f"The {name} is a batch of {waveform.shape[0]} clips; give one clip at a time."
        )
    return waveform[0], audio["sample_rate"]
