"""wav2vec2: the published code's features, and a second implementation on random weights."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from flashhead import AudioError, CheckpointError
from flashhead.checkpoint.components import open_audio_encoder
from flashhead.checkpoint.loading import load_audio_encoder

CONFIG = dict(
    conv_dim=[6, 4, 10], conv_kernel=[9, 4, 3], conv_stride=[5, 3, 2], conv_bias=True,
    hidden_size=12, intermediate_size=20, num_attention_heads=3, num_hidden_layers=2,
    num_conv_pos_embeddings=7, num_conv_pos_embedding_groups=2, layer_norm_eps=1e-4,
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder(checkpoint):
    return load_audio_encoder(open_audio_encoder(checkpoint / "wav2vec2-base-960h"))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def write_random(folder, config, seed=0):
    """wav2vec2 in Hugging Face's layout, with the weight norm spelt weight_g, weight_v."""
    rng = torch.Generator().manual_seed(seed)
    tensors, width = {}, config["hidden_size"]

    def draw(name, *shape):
        tensors[f"wav2vec2.{name}"] = torch.randn(shape, generator=rng) * 0.4

    def pair(name, *shape):
        draw(f"{name}.weight", *shape)
        draw(f"{name}.bias", shape[0])

    channels = [1, *config["conv_dim"]]
    for n, kernel in enumerate(config["conv_kernel"]):
        pair(f"feature_extractor.conv_layers.{n}.conv", channels[n + 1], channels[n], kernel)
    pair("feature_extractor.conv_layers.0.layer_norm", channels[1])
    pair("feature_projection.layer_norm", channels[-1])
    pair("feature_projection.projection", width, channels[-1])
    position = "encoder.pos_conv_embed.conv"
    kernel, groups = config["num_conv_pos_embeddings"], config["num_conv_pos_embedding_groups"]
    draw(f"{position}.bias", width)
    draw(f"{position}.weight_g", 1, 1, kernel)
    draw(f"{position}.weight_v", width, width // groups, kernel)
    pair("encoder.layer_norm", width)
    for layer in (f"encoder.layers.{n}" for n in range(config["num_hidden_layers"])):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            pair(f"{layer}.attention.{name}", width, width)
        pair(f"{layer}.feed_forward.intermediate_dense", config["intermediate_size"], width)
        pair(f"{layer}.feed_forward.output_dense", width, config["intermediate_size"])
        pair(f"{layer}.layer_norm", width)
        pair(f"{layer}.final_layer_norm", width)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return {
        key.removeprefix("wav2vec2."): value.numpy().astype(float) for key, value in tensors.items()
    }


def reference_features(w, c, waveform, frames):
    """DESIGN §1.3 in numpy, float64, position by position."""
    erf = np.vectorize(math.erf)

    def gelu(x):
        return x * 0.5 * (1 + erf(x / math.sqrt(2)))

    def norm(x, name, axis=-1):
        x = (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = ((waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7))[:, None]
    for n, (kernel, stride) in enumerate(zip(c["conv_kernel"], c["conv_stride"], strict=True)):
        name, eps = f"feature_extractor.conv_layers.{n}", 1e-5
        starts = range(0, len(x) - kernel + 1, stride)
        weight = w[f"{name}.conv.weight"]
        x = np.stack([np.einsum("oik,ki->o", weight, x[s : s + kernel]) for s in starts])
        x = x + w[f"{name}.conv.bias"]
        x = gelu(norm(x, f"{name}.layer_norm", axis=0) if n == 0 else x)
    positions = np.linspace(0, len(x) - 1, frames)
    x = np.stack([np.interp(positions, np.arange(len(x)), channel) for channel in x.T], axis=1)
    eps = c["layer_norm_eps"]
    x = linear(norm(x, "feature_projection.layer_norm"), "feature_projection.projection")

    name, kernel = "encoder.pos_conv_embed.conv", c["num_conv_pos_embeddings"]
    groups, width = c["num_conv_pos_embedding_groups"], c["hidden_size"]
    v, g = w[f"{name}.weight_v"], w[f"{name}.weight_g"]
    weight = np.stack(
        [g[0, 0, k] * v[..., k] / np.sqrt((v[..., k] ** 2).sum()) for k in range(kernel)], axis=-1
    )
    padded = np.pad(x, ((kernel // 2, kernel // 2), (0, 0)))
    position = np.zeros_like(x)
    size = width // groups
    for frame in range(frames):
        for channel in range(width):
            group = slice(channel // size * size, channel // size * size + size)
            window = padded[frame : frame + kernel, group]
            position[frame, channel] = (window.T * weight[channel]).sum()
    x = norm(x + gelu(position + w[f"{name}.bias"]), "encoder.layer_norm")

    outputs, heads = [], c["num_attention_heads"]
    for layer in (f"encoder.layers.{n}" for n in range(c["num_hidden_layers"])):
        q, k, v = (linear(x, f"{layer}.attention.{n}_proj") for n in "qkv")
        heads_out = []
        for q1, k1, v1 in zip(*(np.split(a, heads, axis=1) for a in (q, k, v)), strict=True):
            weights = np.exp(q1 @ k1.T / math.sqrt(width / heads))
            heads_out.append(weights / weights.sum(1, keepdims=True) @ v1)
        x = x + linear(np.concatenate(heads_out, 1), f"{layer}.attention.out_proj")
        x = norm(x, f"{layer}.layer_norm")
        hidden = gelu(linear(x, f"{layer}.feed_forward.intermediate_dense"))
        x = norm(
            x + linear(hidden, f"{layer}.feed_forward.output_dense"), f"{layer}.final_layer_norm"
        )
        outputs.append(x)
    return torch.from_numpy(np.stack(outputs, axis=1))


@pytest.mark.parametrize("case", ["audio_8s", "audio_short"])
def test_matches_the_published_encoder(case, encoder, golden, deviation):
    data = golden(case)
    assert deviation(encoder.encode(data["waveform"]), data["features"]) < 3e-5


@pytest.mark.parametrize(("kernel", "samples", "frames"), [(7, 1000, 40), (8, 731, 3), (7, 90, 2)])
def test_equals_a_naive_float64_encoder(kernel, samples, frames, tmp_path, deviation):
    config = {**CONFIG, "num_conv_pos_embeddings": kernel}
    weights = write_random(tmp_path, config, seed=kernel)
    waveform = noise(samples) * 0.2 + 0.1
    actual = load_audio_encoder(open_audio_encoder(tmp_path)).encode(waveform, frames)
    expected = reference_features(weights, config, waveform.double().numpy(), frames)
    assert deviation(actual, expected) < 1e-5


def test_key_names_of_every_kind_load_alike(tmp_path, encoder, checkpoint, lite, rewrite):
    """Weight norm as weight_g, weight_v or parametrizations; with the wav2vec2. prefix or not."""
    folder = lite / "wav2vec2-base-960h"
    rewrite(
        folder / "model.safetensors",
        lambda tensors: {
            key.removeprefix("wav2vec2.")
            .replace("parametrizations.weight.original0", "weight_g")
            .replace("parametrizations.weight.original1", "weight_v"): tensor
            for key, tensor in tensors.items()
            if not key.startswith("lm_head") and not key.endswith("masked_spec_embed")
        },
    )
    waveform = noise(16_000)
    renamed = load_audio_encoder(open_audio_encoder(folder))
    assert torch.equal(renamed.encode(waveform), encoder.encode(waveform))


def test_stored_in_16_bit_it_still_computes_in_float32(lite, rewrite, encoder, deviation):
    folder = lite / "wav2vec2-base-960h"
    rewrite(folder / "model.safetensors", lambda w: {k: v.half() for k, v in w.items()})
    features = load_audio_encoder(open_audio_encoder(folder)).encode(noise(8000))
    assert features.dtype == torch.float32
    assert deviation(features, encoder.encode(noise(8000))) < 0.007  # measured: 0.0033


def test_a_batch_is_its_clips_one_by_one(encoder, deviation):
    clips = noise(3, 12_345) * torch.tensor([[1.0], [0.01], [5.0]])
    together = encoder.encode(clips)
    assert together.shape == (3, 19, 3, 16)
    for features, clip in zip(together, clips, strict=True):
        assert deviation(features, encoder.encode(clip)) < 1e-5


def test_level_and_offset_do_not_matter(encoder, deviation):
    clip = noise(20_000)
    assert deviation(encoder.encode(clip * 7 + 3), encoder.encode(clip)) < 2e-5


@pytest.mark.parametrize("samples", [640, 1279, 1280, 15_999, 16_000, 21_072])
def test_frames_are_whole_25ths_of_a_second(samples, encoder):
    assert len(encoder.encode(noise(samples))) == samples * 25 // 16_000


def test_silence_has_finite_features(encoder):
    assert encoder.encode(torch.zeros(128_000)).isfinite().all()


@pytest.mark.parametrize("shape", [(0,), (1,), (639,), (2, 100)])
def test_too_short_is_refused(shape, encoder):
    with pytest.raises(AudioError, match=f"{shape[-1]} samples.*at least 640"):
        encoder.encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(), (1, 2, 16_000)])
def test_other_shapes_are_refused(shape, encoder):
    with pytest.raises(AudioError, match=r"expected \(N,\) or \(B, N\)"):
        encoder.encode(torch.zeros(shape))


def test_a_large_wav2vec2_is_refused(tmp_path):
    write_random(tmp_path, CONFIG)
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "do_stable_layer_norm": True}))
    with pytest.raises(CheckpointError, match="wav2vec2-base-960h"):
        load_audio_encoder(open_audio_encoder(tmp_path))
