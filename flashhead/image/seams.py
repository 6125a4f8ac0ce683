"""Hides the jump where two chunks meet.

A chunk first repeats the last frames of the chunk before, a little different from what was shown.
Its new frames go on from there, so they would jump by that difference. It is therefore measured in
the last repeated frame and added to the first few new frames, fading out.

Only what is shown changes. The latents that the next chunk continues from are encoded from the
frames as they were decoded.
"""

import torch
from torch import Tensor

# A larger difference is a mouth or an eye that moved: added, it would hold the movement back. With
# the pocket checkpoint a limit of 6 leaves lip sync as it is, and no limit costs 0.015 of it.
_LARGEST_JUMP = 6 / 255
# From the repeated frames to the first new one a chunk moves less smoothly than within itself. Up
# to half a shade of each pixel's change is taken back there: so little is no movement.
_SMALLEST_STEP = 0.5 / 255


def fade_seam(frames: Tensor, shown: Tensor | None, repeated: int, length: int) -> Tensor:
    """A chunk's frames without the jump at the first new one.

    frames: (B, frames, H, W, 3) in [0, 1]; the first `repeated` show the chunk before again and
    are returned as they are. shown: (B, H, W, 3), the last frame of the chunk before as it was
    shown; None if there is none. length: new frames over which the difference fades out, linearly;
    0 turns it off.
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
