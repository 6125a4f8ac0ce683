"""A portrait and a clip of speech to chunks of frames."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

from ..errors import AudioError, FlashHeadWarning
from ..geometry import frame_count
from ..image.portrait import Portrait, prepare_portrait
from ..media.audio_source import AudioSource, TensorAudio, speech_blocks
from ..models.bundle import Bundle
from .audio_context import CACHE_SECONDS
from .clip import AUDIO_MODES, ClipPlan, SpeechClip, is_due, switch_notes
from .loop import Chunk, ChunkAudio, ChunkLoop, Hooks, OnStep, Recall
from .settings import Settings
from .state import StreamState


def audio_source(
    waveform: Tensor | np.ndarray | AudioSource, sample_rate: int | None
) -> AudioSource:
    """A source from a waveform (N,) or (channels, N) and its rate in Hz, or the source that was
    given. Raises `AudioError`."""
    if isinstance(waveform, AudioSource):
        return waveform
    if sample_rate is None:
        raise AudioError("A waveform came without its sample_rate in Hz.")
    return TensorAudio(waveform, sample_rate)


def generate(
    bundle: Bundle,
    portrait: Portrait,
    waveform: Tensor | np.ndarray | AudioSource,
    sample_rate: int | None = None,
    *,
    size: tuple[int, int] | None = None,
    seed: int = 42,
    steps: int | None = None,
    shift: float = 5.0,
    color_match: float = 1.0,
    guidance: float | None = None,
    audio_mode: str = AUDIO_MODES[0],
    cache_seconds: float = CACHE_SECONDS,
    seam_fade: int | None = None,
    switches: Mapping[float, Portrait] | None = None,
    on_step: OnStep | None = None,
) -> Iterator[Chunk]:
    """Make a portrait speak, chunk by chunk.

    Input is checked at once; the work is done as the iterator is walked. One chunk is held at a
    time, and the waveform is resampled as it is needed.

    Args:
        bundle: a loaded checkpoint.
        portrait: path, PIL image or (H, W, 3) tensor in [0, 1]; cropped to cover the size.
        waveform: (N,) or (channels, N), any rate; or an `AudioSource`, such as a file.
        sample_rate: of a waveform tensor, in Hz.
        size, seed, steps, shift, color_match, guidance, cache_seconds, seam_fade: see `Settings`.
            The same seed, input, device and number of CPU threads give the same frames; with
            other threads they differ by about 2e-5.
        audio_mode: "stream" encodes the audio as it comes, with a cache of the past; "once" encodes
            the clip whole (memory grows with its length).
        switches: seconds -> another portrait, from the first chunk that starts then or later;
            audio and noise go on. One that never shows is warned of.
        on_step: called with (chunk, steps done, steps); may raise to stop.

    Returns:
        An iterator of `Chunk`, with max(1, round(seconds x 25)) frames in all.

    Raises:
        FlashHeadError: bad input, before any work; or frames that are not finite, at their chunk.
    """
    settings = Settings(size, seed, steps, shift, color_match, guidance, cache_seconds, seam_fade)
    source = audio_source(waveform, sample_rate)
    return generate_clip(bundle, portrait, source, settings, audio_mode, switches, on_step)


def generate_clip(
    bundle: Bundle,
    portrait: Portrait,
    source: AudioSource,
    settings: Settings,
    audio_mode: str = AUDIO_MODES[0],
    switches: Mapping[float, Portrait] | None = None,
    on_step: OnStep | None = None,
) -> Iterator[Chunk]:
    """`generate` for a caller that has its `Settings` and `AudioSource` already."""
    if audio_mode not in AUDIO_MODES:
        raise AudioError(
            f"Unknown audio mode '{audio_mode}'; expected one of {', '.join(AUDIO_MODES)}."
        )
    size = settings.size or bundle.native_size
    bundle.geometry.check_size(size)
    picture = prepare_portrait(portrait, size)
    frames = frame_count(source.samples, source.sample_rate)
    plan = ClipPlan(bundle.geometry, frames, audio_mode == AUDIO_MODES[1])
    for sentence in switch_notes(plan, list(switches or ()))[0]:
        warnings.warn(sentence, FlashHeadWarning, stacklevel=2)
    later = [(at, prepare_portrait(other, size)) for at, other in sorted((switches or {}).items())]

    def run() -> Iterator[Chunk]:
        loop = ChunkLoop(bundle, settings, hooks=Hooks(on_step))
        state = loop.start(picture)
        audio = _stream(bundle, source) if audio_mode == AUDIO_MODES[0] else _once(bundle, source)
        for chunk, _ in render_clip(loop, state, audio, later):
            yield chunk
            del chunk  # not held while the next one is made

    return run()


def render_clip(
    loop: ChunkLoop,
    state: StreamState,
    audio: Iterable[ChunkAudio],
    switches: Sequence[tuple[float, Tensor]] = (),
    recall: Recall | None = None,
) -> Iterator[tuple[Chunk, StreamState]]:
    """The chunks of one session, each with the state after it.

    audio: of each chunk in turn. switches: (seconds, portrait (3, H, W) in [-1, 1]), in order of
    time. recall: as for `ChunkLoop.step`.
    """
    waiting, start = list(switches), 0
    for part in audio:
        while waiting and is_due(waiting[0][0], start):
            state = loop.switch(state, waiting.pop(0)[1])
        frames, state = loop.step(part, state, recall)
        chunk = Chunk(frames[0], state.index - 1, start)
        start += len(chunk.frames)
        yield chunk, state
        del frames, chunk  # not held while the next one is made


def _stream(bundle: Bundle, source: AudioSource) -> Iterator[ChunkAudio]:
    """Audio that is read and resampled as it is needed."""
    plan = ClipPlan(bundle.geometry, frame_count(source.samples, source.sample_rate))
    blocks = speech_blocks(source, bundle.geometry.new_samples)
    for chunk, samples in zip(range(plan.chunks), blocks, strict=False):
        yield ChunkAudio(samples, plan.shown(chunk))


def _once(bundle: Bundle, source: AudioSource) -> Iterator[ChunkAudio]:
    clip = SpeechClip.of(source).encoded(bundle.audio_encoder, bundle.geometry)
    for chunk in range(clip.plan(bundle.geometry).chunks):
        yield clip.chunk_audio(bundle.geometry, chunk)
