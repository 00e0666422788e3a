"""Guidance by an image-text pair, as in GLIDE.

Letters in shapes: B batch, E width of an embedding, ... the shape of one example.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.guidance.pull import Pull, Pulled
from reverie.schedules import Schedule


class Pairs(Protocol):
    """The image side of a contrastive pair that was trained on noisy images."""

    @property
    def schedule(self) -> Schedule:
        """The process that x belongs to."""
        ...

    def image(self, x: Tensor, t: Tensor) -> Tensor:
        """The embedding (B, E) of x (B, ...) at t, (B,) or (), differentiable in x."""
        ...


class TextPull(Pull):
    """The dot product of the embeddings of x_t and of a text, both of length 1.

    Raises:
        ValueError: an embedding of the text that has not the shape (1, E) or (B, E).
    """

    def __init__(self, pair: Pairs, text: Tensor, given: Tensor | None = None) -> None:
        """`given` is bool, (1,) or (B,) as `text`: False where there is none."""
        if text.ndim != 2:
            raise ValueError(f"the embedding of a text has the shape (1, E) or (B, E); given {tuple(text.shape)}")
        self.pair, self.text = pair, F.normalize(text.detach(), dim=1)
        self.by_row, self.given = len(text) > 1, given

    @property
    def schedule(self) -> Schedule:
        """The pair's."""
        return self.pair.schedule

    def rows(self, cond: Cond | None, like: Tensor) -> Tensor | None:
        if len(self.text) > len(like):
            raise ValueError(f"texts are one, or one for each of the {len(like)} examples; given {len(self.text)}")
        hidden = None if cond is None else cond.hidden("text")
        led = torch.ones(len(like), dtype=torch.bool, device=like.device) if hidden is None else ~hidden
        if self.given is None:
            return led
        return led & self.given.to(like.device)[torch.arange(len(like), device=like.device) % len(self.given)]

    def value(self, x: Tensor, t: Tensor, cond: Cond | None, index: Tensor) -> Tensor:
        text = self.text[(index % len(self.text)).to(self.text.device)]
        return (F.normalize(self.pair.image(x, t), dim=1) * text.to(x)).sum(1)


class ClipGuided(Pulled):
    """eps - scale sigma grad_x (f(x_t) . g(text)), f and g embeddings of length 1.

    Nichol et al. (2022), GLIDE, section 2.4, on the score instead of the mean; `reverie.guidance.MeanGuided`
    with a `TextPull` is the mean's form. The dot product lies in [-1, 1], and a pair is trained with it over a
    temperature: the inverse of that is a scale of the order that was learned. Examples whose text is dropped
    are left as they are. A pair of another schedule is asked at the same sigma / alpha.

    Args:
        denoiser: the model, which need not know of texts.
        pair: the image side.
        text: (1, E), or (B, E) one for each example.
        scale: 0 is none.
        given: (1,) or (B,) bool, as `text`: an example without a text, where it is False, is left as it is.

    Raises:
        ValueError: an embedding of the text of another shape; when called, of more rows than there are examples.
    """

    def __init__(
        self, denoiser: Denoises, pair: Pairs, text: Tensor, scale: float, given: Tensor | None = None
    ) -> None:
        super().__init__(denoiser, TextPull(pair, text, given), scale)
