"""ComfyUI-FlashHead: ComfyUI's entry to the node pack. Importing it does no work."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> object:
    """Called by ComfyUI when it loads the pack."""
    from .nodes import FlashHeadExtension

    return FlashHeadExtension()
