"""Two seconds of video by the pocket checkpoint, against frames of it that are stored.

`python -m flashhead.doctor.self_test` stores them anew, after a change of the checkpoint or of what
is computed. They are made on the CPU in float32, from the example's samples as if they were at
16 kHz, so that no resampling has a part in them.
"""

from __future__ import annotations

import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checkpoint.loading import load_bundle
from ..dtypes import COMPUTE_DTYPES
from ..examples import SPEECH
from ..geometry import SAMPLE_RATE
from ..models.bundle import Bundle
from ..models.devices import generator_choices, half_dtypes
from ..pocket import NAME, portraits
from ..stream.generate import generate
from .host import Host
from .report import Row, why

STORED = Path(__file__).with_name("frames.png")
_CHUNKS = 2
_COMPARED = (13, 28, 55)  # one of the first chunk, the first and the last of the second
# Mean and largest difference, of 255: three times what a CPU makes, which is 0.09 and 1 in float16,
# 0.85 and 10 in bfloat16. A GPU's float32 may convolve in TF32, which is as exact as float16.
_LIMITS = {torch.float32: (0.3, 4), torch.float16: (0.3, 4), torch.bfloat16: (2.5, 30)}
_NAMES = {dtype: name for name, dtype in COMPUTE_DTYPES.items()}


def self_test(host: Host) -> Iterator[Row]:
    """For each dtype of the device whether the frames are right, and how fast they come."""
    tried = generator_choices(host.device)
    for dtype in tried:
        try:
            yield _compared(host.load(dtype))
        except host.passing:
            raise
        except Exception as error:
            yield Row(_NAMES[dtype], why(error), wrong=True)
    if left := [name for dtype, name in _NAMES.items() if dtype not in tried]:
        yield Row(", ".join(left), f"not tried: {half_dtypes(host.device)[1]}")


def _compared(bundle: Bundle) -> Row:
    frames, speed = make_frames(bundle)
    with Image.open(STORED) as picture:
        stored = torch.from_numpy(np.array(picture)).unflatten(0, (len(_COMPARED), -1))
    difference, dtype, vae = (frames - stored).abs(), bundle.dtype, bundle.vae.dtype
    mean, largest = difference.mean().item(), int(difference.max().item())
    limits = max(_LIMITS[dtype], _LIMITS[vae])
    wrong = not (mean <= limits[0] and largest <= limits[1])
    text = (
        f"{'off' if wrong else 'right'}: mean {mean:.2f} (at most {limits[0]}), largest {largest} "
        f"(at most {limits[1]}); {speed:.1f} frames/s, VAE in {_NAMES[vae]}"
    )
    facts = {"mean": mean, "largest": largest, "limits": limits, "frames_per_second": speed}
    return Row(_NAMES[dtype], text, facts, wrong)


def make_frames(bundle: Bundle) -> tuple[Tensor, float]:
    """Those that are compared, (n, H, W, 3) in whole numbers of 255, and frames a second of the
    last chunk; what is slow only once was in the first."""
    count = _CHUNKS * bundle.geometry.new_samples
    with wave.open(str(SPEECH)) as file:
        samples = np.frombuffer(file.readframes(count), "<i2")
    frames, times = [], []
    for chunk in generate(bundle, portraits()["Ada"], samples, SAMPLE_RATE):
        frames.append(chunk.frames.cpu())
        times.append(time.perf_counter())
    speed = len(frames[-1]) / (times[-1] - times[-2])
    return torch.cat(frames)[list(_COMPARED)].mul(255).round(), speed


def store() -> None:
    """Make the stored frames."""
    frames, _ = make_frames(load_bundle(NAME))
    Image.fromarray(frames.flatten(0, 1).byte().numpy()).save(STORED, optimize=True)


if __name__ == "__main__":
    store()
