"""A pair of networks that bring a noisy image and its text to the same place.

Letters in shapes: B batch, M texts, E width, ... the shape of one example.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.conditioning import Cond, Conditions
from reverie.models.pooled import Noisy, Pooled
from reverie.nets import NetConfig
from reverie.nets.embeddings import Conditioning
from reverie.schedules import Schedule
from reverie.time_labels import TimeLabel

WIDTH = 128
"""E."""
START, LARGEST = 1 / 0.07, 100.0
"""The scale of the dot product before training, and what it is held below (Radford et al., 2021, section 2.5)."""


class NoisyPair(Noisy):
    """CLIP on noisy images: unit vectors of an image at t and of a text, whose dot product says how well they fit.

        image(x, t) = i / |i|,  i = net(x / sqrt(alpha^2 + sigma^2), label(t))
        text(cond) = w / |w|
        log p(text | x, t) = scale image . text + const among the texts at hand

    (Radford et al., 2021; noised as in Nichol et al., 2022, GLIDE, section 2.4.) Trained by `Contrastive`; the
    gradient of scale image(x, t) . text(cond) in x guides a denoiser.
    """

    net: Towers

    @classmethod
    def build(
        cls, net: NetConfig, shape: tuple[int, ...], conditions: Conditions, schedule: Schedule, label: TimeLabel
    ) -> NoisyPair:
        """A new one, of a backbone `net` for examples of `shape`, initialised from torch's global generator.

        Of the conditions the text alone is read.

        Raises:
            ValueError: there is no text among the conditions, or the backbone has no use for such a shape.
        """
        if not (conditions.tokens or conditions.pooled):
            raise ValueError(
                "an image-text pair needs captions and what reads them; these data have none, or text.kind is none"
            )
        told = Conditions(tokens=conditions.tokens, pooled=conditions.pooled, reader=conditions.reader)
        return cls(Towers(Pooled(net, shape, WIDTH), told), schedule, label)

    def image(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, E), unit vectors in the dtype of x, for x (B, ...) at t, (B,) or ()."""
        return F.normalize(self.net.image(*self.seen(x, t)).to(x.dtype), dim=1)

    def text(self, cond: Cond) -> Tensor:
        """(M, E), unit vectors of M texts."""
        return F.normalize(self.net.text(cond).float(), dim=1)

    @property
    def scale(self) -> Tensor:
        """(), exp(log scale), at most `LARGEST`."""
        return self.net.log_scale.exp().clamp(max=LARGEST)

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """(B, M), scale image . text, for x (B, ...) at t, (B,) or (), and M texts."""
        return (self.scale * self.image(x, t).to(self.scale) @ self.text(cond).to(self.scale).T).to(x.dtype)

    def right(self, x: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """(B,), 1 where of the batch's texts an image fits its own best, 0 where not, NaN where it has none."""
        same, given = captions(cond, len(x))
        assert cond is not None  # `captions` has seen one
        best = self(x, t, cond).masked_fill(~given, -math.inf).argmax(1)
        return same.gather(1, best[:, None])[:, 0].to(x.dtype).masked_fill(~given, float("nan"))

    def guessed(self, cond: Cond | None, batch: int) -> Tensor:
        """(B,), what `right` would be on the average if the text were drawn at random; NaN where there is none."""
        same, given = captions(cond, batch)
        share = (same & given).sum(1).double() / given.sum().clamp(min=1)
        return share.masked_fill(~given, float("nan")).cpu()


class Towers(nn.Module):
    """The weights of a `NoisyPair`: one network for images, one for texts, and the logarithm of the scale."""

    def __init__(self, image: Pooled, told: Conditions) -> None:
        """`told` has the sizes of the text."""
        super().__init__()
        self.image, self.text = image, TextTower(told)
        self.log_scale = nn.Parameter(torch.tensor(math.log(START)))

    @property
    def checkpointing(self) -> bool:
        """As the network for images; may be set."""
        return self.image.checkpointing

    @checkpointing.setter
    def checkpointing(self, on: bool) -> None:
        self.image.checkpointing = on

    @torch.no_grad()
    def constrain(self) -> None:
        """After a step of the optimizer: what the backbone wants, and the scale at most `LARGEST`."""
        self.image.constrain()
        self.log_scale.clamp_(max=math.log(LARGEST))


class TextTower(nn.Module):
    """A text to (M, E), read as a backbone reads it: pooled tokens and the text as a whole, then a linear map."""

    def __init__(self, told: Conditions) -> None:
        """`told` has the sizes of the text."""
        super().__init__()
        self.reads = Conditioning(WIDTH, told)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, cond: Cond) -> Tensor:
        """(M, E), of any length."""
        first = next(v for v in (cond.tokens, cond.pooled, cond.words) if v is not None)
        label = torch.zeros(len(first), device=first.device)  # a text has no time
        return self.out(self.reads(label, cond).e)


def captions(cond: Cond | None, batch: int) -> tuple[Tensor, Tensor]:
    """Which texts of a batch are the same, (B, B) bool, and which are given, (B,) bool.

    Raises:
        ValueError: there are no texts at all.
    """
    if cond is None or "text" not in cond.parts():
        raise ValueError(f"an image-text pair learns from captions, and the batch of {batch} has none")
    text = next(v for v in (cond.words, cond.pooled, cond.tokens) if v is not None)
    if cond.mask is not None and text.ndim > 1 and text is not cond.pooled:
        hidden = ~cond.mask if text.ndim == 2 else ~cond.mask[..., None]
        text = text.masked_fill(hidden, -1)
    group = torch.unique(text.flatten(1), dim=0, return_inverse=True)[1]
    none = cond.hidden("text")
    given = torch.ones(batch, dtype=torch.bool, device=text.device) if none is None else ~none
    return group[:, None] == group, given
