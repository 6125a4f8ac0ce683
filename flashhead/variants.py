"""The published variants: where their files are, and how each is sampled (DESIGN §1.1, §1.5)."""

from dataclasses import dataclass

REPOSITORY = "huggingface.co/Soul-AILab/SoulX-FlashHead-1_3B"
AUDIO_REPOSITORY = "huggingface.co/facebook/wav2vec2-base-960h"
ADAPTER_REPOSITORY = "huggingface.co/z-rx/leaptalk"


@dataclass(frozen=True)
class Variant:
    """One of the published models.

    generator, vae: folders in the published repository. sampler: "renoise" for the distilled
    models (predict the clean latents, add fresh noise), "euler" for the teacher that they were
    distilled from, "bridge" for LeapTalk, which goes from the portrait's latents to the video's
    (arXiv 2608.00079). steps, guidance: defaults; guidance 1 is off. adapts: the variant that it is
    made of by a LoRA and an audio projection of its own; None: it stands alone.
    """

    name: str
    generator: str
    vae: str
    sampler: str = "renoise"
    steps: int = 4
    guidance: float = 1.0
    adapts: str | None = None


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("lite", "Model_Lite", "VAE_LTX"),
        Variant("pro", "Model_Pro", "VAE_Wan"),
        Variant("pretrained", "teacher", "VAE_Wan", "euler", steps=20, guidance=3.0),
        Variant("leaptalk", "Model_Pro", "VAE_Wan", "bridge", steps=1, adapts="pro"),
    )
}
