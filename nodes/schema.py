"""Node descriptions that also load in the oldest ComfyUI supported (0.3.64)."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from comfy_api.latest import io


def make(kind: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
    """Call `kind` without the keywords that this ComfyUI does not know yet."""
    known = inspect.signature(kind).parameters
    return kind(*args, **{key: value for key, value in keywords.items() if key in known})


def schema(**keywords: Any) -> io.Schema:
    """A schema in this pack's category."""
    return make(io.Schema, category="FlashHead", **keywords)


def number(name: str, values: tuple[float, ...], tooltip: str, **more: Any) -> io.Input:
    """A FLOAT widget if its default is a float, else an INT widget.

    values: default, lowest, highest and, unless it is ComfyUI's own, the step.
    """
    kind = io.Float if isinstance(values[0], float) else io.Int
    limits = dict(zip(("default", "min", "max", "step"), values, strict=False))
    return make(kind.Input, name, tooltip=tooltip, **limits, **more)


def choice(name: str, options: Sequence[str], tooltip: str, **more: Any) -> io.Input:
    """A COMBO widget; the first option is its default."""
    more |= {"options": list(options), "default": options[0]}
    return make(io.Combo.Input, name, tooltip=tooltip, **more)


def output(kind: Any, name: str, tooltip: str) -> io.Output:
    """An output socket of a type such as io.Image."""
    return kind.Output(display_name=name, tooltip=tooltip)
