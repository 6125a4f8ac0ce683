"""The appearance of drawn faces, and the fixed repertoire of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Color = tuple[float, float, float]


def hex_color(text: str) -> Color:
    """ "e0a080" -> (0.88, 0.63, 0.50)."""
    red, green, blue = (int(text[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return red, green, blue


def mix(a: Color, b: Color, share: float) -> Color:
    red, green, blue = (x + share * (y - x) for x, y in zip(a, b, strict=True))
    return red, green, blue


WARM = (0.85, 1.05, 1.0)


def shade(color: Color, amount: float) -> Color:
    """Darker (amount < 0), the warm tones less so, or lighter, up to white at 1."""
    if amount > 0:
        return mix(color, (1.0, 1.0, 1.0), amount)
    red, green, blue = (
        c ** (1 - 0.1 * amount) * (1 + amount * k) for c, k in zip(color, WARM, strict=True)
    )
    return red, green, blue


@dataclass(frozen=True)
class Identity:
    """One drawn face. Colours are sRGB in [0, 1]; sizes are factors around 1.

    hair_style: short, parted, long, bob, bun, curly, quiff, wavy or bald. clothes_style: crew,
    vneck, shirt, turtleneck or hoodie. motif: of the background, plain, sun, hills, stripes or
    arch. glasses: round, square or empty. beard: short, full or empty.
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


def _person(name: str, colors: str, hair_style: str, **more: Any) -> Identity:
    """`colors`: skin, hair, eyes, lips, clothes, background, as hexadecimal sRGB."""
    skin, hair, eyes, lips, clothes, background = map(hex_color, colors.split())
    return Identity(name, skin, hair, eyes, lips, clothes, background, hair_style, **more)


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


def identities(count: int = len(REPERTOIRE)) -> tuple[Identity, ...]:
    """The repertoire's first `count`, which the pocket checkpoint knows."""
    return REPERTOIRE[:count]
