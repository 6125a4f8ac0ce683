"""The published files' sizes and checksums, to tell whether a file is the one that was published.

Read in public repositories; what nobody has stated is None.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class PublishedFile(NamedTuple):
    """bytes: its size. sha256: in hexadecimal. revision: the commit of its repository."""

    bytes: int
    sha256: str | None = None
    revision: str | None = None


_MODEL = "59119b6c681230c3eeee157e224ae1941746711e"
_ENCODER = "22aad52d435eb6dbaf354bdad9b0da84ce7d6156"
_LEAPTALK = "b33b788fd1c9b3df11627e00c6a0415272d829dc"
PUBLISHED = {
    "Model_Lite/config.json": PublishedFile(357),
    "Model_Lite/diffusion_pytorch_model.safetensors": PublishedFile(6_107_542_048),
    "Model_Pro/config.json": PublishedFile(
        353, "94b480d3af70e73989371ed0c106656c2c887201286b1210e835cd09e71e32b1", _MODEL
    ),
    "Model_Pro/diffusion_pytorch_model.safetensors": PublishedFile(
        6_030_864_656, "e47e61b9023ea1aac60c0c0fff077289bc6cca443c71907e5a76a411480af250", _MODEL
    ),
    "VAE_LTX/config.json": PublishedFile(501),
    "VAE_LTX/diffusion_pytorch_model.safetensors": PublishedFile(1_676_798_532),
    "VAE_Wan/Wan2.1_VAE.pth": PublishedFile(
        507_609_880, "38071ab59bd94681c686fa51d75a1968f64e470262043be31f7a094e442fd981", _MODEL
    ),
    "wav2vec2-base-960h/config.json": PublishedFile(
        1_596, "d3ec255c063d9f95057b553b19c20135b259875834a4fe9deb218a6be25b4cf3", _ENCODER
    ),
    "wav2vec2-base-960h/preprocessor_config.json": PublishedFile(
        159, "b225d617c025463b9e157e06afea8b90dc7078fc70b013c533328423e0486b4a", _ENCODER
    ),
    "wav2vec2-base-960h/model.safetensors": PublishedFile(
        377_607_901, "8aa76ab2243c81747a1f832954586bc566090c83a0ac167df6f31f0fa917d74a", _ENCODER
    ),
    "lora/adapter_config.json": PublishedFile(
        1_069, "46fd70a44d56fc5e92ca9dda65cabe0dc1b29f8de0cc6400dc55a21467e90ba7", _LEAPTALK
    ),
    "lora/adapter_model.safetensors": PublishedFile(
        188_803_712, "30fdb8ffb312b3abaad8f068fe2ce30a38f5124e30bd6e9a310cd0a620501cde", _LEAPTALK
    ),
    "LeapTalk/audio_proj_step_10400.pt": PublishedFile(
        173_651_301, "40b9b53cdeedcad0b1839d51cfe4e122aaaa6bffafdcfed520fa29704a81b0c1", _LEAPTALK
    ),
    "LeapTalk/taew2_1.pth": PublishedFile(
        22_679_486, "f986092baa4a124035dcf44ef59cd30e0bef91b2aa4d6a6e8e152e55e82ca30c", _LEAPTALK
    ),
}
"""By folder and name, as layout.py finds them."""


def compare(name: str, size: int, sha256: str) -> str:
    """Whether a file is a published one, in a few words; "" for one that none was published for.

    name: FOLDER/NAME. A file is known by its checksum wherever it lies, else by its name.
    """
    if any(known.sha256 == sha256 for known in PUBLISHED.values()):
        return "as published"
    known = PUBLISHED.get(name)
    if known is None:
        return ""
    if known.bytes != size:
        return f"differs from the published file, which has {known.bytes:,} bytes"
    return "differs from the published file" if known.sha256 else "of the published size"


def sha256_of(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """A file's checksum in hexadecimal; `on_bytes` is told the size of each part that is read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            if on_bytes is not None:
                on_bytes(len(block))
    return digest.hexdigest()
