"""Names of dtypes: those that users choose by, and those in safetensors headers."""

import torch

COMPUTE_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The dtypes that networks can compute in, by the names that users give."""

FLOAT8 = torch.float8_e4m3fn
STORAGE_DTYPES = {**COMPUTE_DTYPES, "fp8_e4m3fn": FLOAT8}
"""The dtypes that matrices can be stored in, by the names that users give."""

SAFETENSORS_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    FLOAT8: "F8_E4M3",
}


def torch_name(dtype: torch.dtype) -> str:
    """ "float32" for torch.float32, and so on."""
    return str(dtype).removeprefix("torch.")
