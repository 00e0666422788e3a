"""How far two examples are apart to a network that has learned what such examples are of.

Letters in shapes: B batch, K channels of a feature, ... one example, or the axes of space of a feature.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.models import NoisyClassifier
from reverie.nets import DiT
from reverie.tensors import host

LAYERS = 5
"""Features that are compared, at the most: as many as Zhang et al. compare of their networks."""
NOISE = 0.01
"""sigma / alpha that the network is told: that of examples which are almost clean."""


class Perceptual(nn.Module):
    """The distance of two examples in the features of a classifier (Zhang et al., 2018, eq. 1, with w = 1).

        d(x, y) = sum over layers l of mean over space of |f_l(x) / |f_l(x)| - f_l(y) / |f_l(y)||^2

    |.| is the norm over channels, and f_l the output of a block of the classifier's backbone: of `LAYERS` blocks,
    spread evenly over the order in which they are computed, or of all where there are fewer. Zhang et al. find
    features of networks that were trained on something else to agree with what people see as different; ours are
    of the data at hand, so that nothing is fetched and any kind of data has some.

    The network is a copy that stays as it is, and is no part of this module's weights: it is in no `state_dict`, no
    optimizer learns it, and it goes to where the examples are.

    Args:
        classifier: trained on examples such as those compared; it is not changed.

    Raises:
        ValueError: its backbone has no blocks to look at.
    """

    def __init__(self, classifier: NoisyClassifier) -> None:
        super().__init__()
        frozen = copy.deepcopy(classifier).eval().requires_grad_(False)
        frozen.net.checkpointing = False
        self._hidden = (frozen,)  # in a tuple, where torch does not look for modules
        if not blocks(frozen.net.backbone):
            raise ValueError(
                f"a {type(frozen.net.backbone).__name__} has no list of blocks whose outputs could be compared; "
                "train a classifier with net.kind=unet or net.kind=dit"
            )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B,), in the dtype of x, for x and y (B, ...); its gradient reaches x alone.

        Raises:
            ValueError: the classifier is one of other examples.
        """
        with torch.no_grad():
            wanted = self.features(y)
        return apart(self.features(x), wanted).to(x.dtype)

    def features(self, x: Tensor) -> list[Tensor]:
        """(B, K, ...) of each layer, for x (B, ...)."""
        (classifier,) = self._hidden
        classifier.to(x.device)
        schedule, backbone = classifier.schedule, classifier.net.backbone
        t = schedule.time(-2 * host(NOISE).log())
        found: list[Tensor] = []

        def keep(_: nn.Module, __: object, out: object) -> None:
            if isinstance(out, Tensor):
                found.append(out)

        handles = [block.register_forward_hook(keep) for block in blocks(backbone)]
        try:
            backbone(*classifier.seen(schedule.alpha(t).item() * x, t))
        finally:
            for handle in handles:
                handle.remove()
        if isinstance(backbone, DiT):
            found = [h.transpose(1, 2) for h in found]  # its channels are behind its tokens
        return [found[i] for i in spread(len(found))]


def blocks(backbone: nn.Module) -> list[nn.Module]:
    """The members of a network's own lists of modules, and of lists in these."""
    return [b for child in backbone.children() if isinstance(child, nn.ModuleList) for b in _flat(child)]


def _flat(module: nn.Module) -> list[nn.Module]:
    return [b for inner in module for b in _flat(inner)] if isinstance(module, nn.ModuleList) else [module]


def spread(count: int) -> list[int]:
    """`LAYERS` of the numbers 0 to count - 1, evenly, with the first and the last; all of them if there are fewer.

    >>> spread(9), spread(3)
    ([0, 2, 4, 6, 8], [0, 1, 2])
    """
    if count <= LAYERS:
        return list(range(count))
    return [round(i * (count - 1) / (LAYERS - 1)) for i in range(LAYERS)]


def apart(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """(B,), the distance of features (B, K, ...) of several layers: 0 to 4 for each."""
    squares = [(_unit(p) - _unit(q)).square().sum(1) for p, q in zip(a, b, strict=True)]
    return torch.stack([square.reshape(len(square), -1).mean(1) for square in squares]).sum(0)


def _unit(h: Tensor) -> Tensor:
    """`h` (B, K, ...) with channels of norm 1, at least in float32; 0 where it is."""
    return F.normalize(h.to(torch.promote_types(h.dtype, torch.float32)), dim=1, eps=1e-6)
