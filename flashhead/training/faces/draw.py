"""Drawn faces that talk: flat illustrations by signed distance, vectorised over frames.

A picture's coordinates go from -1 to 1 and y points down; the head's own frame is the picture's,
shifted and rolled about the neck. Everything follows from `Identity` and `Motion`: no randomness.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from . import hair as face_hair
from . import parts as face_parts
from . import scene as face_scene
from .head_pose import undo_pose
from .identities import Identity
from .motions import Motion
from .shapes import Canvas, Point, grid, moved, zoomed

NECK = 0.95
ZOOM, CENTER_Y = 1.1, 0.04
"""A tight crop, so that the mouth has as many pixels as possible."""
REGION_MARGIN = 0.05
# Left, top, right, bottom of what is painted there, in the head's frame.
NOSE = (-0.2, -0.3, 0.2, 0.4)
MOUTH = (-0.6, 0.2, 0.6, 0.95)
EYES = (-0.55, -0.4, 0.55, 0.15)
BROWS = (-0.75, -0.5, 0.75, 0.15)


@dataclass(frozen=True)
class Drawing:
    """video (T, H, W, 3) uint8; face, mouth, eyes (T, H, W) uint8 region masks in [0, 255]."""

    video: Tensor
    face: Tensor
    mouth: Tensor
    eyes: Tensor


def head_frame(size: int, pose: Tensor) -> Point:
    """Coordinates (x, y) of each pixel in the head's own frame, (T, size, size) each."""
    x, y, roll = (pose[:, i].view(-1, 1, 1) for i in range(3))
    return moved(scene(size), x / ZOOM, y / ZOOM, roll, about=NECK)


def scene(size: int) -> Point:
    """Coordinates (x, y) of each pixel in the scene, (size, size) each."""
    return zoomed(grid(size), ZOOM, CENTER_Y)


def draw(identity: Identity, motion: Motion, size: int) -> Drawing:
    """All frames of a motion (T,), `size` pixels square."""
    frames = len(motion.openness)
    column = Motion(
        *(
            value.view(-1, 1, 1) if value.ndim == 1 else value
            for value in (getattr(motion, field.name) for field in fields(motion))
        )
    )
    still = scene(size)
    head = head_frame(size, motion.pose)
    face = face_parts.face_outline(head, identity, column)
    blank = torch.tensor(identity.background).view(3, 1, 1).expand(3, size, size)
    canvas = Canvas(blank, 2 / size / ZOOM)
    face_scene.paint_background(canvas, grid(size), identity)
    face_hair.paint_back(canvas, head, identity)
    face_scene.paint_body(canvas, still, head, identity)
    face_parts.paint_ears(canvas, head, identity)
    face_parts.paint_skin(canvas, head, face, identity)
    face_parts.paint_beard(canvas, head, face, identity, column)
    with canvas.window(head, NOSE) as (part, at):
        face_parts.paint_nose(part, at, identity)
    with canvas.window(head, MOUTH) as (part, at):
        face_parts.paint_mouth(part, at, identity, column)
    with canvas.window(head, EYES) as (part, at):
        face_parts.paint_eyes(part, at, identity, column)
    face_hair.paint_front(canvas, head, face, identity)
    with canvas.window(head, BROWS) as (part, at):
        face_parts.paint_brows(part, at, identity, column)
        face_parts.paint_glasses(part, at, identity)

    def region(distance: Tensor) -> Tensor:
        mask = (canvas.cover(distance - REGION_MARGIN) * 255).round().to(torch.uint8)
        return mask.expand(frames, size, size).contiguous()

    return Drawing(
        canvas.frames(frames),
        region(face),
        region(face_parts.mouth_outline(head, identity, column)),
        region(face_parts.eyes_outline(head, identity)),
    )


def draw_portrait(identity: Identity, size: int) -> Tensor:
    """(H, W, 3) uint8: the face at rest."""
    return draw(identity, Motion.neutral(), size).video[0]


def undo_drawn_pose(frames: Tensor, pose: Tensor) -> Tensor:
    """Frames (T, H, W, C) float of a drawn face with its head moved back to where it rests.

    pose: (T, 3), shift right and down in pixels and roll in radians, as `Clip.pose` is.
    """
    size = frames.shape[1]
    neck = ((NECK - CENTER_Y) * ZOOM + 1) * size / 2 - 0.5
    return undo_pose(frames, pose, (neck, (size - 1) / 2))
