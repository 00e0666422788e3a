"""The device and precision: small networks, their gradients, their files, and a short training.

Letters in shapes: B batch, ... one example.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from reverie.conditioning import Cond, Conditions
from reverie.denoiser import Denoiser
from reverie.digests import digest
from reverie.doctor.finding import Check, Seen, Undefined, defaults, over
from reverie.grids import Uniform
from reverie.losses import Denoising
from reverie.nets import DiTConfig, MLPConfig, NetConfig, RefineNetConfig, UNetConfig, WaveNetConfig
from reverie.parameterizations import Velocity
from reverie.recipe import Sampling, Train
from reverie.request import Request
from reverie.samplers import Ancestral
from reverie.schedules import Flow
from reverie.synthesis import rows_at_once, synthesize
from reverie.tensor_files import read_tensors, write_tensors
from reverie.tensors import generator, global_randomness
from reverie.training.optim import optimizer

GROUP = "network"
SHAPES, CLASSES, ROWS = ((1, 8, 8), (1, 32, 32), (1, 32), (2,)), 3, 8
HALF = {"no": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = {torch.bfloat16: 0.05, torch.float16: 0.01}
"""Of a tiny network's output, relative to its size: bfloat16 keeps 8 bits, float16 11."""
TRAINING = 50


def networks() -> dict[str, NetConfig]:
    """Every registered kind, small where its settings are known here."""
    small: dict[str, NetConfig] = {
        "dit": DiTConfig(width=32, depth=2, heads=2),
        "mlp": MLPConfig(32, 2),
        "refinenet": RefineNetConfig(8, 1, dilations=(), embedding=32),
        "unet": UNetConfig(8, (1, 2), 1),
        "wavenet": WaveNetConfig(16, 4, embedding=32),
    }
    return {**defaults(NetConfig), **small}


def checks(device: torch.device, precision: str) -> Iterator[Check]:
    """Of every kind of network on `device`, and in reduced precision: `precision`, or bf16 where that is no."""
    dtype, exact = HALF[precision], device.type == "cpu"
    limit, rough, half = 1e-4 if exact else 3e-3, TOLERANCE[dtype], str(dtype).removeprefix("torch.")
    nets = {kind: (config, device) for kind, config in networks().items()}
    name = f"output and gradients on {device} in float32"
    expected, advice = f"float64's on the CPU to {limit:g}", f"training on {device} would not do what it should"
    yield Check(GROUP, name, expected, over(precise_gap, nets, limit, "networks"), advice)
    name, expected = f"output under {half} autocast", f"float32's to {rough:.0%}, gradients finite"
    advice = f"train.precision={precision if precision != 'no' else 'bf16'} is of no use here"
    cast = {kind: (*given, dtype) for kind, given in nets.items()}
    yield Check(GROUP, name, expected, over(half_gap, cast, rough, "networks"), advice)
    advice = "runs cannot be saved safely here"
    yield Check(GROUP, "weights written and read back", "the same; a changed byte is refused", round_trip, advice)
    kind, learning = "float32" if precision == "no" else half, "the loss falls by 20 %"
    name = f"{TRAINING} steps of training in {kind}"
    yield Check(GROUP, name, learning, lambda: trained(device, precision), f"training does not learn on {device}")
    expected = "the same bits" if exact else "the same twice, to 1e-3 in another batch"
    name, advice = "samples of a seed, in another batch", "the same seed would not give the same sample"
    yield Check(GROUP, name, expected, lambda: reproduced(device), advice)


# ----------------------------------------------------------------------------------- the network


def built(config: NetConfig) -> tuple[Denoiser, tuple[int, ...]]:
    """A network of this kind with the shape that it is for; noise lies on its weights, for fresh ones put out 0."""
    shape = next((shape for shape in SHAPES if config.fits(shape)), None)
    if shape is None:
        raise Undefined("it takes none of the shapes tried")
    with global_randomness(17):
        net = config.build(shape, Conditions(classes=CLASSES))
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.05 * torch.randn_like(p))
    return Denoiser(net.eval(), Flow(), Velocity()), shape


def outcome(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    device: torch.device | str,
    dtype: torch.dtype,
    cast: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """The velocities, and the gradient of their mean square distance from eps - x0, in float64 on the CPU."""
    random, f = generator(19), copy.deepcopy(denoiser).to(device, dtype)
    x0, eps = (torch.randn(ROWS, *shape, dtype=torch.float64, generator=random) for _ in range(2))
    t, label = torch.linspace(0.05, 1, ROWS, dtype=torch.float64), torch.arange(ROWS) % CLASSES
    level = f.schedule.at(t, like=x0)
    x, truth = (v.to(device, dtype) for v in (level.alpha * x0 + level.sigma * eps, eps - x0))
    with torch.enable_grad(), autocast(device, cast):
        q = f(x, t, Cond(label=label.to(device)))
        flow = q.eps - q.x0
        ((flow - truth) ** 2).mean().backward()
    gradients = [p.grad.flatten().cpu().double() for p in f.parameters() if p.grad is not None]
    return flow.detach().cpu().double(), torch.cat(gradients)


def autocast(device: torch.device | str, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Mixed precision, or none."""
    return nullcontext() if dtype is None else torch.autocast(torch.device(device).type, dtype)


def relative(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|, infinite where a is not finite."""
    if not bool(a.isfinite().all()):
        return math.inf
    return float((a - b).norm() / b.norm().clamp_min(1e-30))


def precise_gap(config: NetConfig, device: torch.device) -> float:
    """How far output and gradient in float32 on `device` are from those in float64 on the CPU, the larger."""
    parts = built(config)
    truth, seen = outcome(*parts, "cpu", torch.float64), outcome(*parts, device, torch.float32)
    return max(relative(a, b) for a, b in zip(seen, truth, strict=True))


def half_gap(config: NetConfig, device: torch.device, dtype: torch.dtype) -> float:
    """How far the output under autocast is from that in float32; infinite where a gradient is not finite."""
    if device.type == "cuda" and dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported():
        raise Undefined("this device has no bfloat16")
    parts = built(config)
    truth, seen = outcome(*parts, device, torch.float32), outcome(*parts, device, torch.float32, dtype)
    return relative(seen[0], truth[0]) if bool(seen[1].isfinite().all()) else math.inf


# ------------------------------------------------------------------------------ files and training


def round_trip() -> Seen:
    """Weights to a safetensors file and back, whole and with one byte changed."""
    weights = built(MLPConfig(16, 1))[0].net.state_dict()
    with tempfile.TemporaryDirectory(prefix="reverie-doctor-") as folder:
        path = Path(folder) / "model.safetensors"
        write_tensors(path, weights, {"sha256": digest(weights)})
        back = read_tensors(path)
        same = back.keys() == weights.keys() and all(torch.equal(back[k], v) for k, v in weights.items())
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
        try:
            read_tensors(path)
        except ValueError:
            return Seen("the same; refused" if same else "other weights came back", same)
    return Seen("a changed byte was not noticed", False)


def trained(device: torch.device, precision: str) -> Seen:
    """A perceptron on two clusters in the plane: its loss on held-out pairs, before and after."""
    with global_randomness(23):
        denoiser = Denoiser(MLPConfig(32, 2).build((2,)), Flow(), Velocity()).to(device)
    opt, cast = optimizer(denoiser, Train(lr=3e-3)), None if precision == "no" else HALF[precision]
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    first = _loss(denoiser, 0, 512, device, cast).item()
    for step in range(1, TRAINING + 1):
        opt.zero_grad(set_to_none=True)
        scaler.scale(_loss(denoiser, step, 128, device, cast)).backward()
        scaler.step(opt)
        scaler.update()
    last = _loss(denoiser, 0, 512, device, cast).item()
    return Seen(f"{first:.3f} to {last:.3f}", last <= 0.8 * first)


def _loss(f: Denoiser, key: int, n: int, device: torch.device, cast: torch.dtype | None) -> Tensor:
    """The mean loss of n pairs of an example and a time."""
    random = generator(29, key)
    side = torch.randint(0, 2, (n, 1), generator=random) * 2.0 - 1
    x0 = side * torch.tensor([1.2, -0.8]) + 0.2 * torch.randn(n, 2, generator=random)
    eps, u = torch.randn(n, 2, generator=random), torch.rand(n, generator=random, dtype=torch.float64)
    with autocast(device, cast):
        return Denoising("flow")(f, x0.to(device), u, None, lambda like: eps.to(like)).mean()


def reproduced(device: torch.device) -> Seen:
    """Samples 4 ... 8 of a seed alone, twice, and among samples 0 ... 19 in batches of another size."""
    denoiser, shape = built(DiTConfig(width=32, depth=1, heads=2))
    denoiser.to(device)
    sampling = Sampling(sampler=Ancestral(), grid=Uniform(4))

    def drawn(start: int, n: int, batch: int) -> Tensor:
        labels = tuple(i % CLASSES for i in range(start, start + n))
        return synthesize(denoiser, shape, sampling, Request(labels, 31, start, batch), device)

    alone, again, among = drawn(4, 5, 5), drawn(4, 5, 5), drawn(0, 20, 3)[4:9]
    if not torch.equal(alone, again):
        return Seen("not the same twice", False)
    gap, size = float((alone - among).abs().max()), float(alone.abs().max())
    told = f"{'the same' if gap == 0 else f'off by {gap / size:.2g}'}, {rows_at_once(shape, 3, device)} rows at a time"
    return Seen(told, gap <= (0 if device.type == "cpu" else 1e-3 * size))
