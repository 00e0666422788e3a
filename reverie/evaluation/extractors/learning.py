"""The networks that tell the classes of a user's own data apart, and how they learn.

Letters in shapes: N examples, B batch, K classes, C channels, H height, W width, D numbers of one example.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.config import Plain
from reverie.evaluation.extractors.preparing import shrunk
from reverie.tensors import count, generator, global_randomness

WIDTH = 128
"""F, the units of the last layer but one."""
SIDE = 32
"""Pixels of the longer side of the pictures that are looked at."""
BATCH = 64
RATE, DECAY = 3e-3, 0.05


class Net(nn.Module):
    """Standardises examples, then finds features and classes; convolutions for pictures, layers for other arrays.

    Args:
        shape: of one example.
        image: whether they are pictures.
        classes: K.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], image: bool, classes: int) -> None:
        super().__init__()
        self.image = image
        scale = (shape[0], 1, 1) if image else (count(shape),)
        self.register_buffer("mean", torch.zeros(scale))
        self.register_buffer("std", torch.ones(scale))
        self.trunk = _convolutions(shape[0]) if image else nn.Sequential(nn.Linear(count(shape), WIDTH), nn.SiLU())
        self.hidden = nn.Linear(4 * WIDTH if image else WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, classes)

    def prepared(self, items: Tensor) -> Tensor:
        """Examples as data, (B, C, H, W) uint8 or (B, ...), in the form that is learnt from, not yet standardised."""
        return shrunk(items.float(), SIDE) if self.image else items.float().flatten(1)

    def told(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F) and logits (B, K) of what `prepared` gives."""
        features = F.silu(self.hidden(self.trunk((x - self.mean) / self.std)))
        return features, self.out(features)

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F) and logits (B, K) of examples as data."""
        return self.told(self.prepared(items))

    def standardise(self, x: Tensor) -> None:
        """Take mean and standard deviation from prepared examples: of each channel, or of each number."""
        axes = (0, 2, 3) if self.image else (0,)
        mean, std = x.double().mean(axes), x.double().std(axes, correction=0)
        for kept, found in ((self.mean, mean), (self.std, torch.where(std > 1e-6 * (1 + mean.abs()), std, 1.0))):
            kept.copy_(found.reshape(kept.shape))

    def about(self, shape: tuple[int, ...]) -> dict[str, Plain]:
        """What is done to examples of a shape, for the protocol."""
        if not self.image:
            return {"network": "two layers of 128", "resize": "none"}
        resize = "none" if max(shape[1:]) <= SIDE else f"means over areas, the longer side to {SIDE}"
        return {"network": "three convolutions and a layer of 128", "resize": resize}


def _convolutions(channels: int) -> nn.Sequential:
    """(B, C, H, W) -> (B, 4 F), pooled to 2 x 2."""

    def unit(inputs: int, out: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

    units = (*unit(channels, 32, 1), *unit(32, 64, 2), *unit(64, WIDTH, 2))
    return nn.Sequential(*units, nn.AdaptiveAvgPool2d(2), nn.Flatten())


def drawn(shape: tuple[int, ...], image: bool, classes: int, seed: int) -> Net:
    """A network with weights of that seed: see `Net`."""
    with global_randomness(seed, 0):
        return Net(shape, image, classes)


def train(net: Net, x: Tensor, labels: Tensor, seed: int, seen: int) -> None:
    """Learn to tell classes apart by cross-entropy, nothing augmented; the net is in evaluation mode at the end.

    Inside `one_thread` the same network and examples end in the same weights, to the last bit.

    Args:
        net: changed in place.
        x: (N, ...) as `Net.prepared` gives them.
        labels: (N,) int64 in [0, K).
        seed: of the order of the examples.
        seen: how many examples are shown, over and over, in whole batches of `BATCH`.
    """
    net.standardise(x)
    size, steps = min(BATCH, len(x)), max(2, seen // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    order, random = torch.empty(0, dtype=torch.int64), generator(seed, 1)
    net.train()
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(len(x), generator=random)
        rows, order = order[:size], order[size:]
        loss = F.cross_entropy(net.told(x[rows])[1], labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval()
