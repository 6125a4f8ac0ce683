"""Save State and Load State: a stream goes on in a later run, or in another workflow."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ...flashhead.errors import FlashHeadError, OutputError
from ...flashhead.files import check_output
from ...flashhead.stream.state_file import load_state, save_state
from .. import inputs
from ..schema import schema
from ..types import State


def _folder() -> Path:
    return Path(folder_paths.get_output_directory()) / "flashhead_states"


def _names() -> list[str]:
    return sorted(path.stem for path in _folder().glob("*.safetensors"))


def _missing(name: str) -> str:
    """A sentence where there is no state of that name; else nothing."""
    if name in _names():
        return ""
    return f"No state '{name}' is in {_folder()}; save one with FlashHead Save State first."


def _path(name: str) -> Path:
    """The file of a state to be saved, in a folder that is made. Raises `FlashHeadError`."""
    name = str(name)  # another node may give a number
    if not name.strip() or Path(name).name != name or name.startswith("."):
        raise FlashHeadError(
            f"'{name}' cannot be a state's name; give a plain file name, such as stream."
        )
    try:
        _folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder for states cannot be made: {error}.") from error
    return _folder() / f"{name}.safetensors"


class SaveState(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadSaveState",
            display_name="FlashHead Save State",
            description="Keeps where a stream is, about 2 MB, in output/flashhead_states; "
            "FlashHead Load State goes on from it.",
            search_aliases=["talking head", "continue", "checkpoint stream"],
            is_output_node=True,
            inputs=[
                inputs.state("From a sampler, Decode Chunk, Start Stream or Switch Portrait."),
                io.String.Input(
                    "name", default="stream", tooltip="File name. A file of this name is replaced."
                ),
            ],
            outputs=[inputs.state_output("The same state.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        # Before the stream is made that could not be saved afterwards.
        try:
            if name is not None:  # None is a name that another node gives
                check_output(_path(name))
        except FlashHeadError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, state: State, name: str) -> io.NodeOutput:
        state.check_between_chunks()
        save_state(_path(name), state.stream, state.geometry)
        return io.NodeOutput(state)


class LoadState(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="FlashHeadLoadState",
            display_name="FlashHead Load State",
            description="A stream that FlashHead Save State kept: its portrait, noise and motion.",
            search_aliases=["talking head", "continue", "resume"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=_names() or ["no state saved yet"],
                    tooltip="Which stream; press R to see those saved since.",
                )
            ],
            outputs=[inputs.state_output("For a sampler, Sample Chunk or Switch Portrait.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        # Saved since the page was loaded, a name is not yet in the list it was checked against.
        return True if name is None else _missing(name) or True

    @classmethod
    def fingerprint_inputs(cls, name: str) -> float:
        path = _folder() / f"{name}.safetensors"
        return path.stat().st_mtime if path.is_file() else 0.0

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        if missing := _missing(name):  # of a name that another node gives
            raise FlashHeadError(missing)
        return io.NodeOutput(State(*load_state(_folder() / f"{name}.safetensors")))
