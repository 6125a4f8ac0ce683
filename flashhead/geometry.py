"""Arithmetic of frames, sample rates and chunks (DESIGN §1.2, §1.3)."""

import math
from dataclasses import dataclass
from fractions import Fraction

from .errors import AudioError, SizeError

FPS = 25
SAMPLE_RATE = 16_000
"""Hz, of the audio encoder's input."""
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
CHUNK_FRAMES = 33
MOTION_LATENT_FRAMES = 2
LONGEST_SEAM_FADE = 15
"""Frames. A chunk's new frames, less those that the next repeats: 24 - 9 with Lite, the fewest."""


@dataclass(frozen=True)
class ChunkGeometry:
    """How a stream is cut into chunks; it follows from the generator's strides (DESIGN §1.2).

    A chunk is `CHUNK_FRAMES` frames: the first `motion_frames` repeat the end of the chunk before,
    the other `new_frames` are new.

    vae_stride, patch_size: (t, h, w) of the VAE and of the transformer's patches.
    """

    vae_stride: tuple[int, int, int]
    patch_size: tuple[int, int, int]
    latent_channels: int

    @property
    def frames(self) -> int:
        return CHUNK_FRAMES

    @property
    def motion_frames(self) -> int:
        return (MOTION_LATENT_FRAMES - 1) * self.vae_stride[0] + 1

    @property
    def new_frames(self) -> int:
        return self.frames - self.motion_frames

    @property
    def new_samples(self) -> int:
        """16 kHz samples under the new frames of a chunk."""
        return self.new_frames * SAMPLES_PER_FRAME

    @property
    def latent_frames(self) -> int:
        return (self.frames - 1) // self.vae_stride[0] + 1

    @property
    def size_multiples(self) -> tuple[int, int]:
        return (self.vae_stride[1] * self.patch_size[1], self.vae_stride[2] * self.patch_size[2])

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise `SizeError` unless (height, width) is legal; it names the nearest legal sizes."""
        multiples = self.size_multiples
        near: dict[str, None] = {}
        for rounding in (math.floor, math.ceil):
            h, w = (max(m, rounding(side / m) * m) for side, m in zip(size, multiples, strict=True))
            if (h, w) == tuple(size):
                return
            near[f"{w}x{h}"] = None
        raise SizeError(
            f"The size {size[1]}x{size[0]} (width x height) cannot be made: width must be a "
            f"multiple of {multiples[1]} and height of {multiples[0]}; nearest: "
            f"{' or '.join(near)}."
        )

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(C, T, h, w) of a chunk's latents at (height, width)."""
        self.check_size(size)
        _, h, w = self.vae_stride
        return (self.latent_channels, self.latent_frames, size[0] // h, size[1] // w)


def frame_count(samples: int, sample_rate: int) -> int:
    """Frames that `samples` of audio get: round(seconds x 25), at least one."""
    if samples <= 0 or sample_rate <= 0:
        raise AudioError(
            f"The audio has {samples} samples at {sample_rate} Hz; both must be positive."
        )
    return max(1, round(Fraction(samples * FPS, sample_rate)))
