"""Inception v3, of which published FIDs are made, for weights that the user has.

Two sets of weights are in use, under the same names of tensors: those of TensorFlow's graph of 2015, to which FID is
bound, with 1,008 outputs, and those that torchvision distributes, with 1,000. Their networks differ in how they pool.

Letters in shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.config import Plain
from reverie.digests import digest
from reverie.evaluation.extractors.base import Opened
from reverie.evaluation.extractors.preparing import Preparation, bilinear, tensorflow
from reverie.tensor_files import misfits

WIDTH = 2048


@dataclass(frozen=True)
class Conv:
    """A convolution with the normalisation and rectifier after it."""

    out: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padded: bool = True
    """So that the size stays; those that halve it are not padded."""


Step = Conv | tuple[Conv, Conv]
"""A pair is two convolutions of the same input, side by side."""

POOL = "branch_pool"

Branches = Mapping[str, tuple[Step, ...]]
"""Of a block, by the names of their tensors. `POOL` begins with pooling; a block without it ends with pooled input."""


def _halving(out: int) -> Conv:
    return Conv(out, (3, 3), 2, padded=False)


def _grid35(pool: int) -> Branches:
    """Figure 5 of Szegedy et al. (2016)."""
    return {
        "branch1x1": (Conv(64),),
        "branch5x5": (Conv(48), Conv(64, (5, 5))),
        "branch3x3dbl": (Conv(64), Conv(96, (3, 3)), Conv(96, (3, 3))),
        POOL: (Conv(pool),),
    }


def _grid17(narrow: int) -> Branches:
    """Figure 6, with n = 7."""
    row, column = (1, 7), (7, 1)
    return {
        "branch1x1": (Conv(192),),
        "branch7x7": (Conv(narrow), Conv(narrow, row), Conv(192, column)),
        "branch7x7dbl": (Conv(narrow), *(Conv(narrow, k) for k in (column, row, column)), Conv(192, row)),
        POOL: (Conv(192),),
    }


FORK: Step = (Conv(384, (1, 3)), Conv(384, (3, 1)))

GRID8: Branches = {
    "branch1x1": (Conv(320),),
    "branch3x3": (Conv(384), FORK),
    "branch3x3dbl": (Conv(448), Conv(384, (3, 3)), FORK),
    POOL: (Conv(192),),
}
"""Figure 7."""

STEM: dict[str, Conv] = {
    "Conv2d_1a_3x3": Conv(32, (3, 3), 2, padded=False),
    "Conv2d_2a_3x3": Conv(32, (3, 3), padded=False),
    "Conv2d_2b_3x3": Conv(64, (3, 3)),
    "Conv2d_3b_1x1": Conv(80),
    "Conv2d_4a_3x3": Conv(192, (3, 3), padded=False),
}
POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")
"""Of the stem, those after which the maximum of 3 x 3 is taken, at every second place."""

BLOCKS: dict[str, Branches] = {
    "Mixed_5b": _grid35(32),
    "Mixed_5c": _grid35(64),
    "Mixed_5d": _grid35(64),
    "Mixed_6a": {"branch3x3": (_halving(384),), "branch3x3dbl": (Conv(64), Conv(96, (3, 3)), _halving(96))},
    "Mixed_6b": _grid17(128),
    "Mixed_6c": _grid17(160),
    "Mixed_6d": _grid17(160),
    "Mixed_6e": _grid17(192),
    "Mixed_7a": {
        "branch3x3": (Conv(192), _halving(320)),
        "branch7x7x3": (Conv(192), Conv(192, (1, 7)), Conv(192, (7, 1)), _halving(192)),
    },
    "Mixed_7b": GRID8,
    "Mixed_7c": GRID8,
}


@dataclass(frozen=True)
class Form:
    """What one set of weights asks of the network around it."""

    name: str
    classes: int
    preparation: Preparation
    counts_padding: bool
    """Whether means near the border count the zeros around the picture."""
    last: str
    """Block whose pooling takes the maximum in place of the mean; empty for none."""
    biased: bool
    """Whether probabilities are of the outputs with their bias."""


FORMS = (
    # Without the bias, as the Inception Score was published (Salimans et al., 2016).
    Form(
        "Inception v3, TensorFlow 2015, as for FID", 1008,
        Preparation(299, (128.0,) * 3, (128.0,) * 3, tensorflow), False, "Mixed_7c", False,
    ),
    Form(
        "Inception v3, torchvision", 1000,
        Preparation(299, (127.5,) * 3, (127.5,) * 3, bilinear), True, "", True,
    ),
)  # fmt: skip


class _Unit(nn.Module):
    def __init__(self, inputs: int, conv: Conv) -> None:
        super().__init__()
        height, width = ((k - 1) // 2 if conv.padded else 0 for k in conv.kernel)
        self.conv = nn.Conv2d(inputs, conv.out, conv.kernel, conv.stride, (height, width), bias=False)
        self.bn = nn.BatchNorm2d(conv.out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Branches of one input, their outputs side by side."""

    def __init__(self, inputs: int, branches: Branches, largest: bool, counts_padding: bool) -> None:
        super().__init__()
        self.largest, self.counts_padding = largest, counts_padding
        self.plan = {branch: self._add(branch, steps, inputs) for branch, steps in branches.items()}
        ends = [steps[-1] for steps in branches.values()]
        width = sum(2 * end[0].out if isinstance(end, tuple) else end.out for end in ends)
        self.width = width if POOL in branches else width + inputs

    def _add(self, branch: str, steps: tuple[Step, ...], inputs: int) -> list[list[str]]:
        """Make the units of a branch: the names of those of each step."""
        names: list[list[str]] = []
        for number, step in enumerate(steps, 1):
            prefix = branch if len(steps) == 1 else f"{branch}_{number}"
            units = {f"{prefix}a": step[0], f"{prefix}b": step[1]} if isinstance(step, tuple) else {prefix: step}
            for name, conv in units.items():
                self.add_module(name, _Unit(inputs, conv))
            inputs = next(iter(units.values())).out
            names.append(list(units))
        return names

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for branch, steps in self.plan.items():
            y = self._pool(x) if branch == POOL else x
            for names in steps:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            found.append(y)
        return torch.cat(found if POOL in self.plan else [*found, F.max_pool2d(x, 3, 2)], 1)

    def _pool(self, x: Tensor) -> Tensor:
        if self.largest:
            return F.max_pool2d(x, 3, 1, 1)
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=self.counts_padding)


class Inception(nn.Module):
    """Inception v3 (Szegedy et al., 2016) without its auxiliary classifier.

    Args:
        form: which of the two.
    """

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form, width = form, 3
        for name, conv in STEM.items():
            self.add_module(name, _Unit(width, conv))
            width = conv.out
        for name, branches in BLOCKS.items():
            block = _Block(width, branches, name == form.last, form.counts_padding)
            self.add_module(name, block)
            width = block.width
        self.fc = nn.Linear(width, form.classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Prepared pictures (B, 3, H, W) -> features (B, 2048) and logits (B, K)."""
        for name in (*STEM, *BLOCKS):
            x = self.get_submodule(name)(x)
            x = F.max_pool2d(x, 3, 2) if name in POOLED else x
        features = x.mean((2, 3))
        return features, F.linear(features, self.fc.weight, self.fc.bias if self.form.biased else None)


def recognised(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are meant as Inception v3: they have its first and last tensor."""
    return "Conv2d_1a_3x3.conv.weight" in tensors and "fc.weight" in tensors


class OpenedInception(Opened):
    """Inception v3 with the weights of a file.

    Args:
        tensors: by the names that torchvision and the ports of FID's weights share. Those of the auxiliary
            classifier are left aside.
        source: the file, for messages.

    Raises:
        ValueError: a tensor is missing, or has another shape than it should.
    """

    block = 16

    def __init__(self, tensors: Mapping[str, Tensor], source: str) -> None:
        kept = {k: v.float() for k, v in tensors.items() if not k.startswith("AuxLogits.") and "num_batches" not in k}
        form = next((f for f in FORMS if len(kept["fc.weight"]) == f.classes), None)
        if form is None:
            raise ValueError(
                f"{source} holds an Inception v3 of {len(kept['fc.weight'])} classes; right are weights of FID, with "
                "1008, or of torchvision, with 1000"
            )
        with torch.device("meta"):
            net = Inception(form)
        own = {k: v for k, v in net.state_dict().items() if "num_batches" not in k}
        wrong = misfits(own, kept)
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise ValueError(f"{source} is no whole Inception v3: {'; '.join(wrong[:3])}{more}")
        told = "with their bias" if form.biased else "without their bias"
        about: dict[str, Plain] = {"network": form.name, "probabilities": f"{form.classes} outputs, {told}"}
        super().__init__(WIDTH, digest(kept)[:16], {**about, **form.preparation.about()})
        net.load_state_dict(kept, strict=False, assign=True)
        for unit in net.modules():
            if isinstance(unit, nn.BatchNorm2d):
                unit.num_batches_tracked = None
        # A third faster than with the pixels of a channel side by side.
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its annotations lack this one
        self.net, self.preparation = net, form.preparation
        self.eval().requires_grad_(False)

    def both(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, 2048) and probabilities (B, K) of pictures."""
        features, logits = self.net(self.preparation(items).contiguous(memory_format=torch.channels_last))
        return features, logits.cpu().double().softmax(1)
