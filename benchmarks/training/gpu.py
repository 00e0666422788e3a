"""The training step on a GPU: ours against diffusers with the settings that its documentation recommends.

Both: bf16 by autocast, torch.compile, attention by `scaled_dot_product_attention` (which takes the flash kernels
in bf16), fused AdamW. Layout and arithmetic of ours are those of the trainer; diffusers has channels last, TF32 where
float32 is left, and cuDNN choosing its algorithms by measurement.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.training.networks import FAMILIES
from benchmarks.training.steps import measure
from benchmarks.training.worker import Case

PEAKS = {"H100": 989, "H200": 989, "A100": 312, "L40S": 362, "L4": 121, "4090": 165, "3090": 71, "B200": 2250}
"""Of bf16 with accumulation in float32, without sparsity, in TFLOP/s, as their maker states them."""


def refusal() -> str:
    """Why it cannot run here; empty if it can."""
    if not torch.cuda.is_available():
        return "this machine has no CUDA device that torch can use; the gpu part needs one, and has nothing to measure"
    if not torch.cuda.is_bf16_supported():
        return f"{torch.cuda.get_device_name()} does not compute in bf16; the gpu part needs a device that does"
    return ""


def cases(batch: int, mode: str, device: str = "cuda", size: str = "large", inner: int = 20) -> list[Case]:
    """Ours and diffusers', U-Net and DiT, as recommended; eager too, which says what compiling brings."""
    return [
        Case(
            f"{library}-{family}",
            "bf16",
            compiled,
            channels_last=family == "unet",
            device=device,
            size=size,
            batch=batch,
            inner=inner,
        )
        for family in FAMILIES
        for library in ("reverie", "diffusers")
        for compiled in (mode, "")
    ]


def measured_peak(device: str = "cuda", n: int = 8192) -> float:
    """TFLOP/s of a product of two bf16 matrices of n x n: what the device gives in practice."""
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(10):
            a @ b
        torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - began) / 10)
    return 2 * n**3 / best / 1e12


def run(rounds: int, batch: int, mode: str, seed: int) -> dict[str, Any]:
    """Rows as `benchmarks.training.steps.measure`, and what the device could do."""
    name = torch.cuda.get_device_name()
    stated = next((peak for key, peak in PEAKS.items() if key in name), None)
    measured = measured_peak()
    torch.cuda.empty_cache()  # the workers need the memory
    rows: list[dict[str, Any]] = []
    for family in FAMILIES:
        rows += measure([c for c in cases(batch, mode) if c.network.endswith(family)], rounds, seed)
    return {"device": name, "stated": stated, "measured": measured, "rows": rows}
