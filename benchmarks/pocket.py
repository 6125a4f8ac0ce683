"""The pocket checkpoint as a user meets it: how soon the first frames are there, then frames a
second, from speech to an mp4 with sound.

    python benchmarks/pocket.py --seconds 60 --json out.json

Speech is repeated for longer videos. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from flashbench.report import describe_machine, rounded

import flashhead
from flashhead import pocket
from flashhead.demo import keep_freed_memory
from flashhead.examples import SPEECH
from flashhead.media.audio_source import FileAudio, TensorAudio
from flashhead.media.video_writer import VideoWriter, enlarged


def speech(seconds: float) -> TensorAudio:
    """The example's speech, again and again."""
    source = FileAudio(SPEECH)
    once = torch.cat(list(source.blocks()), dim=-1)
    samples = round(seconds * source.sample_rate)
    times = -(-samples // once.shape[-1])
    return TensorAudio(once.repeat(1, times)[:, :samples], source.sample_rate)


def measure(seconds: float, device: str, dtype: torch.dtype, enlarge: int) -> dict[str, float]:
    """Seconds from start to bundle and to the first frames; frames a second, of all and after the
    first chunk; the median chunk."""
    audio = speech(seconds)
    portrait = next(iter(pocket.portraits().values()))
    start = time.perf_counter()
    bundle = flashhead.load_bundle(pocket.NAME, device=device, dtype=dtype)
    loaded = time.perf_counter()
    height, width = (side * enlarge for side in bundle.native_size)
    ends, frames = [], 0
    with (
        tempfile.TemporaryDirectory() as folder,
        VideoWriter(
            Path(folder) / "video.mp4", height=height, width=width, fps=25, audio=audio
        ) as video,
    ):
        for chunk in flashhead.generate(bundle, portrait, audio):
            pixels = chunk.frames.cpu()
            ends.append(time.perf_counter())
            frames += len(pixels)
            video.write(enlarged(pixels, enlarge))
    done = time.perf_counter()
    chunks = [after - before for before, after in zip(ends, ends[1:], strict=False)]
    return {
        "load": loaded - start,
        "first_frames": ends[0] - loaded,
        "chunk": statistics.median(chunks),
        "frames": frames,
        "fps": frames / (done - loaded),
        "fps_after_first_chunk": (frames - bundle.geometry.new_frames) / (done - ends[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, help="of the processor")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--enlarge", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the result here too")
    given = parser.parse_args()
    keep_freed_memory()
    if given.threads:
        torch.set_num_threads(given.threads)
    results = measure(given.seconds, given.device, getattr(torch, given.dtype), given.enlarge)
    report = rounded(
        {
            "machine": describe_machine(torch.device(given.device)),
            "settings": {
                "checkpoint": pocket.NAME,
                "seconds": given.seconds,
                "dtype": given.dtype,
                "enlarge": given.enlarge,
            },
            "results": results,
        }
    )
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
