"""Who is drawn: what makes one drawn face differ from another, and the fixed repertoire."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

Color = tuple[float, float, float]

HAIR_STYLES = ("short", "parted", "long", "bob", "bun", "curly", "quiff", "wavy", "bald")
CLOTHES = ("crew", "vneck", "shirt", "turtleneck", "hoodie")
MOTIFS = ("plain", "sun", "hills", "stripes", "arch")


def hex_color(text: str) -> Color:
    """ "e0a080" -> (0.88, 0.63, 0.50)."""
    return tuple(int(text[i : i + 2], 16) / 255 for i in (0, 2, 4))


def mix(a: Color, b: Color, share: float) -> Color:
    return tuple(x + share * (y - x) for x, y in zip(a, b, strict=True))


WARM = (0.85, 1.05, 1.0)


def shade(color: Color, amount: float) -> Color:
    """Darker (amount < 0), the warm tones less so, or lighter, up to white at 1."""
    if amount > 0:
        return mix(color, (1.0, 1.0, 1.0), amount)
    return tuple(
        c ** (1 - 0.1 * amount) * (1 + amount * k) for c, k in zip(color, WARM, strict=True)
    )


@dataclass(frozen=True)
class Identity:
    """Colours are sRGB in [0, 1]; sizes are factors around 1.

    jaw: how much the face narrows to the chin, in [0, 1]. fringe: how far hair falls over the
    forehead, in [0, 1]. age: wrinkles, in [0, 1].
    """

    name: str
    skin: Color
    hair: Color
    eyes: Color
    lips: Color
    clothes: Color
    background: Color
    hair_style: str = "short"
    clothes_style: str = "crew"
    motif: str = "sun"
    face_width: float = 1.0
    jaw: float = 0.5
    eye_size: float = 1.0
    eye_gap: float = 1.0
    brow: float = 1.0
    nose: float = 1.0
    lip_size: float = 1.0
    fringe: float = 0.5
    glasses: str = ""
    beard: str = ""
    earrings: bool = False
    freckles: bool = False
    age: float = 0.0


def _person(name: str, colors: str, hair_style: str, **more) -> Identity:
    """`colors`: skin, hair, eyes, lips, clothes, background, as hexadecimal sRGB."""
    return Identity(name, *map(hex_color, colors.split()), hair_style=hair_style, **more)


REPERTOIRE: tuple[Identity, ...] = (
    _person("Ada", "f2c6a5 7a3b22 4c7a52 c9605a 2f6f73 f4d9a8", "bob", fringe=0.9, freckles=True,
            clothes_style="crew", motif="sun", jaw=0.55, eye_size=1.08),
    _person("Bayo", "8a5433 1d1613 3a2216 8d4a44 e3a93c 7fb6b0", "short", motif="arch",
            clothes_style="hoodie", jaw=0.35, nose=1.2, lip_size=1.25, brow=1.2, beard="short"),
    _person("Clara", "f7d5bb e0b25c 4a7fa8 d0666a 5a4a8c bcd8e6", "long", motif="hills",
            clothes_style="vneck", jaw=0.6, earrings=True, face_width=0.97),
    _person("Daniel", "eab893 4a2e1f 5b4630 b9655a 34506e e8c7b0", "quiff", motif="plain",
            clothes_style="shirt", jaw=0.3, brow=1.25, glasses="square", nose=1.1),
    _person("Emi", "f3cfa9 17141c 3b2a22 cf6a63 d9655b cfe3c8", "bob", motif="sun",
            clothes_style="turtleneck", fringe=1.0, jaw=0.55, eye_size=1.0, brow=0.8),
    _person("Farid", "c98d60 221a18 3d2a1c a35a4e 4d6b4a f0dcb8", "parted", motif="stripes",
            clothes_style="shirt", jaw=0.35, brow=1.35, beard="short", nose=1.15),
    _person("Grace", "6b3f28 1a1312 2c1a12 b9525c c94f7c f3c98b", "curly", motif="sun",
            clothes_style="vneck", jaw=0.55, lip_size=1.3, earrings=True, eye_size=1.08),
    _person("Hugo", "f0c09c c4622d 5a8a7c c0685e 6b7f3a d6dbe8", "short", motif="hills",
            clothes_style="crew", jaw=0.4, freckles=True, face_width=1.03, glasses="round"),
    _person("Ines", "dba878 3a2118 6a4a26 bf5552 f0ebe0 8fb0c9", "wavy", motif="arch",
            clothes_style="vneck", jaw=0.6, earrings=True, lip_size=1.1),
    _person("Johan", "f1c8ab d9d5cf 5b83a6 bb6f66 7a4b4b c7d4c4", "parted", motif="plain",
            clothes_style="turtleneck", jaw=0.35, age=0.8, brow=1.15, glasses="round"),
    _person("Keiko", "edc39b 2b1d20 33221d c45a66 3f7f6a f2d3d0", "bun", motif="arch",
            clothes_style="crew", jaw=0.6, fringe=0.3, eye_size=1.02, brow=0.85),
    _person("Leon", "a86c45 2a1c16 4a3020 96504a 35608f f1c6a0", "bald", motif="stripes",
            clothes_style="hoodie", jaw=0.35, beard="short", brow=1.2, nose=1.1),
)  # fmt: skip


def random_identity(seed: int) -> Identity:
    """Any face, the same for the same seed."""
    rng = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=rng))

    def pick(options: Sequence):
        return options[int(torch.randint(len(options), (), generator=rng))]

    skin = mix(hex_color("f7d9c1"), hex_color("5a3422"), uniform(0, 1) ** 1.3)
    skin = mix(skin, hex_color("e0a060"), uniform(0, 0.25))
    hair = shade(pick([p.hair for p in REPERTOIRE]), uniform(-0.25, 0.25))
    return Identity(
        name=f"face-{seed}",
        skin=skin,
        hair=hair,
        eyes=shade(pick([p.eyes for p in REPERTOIRE]), uniform(-0.2, 0.2)),
        lips=mix(shade(skin, -0.25), hex_color("c2434f"), uniform(0.35, 0.6)),
        clothes=colorsys.hls_to_rgb(uniform(0, 1), uniform(0.3, 0.6), uniform(0.2, 0.6)),
        background=colorsys.hls_to_rgb(uniform(0, 1), uniform(0.75, 0.88), uniform(0.25, 0.6)),
        hair_style=pick(HAIR_STYLES),
        clothes_style=pick(CLOTHES),
        motif=pick(MOTIFS),
        face_width=uniform(0.94, 1.06),
        jaw=uniform(0.25, 0.65),
        eye_size=uniform(0.92, 1.1),
        eye_gap=uniform(0.95, 1.05),
        brow=uniform(0.8, 1.35),
        nose=uniform(0.9, 1.2),
        lip_size=uniform(0.9, 1.3),
        fringe=uniform(0, 1),
        glasses=pick(["", "", "round", "square"]),
        beard=pick(["", "", "", "short", "full"]),
        earrings=bool(uniform(0, 1) < 0.3),
        freckles=bool(uniform(0, 1) < 0.15),
        age=max(0.0, uniform(-1.5, 1)),
    )


def identities(count: int = len(REPERTOIRE)) -> tuple[Identity, ...]:
    """The repertoire's first `count`, which the pocket checkpoint knows."""
    return REPERTOIRE[:count]
