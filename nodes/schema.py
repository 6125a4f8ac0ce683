"""Node descriptions that also load in the oldest ComfyUI supported (0.3.64)."""

import inspect
from collections.abc import Callable
from typing import Any

from comfy_api.latest import io


def make(kind: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Call `kind` without the keywords that this ComfyUI does not know yet."""
    known = inspect.signature(kind).parameters
    return kind(*args, **{key: value for key, value in keywords.items() if key in known})


def schema(**keywords: Any) -> io.Schema:
    """A schema in this pack's category."""
    return make(io.Schema, category="FlashHead", **keywords)
