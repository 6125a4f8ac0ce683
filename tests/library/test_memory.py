"""`generate` holds one chunk and 8 s of audio at most, whatever the length."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
from dataclasses import replace
import torch, flashhead
from flashhead.models.config import LTXVAEConfig
from flashhead.models.ltx_vae import LTXVAE

torch.set_num_threads(1)
FIXTURES = sys.argv[1] + "/tests/fixtures/"

class Speech:
    '''48 kHz stereo noise, made block by block: the input itself takes no memory.'''
    sample_rate, channels = 48_000, 2
    def __init__(self, seconds):
        self.samples = seconds * self.sample_rate
    def blocks(self):
        rng = torch.Generator().manual_seed(0)
        for _ in range(self.samples // self.sample_rate):
            yield torch.randn(2, self.sample_rate, generator=rng) * 0.1

bundle = flashhead.load_bundle(FIXTURES + "tiny-checkpoint", "lite")
# One block, and one channel in the VAE, make 313 chunks bearable; the frames are as large.
bundle.generator.blocks = bundle.generator.blocks[:1]
narrow = LTXVAEConfig((1, 1, 1, 1), (1, 1, 1, 1, 1), (True, True, True, False), latent_channels=8)
vae = LTXVAE(narrow).eval().requires_grad_(False)
vae.latents_mean.zero_()
vae.latents_std.fill_(1)
bundle = replace(bundle, vae=vae)

def peak(seconds):
    chunks = flashhead.generate(
        bundle, FIXTURES + "goldens/portrait.png", Speech(seconds),
        size=(32, 32), steps=1, cache_seconds=1.32, color_match=0.0,
    )
    frames = sum(len(chunk.frames) for chunk in chunks)
    assert frames == seconds * 25, frames
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

print(json.dumps([peak(30), peak(300)]))
"""


def test_five_minutes_take_the_memory_of_half_a_minute():
    pytest.importorskip("resource", reason="peak memory is read the Unix way")
    result = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, str(ROOT)], capture_output=True, text=True, check=True
    )
    short, long = json.loads(result.stdout)
    # Half of what the other 270 s of speech would take, at 16 kHz in float32; their frames would
    # take five times as much. Measured: nothing.
    assert long - short < 270 * 16_000 * 4 / 2
