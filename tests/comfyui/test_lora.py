"""ComfyUI's own LoRA loader takes what `save_lora` writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from flashhead.testing import MINIATURE
from flashhead.training.networks.initialisation import new_generator
from flashhead.training.networks.lora import LoRALinear, add_lora, save_lora

# Core's loader in a process of its own: it parses arguments and sets globals on import.
SCRIPT = """
import sys
root, folder = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, root)
import comfy.options
comfy.options.enable_args_parsing()
import comfy.lora, comfy.model_base, comfy.utils
import torch

class Model(torch.nn.Module):
    "A generator as ComfyUI holds one: under `diffusion_model`."
    class model_config:
        unet_config = {}

    def state_dict(self):
        return comfy.utils.load_torch_file(folder + "/model.safetensors")

model = Model()
keys = comfy.lora.model_lora_keys_unet(model, {})
lora = comfy.utils.load_torch_file(folder + "/lora.safetensors")
patches = comfy.lora.load_lora(lora, keys)
weights = model.state_dict()
loaded = set().union(*(patch.loaded_keys for patch in patches.values()))
alphas = {key for key in lora if key.endswith(".alpha")}
assert loaded | alphas == set(lora), sorted(set(lora) - loaded - alphas)[:3]
for key, patch in patches.items():
    weights[key] = comfy.lora.calculate_weight(
        [(1.0, patch, 1.0, None, None)], weights[key].clone(), key
    )
comfy.utils.save_torch_file(weights, folder + "/patched.safetensors")
print(len(patches))
"""


def test_the_loader_patches_the_weights_to_those_trained(comfyui: Path, tmp_path: Path):
    rng = torch.Generator().manual_seed(0)
    network = new_generator(MINIATURE.generator, rng)
    plain = {f"diffusion_model.{k}": v.detach() for k, v in network.state_dict().items()}
    save_file({k: v.clone() for k, v in plain.items()}, tmp_path / "model.safetensors")
    add_lora(network, 4, rng, alpha=2.0)
    for layer in network.modules():
        if isinstance(layer, LoRALinear):
            torch.nn.init.normal_(layer.up, generator=rng)
    save_lora(network, tmp_path / "lora.safetensors", torch.float32)
    script = [sys.executable, "-c", SCRIPT, str(comfyui), str(tmp_path)]
    done = subprocess.run(script, cwd=comfyui, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-1] == str(2 * 10)
    assert "not loaded" not in done.stderr + done.stdout
    patched = load_file(tmp_path / "patched.safetensors")
    expected = dict(plain)
    for name, layer in network.named_modules():
        if isinstance(layer, LoRALinear):
            trained = layer.base.weight + layer.scale * layer.up @ layer.down
            expected[f"diffusion_model.{name}.weight"] = trained.detach()
    torch.testing.assert_close(patched, expected)
    changed = [k for k in plain if not torch.equal(patched[k], plain[k])]
    assert len(changed) == 2 * 10
