"""The diffusion transformer: the published code's output, and what must hold for any weights."""

import pytest
import torch
from torch import nn

from flashhead.checkpoint.components import open_generator
from flashhead.models.audio_projection import group_audio_context
from flashhead.models.backend import Backend, cast, sdpa
from flashhead.models.rotary import rotary_table, rotate

CASES = {
    "dit_lite": "Model_Lite",
    "dit_lite_long": "Model_Lite",
    "dit_lite_patch122": "Model_Lite_patch122",
    "dit_pro": "Model_Pro",
}


def load(folder, dtype=torch.float32, **backend):
    backend = Backend(dtype=dtype, **backend)
    return open_generator(folder).load(backend, dtype=dtype)


@pytest.fixture(scope="module")
def generator(checkpoint):
    return load(checkpoint / "Model_Lite")


def inputs(batch, *, seed=0, frames=3, size=(2, 3)):
    rng = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, batch, 8, frames, *size, generator=rng)
    audio = torch.randn(batch, 1 + 8 * (frames - 1), 5, 3, 16, generator=rng)
    return x, torch.rand(batch, generator=rng) * 1000, audio, y


@pytest.mark.parametrize("case", CASES)
def test_matches_the_published_model(case, checkpoint, golden, deviation):
    data = golden(case)
    flow = load(checkpoint / CASES[case])(data["x"], data["timestep"], data["context"], data["y"])
    assert deviation(flow, data["flow"]) < 1e-5


def test_a_batch_is_its_samples_one_by_one(generator, deviation):
    x, t, audio, y = inputs(3)
    together = generator(x, t, audio, y)
    apart = torch.cat(
        [generator(x[i : i + 1], t[i : i + 1], audio[i : i + 1], y[i : i + 1]) for i in range(3)]
    )
    assert deviation(together, apart) < 1e-5


def test_one_timestep_serves_a_batch(generator):
    x, t, audio, y = inputs(2)
    assert torch.equal(generator(x, t[:1], audio, y), generator(x, t[:1].repeat(2), audio, y))


def test_what_is_computed_beforehand_gives_the_same(generator):
    x, t, audio, y = inputs(2)
    times = generator.embed_timesteps(torch.stack([torch.tensor(3.0), t[0]]))
    apart = generator.denoise(
        x, y, times[1:2], generator.embed_audio(audio), generator.rotary(x.shape)
    )
    torch.testing.assert_close(apart, generator(x, t[:1], audio, y), rtol=1e-5, atol=1e-6)


def test_a_latent_frame_attends_to_its_own_audio_only(tmp_path, write_generator):
    # With one block nothing can pass from frame to frame after the cross-attention.
    write_generator(
        tmp_path,
        dim=24,
        ffn_dim=32,
        num_heads=2,
        num_layers=1,
        freq_dim=16,
        in_dim=16,
        out_dim=8,
        patch_size=[1, 1, 1],
        vae_stride=[8, 32, 32],
        audio_width=48,
        audio_hidden=12,
        audio_tokens=3,
    )
    generator = load(tmp_path)
    x, t, audio, y = inputs(1)
    before = generator(x, t, audio, y)
    for latent, frames in enumerate((slice(0, 1), slice(1, 9), slice(9, 17))):
        changed = audio.clone()
        changed[:, frames] += 1
        moved = (generator(x, t, changed, y) - before).abs().amax(dim=(0, 1, 3, 4))
        assert [n for n in range(3) if moved[n] > 0] == [latent]


@pytest.mark.parametrize(("stride", "vectors"), [(8, 12), (4, 8)])
def test_audio_context_is_grouped_as_published(stride, vectors):
    frames = 1 + 3 * stride
    audio = torch.arange(2 * frames * 5.0).view(2, frames, 5, 1, 1)
    first, later = group_audio_context(audio, stride)
    assert torch.equal(first, audio[:, 0].flatten(1))
    assert later.shape == (2, 3, vectors)
    for group in range(3):
        at = [1 + group * stride + n for n in range(stride)]
        rows = [*audio[1, at[0], :3], *(audio[1, n, 2] for n in at[1:-1]), *audio[1, at[-1], 2:]]
        assert later[1, group].tolist() == [row.item() for row in rows]


def test_audio_that_does_not_fit_the_latents_is_refused(generator):
    x, t, audio, y = inputs(1)
    with pytest.raises(ValueError, match=r"16 frames.*1 \+ n \* 8"):
        generator(x, t, audio[:, :-1], y)


@pytest.mark.parametrize(("grid", "heads", "dim"), [((3, 2, 5), 2, 20), ((9, 64, 64), 1, 128)])
def test_rotary_equals_complex_rotation(grid, heads, dim):
    pairs = dim // 2
    split = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)
    positions = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in grid))
    angles = torch.cat(
        [
            positions[:, axis, None] * 10_000.0 ** -(torch.arange(n, dtype=torch.float64) / n)
            for axis, n in enumerate(split)
        ],
        dim=1,
    )
    x = torch.randn(1, len(positions), heads * dim, generator=torch.Generator().manual_seed(0))
    turned = torch.view_as_complex(x.double().reshape(1, -1, heads, pairs, 2)) * torch.polar(
        torch.ones_like(angles), angles
    ).unsqueeze(1)
    actual = rotate(x, rotary_table(grid, dim, torch.device("cpu")), heads)
    assert (actual - torch.view_as_real(turned).flatten(2)).abs().max() < 2e-6


def test_only_bfloat16_rounds_the_timestep(checkpoint):
    # The weights were distilled with 937.5 -> 936 in bfloat16 (DESIGN §1.6).
    for dtype, same in ((torch.bfloat16, True), (torch.float16, False), (torch.float32, False)):
        time = load(checkpoint / "Model_Lite", dtype).embed_timesteps(torch.tensor([937.5, 936.0]))
        assert torch.equal(time.head[0], time.head[1]) is same


def test_a_run_leaves_nothing_on_the_module(checkpoint):
    generator = load(checkpoint / "Model_Lite")

    def snapshot():
        return {
            name: sorted(module.__dict__) + sorted(module._buffers)
            for name, module in generator.named_modules()
        }

    before, weights = snapshot(), {k: v.clone() for k, v in generator.state_dict().items()}
    given = inputs(2)
    kept = [tensor.clone() for tensor in given]
    generator(*given)
    assert snapshot() == before
    assert all(torch.equal(v, weights[k]) for k, v in generator.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))


def test_layers_attention_and_casts_can_all_be_injected(checkpoint, generator):
    calls = {"attention": 0, "cast": 0}

    def attention(q, k, v, heads):
        calls["attention"] += 1
        return sdpa(q, k, v, heads)

    def casting(parameter, dtype, device):
        calls["cast"] += 1
        return cast(parameter, dtype, device)

    class Layers:
        Linear = type("Linear", (nn.Linear,), {})
        Conv3d = type("Conv3d", (nn.Conv3d,), {})
        LayerNorm = type("LayerNorm", (nn.LayerNorm,), {})
        RMSNorm = type("RMSNorm", (nn.RMSNorm,), {})

    injected = load(checkpoint / "Model_Lite", operations=Layers, attention=attention, cast=casting)
    given = inputs(1)
    assert torch.equal(injected(*given), generator(*given))
    assert calls == {"attention": 6, "cast": 4}  # two a block; one a modulation
    own = {type(m) for m in injected.modules() if dict(m.named_parameters(recurse=False))}
    layers = {Layers.Linear, Layers.Conv3d, Layers.LayerNorm, Layers.RMSNorm}
    assert {kind.__name__ for kind in own - layers} == {"Block", "Head"}  # raw modulations
