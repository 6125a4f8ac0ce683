"""Speech of any length at 16 kHz, with the mouth that belongs to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...geometry import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from ...media.resample import resample_to_speech
from .espeak import Utterance, espeak
from .sentences import SENTENCES, sentences, voices
from .visemes import mouth_track


@dataclass(frozen=True)
class SpeechTrack:
    """waveform (T * 640,) float32 at 16 kHz; openness and width (T,) at 25 fps."""

    waveform: Tensor
    openness: Tensor
    width: Tensor

    @property
    def frames(self) -> int:
        return len(self.openness)


@dataclass(frozen=True)
class SpeechSettings:
    """What a random track is like.

    held_out: voices and sentences that training never uses. pauses: shortest and longest silence
    between sentences, in seconds. noise, music: share of the tracks with noise or tones under the
    speech. silence: share of the tracks without speech.
    """

    held_out: bool = False
    pauses: tuple[float, float] = (0.15, 0.9)
    noise: float = 0.35
    music: float = 0.15
    silence: float = 0.04


def utterance_track(utterance: Utterance) -> SpeechTrack:
    """A spoken sentence at 16 kHz and its mouth, padded with silence to whole frames."""
    waveform = torch.cat(list(resample_to_speech([utterance.waveform], utterance.rate)))
    frames = math.ceil(len(waveform) / SAMPLES_PER_FRAME)
    waveform = torch.nn.functional.pad(waveform, (0, frames * SAMPLES_PER_FRAME - len(waveform)))
    phonemes = [(start / utterance.rate, name) for start, name in utterance.phonemes]
    seconds = len(utterance.waveform) / utterance.rate
    return SpeechTrack(waveform, *mouth_track(phonemes, seconds, frames))


def _uniform(rng: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def speak(rng: torch.Generator, settings: SpeechSettings = SpeechSettings()) -> SpeechTrack:
    """One random sentence by one random voice.

    Raises:
        FlashHeadError: espeak-ng's library is not installed.
    """

    def pick(options: Sequence[str]) -> str:
        return options[int(torch.randint(len(options), (), generator=rng))]

    language = pick(tuple(SENTENCES))
    return utterance_track(
        espeak().say(
            pick(sentences(language, held_out=settings.held_out)),
            pick(voices(language, held_out=settings.held_out)),
            words_per_minute=round(_uniform(rng, 120, 195)),
            pitch=round(_uniform(rng, 25, 75)),
            lilt=round(_uniform(rng, 30, 80)),
        )
    )


def speech_track(
    frames: int, rng: torch.Generator, settings: SpeechSettings = SpeechSettings()
) -> SpeechTrack:
    """A track of `frames` frames: sentences with pauses, at times over noise or music.

    In silence, noise and music the mouth is closed.
    """
    total = torch.zeros(frames * SAMPLES_PER_FRAME)
    openness, width = torch.zeros(frames), torch.full((frames,), 0.5)
    silent = float(torch.rand((), generator=rng)) < settings.silence
    at = round(_uniform(rng, 0, settings.pauses[1]) * FPS)
    while at < frames and not silent:
        sentence = speak(rng, settings)
        length = min(sentence.frames, frames - at)
        part = slice(at, at + length)
        openness[part], width[part] = sentence.openness[:length], sentence.width[:length]
        samples = sentence.waveform[: length * SAMPLES_PER_FRAME]
        total[at * SAMPLES_PER_FRAME :][: len(samples)] = samples
        at += length + round(_uniform(rng, *settings.pauses) * FPS)
    level = _uniform(rng, 0.3, 1.0)
    total = total * (level / total.abs().amax().clamp_min(1e-3) if not silent else 1.0)
    if float(torch.rand((), generator=rng)) < settings.noise:
        total = total + noise(len(total), rng) * _uniform(rng, 0.002, 0.04)
    if float(torch.rand((), generator=rng)) < settings.music:
        total = total + music(len(total), rng) * _uniform(rng, 0.01, 0.08)
    return SpeechTrack(total.clamp(-1, 1), openness, width)


def noise(samples: int, rng: torch.Generator) -> Tensor:
    """Noise of unit size, from white to dull."""
    spectrum = torch.fft.rfft(torch.randn(samples, generator=rng))
    frequency = torch.linspace(0, SAMPLE_RATE / 2, len(spectrum)).clamp_min(20)
    sound = torch.fft.irfft(spectrum * frequency ** -_uniform(rng, 0, 1), n=samples)
    return sound / sound.std().clamp_min(1e-9)


def music(samples: int, rng: torch.Generator) -> Tensor:
    """Tones of a pentatonic scale with overtones, about four a second; unit size at most."""
    sound = torch.zeros(samples)
    length = SAMPLE_RATE // 4
    time = torch.arange(2 * length) / SAMPLE_RATE
    scale = (0, 2, 4, 7, 9, 12, 14, 16)
    for start in range(0, samples, length):
        note = scale[int(torch.randint(len(scale), (), generator=rng))]
        pitch = 220 * 2 ** (note / 12)
        tone = sum(torch.sin(2 * math.pi * pitch * k * time) / k**1.5 for k in (1, 2, 3, 4))
        tone = tone * torch.exp(-5 * time) * (time / 0.01).clamp_max(1)
        part = tone[: samples - start]
        sound[start : start + len(part)] += 0.4 * part
    return sound
