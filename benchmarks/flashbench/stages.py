"""One chunk of the real loop, timed part by part."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from flashhead import Bundle, LiveStream
from flashhead.image.color import match_color
from flashhead.stream.clock import Clock
from flashhead.stream.loop import hear_chunk
from flashhead.stream.sampling import SamplingPlan, draw_noise, sample_latents
from flashhead.stream.state import StreamState

from .watch import stopwatch, watch_waits


def to_bytes(frames: Tensor) -> Tensor:
    """Frames in [0, 1] -> uint8 on the CPU, as a program takes them on."""
    return frames.mul(255).round_().to(torch.uint8).cpu()


def _noise(plan: SamplingPlan, state: StreamState) -> tuple[Tensor, StreamState]:
    reference = state.portrait.latents
    noise, rng = draw_noise(state.rng, plan.draws, tuple(reference.shape[1:]))
    if reference.device.type == "cuda":
        noise = noise.pin_memory()
    return noise.to(reference.device, non_blocking=True), replace(state, rng=rng)


class StagedStream:
    """`flashhead.LiveStream`, its chunk taken apart: the same functions in the same order."""

    def __init__(self, bundle: Bundle, plan: SamplingPlan, state: StreamState, color: float):
        self.bundle, self.geometry = bundle, bundle.geometry
        self.plan, self.state, self.color = plan, state, color
        self.device = state.portrait.latents.device

    @torch.no_grad()
    def advance(self, samples: Tensor) -> tuple[Tensor, dict[str, float], list[str]]:
        """The next chunk from its samples.

        Returns its new frames (n, H, W, 3) uint8, the seconds of each stage, and where the CPU
        waited for the device before the transfer.
        """
        generator, vae = self.bundle.generator, self.bundle.vae
        clock = Clock(self.device)
        with watch_waits(self.device) as waits:
            context, state = hear_chunk(
                self.bundle.audio_encoder, self.geometry, samples, self.state
            )
            clock.lap("audio")
            noise, state = _noise(self.plan, state)
            clock.lap("noise")
            audio = generator.embed_audio(context)
            clock.lap("conditioning")
            latents = sample_latents(
                generator,
                self.plan,
                audio,
                state.portrait.latents,
                state.motion,
                noise,
                lambda done, steps: clock.lap(f"step {done}"),
            )
            video = vae.decode(latents)
            clock.lap("decode")
            video = match_color(video, state.portrait.color, self.color)
            clock.lap("colour")
            motion = vae.encode(video[:, :, -self.geometry.motion_frames :])
            clock.lap("re-encode")
        frames = ((video + 1) / 2).clamp(0, 1).permute(0, 2, 3, 4, 1)
        frames = to_bytes(frames[0, self.geometry.motion_frames :])
        clock.lap("transfer")
        self.state = replace(state, motion=motion, index=state.index + 1)
        return frames, clock.seconds(), waits

    @torch.no_grad()
    def first_frames(self, samples: Tensor) -> tuple[int, float]:
        """From a chunk's samples to its first new frames as bytes: how many, and the seconds.

        A VAE that decodes piece by piece gives some before the rest; the others give all. Colour
        is matched frame by frame, so it need not wait either. The stream stays where it is.
        """
        vae, skip = self.bundle.vae, self.geometry.motion_frames
        with stopwatch(self.device) as seconds:
            context, state = hear_chunk(
                self.bundle.audio_encoder, self.geometry, samples, self.state
            )
            noise, state = _noise(self.plan, state)
            latents = sample_latents(
                self.bundle.generator,
                self.plan,
                self.bundle.generator.embed_audio(context),
                state.portrait.latents,
                state.motion,
                noise,
            )
            pieces = getattr(vae, "decode_stream", lambda whole: iter([vae.decode(whole)]))(latents)
            done = 0
            for piece in pieces:
                done += piece.shape[2]
                if done > skip:
                    break
            fresh = match_color(piece[:, :, -(done - skip) :], state.portrait.color, self.color)
            to_bytes(((fresh + 1) / 2).clamp(0, 1).permute(0, 2, 3, 4, 1)[0])
        return done - skip, seconds[0]


def time_stream(live: LiveStream, samples: Tensor) -> tuple[Tensor, float]:
    """The stream's next chunk as bytes, by its public interface, and the seconds."""
    with stopwatch(live.state.portrait.latents.device) as seconds:
        (chunk,) = live.push(samples)
        frames = to_bytes(chunk.frames)
    return frames, seconds[0]


def speech_like(count: int, seed: int) -> Tensor:
    """Samples at 16 kHz with a syllable's rise and fall; nothing that depends on a file."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, generator=rng)
    seconds = torch.arange(count) / 16_000
    return 0.1 * noise * (1 + torch.sin(2 * math.pi * 4 * seconds))
