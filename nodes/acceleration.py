"""What Load Checkpoint may change about how the generator computes."""

from collections.abc import Callable

import comfy.ldm.modules.attention

from ..flashhead.errors import FlashHeadError

ATTENTION = ("default", "pytorch", "sage", "flash", "xformers", "sub_quad", "split")


def choose_attention(name: str) -> Callable | None:
    """ComfyUI's attention of that name as an override; None for ComfyUI's own choice.

    Raises `FlashHeadError` where it is not installed.
    """
    if name == ATTENTION[0]:
        return None
    kernel = comfy.ldm.modules.attention.get_attention_function(name, default=None)
    if kernel is None:
        raise FlashHeadError(
            f"ComfyUI has no '{name}' attention here, because its package is not installed; choose "
            "'default' or 'pytorch'."
        )

    def override(_usual, *args, **keywords):
        return kernel(*args, **keywords)

    return override


def compiled(model):
    """A clone of the MODEL whose generator goes through torch.compile, as core's node does it."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    dynamic = getattr(model, "is_dynamic", lambda: False)()
    model = model.clone(disable_dynamic=True) if dynamic else model.clone()
    set_torch_compile_wrapper(model=model, backend="inductor", dynamic=False)
    return model
