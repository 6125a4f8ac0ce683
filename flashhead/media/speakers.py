"""One audio track for each of several speakers, and their mix for the video."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import AudioError
from .audio_source import TensorAudio
from .resample import resample_stream

MAX_SPEAKERS = 4
SOURCES = ("channels", "tracks")
LOUDNESS = ("as recorded", "equal")

# Levels of the gate, in dB of full scale. The default is a quiet room, well under any speech.
DEFAULT_GATE = -60.0
GATE_OFF = -100.0

_FRAME = 0.02  # seconds: the gate's step, a few periods of the lowest voice
_BEFORE, _AFTER = 5, 15  # frames kept around what is loud: soft onsets, breath and echo
# Loudness, much as ITU-R BS.1770 does: frames under either gate are not speech.
_ABSOLUTE_GATE = 10 ** (-70 / 10)  # power, of full scale
_RELATIVE_GATE = 0.1  # of the mean power of the frames above the other gate


@dataclass(frozen=True)
class Speakers:
    """What `split_speakers` gives: float32 at `sample_rate` Hz, equally long, full scale ±1.

    speakers: a (samples,) track for each. mix: (channels, samples), all of them together.
    """

    speakers: tuple[Tensor, ...]
    mix: Tensor
    sample_rate: int


def split_speakers(
    audio: Sequence[tuple[Tensor, int]],
    source: str = "channels",
    loudness: str = "as recorded",
    gate_db: float = DEFAULT_GATE,
) -> Speakers:
    """A mono track per speaker, all starting together and equally long.

    audio: pairs of a waveform (channels, samples) and its sample rate in Hz. source: "channels",
    one audio whose channel k is speaker k and which itself is the mix; or "tracks", one audio per
    speaker: each is resampled to the highest rate and padded with silence to the longest, its
    channels' mean (or the loudest, where they cancel) is the speaker's track, and the sum of all
    is the mix (scaled down only if it would clip). At most `MAX_SPEAKERS`.

    loudness: "as recorded" leaves samples as they are; "equal" brings the parts in which each
    speaks to the same RMS (also in a sum of tracks, never in a mix of channels).

    gate_db: what stays under this level (dB of full scale, RMS) becomes digital silence in a
    speaker's track, never in the mix: the audio encoder normalises its input, so that noise or
    another's voice in a silent track would be amplified and move the mouth. `GATE_OFF`: off.

    Raises `AudioError` for no, too many or unusable audio, or unknown options.
    """
    for name, value, options in (("source", source, SOURCES), ("loudness", loudness, LOUDNESS)):
        if value not in options:
            raise AudioError(f"The {name} is {value!r}; expected {' or '.join(options)}.")
    if not GATE_OFF <= gate_db <= 0:
        raise AudioError(f"The gate is {gate_db:g} dB; expected {GATE_OFF:g} (off) to 0.")
    if not audio:
        raise AudioError("No audio is given; connect at least one.")
    clips = [TensorAudio(waveform, rate) for waveform, rate in audio]
    if source == "channels" and len(clips) > 1:
        raise AudioError(
            f"There are {len(clips)} audios but speakers come from channels of one; choose "
            "tracks, or connect one audio."
        )
    rate = max(clip.sample_rate for clip in clips)
    waves = [_at_rate(clip, rate) for clip in clips]
    longest = max(wave.shape[1] for wave in waves)
    waves = [F.pad(wave, (0, longest - wave.shape[1])) for wave in waves]
    voices = waves[0] if source == "channels" else _mixed(clips, waves)
    if len(voices) > MAX_SPEAKERS:
        raise AudioError(
            f"There are {len(voices)} speakers in the {source}; at most {MAX_SPEAKERS} are made."
        )
    gains = _equal_gains(voices, rate) if loudness == "equal" else torch.ones(len(voices))
    mix = waves[0] if source == "channels" else _summed(waves, gains, voices)
    gated = (_gated(voice, rate, gate_db) for voice in voices)
    speakers = tuple(voice * gain for voice, gain in zip(gated, gains, strict=True))
    return Speakers(speakers, mix, rate)


def _at_rate(clip: TensorAudio, rate: int) -> Tensor:
    """The clip as (channels, ceil(samples·rate/sample_rate)); sample 0 stays at time 0."""
    own, wave = clip.sample_rate, torch.cat(list(clip.blocks()), 1)
    if own == rate:
        return wave
    channels = [resample_stream(one.split(own), own, rate) for one in wave]
    return torch.stack([torch.cat(list(blocks)) for blocks in channels])


def _mixed(clips: list[TensorAudio], waves: list[Tensor]) -> Tensor:
    """(speakers, samples): each track as one channel."""
    for clip in clips:
        clip.mix.warn()
    return torch.stack([clip.mix(wave) for clip, wave in zip(clips, waves, strict=True)])


def _summed(waves: list[Tensor], gains: Tensor, voices: Tensor) -> Tensor:
    """Stereo if any track is, the others in its middle; under full scale."""
    channels = max(2 if wave.shape[0] == 2 else 1 for wave in waves)
    mix = torch.zeros(channels, waves[0].shape[1])
    for wave, gain, voice in zip(waves, gains, voices, strict=True):
        mix += gain * (wave if wave.shape[0] == 2 else voice)
    return mix / mix.abs().max().clamp_min(1)


def _frame_powers(voice: Tensor, rate: int) -> tuple[Tensor, int]:
    """The mean square of each frame, without the recording's DC offset, and a frame's samples."""
    size = max(1, round(_FRAME * rate))
    square = (voice - voice.mean()).square()
    missing = -len(voice) % size
    powers = F.pad(square, (0, missing)).view(-1, size).sum(1)
    counts = torch.full_like(powers, size)
    counts[-1] -= missing
    return powers / counts, size


def _equal_gains(voices: Tensor, rate: int) -> Tensor:
    """(speakers,): gains that bring each to the mean level of all, none over full scale."""
    levels = []
    for voice in voices:
        powers, _ = _frame_powers(voice, rate)
        audible = powers[powers > _ABSOLUTE_GATE]
        spoken = audible[audible > _RELATIVE_GATE * audible.mean()]
        levels.append(spoken.mean().sqrt().item() if len(spoken) else 0.0)
    speaking = [level for level in levels if level > 0]
    if not speaking:
        return torch.ones(len(voices))
    target = math.exp(sum(map(math.log, speaking)) / len(speaking))
    gains = torch.tensor([target / level if level > 0 else 1.0 for level in levels])
    peaks = voices.abs().amax(1)
    loudest = (gains * peaks)[torch.tensor(levels) > 0].max()
    # A recording that was over full scale already sets its own limit.
    limit = peaks.max().clamp_min(1)
    return gains * (limit / loudest).clamp_max(1)


def _gated(voice: Tensor, rate: int, gate_db: float) -> Tensor:
    """Silences a voice where it stays under `gate_db` for a while; the rest stays as it is.

    The gate opens `_BEFORE` frames before what is loud and closes `_AFTER` frames after it, and
    the fade takes one frame outside of that, so that neither speech nor its soft ends change.
    """
    if gate_db <= GATE_OFF:
        return voice
    powers, size = _frame_powers(voice, rate)
    loud = (powers > 10 ** (gate_db / 10)).float()
    # A frame is open if one of the `_AFTER` before it or the `_BEFORE` after it is loud.
    wide = F.pad(loud[None, None], (_AFTER, _BEFORE))
    opened = F.max_pool1d(wide, _AFTER + 1 + _BEFORE, stride=1)[0, 0]
    # The gain at the frames' ends, which is exactly 1 or 0: open where both neighbours are.
    wide = torch.cat((opened[:1], opened, opened[-1:]))
    bounds = torch.minimum(wide[1:], wide[:-1])[:, None]
    gain = torch.lerp(bounds[:-1], bounds[1:], torch.arange(size) / size)
    return voice * gain.flatten()[: len(voice)]
