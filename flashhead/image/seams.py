"""No jump where chunks meet: a chunk repeats the last frames of the one before, and what it makes
of them differs from what was shown by the same that would be seen as a jump.

That difference is laid over the new frames and fades out. Only what is shown changes: the latents
that the next chunk moves on from are of the frames as they were decoded.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A larger difference is a mouth or an eye that moved: laid over, it would hold the movement back.
# With the pocket checkpoint 6 leaves lip sync as it is, and no limit costs 0.015 of it.
_LARGEST_JUMP = 6 / 255
# A chunk goes on from the repeated frames less smoothly than within itself. What changes everywhere
# by less than half a shade is no movement.
_SMALLEST_STEP = 0.5 / 255


def fade_seam(frames: Tensor, shown: Tensor | None, repeated: int, length: int) -> Tensor:
    """A chunk's frames without the jump at their first new one.

    Args:
        frames: (B, frames, H, W, 3) in [0, 1]; the first `repeated` show the chunk before again.
        shown: (B, H, W, 3), the last frame of the chunk before as it was shown; None keeps all.
        length: new frames that the difference takes to fade out, linearly; 0 keeps all.
    """
    length = min(length, frames.shape[1] - repeated)
    if shown is None or length <= 0:
        return frames
    again, first = frames[:, repeated - 1], frames[:, repeated]
    jump = (shown.to(frames.device) - again).clamp(-_LARGEST_JUMP, _LARGEST_JUMP)
    jump = jump - (first - again).clamp(-_SMALLEST_STEP, _SMALLEST_STEP)
    fade = torch.linspace(1, 0, length + 1, device=frames.device)[:-1]
    faded = frames[:, repeated : repeated + length] + fade.view(-1, 1, 1, 1) * jump.unsqueeze(1)
    return torch.cat(
        [frames[:, :repeated], faded.clamp(0, 1), frames[:, repeated + length :]], dim=1
    )
