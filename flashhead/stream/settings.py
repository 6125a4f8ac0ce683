"""How to generate: the settings that a user chooses, checked when made."""

from dataclasses import dataclass

from ..errors import FlashHeadError
from ..geometry import CHUNK_FRAMES, FPS, LONGEST_SEAM_FADE
from .audio_context import CACHE_SECONDS
from .sampling import timesteps

LONGEST_CACHE = 60.0


@dataclass(frozen=True)
class Settings:
    """What a run is asked for.

    Args:
        size: (height, width) in pixels, multiples of the checkpoint's strides; None is the
            checkpoint's own: 512x512, and 96x96 for the pocket one.
        seed: 0 to 2^64 - 1.
        steps: sampling steps; None is the variant's own: 4 for Lite and Pro (distilled to 4, and
            to 2), 20 for the teacher, 1 for LeapTalk.
        shift: of the timesteps, above 0.
        color_match: strength of the colour matching, 0 (off) to 1.
        guidance: audio guidance scale, 0 to 20; None is the variant's own: 1 (off), and 3 for the
            teacher.
        cache_seconds: past audio that mode "stream" encodes with each chunk, 1.32 to 60.
        seam_fade: frames that the jump where a chunk begins takes to fade out, 0 (off) to 15; None
            is the checkpoint's own: 0, and 6 for the pocket one.

    Raises:
        FlashHeadError: any of them out of range.
    """

    size: tuple[int, int] | None = None
    seed: int = 42
    steps: int | None = None
    shift: float = 5.0
    color_match: float = 1.0
    guidance: float | None = None
    cache_seconds: float = CACHE_SECONDS
    seam_fade: int | None = None

    def __post_init__(self) -> None:
        timesteps(1 if self.steps is None else self.steps, self.shift)
        if self.guidance is not None and not 0 <= self.guidance <= 20:
            raise FlashHeadError(f"The audio guidance is {self.guidance}; expected 0 to 20.")
        if not 0 <= self.color_match <= 1:
            raise FlashHeadError(
                f"The colour matching strength is {self.color_match}; expected 0 to 1."
            )
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**64:
            raise FlashHeadError(
                f"The seed is {self.seed}; expected a whole number, 0 to 2^64 - 1."
            )
        if self.seam_fade is not None and self.seam_fade not in range(LONGEST_SEAM_FADE + 1):
            raise FlashHeadError(
                f"The fade of the seams is {self.seam_fade} frames; expected a whole number, 0 to "
                f"{LONGEST_SEAM_FADE}."
            )
        shortest = CHUNK_FRAMES / FPS
        if not shortest <= self.cache_seconds <= LONGEST_CACHE:
            raise FlashHeadError(
                f"The audio cache is {self.cache_seconds} s; expected {shortest} s (one chunk) to "
                f"{LONGEST_CACHE:g} s. The model was trained with {CACHE_SECONDS:g} s."
            )
