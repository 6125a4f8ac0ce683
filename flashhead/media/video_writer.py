"""Writes frames and sound to an mp4 as they are made, in memory that does not grow (DESIGN §6)."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.container import OutputContainer

from ..errors import FlashHeadError, OutputError, SizeError
from ..files import check_output, hidden_file, put, stamp
from .audio_source import AudioSource

_log = logging.getLogger(__name__)

# The first that works: a PyAV build may lack libx264, the last three need the system's or a GPU's.
H264_ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf", "h264_nvenc")
_BT709 = 1  # H.273 code point, the same for primaries, transfer and matrix
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG
_KEYFRAME_SECONDS = 2
_CONVERT_AT_ONCE = 16  # frames, bounds what the conversion to YUV holds

_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_AAC_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_AAC_BITS_PER_CHANNEL = 128_000
_AAC_BITS_PER_SAMPLE = 6  # the format's ceiling, which low rates reach first


def enlarged(frames: torch.Tensor, times: int) -> torch.Tensor:
    """Frames (n, H, W, 3) in [0, 1], bicubically enlarged to (n, times·H, times·W, 3)."""
    if times == 1:
        return frames
    grown = F.interpolate(frames.movedim(3, 1), scale_factor=times, mode="bicubic")
    return grown.movedim(1, 3).clamp(0, 1)


class VideoWriter:
    """Writes H.264 and AAC to an mp4 as frames arrive; use it as a context manager.

    `path`: the .mp4 to make; an existing file stays until the new one is complete. `height`,
    `width`: even, in pixels. `audio`: written whole, from time 0, at its own sample rate and
    channels or the nearest that AAC supports. `crf`: quality of libx264, 0 (lossless) to 51.
    `preset`: speed of libx264, ultrafast to veryslow.

    Until the end everything is in `.NAME.RANDOM.partial.mp4` beside `path`, which plays even after
    a crash; the end takes as much room again, for a copy with its index first. Leaving the `with`
    by an exception keeps what was written: `path` is then a shorter video whose sound ends with
    its last frame, and the exception goes on. If no frame was written, no file is left. Where the
    end fails too, the partial file stays; `kept` says where how much is.

    If another run wrote `path` meanwhile, that stays: afterwards `path` is this one's name, NAME_2.

    Raises `SizeError` for an odd size, `OutputError` for a path that cannot be written, and
    `FlashHeadError` for another extension or a PyAV without an H.264 encoder.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        height: int,
        width: int,
        fps: int | Fraction = 25,
        audio: AudioSource | None = None,
        crf: int = 17,
        preset: str = "veryfast",
    ) -> None:
        self.path = Path(path).absolute()
        if self.path.suffix.lower() != ".mp4":
            raise FlashHeadError(f"{self.path} is not an .mp4; give a name that ends in .mp4")
        check_output(self.path)
        if min(height, width) < 2 or height % 2 or width % 2:
            raise SizeError(f"a video cannot be {width}x{height}; both sizes must be even")
        if fps <= 0:
            raise FlashHeadError(f"fps is {fps}; it must be above 0")
        self.height, self.width = height, width
        self.fps = Fraction(fps).limit_denominator(1001)
        self.frames = 0  # written so far
        self._encoder, self._options = _h264_encoder(height, width, self.fps, crf, preset)
        self._source = audio
        self._container: OutputContainer | None = None
        self._seen = stamp(self.path)

    def __enter__(self) -> VideoWriter:
        self.frames = self._packets = 0
        self._placed = False
        with self._named_errors(), hidden_file(self.path, ".partial.mp4") as reserved:
            self._partial = Path(reserved.name)
        # Fragments of a second, so that a killed process loses little more; the header waits for
        # the first one because only then are the encoders' delays known.
        fragments = {"movflags": "frag_keyframe+delay_moov", "frag_duration": "1000000"}
        container = av.open(str(self._partial), "w", format="mp4", options=fragments)
        try:
            video = container.add_stream(self._encoder, rate=self.fps, options=self._options)
            assert isinstance(video, av.VideoStream)
            self._video = video
            _describe(video.codec_context, self.height, self.width, self.fps)
            self._audio = None
            if self._source is not None:
                self._audio = _AudioTrack(container, self._mux, self._source)
        except BaseException:
            self._discard(container)
            raise
        self._container = container
        return self

    def write(self, frames: torch.Tensor) -> None:
        """Encodes `frames`, (n, H, W, 3) floats in [0, 1] on any device, and their sound.

        Values outside [0, 1] are clamped. Raises `SizeError` for another shape, `FlashHeadError`
        for integers, `OutputError` for a disk that takes no more.
        """
        if self._container is None:
            raise RuntimeError("the writer is not open; call write inside its `with` block")
        if tuple(frames.shape[1:]) != (self.height, self.width, 3):
            raise SizeError(
                f"frames have shape {tuple(frames.shape)}; this video takes (n, {self.height}, "
                f"{self.width}, 3)"
            )
        if not frames.is_floating_point():
            raise FlashHeadError(f"frames are {frames.dtype}; give floats in [0, 1]")
        with self._named_errors():
            self._partial.stat()  # FFmpeg writes on into a file that was deleted
            for part in frames.split(_CONVERT_AT_ONCE):
                for picture in rgb_to_yuv420(part).cpu().numpy():
                    frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
                    frame.pts, frame.time_base = self.frames, 1 / self.fps
                    self._mux(self._video.encode(frame))
                    self.frames += 1
                    if self._audio:
                        self._audio.write_until(Fraction(self.frames) / self.fps)

    def kept(self) -> tuple[Path, int] | None:
        """After the `with`: the file with what was written, and how many frames of it can be
        played, counted in the file; None where nothing is left."""
        for path in [self._partial, self.path] if self._placed else [self._partial]:
            frames, _ = _count_packets(path)
            if frames:
                return path, frames
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._container is not None
        try:
            if not self.frames:
                self._discard(self._container)
                return
            with self._named_errors():
                self._finish(self._container, whole=kind is None)
        except Exception as error:
            if kind is None:
                raise
            _log.warning("%s", error)  # the first exception matters more than this one
        finally:
            self._container = None

    def _mux(self, packets: Sequence[av.Packet]) -> None:
        assert self._container is not None
        self._container.mux(packets)
        self._packets += len(packets)

    def _finish(self, container: OutputContainer, *, whole: bool) -> None:
        """Ends the partial file and copies it to `path`, with the index at its start."""
        with container:
            self._mux(self._video.encode(None))
            if self._audio:
                self._audio.finish(whole=whole)
        with hidden_file(self.path, ".final.mp4") as reserved:
            final = Path(reserved.name)
        try:
            copied = _remux(self._partial, final)
            # FFmpeg does not say so when the last bytes of a file do not fit on the disk.
            if copied < self._packets * whole or _count_packets(final)[1] < copied:
                raise OSError(None, "the disk did not take all of it")
            self.path = put(final, self.path, self._seen, numbered=True)
        except BaseException:
            final.unlink(missing_ok=True)
            raise
        self._placed, self._seen = True, stamp(self.path)
        with contextlib.suppress(OSError):  # the video is whole, and where it should be
            self._partial.unlink()

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """What FFmpeg and the disk raise, as a sentence that names the video."""
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            reason = error.strerror or error
            raise OutputError(f"{self.path} could not be written: {reason}") from error

    def _discard(self, container: OutputContainer) -> None:
        with contextlib.suppress(av.FFmpegError, OSError):
            container.close()
        self._partial.unlink(missing_ok=True)


class _AudioTrack:
    """The AAC stream of an open container, which reads its source only as far as it is told."""

    def __init__(
        self,
        container: OutputContainer,
        mux: Callable[[Sequence[av.Packet]], None],
        source: AudioSource,
    ) -> None:
        self._mux = mux
        self._rate = source.sample_rate
        self._layout = _AAC_LAYOUTS.get(source.channels, "mono")
        self._blocks: Iterator[torch.Tensor] = source.blocks()
        self._held = np.empty((source.channels, 0), np.float32)
        self._given = 0
        # The nearest rate that keeps all the sound, else the highest.
        rate = min((r for r in _AAC_RATES if r >= self._rate), default=max(_AAC_RATES))
        self._stream = container.add_stream("aac", rate=rate, layout=self._layout)
        ceiling = min(_AAC_BITS_PER_CHANNEL, _AAC_BITS_PER_SAMPLE * rate)
        self._stream.bit_rate = ceiling * self._stream.layout.nb_channels

    def write_until(self, seconds: Fraction | None) -> None:
        """Encodes the source up to `seconds` from its start, or to its end (None)."""
        until = sys.maxsize if seconds is None else round(seconds * self._rate)
        while self._given < until:
            if not self._held.shape[1]:
                block = next(self._blocks, None)
                if block is None:
                    return
                self._held = block.numpy()
                continue  # it may be empty
            now, self._held = np.split(self._held, [until - self._given], axis=1)
            if self._layout == "mono":  # one channel, or more than AAC has
                now = now.mean(0, keepdims=True)
            # Interleaved, because PyAV (18.1) cannot fill eight planes.
            interleaved = np.ascontiguousarray(now.T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=self._layout)
            frame.sample_rate = self._rate
            frame.pts, frame.time_base = self._given, Fraction(1, self._rate)
            self._given += now.shape[1]
            self._mux(self._stream.encode(frame))

    def finish(self, *, whole: bool) -> None:
        """Encodes the rest if `whole`, and empties the encoder."""
        if whole:
            self.write_until(None)
        self._mux(self._stream.encode(None))


def rgb_to_yuv420(frames: torch.Tensor) -> torch.Tensor:
    """(n, H, W, 3) RGB floats in [0, 1] -> (n, H·3/2, W) uint8 planes, BT.709 limited range.

    Chroma is sited as H.264 players assume: on the left of each pixel pair, between the rows.
    """
    n, height, width, _ = frames.shape
    rgb = frames.to(torch.float32).clamp(0, 1)
    luma = rgb.new_tensor((0.2126, 0.7152, 0.0722))
    blue = (rgb.new_tensor((0, 0, 1)) - luma) / 1.8556
    red = (rgb.new_tensor((1, 0, 0)) - luma) / 1.5748
    # The matrix is linear, so the colours may be averaged first: a quarter of the work.
    left, right = rgb.reshape(n, height // 2, 2, width // 2, 2, 3).sum(2).unbind(3)
    before = torch.cat((left[:, :, :1], right[:, :, :-1]), 2)
    colour = (before + 2 * left + right) / 8
    planes = (16 + rgb @ (219 * luma), 128 + colour @ (224 * blue), 128 + colour @ (224 * red))
    yuv = torch.cat([plane.flatten(1) for plane in planes], 1)
    return yuv.round_().to(torch.uint8).view(n, height * 3 // 2, width)


def _h264_encoder(
    height: int, width: int, fps: Fraction, crf: int, preset: str
) -> tuple[str, dict[str, str]]:
    """The first H.264 encoder of this PyAV that opens, and its options."""
    keyframes = str(round(_KEYFRAME_SECONDS * fps) or 1)
    x264 = {"g": keyframes, "crf": str(crf), "preset": preset}
    others = {"g": keyframes, "b": str(round(height * width * fps / 4))}
    for name in H264_ENCODERS:
        options = x264 if name == "libx264" else others
        if not h264_fault(name, height, width, fps, options):
            return name, options
    if not all(h264_fault(name, 256, 256, fps) for name in H264_ENCODERS):
        raise SizeError(f"no H.264 encoder here takes a video of {width}x{height}; make it smaller")
    raise FlashHeadError(
        f"this PyAV ({av.__version__}) has no H.264 encoder that works ({', '.join(H264_ENCODERS)}"
        " were tried); install av from PyPI"
    )


def h264_fault(
    name: str, height: int, width: int, fps: Fraction, options: dict[str, str] | None = None
) -> str:
    """Why an H.264 encoder does not open here for such a video; "" if it does."""
    try:
        context = av.CodecContext.create(name, "w")
        assert isinstance(context, av.VideoCodecContext)
        _describe(context, height, width, fps)
        context.options = options or {}
        context.open()
    except (av.FFmpegError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _describe(context: av.VideoCodecContext, height: int, width: int, fps: Fraction) -> None:
    context.width, context.height = width, height
    context.pix_fmt = "yuv420p"
    context.time_base = 1 / fps
    context.framerate = fps
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED_RANGE


def _remux(source: Path, target: Path) -> int:
    """Copies the whole packets of an mp4, and says how many, into one whose index is at its start,
    for players online."""
    copied, options = 0, {"movflags": "faststart"}
    with av.open(str(source)) as given:
        for audio in given.streams.audio:
            # In milliseconds, as by default, a last packet of a few samples would be after the end.
            options["movie_timescale"] = str(audio.rate)
        with av.open(str(target), "w", format="mp4", options=options) as made:
            copies = {s.index: made.add_stream_from_template(s, opaque=True) for s in given.streams}
            for packet in given.demux():
                if packet.dts is not None and not packet.is_corrupt:
                    packet.stream = copies[packet.stream.index]
                    made.mux(packet)
                    copied += 1
    return copied


def _count_packets(path: Path) -> tuple[int, int]:
    """The whole packets in an mp4: of its video, a frame each, and in all; up to where it breaks
    off, and none where there is no such file."""
    frames = packets = 0
    with contextlib.suppress(av.FFmpegError, OSError), av.open(str(path)) as container:
        for packet in container.demux():
            if packet.dts is not None and not packet.is_corrupt:
                packets += 1
                frames += packet.stream.type == "video"
    return frames, packets
