"""Files to try things with; README.md says where they are from."""

from pathlib import Path

_FOLDER = Path(__file__).parent
SPEECH = _FOLDER / "speech.wav"
PHOTOGRAPH = _FOLDER / "photograph.png"
