"""What is exported is what `load_bundle` loads."""

import pytest
import torch

import flashhead
from flashhead.models.ltx_vae import LTXVAE
from flashhead.models.wan_vae import WanVAE
from flashhead.testing import MINIATURE, MINIATURE_PRO
from flashhead.training.networks.export import (
    export_audio_encoder,
    export_generator,
    export_vae,
    variant_of,
)
from flashhead.training.networks.initialisation import fill_weights

from .small import audio_encoder, generator, rng


@pytest.mark.parametrize("variant", ["lite", "pro"])
def test_a_trained_checkpoint_loads(tmp_path, variant):
    sizes = {"lite": MINIATURE, "pro": MINIATURE_PRO}[variant]
    vae = (LTXVAE if variant == "lite" else WanVAE)(sizes.vae)
    fill_weights(vae, rng())
    if variant == "lite":
        vae.latents_mean.normal_(generator=rng())
        vae.latents_std.fill_(2)
    network, encoder = generator(pro=variant == "pro"), audio_encoder()
    assert variant_of(vae) == variant
    export_generator(network, tmp_path, variant)
    export_vae(vae, tmp_path)
    export_audio_encoder(encoder, tmp_path)
    bundle = flashhead.load_bundle(tmp_path)
    assert bundle.variant == variant
    for made, loaded in (
        (network, bundle.generator),
        (vae, bundle.vae),
        (encoder, bundle.audio_encoder),
    ):
        assert made.config == loaded.config
        expected = made.state_dict()
        for key, tensor in loaded.state_dict().items():
            torch.testing.assert_close(tensor, expected[key].detach(), rtol=0, atol=0)
    assert not list(tmp_path.rglob("*.part"))
