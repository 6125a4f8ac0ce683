"""The tiny autoencoder against a second writing-down of TAEHV in float64, frame by frame in numpy's
manner, and what must hold of it in a chunk."""

from __future__ import annotations

import shutil
import wave

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import conv2d

import flashhead
from flashhead import CheckpointError, LiveStream, Settings
from flashhead.checkpoint.components import open_vae
from flashhead.checkpoint.configs import to_config
from flashhead.checkpoint.info import describe
from flashhead.cli.main import main
from flashhead.models.backend import Backend, build
from flashhead.models.config import TinyVAEConfig
from flashhead.models.tiny_vae import TinyVAE
from flashhead.stream.loop import ChunkAudio
from flashhead.testing import MINIATURE_PRO, write_adapter, write_checkpoint


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = write_checkpoint(tmp_path_factory.mktemp("published"), MINIATURE_PRO)
    write_adapter(root / "LeapTalk", rank=4)
    return root


@pytest.fixture(scope="module")
def file(root):
    return root / "LeapTalk" / "taew2_1.pth"


@pytest.fixture(scope="module")
def vae(file):
    return open_vae(file).load(dtype=torch.float32)


@pytest.fixture(scope="module")
def weights(file):
    return {key: value.double() for key, value in torch.load(file, weights_only=True).items()}


class Naive:
    """TAEHV on lists of frames (C, H, W): what is published of it, layer by layer."""

    def __init__(self, weights):
        self.w = weights

    def conv(self, at, x, stride=1):
        kernel = self.w[f"{at}.weight"]
        bias = self.w.get(f"{at}.bias")
        return conv2d(x[None], kernel, bias, stride, padding=kernel.shape[-1] // 2)[0]

    def each(self, at, frames, stride=1):
        return [self.conv(at, frame, stride) for frame in frames]

    def memory(self, at, frames):
        out = []
        for n, frame in enumerate(frames):
            x = torch.cat([frame, frames[n - 1] if n else torch.zeros_like(frame)])
            for layer in (0, 2, 4):
                x = self.conv(f"{at}.conv.{layer}", x)
                x = x.clamp_min(0) if layer < 4 else x
            out.append((x + frame).clamp_min(0))
        return out

    def encode(self, video):
        """(3, T, H, W) in [-1, 1] -> (C, t, h, w)."""
        frames = list(((video + 1) / 2).unbind(1))
        frames += [frames[-1]] * (-len(frames) % 4)
        frames = [frame.clamp_min(0) for frame in self.each("encoder.0", frames)]
        for at, together in ((2, 2), (7, 2), (12, 1)):
            groups = zip(*[iter(frames)] * together, strict=True)
            frames = self.each(f"encoder.{at}.conv", [torch.cat(group) for group in groups])
            frames = self.each(f"encoder.{at + 1}", frames, stride=2)
            for block in (2, 3, 4):
                frames = self.memory(f"encoder.{at + block}", frames)
        return torch.stack(self.each("encoder.17", frames), dim=1)

    def decode(self, latents):
        """(C, t, h, w) -> (3, 1 + 4 (t - 1), H, W) in [-1, 1]."""
        frames = [3 * torch.tanh(frame / 3) for frame in latents.unbind(1)]
        frames = [frame.clamp_min(0) for frame in self.each("decoder.1", frames)]
        for at, apart in ((3, 1), (9, 2), (15, 2)):
            for block in (0, 1, 2):
                frames = self.memory(f"decoder.{at + block}", frames)
            frames = [f.repeat_interleave(2, 1).repeat_interleave(2, 2) for f in frames]
            grown = self.each(f"decoder.{at + 4}.conv", frames)
            frames = [part for frame in grown for part in frame.chunk(apart)]
            frames = self.each(f"decoder.{at + 5}", frames)
        frames = self.each("decoder.22", [frame.clamp_min(0) for frame in frames])
        return torch.stack(frames[3:], dim=1).clamp(0, 1) * 2 - 1


def randoms(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("frames", "dtype", "error"),
    [(1, torch.float64, 1e-6), (33, torch.float64, 1e-6), (5, torch.float32, 1e-5)],
)
def test_both_ways_as_written_out(file, weights, deviation, frames, dtype, error):
    """Two videos side by side, each as alone; groups of frames as the whole."""
    naive, vae = Naive(weights), open_vae(file).load(Backend(dtype=dtype), dtype=dtype)
    video = randoms(2, 3, frames, 16, 24).clamp(-1, 1)
    latents = vae.encode(video)
    assert latents.shape == (2, 16, 1 + (frames - 1) // 4, 2, 3)
    given = randoms(*latents.shape, seed=1)
    decoded = vae.decode(given)
    assert decoded.shape == video.shape
    assert decoded.std() > 0.1
    for n in range(2):
        assert deviation(latents[n], naive.encode(video[n].double())) < error
        assert deviation(decoded[n], naive.decode(given[n].double())) < error


def test_tiles_give_the_whole(vae, deviation):
    """Wide enough that a tile does not see all of the picture."""
    latents = randoms(1, 16, 2, 2, 60)
    video = vae.decode(latents)
    assert deviation(vae.decode(latents, tiles=2), video) < 1e-5
    whole = vae.encode(video)
    assert deviation(vae.encode(video, tiles=2), whole) < 1e-5
    # As far as that, and no less.
    latents[..., 0] += 1
    far = (vae.decode(latents) - video).abs().amax((0, 1, 2, 3)).nonzero().max()
    assert 8 * 17 <= far < 8 * 19


def test_the_published_sizes():
    """The number of values in taew2_1.pth, whose 22,679,486 bytes leave 48,408 for the zip file."""
    network = build(lambda: TinyVAE(TinyVAEConfig()))
    assert 2 * sum(tensor.numel() for tensor in network.state_dict().values()) == 22_631_078


def test_its_latents_are_exchanged_as_wans(vae, root):
    wan = flashhead.load_bundle(root, "pro").vae
    latents = randoms(1, 16, 2, 3, 4)
    assert torch.equal(vae.denormalize(latents), wan.denormalize(latents))
    torch.testing.assert_close(vae.normalize(vae.denormalize(latents)), latents)


def test_a_safetensors_of_it_is_the_same(file, vae, tmp_path):
    path = tmp_path / "taew2_1.safetensors"
    save_file(torch.load(file, weights_only=True), path)
    again = open_vae(path).load(dtype=torch.float32)
    assert torch.equal(again.decode(x := randoms(1, 16, 1, 2, 2)), vae.decode(x))
    assert "tiny (TAEHV), widths 16 8 8 8, 16 latent channels, stride 4x8x8" in describe(path)
    assert to_config(again.config)["_class_name"] == "TAEHV"


@pytest.mark.parametrize("variant", ["pro", "leaptalk"])
def test_a_stream_goes_through_it_alone(root, file, weights, portrait, deviation, variant):
    """Reference latents, frames and motion latents of two chunks, colours left as they are."""
    bundle = flashhead.load_bundle(root, variant, vae="tiny")
    settings, naive = Settings(size=(16, 32), color_match=0, steps=1), Naive(weights)
    stream = LiveStream(bundle, portrait, settings)
    state, samples = stream.state, randoms(2, 28 * 640)
    for chunk in range(2):
        sampled, after = stream.loop.sampler.sample(ChunkAudio(samples[chunk]), state)
        frames, state = stream.loop.decoder.decode(sampled, after)
        video = naive.decode(sampled.latents[0].double())
        shown = ((video[:, 5:] + 1) / 2).movedim(0, -1)
        assert deviation(frames[0], shown) < 1e-5
        assert deviation(state.motion[0], naive.encode(video[:, -5:])) < 1e-5


def test_in_a_bundle_and_from_the_command_line(root, file, portrait, tmp_path, weights):
    """`convert` and `generate`, with the adapter's LoRA at its strength, as a user types them."""
    path = tmp_path / "one-step.safetensors"
    adapter = root / "LeapTalk"
    parts = ["--vae", "tiny", "--lora", str(adapter), "--audio-projection"]
    parts.append(str(adapter / "audio_proj_step_10400.pt"))
    asked = ["--variant", "leaptalk", "--dtype", "fp32", "--quiet"]
    assert main(["convert", str(root), str(path), *parts, *asked]) == 0
    assert "one-file bundle of leaptalk" in describe(path) and "tiny (TAEHV)" in describe(path)
    sound = tmp_path / "speech.wav"
    with wave.open(str(sound), "wb") as speech:
        speech.setparams((1, 2, 16_000, 0, "NONE", ""))
        speech.writeframes((randoms(16_000) * 5_000).short().numpy().tobytes())
    asked = ["--portrait", str(portrait), "--audio", str(sound), "--size", "32x16", "--quiet"]
    videos = []
    for number, source in enumerate(
        (["--checkpoint", str(path)], ["--checkpoint", str(root), "--variant", "leaptalk", *parts])
    ):
        output = tmp_path / f"{number}.mp4"
        assert (
            main(["generate", *source, *asked, "--seed", str(number), "--output", str(output)]) == 0
        )
        videos.append(output.read_bytes())
    assert videos[0] == videos[1]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("decoder.1.weight", (16, 48, 3, 3)),  # Wan 2.2's
        ("decoder.22.bias", (12,)),  # HunyuanVideo 1.5's
        ("encoder.0.weight", (8,)),
        ("decoder.7.conv.weight", (32, 16, 1, 1)),
    ],
)
def test_a_tiny_autoencoder_of_another_model_is_refused(file, tmp_path, name, shape):
    tensors = torch.load(file, weights_only=True) | {name: torch.zeros(shape)}
    save_file(tensors, tmp_path / "taew2_2.safetensors")
    with pytest.raises(CheckpointError, match=r"taew2_1|decoder\.7\.conv\.weight"):
        open_vae(tmp_path / "taew2_2.safetensors")


def test_where_it_is_looked_for(root, checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match=r"taew2_1\.pth does not exist; download the tiny"):
        flashhead.load_bundle(checkpoint, "pro", vae="tiny")
    for path, variant in ((checkpoint, "lite"), ("pocket", None)):
        with pytest.raises(CheckpointError, match="tiny VAE is for Pro; variant 'lite' has only"):
            flashhead.load_bundle(path, variant, vae="tiny")
    with pytest.raises(CheckpointError, match="needs 8 at|latent channels"):
        flashhead.load_bundle(checkpoint, "lite", vae=root / "LeapTalk")
    other = shutil.copytree(root, tmp_path / "published")
    shutil.rmtree(other / "VAE_Wan")
    assert isinstance(flashhead.load_bundle(other, "leaptalk").vae, TinyVAE)
    with pytest.raises(CheckpointError, match=r"Wan2\.1_VAE\.pth does not exist"):
        flashhead.load_bundle(other, "pro")
