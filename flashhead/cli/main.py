"""The command line: `python -m flashhead generate`, `convert` and `info`.

Exit status: 0 done, 1 bad input or a run that failed (one line on stderr), 2 wrong usage, 130
interrupted; what was finished of a video by then is kept, playable, and of a bundle nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import torch
from PIL import Image

from ..checkpoint.conversion import convert
from ..checkpoint.info import describe
from ..checkpoint.layout import GENERATOR_FOLDERS
from ..checkpoint.loading import load_bundle, open_checkpoint
from ..dtypes import STORAGE_DTYPES
from ..errors import CheckpointError, FlashHeadError, PortraitError, PortraitWarning
from ..geometry import FPS, frame_count
from ..image.portrait import load_portrait, load_portraits
from ..media.audio_source import FileAudio
from ..media.video_writer import VideoWriter, enlarged
from ..pocket import NAME as POCKET
from ..stream.generate import AUDIO_MODES, chunk_count, generate
from ..stream.settings import Settings
from ..variants import AUDIO_REPOSITORY, REPOSITORY
from .progress import ByteProgress, Progress

CHECKPOINT_VARIABLE = "FLASHHEAD_CHECKPOINT"
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; wrong usage raises argparse's `SystemExit(2)`."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except torch.cuda.OutOfMemoryError:
        _say("error: the device ran out of memory; try a smaller --size or --dtype bfloat16")
        return 1
    except (FlashHeadError, OSError, av.FFmpegError) as error:
        _say(f"error: {' '.join(str(error).split())}")
        return 1
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flashhead", description="SoulX-FlashHead: a portrait and speech to a talking head."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_generate(commands.add_parser("generate", help="make a video"))
    _add_convert(commands.add_parser("convert", help="put a checkpoint into one file"))
    info = commands.add_parser("info", help="say what a checkpoint is, from its headers")
    info.add_argument("path", help="published folder, component folder, file or bundle")
    info.add_argument(
        "--sha256", action="store_true", help="checksums too, for which files are read"
    )
    info.set_defaults(
        command=lambda arguments: print(describe(arguments.path, sha256=arguments.sha256))
    )
    return parser


def _add_convert(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="SRC", help="published folder, or another bundle")
    add("destination", type=Path, metavar="DST", help="the .safetensors file to write")
    add("--variant", choices=GENERATOR_FOLDERS, help="default: the only one in the source")
    add(
        "--dtype",
        choices=STORAGE_DTYPES,
        default="bf16",
        help="of the matrices; default: %(default)s",
    )
    add("--force", action="store_true", help="replace a file that is there")
    _add_places(parser)
    add("--quiet", action="store_true", help="say nothing but errors")
    parser.set_defaults(command=convert_checkpoint)


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--vae", type=Path, help="the VAE's weight file or folder, where it is somewhere else"
    )
    parser.add_argument(
        "--audio-encoder", type=Path, help="wav2vec2's folder, where it is somewhere else"
    )


def _add_generate(parser: argparse.ArgumentParser) -> None:
    defaults = Settings()
    add = parser.add_argument
    add("--portrait", type=Path, required=True, help="picture of a face, or a folder of them")
    add(
        "--switch",
        type=_switch,
        action="append",
        default=[],
        metavar="SECONDS=PORTRAIT",
        help="go on with another picture from then on: a file, or a name in --portrait's folder "
        "(which starts with its first); may be given several times",
    )
    add("--audio", type=Path, required=True, help="speech; any sound file, or a video's sound")
    add("--output", type=Path, required=True, help="the .mp4 to write")
    add(
        "--checkpoint",
        help=f"folder of {REPOSITORY}, a bundle made from it by `convert`, or {POCKET}, which "
        f"comes along (default: the environment's {CHECKPOINT_VARIABLE})",
    )
    add("--variant", choices=GENERATOR_FOLDERS, help="default: the only one in the checkpoint")
    _add_places(parser)
    add(
        "--size",
        type=_size,
        default=defaults.size,
        metavar="WxH",
        help="default: the checkpoint's own, 512x512 and for the pocket one 96x96",
    )
    add(
        "--enlarge",
        type=int,
        default=1,
        metavar="TIMES",
        choices=range(1, 9),
        help="write the frames so many times larger (bicubic), 1 to 8",
    )
    add("--seed", type=int, default=defaults.seed, help="default: %(default)s")
    add(
        "--steps",
        type=int,
        default=defaults.steps,
        help="sampling steps; default: the variant's own",
    )
    add(
        "--shift", type=float, default=defaults.shift, help="of the timesteps; default: %(default)s"
    )
    add(
        "--color-match",
        type=float,
        default=defaults.color_match,
        metavar="STRENGTH",
        help="keep the portrait's colours, 0 to 1; default: %(default)s",
    )
    add(
        "--guidance",
        type=float,
        metavar="SCALE",
        help="of the audio; 1 is off; default: the variant's own, 1 or the teacher's 3",
    )
    add(
        "--audio-mode",
        choices=AUDIO_MODES,
        default=AUDIO_MODES[0],
        help="hear the audio as it comes, or once as a whole; default: %(default)s",
    )
    add(
        "--seam-fade",
        type=int,
        metavar="FRAMES",
        help="let the jump where a chunk begins fade out over so many frames, 0 (off) to 15; "
        "default: the checkpoint's own, 0 and for the pocket one 6",
    )
    add("--device", help="such as cuda, cuda:1, mps or cpu; default: the first that is there")
    add(
        "--dtype",
        choices=_DTYPES,
        help="default: bfloat16 on cuda (float16 where it has none), float32 elsewhere",
    )
    add("--quiet", action="store_true", help="say nothing but errors")
    parser.set_defaults(command=generate_video)


def _size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT -> (height, width)."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not WIDTHxHEIGHT, such as 512x512")
    return int(match[2]), int(match[1])


def _switch(text: str) -> tuple[float, str]:
    """SECONDS=PORTRAIT -> both."""
    seconds, equals, name = text.partition("=")
    try:
        at = float(seconds)
    except ValueError:
        at = -1.0
    if not (equals and name and 0 <= at < float("inf")):
        raise argparse.ArgumentTypeError(f"'{text}' is not SECONDS=PORTRAIT, such as 4.5=anna")
    return at, name


def _portraits(
    path: Path, switches: Sequence[tuple[float, str]]
) -> tuple[Image.Image, dict[float, Image.Image]]:
    """The picture to start with, and those to switch to by second."""
    folder = load_portraits(path) if path.is_dir() else {}
    first = next(iter(folder.values())) if folder else load_portrait(path)

    def named(name: str) -> Image.Image:
        if name in folder:
            return folder[name]
        if folder and not Path(name).is_file():
            raise PortraitError(
                f"The portrait '{name}' is neither a file nor in {path}, which holds "
                f"{', '.join(folder)}."
            )
        return load_portrait(name)

    return first, {at: named(name) for at, name in switches}


def generate_video(arguments: argparse.Namespace) -> None:
    """The `generate` command; every input is checked before any weight is read."""
    settings = Settings(
        size=arguments.size,
        seed=arguments.seed,
        steps=arguments.steps,
        shift=arguments.shift,
        color_match=arguments.color_match,
        guidance=arguments.guidance,
        seam_fade=arguments.seam_fade,
    )
    device = _device(arguments.device)
    dtype = _DTYPES[arguments.dtype] if arguments.dtype else _default_dtype(device)
    checkpoint = _checkpoint(arguments.checkpoint)
    places = {"vae": arguments.vae, "audio_encoder": arguments.audio_encoder}
    opened = open_checkpoint(checkpoint, arguments.variant, **places)
    geometry = opened.geometry
    size = settings.size or opened.native_size
    geometry.check_size(size)
    _check_output(arguments.output, (arguments.portrait, arguments.audio))
    portrait, switches = _portraits(arguments.portrait, arguments.switch)
    audio = FileAudio(arguments.audio)
    height, width = (side * arguments.enlarge for side in size)
    writer = VideoWriter(arguments.output, height=height, width=width, fps=FPS, audio=audio)

    bundle = load_bundle(checkpoint, opened.variant, device=device, dtype=dtype, **places)
    frames = frame_count(audio.samples, audio.sample_rate)
    stream = None if arguments.quiet else sys.stderr
    progress = Progress(stream, chunk_count(geometry, frames, arguments.audio_mode))
    chunks = generate(
        bundle,
        portrait,
        audio,
        **dataclasses.asdict(settings),
        audio_mode=arguments.audio_mode,
        switches=switches,
        on_step=progress.step,
    )
    try:
        with writer, _warnings_in_lines():
            for chunk in chunks:
                writer.write(enlarged(chunk.frames, arguments.enlarge))
                progress.chunk(chunk.index, len(chunk.frames))
    except BaseException:
        progress.close()
        if writer.frames:
            _say(f"kept {writer.frames / FPS:.2f} of {frames / FPS:.2f} s in {arguments.output}")
        raise
    progress.close()
    if not arguments.quiet:
        made = f"{frames} frames at {width}x{height} in {progress.seconds:.1f} s"
        print(f"{arguments.output}: {made} ({progress.speed})")


@contextmanager
def _warnings_in_lines() -> Iterator[None]:
    """Say what is doubtful about a portrait as one line on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", PortraitWarning)
        warnings.showwarning = lambda text, *_: _say(f"warning: {text}")
        yield


def convert_checkpoint(arguments: argparse.Namespace) -> None:
    """The `convert` command."""
    progress = ByteProgress(None if arguments.quiet else sys.stderr)
    try:
        size = convert(
            arguments.source,
            arguments.destination,
            arguments.variant,
            arguments.dtype,
            vae=arguments.vae,
            audio_encoder=arguments.audio_encoder,
            overwrite=arguments.force,
            on_bytes=progress.update,
        )
    finally:
        progress.close()
    if not arguments.quiet:
        print(f"{arguments.destination}: {size / 1e9:.2f} GB in {progress.seconds:.1f} s")


def _checkpoint(named: str | None) -> str:
    named = named or os.environ.get(CHECKPOINT_VARIABLE)
    if named:
        return named
    raise CheckpointError(
        f"No checkpoint: download {REPOSITORY}, and {AUDIO_REPOSITORY} into its folder, and give "
        f"that folder by --checkpoint or in the environment's {CHECKPOINT_VARIABLE}; or give "
        f"{POCKET}, the small one that comes along."
    )


def _device(name: str | None) -> torch.device:
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    # What torch raises for a device that is misspelt, absent or not compiled in.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise FlashHeadError(f"The device '{name}' cannot be used here: {reason}") from error
    return device


def _default_dtype(device: torch.device) -> torch.dtype:
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _check_output(output: Path, inputs: Sequence[Path]) -> None:
    for path in inputs:
        if output.resolve() == path.resolve():
            raise FlashHeadError(f"The output {output} is also an input; give another name.")
