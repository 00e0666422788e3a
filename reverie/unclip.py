"""unCLIP: a decoder that is told the embedding of an image, and a prior that makes one of a text (Ramesh et al., 2022).

Letters in shapes: B batch, E numbers of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.cascade import asked_below, drawn, prompts_of
from reverie.conditioning import APART, Cond
from reverie.joint import Joint, spherical
from reverie.prompts import Prompt
from reverie.request import Request

if TYPE_CHECKING:
    from reverie.recipe import Sampling
    from reverie.runs import Run


@dataclass(frozen=True)
class Prior:
    """The stage `prior`: for each sample of a request an embedding of its own, drawn for what is asked.

    Its samples are those that the stage draws by itself of the same seed, brought to the length of embeddings; or of
    `sampling.candidates` drawn for each, the first being these, the one nearest to the embedding of its text (Ramesh et
    al., 2022, section 2.2, take 2).

    Attributes:
        run: the stage.
        sampling: how it samples.
        below: how stages of its own do, where that is other than by their own settings: as `Run.sampling_below`.
    """

    run: Run
    sampling: Sampling
    below: Mapping[str, Sampling] = field(default_factory=dict)

    def __call__(self, part: Request, above: Sampling, device: torch.device) -> Cond:
        """`vector`."""
        prompts = prompts_of(part)
        if not self.run.classes:  # which the run above may know
            prompts = tuple(replace(prompt, label=None) for prompt in prompts)
        return Cond(vector=self.embeddings(asked_below(self.run, prompts, part, self.below), device))

    @property
    def depth(self) -> int:
        """How many models are below the prior, one below the other."""
        return self.run.request((Prompt(),)).depth

    def embeddings(self, asked: Request, device: torch.device) -> Tensor:
        """(B, E), for a request to the stage."""
        texts = [prompt.text for prompt in prompts_of(asked)]
        if self.sampling.candidates == 1 or not any(texts):
            return self._drawn(asked, device)
        several = [self._drawn(replace(asked, candidate=k), device) for k in range(self.sampling.candidates)]
        wanted = self.run.joint.texts(texts)
        near = torch.stack([F.cosine_similarity(each, wanted, dim=1) for each in several]).nan_to_num(-2)
        chosen = near.argmax(0).where(~wanted.isnan().any(1), 0)  # the first, where there is no text to be near to
        return torch.stack(several)[chosen, torch.arange(len(texts))]

    def _drawn(self, asked: Request, device: torch.device) -> Tensor:
        made = self.run.space.decode(drawn(self.run, self.sampling, asked, device))
        return math.sqrt(made.shape[1]) * F.normalize(made, dim=1)


@dataclass(frozen=True)
class OfText:
    """The embedding of the text that each sample is asked to be, by the stage `pair`.

    Attributes:
        joint: the embeddings of the stage.
    """

    joint: Joint
    depth: ClassVar[int] = 0

    def __call__(self, part: Request, above: Sampling, device: torch.device) -> Cond:
        """`vector`, hidden where there is no text."""
        vector = self.joint.texts([prompt.text for prompt in prompts_of(part)])
        none = vector.isnan().any(1)
        drop = none[:, None] & torch.tensor([name == "vector" for name in APART]) if bool(none.any()) else None
        return Cond(vector=vector.nan_to_num(0.0), drop=drop)


def differed(embedding: Tensor, of: Tensor, to: Tensor, share: Tensor | float) -> Tensor:
    """An embedding turned towards the difference of two texts (Ramesh et al., 2022, section 3.3).

        slerp(z, d, w),  d = (to - of) / |to - of|

    Args:
        embedding: z, (N, E).
        of: (E,), of the text that describes it.
        to: (E,), of the text that it is to come nearer to.
        share: w, a number or (N,); they find 0.25 to 0.5 to be enough.
    """
    return spherical(embedding, (to - of).expand_as(embedding), share)
