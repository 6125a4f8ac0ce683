"""How to generate: the settings that a user chooses, checked when made."""

from __future__ import annotations

from dataclasses import dataclass

from .audio_context import CACHE_SECONDS
from .config import CHUNK_FRAMES, FPS
from .errors import FlashHeadError
from .schedule import timesteps

LONGEST_CACHE = 60.0


@dataclass(frozen=True)
class Settings:
    """What a run is asked for.

    Args:
        size: (height, width) in pixels, multiples of the checkpoint's strides.
        seed: 0 to 2^64 - 1.
        steps: sampling steps; 2 and 4 are the distilled schedules.
        shift: of the timesteps, above 0.
        color_match: strength of the colour matching, 0 (off) to 1.
        cache_seconds: past audio that stream mode encodes with each chunk, 1.32 to 60.

    Raises:
        FlashHeadError: any of them out of range.
    """

    size: tuple[int, int] = (512, 512)
    seed: int = 42
    steps: int = 4
    shift: float = 5.0
    color_match: float = 1.0
    cache_seconds: float = CACHE_SECONDS

    def __post_init__(self) -> None:
        timesteps(self.steps, self.shift)
        if not 0 <= self.color_match <= 1:
            raise FlashHeadError(
                f"The colour matching strength is {self.color_match}; expected 0 to 1."
            )
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**64:
            raise FlashHeadError(
                f"The seed is {self.seed}; expected a whole number, 0 to 2^64 - 1."
            )
        shortest = CHUNK_FRAMES / FPS
        if not shortest <= self.cache_seconds <= LONGEST_CACHE:
            raise FlashHeadError(
                f"The audio cache is {self.cache_seconds} s; expected {shortest} s (one chunk) to "
                f"{LONGEST_CACHE:g} s. The model was trained with {CACHE_SECONDS:g} s."
            )
