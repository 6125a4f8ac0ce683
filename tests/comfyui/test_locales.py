"""locales/<language>/*.json, as the page asks ComfyUI for them: complete in every language.

There is none for English: the page shows the nodes' own words wherever a language has none, so that
a gap in a translation is never seen there, only here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from .server import ROOT, ComfyServer

LANGUAGES = ("zh", "ja", "ko")
FILES = ("main.json", "nodeDefs.json")

# A character that text in the language has, and Latin text has not.
SCRIPT = {"zh": "[\u4e00-\u9fff]", "ja": "[\u3040-\u30ff\u4e00-\u9fff]", "ko": "[\uac00-\ud7a3]"}
# The same, that a sentence has and that tells it from one in another language.
SENTENCE = SCRIPT | {"ja": "[\u3040-\u30ff]"}
# A character that text in the language never has.
FOREIGN = {
    "zh": "[\u3040-\u30ff\uac00-\ud7a3]",
    "ja": "[\uac00-\ud7a3]",
    "ko": "[\u3040-\u30ff\u4e00-\u9fff]",
}
# All that may stay as it is: products, files, values of widgets, units, and words that ComfyUI's
# own translations keep.
KEPT_WORDS = frozenset(
    """
    FlashHead SoulX-FlashHead Lite Pro pocket wav2vec2 wav2vec2-base-960h LoRA ComfyUI Triton
    MediaPipe Face Landmarker OpenCV WebSocket LeapTalk taew2_1 tiny one step
    models/vae_approx
    models/flashhead output/flashhead_states wan_2.1_vae torch.compile H.264 C++ CPU GPU
    default fp32 fp8 stream once cover box mask face auto channels tracks as recorded equal
    MB dB fps dtype x y R
    VAE Checkpoint Latent
    """.split()
)
# What vue-i18n takes for its own syntax in a message.
MESSAGE_SYNTAX = re.compile(r"[{}@|]")

Texts = dict[str, str]


@pytest.fixture(scope="module")
def info(server: ComfyServer) -> dict[str, Any]:
    """/object_info of the nodes of this pack."""
    found = server.object_info()
    return {name: node for name, node in found.items() if name.startswith("FlashHead")}


@pytest.fixture(scope="module")
def i18n(server: ComfyServer) -> dict[str, Any]:
    return server.get("/i18n")


@pytest.fixture(scope="module")
def english(info) -> Texts:
    return dict(flat(node_defs(info)))


def node_defs(info: dict[str, Any]) -> dict[str, Any]:
    """What nodeDefs.json says of nodes in their own words, for /object_info's."""
    return {name: _node_def(node) for name, node in info.items()}


def _node_def(node: dict[str, Any]) -> dict[str, Any]:
    inputs = {
        key: _socket(spec[1].get("display_name") or key, spec[1].get("tooltip"))
        for kind in ("required", "optional")
        for key, spec in node["input"].get(kind, {}).items()
    }
    outputs = {
        str(place): _socket(*told)
        for place, told in enumerate(zip(node["output_name"], node["output_tooltips"], strict=True))
    }
    told = {"display_name": node["display_name"], "description": node["description"]}
    return told | {"inputs": inputs, "outputs": outputs}


def _socket(name: str, tooltip: str | None) -> dict[str, str]:
    return {"name": name} | ({"tooltip": tooltip} if tooltip else {})


def flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """("FlashHeadSampler.inputs.seed.tooltip", "...") of every leaf."""
    if not isinstance(tree, dict):
        yield path, tree
        return
    for key, below in tree.items():
        yield from flat(below, f"{path}.{key}" if path else key)


def texts(i18n: dict[str, Any], language: str) -> Texts:
    """Our own nodes' in a language, as `flat` gives them."""
    told = i18n.get(language, {}).get("nodeDefs", {})
    return dict(flat({key: node for key, node in told.items() if key.startswith("FlashHead")}))


def words(text: str) -> set[str]:
    """Those in Latin letters, names of files and code included."""
    found = re.findall(r"[A-Za-z][A-Za-z0-9_./+-]*", re.sub(r"\d+x\d+", "", text))
    return {word.rstrip("./-") for word in found}


def numbers(text: str) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:\.\d+)?", text))


def report(title: str, lines: list[str]) -> None:
    """Fail if anything was found wrong, with each on a line of its own."""
    if lines:
        pytest.fail("\n  ".join([f"{title}:", *lines]), pytrace=False)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_every_text_and_no_other(i18n, english: Texts, language: str):
    found = texts(i18n, language)
    where = f"locales/{language}/nodeDefs.json"
    missing = [f"{key}: {text}" for key, text in english.items() if key not in found]
    report(f"{where} lacks", missing)
    report(f"{where} has what no node has", sorted(found.keys() - english.keys()))
    report(f"{where}: empty", [key for key, text in found.items() if not str(text).strip()])


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_left_in_english(i18n, language: str):
    found = texts(i18n, language)
    report(
        f"{language}: not translated",
        [
            f"{key}: {text}"
            for key, text in found.items()
            if not re.search((SCRIPT if key.endswith("name") else SENTENCE)[language], text)
            and text not in KEPT_WORDS
        ],
    )
    report(
        f"{language}: words that KEPT_WORDS does not name",
        [
            f"{key}: {', '.join(sorted(words(text) - KEPT_WORDS))}"
            for key, text in found.items()
            if words(text) - KEPT_WORDS
        ],
    )
    report(
        f"{language}: letters of another language",
        [f"{key}: {text}" for key, text in found.items() if re.search(FOREIGN[language], text)],
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_gives_the_numbers_that_the_node_gives(i18n, english: Texts, language: str):
    found = texts(i18n, language)
    report(
        f"{language}: numbers missing",
        [
            f"{key}: {', '.join((numbers(text) - numbers(found[key])).elements())}"
            for key, text in english.items()
            if numbers(text) - numbers(found.get(key, text))
        ],
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_shows_as_it_is_written(i18n, language: str):
    """Names go through vue-i18n's message compiler, and in older frontends tooltips do."""
    report(
        f"{language}: characters that vue-i18n takes for its syntax",
        [f"{key}: {t}" for key, t in texts(i18n, language).items() if MESSAGE_SYNTAX.search(t)],
    )


def test_english_is_no_file_of_its_own(i18n):
    """It would repeat what the nodes say, and hide it where it is out of date."""
    assert not i18n.get("en")
    assert {path.name for path in (ROOT / "locales").iterdir()} == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nodes_have_names_of_their_own(i18n, language: str):
    names = {
        key: text
        for key, text in texts(i18n, language).items()
        if re.fullmatch(r"\w+\.display_name", key)
    }
    report(
        f"{language}: does not begin with FlashHead",
        [f"{key}: {text}" for key, text in names.items() if not text.startswith("FlashHead ")],
    )
    report(
        f"{language}: two nodes of one name",
        [text for text, count in Counter(names.values()).items() if count > 1],
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_menus_are_named(info, i18n, language: str):
    """The page looks each part of a category up by itself."""
    parts = {part for node in info.values() for part in node["category"].split("/")}
    found = i18n.get(language, {}).get("nodeCategories", {})
    report(f"locales/{language}/main.json lacks nodeCategories", sorted(parts - found.keys()))
    bare = [p for p in parts if p != "FlashHead" and not re.search(SCRIPT[language], found[p])]
    report(f"{language}: menus not translated", sorted(bare))
    report(f"{language}: menus that are not there", sorted(found.keys() - parts))
    assert found["FlashHead"] == "FlashHead"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_written_as_all_are(language: str, name: str):
    """Which finds a key that is there twice, too."""
    text = (ROOT / "locales" / language / name).read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"


def test_no_file_is_one_that_nothing_reads():
    found = {str(path.relative_to(ROOT / "locales")) for path in ROOT.glob("locales/**/*.*")}
    assert found == {f"{language}/{name}" for language in LANGUAGES for name in FILES}
