"""The demonstration: from the package's own files to an mp4 with sound."""

import os
import subprocess
import sys
import wave

import av
from PIL import Image

from flashhead import demo
from flashhead.examples import PHOTOGRAPH, SPEECH


def test_whole_path(tmp_path):
    output = tmp_path / "demo.mp4"
    done = subprocess.run(
        [sys.executable, "-m", "flashhead.demo", "--output", str(output)],
        env=os.environ | {"PYTHONPATH": str(SPEECH.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "photographs" in done.stdout.splitlines()[-1]
    assert "chunk" in done.stderr and "warning" not in done.stderr
    assert list(tmp_path.iterdir()) == [output]
    with wave.open(str(SPEECH)) as speech:
        seconds = speech.getnframes() / speech.getframerate()
    with av.open(str(output)) as video:
        frames = [(frame.width, frame.height) for frame in video.decode(video=0)]
    assert frames == [(384, 384)] * round(seconds * 25)
    with av.open(str(output)) as video:
        heard = sum(frame.samples for frame in video.decode(audio=0)) / 22050
    assert seconds <= heard < seconds + 0.1


def test_failure_is_passed_on(tmp_path, capsys):
    assert demo.main(["--output", str(tmp_path / "none" / "demo.mp4")]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and not told.out


def test_examples():
    assert Image.open(PHOTOGRAPH).size == (512, 512)
    with wave.open(str(SPEECH)) as speech:
        assert (speech.getframerate(), speech.getnchannels(), speech.getsampwidth()) == (
            22050,
            1,
            2,
        )
