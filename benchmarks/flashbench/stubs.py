"""Stand-ins for what the reference imports but does not need to compute on one device."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

UNNEEDED = (
    "cv2",
    "loguru",
    "mediapipe",
    "pyloudnorm",
    "xfuser",
    "xfuser.core",
    "xfuser.core.distributed",
    "xfuser.core.long_ctx_attention",
    "yunchang",
)


class _Anything:
    """Has every attribute, can be called with anything, and does nothing."""

    def __getattr__(self, name: str) -> _Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: object, **kwargs: object) -> _Anything:
        return self


class _Stub(ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name: str) -> _Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()


def put_stubs() -> list[str]:
    """Put a stub in place of each unneeded module that is not installed; returns their names."""
    put: list[str] = []
    for name in UNNEEDED:
        package = name.partition(".")[0]
        if package in put or (name == package and importlib.util.find_spec(name) is None):
            sys.modules[name] = _Stub(name)
            put.append(name)
    return put
