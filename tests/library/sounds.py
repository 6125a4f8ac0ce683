"""Sound files that tests make, and what is warned of meanwhile."""

import contextlib
import warnings
import wave

import av
import numpy as np
import pytest
import torch

from flashhead.errors import AudioWarning

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1", 16: "hexadecagonal"}


def tones(channels, samples, rate):
    """One level per channel, so that a swap or a mix shows."""
    tone = torch.sin(2 * torch.pi * 220 * torch.arange(samples) / rate)
    return tone * torch.linspace(0.1, 0.8, channels)[:, None]


@contextlib.contextmanager
def warnings_of():
    """The sentences of audio warnings; others are errors."""
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    assert all(one.category is AudioWarning for one in caught)
    said += [str(one.message) for one in caught]


def gather(source):
    return torch.cat(list(source.blocks()), 1)


def encode(path, waveform, rate, codec, sample_format="fltp"):
    layout = LAYOUTS[len(waveform)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 128_000 * len(waveform)
        # Interleaved: PyAV cannot fill eight planes.
        interleaved = waveform.T.contiguous().reshape(1, -1).numpy()
        frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(format=sample_format, layout=layout, rate=rate)
        for converted in resampler.resample(frame):
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    return path


def write_wav(path, samples, rate=16_000):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.asarray(samples, "<i2").tobytes())
    return path


def hiss(channels, seconds, rate):
    """What no codec makes small."""
    noise = torch.rand(channels, seconds * rate, generator=torch.Generator().manual_seed(0))
    return noise - 0.5


CODECS = {
    "a.wav": ("pcm_s16le", "s16"),
    "a.aiff": ("pcm_s16be", "s16"),
    "a.flac": ("flac", "s16"),
    "a.mp3": ("libmp3lame", "fltp"),
    "a.opus": ("libopus", "flt"),
    "a.mkv": ("aac", "fltp"),
    "a.aac": ("aac", "fltp"),
    "a.m4a": ("aac", "fltp"),
}


def sound_file(folder, name, seconds=4, channels=1, rate=48_000):
    codec, sample_format = CODECS[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    return encode(folder / name, hiss(channels, seconds, rate), rate, codec, sample_format)
