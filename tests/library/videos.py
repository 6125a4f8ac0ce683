"""What the tests of videos share: what to write, and how a player sees it."""

import contextlib

import av
import numpy as np
import torch

from flashhead.media.audio_source import FileAudio

AAC_FRAME = 1024
SIZE = {"height": 48, "width": 64}


def grey(n, level=0.5):
    return torch.full((n, 48, 64, 3), level)


def clicks(rate, seconds, channels=1):
    """A short click at a quarter and three quarters of every second."""
    waveform = torch.zeros(channels, round(rate * seconds))
    for second in np.arange(0.25, seconds - 0.1, 0.5):
        start = round(second * rate)
        waveform[:, start : start + max(2, rate // 4000)] = 0.9
    return waveform


def decode_sound(path):
    """(channels, n) as a player plays it: the container's edit list applied."""
    source = FileAudio(path)
    with av.open(str(path)) as container:
        assert next(container.decode(audio=0)).pts == 0
    return torch.cat(list(source.blocks()), 1).numpy(), source.sample_rate


def decode_pictures(path):
    """Every frame that decodes; a packet cut short is passed over, as players do."""
    frames = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with contextlib.suppress(av.error.InvalidDataError):
                frames += packet.decode()
    return frames


def leftovers(folder, *expected):
    return sorted(p.name for p in folder.iterdir()) == sorted(expected)
