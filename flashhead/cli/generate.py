"""`generate`: a portrait and speech to a video. Every input is checked before a weight is read."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from ..checkpoint.loading import open_checkpoint
from ..dtypes import COMPUTE_DTYPES, torch_name
from ..errors import CheckpointError, FlashHeadError, PortraitError
from ..files import check_output
from ..geometry import FPS, frame_count
from ..image.crop import Box
from ..image.faces import CROPS, frame_portrait
from ..image.portrait import find_portrait, load_portrait, portrait_files
from ..media.audio_source import FileAudio
from ..media.video_writer import VideoWriter, enlarged
from ..models.devices import default_device, precision
from ..pocket import NAME as POCKET
from ..stream.clip import AUDIO_MODES, ClipPlan, switch_notes
from ..stream.generate import generate_clip
from ..stream.settings import Settings
from ..variants import AUDIO_REPOSITORY, REPOSITORY, VARIANTS
from .convert import add_parts, parts_of
from .output import Progress, say

CHECKPOINT_VARIABLE = "FLASHHEAD_CHECKPOINT"
_DTYPES = COMPUTE_DTYPES | {torch_name(dtype): dtype for dtype in COMPUTE_DTYPES.values()}
# Fields of Settings: name, type, what the help calls the value, help.
_SETTINGS = (
    ("seed", int, None, "of the noise"),
    ("steps", int, None, "sampling steps; default: the variant's own"),
    ("shift", float, None, "of the timesteps"),
    ("color_match", float, "STRENGTH", "keep the portrait's colours, 0 to 1"),
    ("guidance", float, "SCALE", "of the audio, 1 is off; default: the variant's own, 1 or 3"),
    ("seam_fade", int, "FRAMES", "fade the jump between chunks, 0 to 15; default: its own"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults, add = Settings(), parser.add_argument
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
    crops = "part of each picture: cover, its middle; auto, around its face; or a box in pixels"
    add("--crop", type=_crop, default=CROPS[0], metavar="cover|auto|X,Y,W,H", help=crops)
    add("--audio", type=Path, required=True, help="speech; any sound file, or a video's sound")
    add("--output", type=Path, required=True, help="the .mp4 to write")
    add(
        "--checkpoint",
        help=f"folder of {REPOSITORY}, a bundle made from it by `convert`, or {POCKET}, which "
        f"comes along (default: the environment's {CHECKPOINT_VARIABLE})",
    )
    add("--variant", choices=VARIANTS, help="default: the only one in the checkpoint")
    add_parts(parser)
    add("--size", type=_size, metavar="WxH", help="default: the checkpoint's own, 512x512 or 96x96")
    larger = "write the frames so many times larger (bicubic), 1 to 8"
    add("--enlarge", type=int, default=1, metavar="TIMES", choices=range(1, 9), help=larger)
    for name, kind, metavar, text in _SETTINGS:
        default = getattr(defaults, name)
        note = "" if default is None else "; default: %(default)s"
        option = f"--{name.replace('_', '-')}"
        add(option, type=kind, default=default, metavar=metavar, help=text + note)
    modes = "encode the audio as it comes, or once as a whole; default: %(default)s"
    add("--audio-mode", choices=AUDIO_MODES, default=AUDIO_MODES[0], help=modes)
    add("--device", help="such as cuda, cuda:1, xpu, mps or cpu; default: the first that is there")
    add("--dtype", choices=_DTYPES, help="default: bf16 where the device has it, else fp16 or fp32")
    add("--quiet", action="store_true", help="say nothing but errors")


def _size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT -> (height, width)."""
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not WIDTHxHEIGHT, such as 512x512")
    return int(match[2]), int(match[1])


def _crop(text: str) -> str | Box:
    """cover, auto, or X,Y,WIDTH,HEIGHT -> a box."""
    if text in CROPS:
        return text
    match = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not cover, auto or a box X,Y,WIDTH,HEIGHT")
    return Box(*map(float, match.groups()))


def _switch(text: str) -> tuple[float, str]:
    """SECONDS=PORTRAIT -> both."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)=(.+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not SECONDS=PORTRAIT, such as 4.5=anna")
    return float(match[1]), match[2]


def run(arguments: argparse.Namespace) -> None:
    settings = Settings(
        size=arguments.size, **{name: getattr(arguments, name) for name, *_ in _SETTINGS}
    )
    device = _device(arguments.device)
    named = arguments.checkpoint or os.environ.get(CHECKPOINT_VARIABLE)
    if not named:
        raise CheckpointError(
            f"No checkpoint: download {REPOSITORY}, and {AUDIO_REPOSITORY} into its folder, and "
            f"give that folder by --checkpoint or in the environment's {CHECKPOINT_VARIABLE}; or "
            f"give {POCKET}, the small one that comes along."
        )
    check_output(arguments.output.absolute())
    checkpoint = open_checkpoint(named, arguments.variant, **parts_of(arguments))
    size = settings.size or checkpoint.native_size
    checkpoint.geometry.check_size(size)
    if any(_same_file(arguments.output, file) for file in (arguments.portrait, arguments.audio)):
        raise FlashHeadError(f"The output {arguments.output} is also an input; give another name.")
    paths = _portraits(arguments.portrait, arguments.switch)
    portrait, *others = (
        load_portrait(path)  # cover is how every portrait is cropped
        if arguments.crop == CROPS[0]
        else frame_portrait(path, size, arguments.crop)
        for path in paths
    )
    switches = {at: other for (at, _), other in zip(arguments.switch, others, strict=True)}
    audio = FileAudio(arguments.audio)
    height, width = (side * arguments.enlarge for side in size)
    writer = VideoWriter(arguments.output, height=height, width=width, fps=FPS, audio=audio)
    frames = frame_count(audio.samples, audio.sample_rate)
    plan = ClipPlan(checkpoint.geometry, frames, arguments.audio_mode == AUDIO_MODES[1])
    count = plan.chunks
    never, late = switch_notes(plan, [at for at, _ in arguments.switch])
    if never:
        raise FlashHeadError(never[0])
    for sentence in late if not arguments.quiet else ():
        say(sentence)

    dtypes = precision(device, checkpoint.vae.config, _DTYPES.get(arguments.dtype))
    if not arguments.quiet:
        for note in dtypes.notes:
            say(f"warning: {note}")
    bundle = checkpoint.load(device, dtypes.generator)
    with Progress(count, quiet=arguments.quiet) as progress:

        def speed() -> str:
            fps = writer.frames / max(progress.seconds, 1e-9)
            return f"{fps:.1f} fps, {fps / FPS:.2f}x real time"

        def on_step(chunk: int, done: int, steps: int) -> None:
            # Decoding and writing count as one step more.
            text = f"chunk {chunk + 1}/{count} {done}/{steps}"
            if writer.frames:
                text += f", {speed()}"
            progress.show(chunk + done / (steps + 1), text)

        chunks = generate_clip(
            bundle, portrait, audio, settings, arguments.audio_mode, switches, on_step
        )
        try:
            with writer:
                for chunk in chunks:
                    writer.write(enlarged(chunk.frames, arguments.enlarge))
                    made = f"chunk {chunk.index + 1}/{count}, {writer.frames} frames, {speed()}"
                    progress.part(chunk.index + 1, made)
        except BaseException:
            if writer.frames:
                file, playable = writer.kept() or ("no file", 0)
                say(f"kept {playable / FPS:.2f} of {frames / FPS:.2f} s in {file}")
            raise
    if not arguments.quiet or writer.path != arguments.output.absolute():
        made = f"{frames} frames at {width}x{height} in {progress.seconds:.1f} s"
        print(f"{writer.path}: {made} ({speed()})")


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # none of that name, or links in a circle
        return False


def _portraits(path: Path, switches: Sequence[tuple[float, str]]) -> list[Path]:
    """The picture to start with, and those to switch to."""
    folder = portrait_files(path) if path.is_dir() else {}

    def named(name: str) -> Path:
        found = find_portrait(folder, name)
        if found is None and folder and not Path(name).is_file():
            raise PortraitError(
                f"The portrait '{name}' is neither a file nor in {path}, which holds "
                f"{', '.join(folder)}."
            )
        return found or Path(name)

    return [next(iter(folder.values()), path), *(named(name) for _, name in switches)]


def _device(name: str | None) -> torch.device:
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    # What torch raises for a device that is misspelt, absent or not compiled in.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise FlashHeadError(f"The device '{name}' cannot be used here: {reason}") from error
    return device
