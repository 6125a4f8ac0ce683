"""Phonemes to mouth shapes: openness and width in [0, 1], 25 times a second.

espeak-ng's mnemonics (Kirshenbaum's, roughly) of English, German, French and Spanish. Width is 0.5
at rest, towards 0 for rounded and 1 for spread lips.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ...geometry import FPS
from ..signals import smooth

Shape = tuple[float, float]

REST: Shape = (0.0, 0.5)
SMOOTHING = 0.028
"""Standard deviation in seconds of the smoothing: about as slow as lips are."""
_FINE = 8
_LONGEST = 0.3
"""Seconds that a phoneme's shape is held at most: espeak-ng's last one lasts to the end."""

_VOWELS: dict[str, Shape] = {
    "a": (0.9, 0.6), "A": (1.0, 0.5), "V": (0.7, 0.5), "&": (0.9, 0.75),
    "E": (0.65, 0.75), "e": (0.55, 0.8), "I": (0.4, 0.75), "i": (0.3, 0.95),
    "O": (0.75, 0.25), "0": (0.8, 0.35), "o": (0.55, 0.12), "Q": (0.8, 0.35),
    "U": (0.4, 0.12), "u": (0.28, 0.0), "Y": (0.4, 0.08), "y": (0.3, 0.05),
    "W": (0.55, 0.15), "@": (0.42, 0.5), "3": (0.45, 0.42), "8": (0.42, 0.4),
}  # fmt: skip
_CONSONANTS: dict[str, Shape] = {
    "p": (0.0, 0.45), "b": (0.0, 0.45), "m": (0.0, 0.48),
    "f": (0.07, 0.55), "v": (0.07, 0.55), "w": (0.15, 0.0),
    "t": (0.16, 0.6), "d": (0.18, 0.6), "n": (0.2, 0.58), "l": (0.28, 0.55),
    "s": (0.1, 0.75), "z": (0.1, 0.75), "T": (0.2, 0.6), "D": (0.2, 0.6),
    "S": (0.16, 0.18), "Z": (0.16, 0.18), "C": (0.2, 0.7), "x": (0.3, 0.5), "X": (0.3, 0.5),
    "k": (0.25, 0.55), "g": (0.25, 0.55), "N": (0.25, 0.55), "h": (0.4, 0.5), "H": (0.2, 0.1),
    "j": (0.2, 0.85), "r": (0.25, 0.3), "R": (0.25, 0.4), "Q": (0.3, 0.45), "*": (0.2, 0.55),
    "q": (0.28, 0.5), "c": (0.2, 0.7), "J": (0.2, 0.8), "B": (0.08, 0.45), "G": (0.28, 0.5),
}  # fmt: skip


@lru_cache(maxsize=1024)
def viseme(mnemonic: str) -> tuple[Shape, ...]:
    """The shapes of a phoneme, one after another: two for a diphthong, one for the rest.

    An unknown phoneme is a mouth a little open; pauses are the mouth at rest.
    """
    if not mnemonic or mnemonic[0] in "_|;:'" and len(mnemonic.strip("_|:;'")) == 0:
        return (REST,)
    letters = [c for c in mnemonic if c in _VOWELS]
    if mnemonic[0] in _CONSONANTS and mnemonic[0] not in _VOWELS:
        if mnemonic[:2] in ("tS", "dZ", "ts"):
            return (_CONSONANTS["t"], _CONSONANTS[mnemonic[1]])
        return (_CONSONANTS[mnemonic[0]],)
    if letters:
        shapes = tuple(_VOWELS[c] for c in letters[:2])
        if mnemonic.endswith(("@L", "l")):
            return (shapes[0], _CONSONANTS["l"])
        return shapes
    return ((0.25, 0.5),)


def is_pause(mnemonic: str) -> bool:
    return mnemonic.strip("_:") == ""


def mouth_track(
    phonemes: Sequence[tuple[float, str]], seconds: float, frames: int
) -> tuple[Tensor, Tensor]:
    """Openness and width (frames,) at 25 fps.

    Args:
        phonemes: (start in seconds, mnemonic) each, in order.
        seconds: when the last one ends.
        frames: how many; each is the mean of the mouth over its 1 / 25 s.
    """
    rate = FPS * _FINE
    length = frames * _FINE
    track = torch.tensor(REST).repeat(length, 1)
    ends = [start for start, _ in phonemes[1:]] + [seconds]
    for (start, mnemonic), end in zip(phonemes, ends, strict=True):
        if is_pause(mnemonic) or end <= start:
            continue
        shapes = viseme(mnemonic)
        edges = torch.linspace(start, min(end, start + _LONGEST), len(shapes) + 1)
        for shape, first, last in zip(shapes, edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            track[round(first * rate) : round(last * rate)] = torch.tensor(shape)
    curves = smooth(track.T.contiguous(), SMOOTHING * rate)
    return tuple(curve.view(frames, _FINE).mean(1).contiguous() for curve in curves)
