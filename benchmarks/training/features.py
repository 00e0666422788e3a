"""Distances between sets of garments, in the features of one small classifier that is trained once.

Letters in shapes: N images, F features.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.data.idx import Fashion
from reverie.evaluation.extractors import Features
from reverie.evaluation.metrics.fid import distance, moments
from reverie.evaluation.metrics.kid import KID
from reverie.files import write_text
from reverie.runs import digest
from reverie.tensor_files import read_tensors, write_tensors

FEATURES = 128
EPOCHS, BATCH, SEED = 4, 256, 0


class Classifier(nn.Module):
    """Three convolutions, a mean, and a layer of `FEATURES` units, from which the class is read."""

    def __init__(self) -> None:
        """For images of one channel and ten classes."""
        super().__init__()

        def block(channels: int, out: int, stride: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())

        self.blocks = nn.Sequential(block(1, 32, 1), block(32, 64, 2), block(64, 128, 2), nn.AdaptiveAvgPool2d(2))
        self.hidden = nn.Linear(4 * 128, FEATURES)
        self.out = nn.Linear(FEATURES, 10)

    def features(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) in [-1, 1] -> (N, F)."""
        return F.silu(self.hidden(self.blocks(x).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10)."""
        return self.out(self.features(x))


def pixels(images: np.ndarray) -> Tensor:
    """uint8 (N, 1, H, W) -> [-1, 1]."""
    return torch.from_numpy(images).float() / 127.5 - 1


def classifier(folder: Path) -> tuple[Classifier, dict[str, object]]:
    """The classifier and what is known of it; trained on the training images if `folder` does not hold it."""
    net, path = Classifier(), folder / "fashion-features.safetensors"
    about = path.with_suffix(".json")
    if not (path.exists() and about.exists()):
        _train(net, path, about)
    net.load_state_dict(read_tensors(path))
    return net.eval(), json.loads(about.read_text())


def _train(net: Classifier, path: Path, about: Path) -> None:
    torch.manual_seed(SEED)
    net.load_state_dict(Classifier().state_dict())
    examples = Fashion().load()
    assert examples.labels is not None
    assert examples.held_out is not None
    first = int(examples.held_out[0])
    x, label = pixels(examples.items), torch.from_numpy(examples.labels)
    steps = EPOCHS * (first // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    net.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(first)[: first // BATCH * BATCH].split(BATCH):
            loss = F.cross_entropy(net(x[rows]), label[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        right = torch.cat([net(part).argmax(1) for part in x[first:].split(1000)]) == label[first:]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, net.state_dict())
    told = {"accuracy": round(float(right.float().mean()), 4), "digest": digest(net.state_dict())[:16]}
    write_text(about, json.dumps(told) + "\n")


@torch.no_grad()
def embedded(net: Classifier, images: np.ndarray) -> np.ndarray:
    """uint8 (N, 1, 28, 28) -> float64 (N, F)."""
    return torch.cat([net.features(part) for part in pixels(images).split(500)]).double().numpy()


class Judge:
    """Fréchet and kernel distance of images to held-out garments, eight thousand of the official test set.

    The other two thousand give the floor: what real garments, never seen by anything, are away.
    """

    REFERENCE = 8000

    def __init__(self, folder: Path) -> None:
        """The classifier is read from `folder`, or trained and stored there."""
        self.net, self.about = classifier(folder)
        examples = Fashion().load()
        assert examples.held_out is not None
        order = np.random.default_rng(SEED).permutation(examples.held_out)
        self.reference = embedded(self.net, examples.items[order[: self.REFERENCE]])
        self.others = examples.items[order[self.REFERENCE :]]

    def __call__(self, images: np.ndarray) -> dict[str, float]:
        """Of uint8 (N, 1, 28, 28)."""
        made = embedded(self.net, images)
        return {
            "frechet": round(distance(moments(made), moments(self.reference)), 5),
            "kernel": round(KID()(Features(made), Features(self.reference)), 6),
        }

    def floor(self, n: int) -> dict[str, float]:
        """Of n held-out images that are not in the reference."""
        return self(self.others[:n])
