"""Synthetic speech with the times of its phonemes, by the espeak-ng library.

Only making data needs the library; it is loaded when first used. It holds one synthesizer for the
whole process.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import FlashHeadError

_AUDIO_SYNCHRONOUS = 2
_INIT_PHONEME_EVENTS, _INIT_DONT_EXIT = 0x0001, 0x8000
_CHARS_UTF8, _ENDPAUSE = 1, 0x1000
_RATE, _PITCH, _RANGE = 1, 3, 4
_EVENT_END, _EVENT_PHONEME = 0, 7


class _EventValue(ctypes.Union):
    _fields_ = [
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    ]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventValue),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Utterance:
    """Synthesised speech.

    waveform: (N,) float32 in [-1, 1] at `rate` Hz. phonemes: (start in samples, mnemonic) each, in
    order; a phoneme lasts until the next one begins. The last one is a pause.
    """

    waveform: Tensor
    rate: int
    phonemes: tuple[tuple[int, str], ...]


class Espeak:
    """The synthesizer, of which a process has one: use `espeak()`.

    Raises:
        FlashHeadError: the library or its voices are not installed.
    """

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        try:
            self._library = ctypes.CDLL(name)
        except OSError as error:
            raise FlashHeadError(
                "The espeak-ng library is not installed, and making speech needs it: install it "
                "with 'apt-get install espeak-ng' (Linux) or 'brew install espeak-ng' (macOS)."
            ) from error
        options = _INIT_PHONEME_EVENTS | _INIT_DONT_EXIT
        self.rate = self._library.espeak_Initialize(_AUDIO_SYNCHRONOUS, 0, None, options)
        if self.rate <= 0:
            raise FlashHeadError("The espeak-ng library found no voice data; install espeak-ng.")
        self._sound: list[np.ndarray] = []
        self._events: list[tuple[int, str]] = []
        self._callback = _Callback(self._receive)  # or it would be freed while the library uses it
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        """The library's callback: a block of samples, and the events in it."""
        if samples and count > 0:
            self._sound.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        index = 0
        while events[index].type != _EVENT_END:
            event = events[index]
            if event.type == _EVENT_PHONEME:
                mnemonic = event.id.string.decode("utf-8", "replace")
                self._events.append((event.sample, mnemonic))
            index += 1
        return 0

    def say(
        self, text: str, voice: str, *, words_per_minute: int = 165, pitch: int = 50, lilt: int = 50
    ) -> Utterance:
        """Synthesise a text with a voice such as "en-us+f3".

        Args:
            words_per_minute: 80 to 450. pitch, lilt: base and range of the pitch, 0 to 100.

        Raises:
            FlashHeadError: no such voice, or no sound for the text.
        """
        library = self._library
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise FlashHeadError(f"espeak-ng has no voice '{voice}'; see espeak-ng --voices.")
        for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, lilt)):
            library.espeak_SetParameter(parameter, value, 0)
        self._sound, self._events = [], []
        data = text.encode() + b"\0"
        status = library.espeak_Synth(data, len(data), 0, 0, 0, _CHARS_UTF8 | _ENDPAUSE, None, None)
        library.espeak_Synchronize()
        if status != 0 or not self._sound:
            raise FlashHeadError(f"espeak-ng said nothing of {text!r} (status {status}).")
        sound = np.concatenate(self._sound).astype(np.float32) / 32768
        return Utterance(torch.from_numpy(sound), self.rate, tuple(self._events))


@lru_cache(maxsize=1)
def espeak() -> Espeak:
    """The process's synthesizer.

    Raises:
        FlashHeadError: the library is not installed.
    """
    return Espeak()
