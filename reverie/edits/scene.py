"""What is wished of the results, and all that a batch of them is drawn from.

Letters in shapes: B batch, C channels, C' channels of what a model is told, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reverie.brownian import BrownianPath, paths
from reverie.conditioning import Cond
from reverie.config import Plain, to_data
from reverie.denoiser import Denoises
from reverie.guiding import Lead, lead_of
from reverie.recipe import Sampling
from reverie.request import Request
from reverie.runs import Run
from reverie.samplers import Sampler
from reverie.sampling import generate, prior
from reverie.synthesis import guided, times_of


@dataclass(frozen=True)
class Wish:
    """What the results should be; what is left out, the model is free to choose. Several are used in turn."""

    label: int | str | Sequence[int | str | None] | None = None
    """A class by number or name, or several; None for none, other than for `Run.sample`."""
    prompt: str | Sequence[str] | None = None
    """A text, or several; '' for none."""
    attributes: Mapping[str, object] | None = None
    """Name to a value, or to a list of values."""
    negative: str | None = None
    """A text to be led away from."""

    @property
    def empty(self) -> bool:
        """Whether nothing is wished."""
        return self.label is None and not self.prompt and not self.attributes

    @property
    def number(self) -> int:
        """How many there are before they begin again."""
        given = (self.label, self.prompt, *(self.attributes or {}).values())
        return max((len(v) for v in given if isinstance(v, Sequence) and not isinstance(v, str)), default=1)

    def said(self) -> dict[str, Plain]:
        """What of it is given, as plain data."""
        given: dict[str, Plain] = {
            "label": to_data(self.label),
            "prompt": to_data(self.prompt),
            "attributes": to_data(dict(self.attributes or {})),
            "negative": self.negative,
        }
        return {key: value for key, value in given.items() if value not in (None, "", {})}

    def lead(self, run: Run, sampling: Sampling | None = None) -> Lead:
        """Who is asked for the class and the text: the run, or the guide of `sampling` where the run knows neither.

        Raises:
            ValueError: there is no such guide, or it cannot guide this run.
        """
        label = [None] if self.label is None else self.label
        return Lead(label, self.prompt) if sampling is None else lead_of(run, sampling, label, self.prompt)

    def request(
        self, run: Run, n: int, image: Tensor | None = None, sampling: Sampling | None = None,
        embedding: Tensor | None = None,
    ) -> Request:  # fmt: skip
        """A request for n samples of seed 0.

        Args:
            run: which is asked.
            n: how many.
            image: (1 or n, C', H, W), told besides.
            sampling: whose guide is asked for a class or a text of which the run knows nothing; none unless given.
            embedding: (1 or n, E), told besides.

        Raises:
            ValueError: something that neither was trained with, or an unknown value; or as for `lead`.
        """
        lead = self.lead(run, sampling)
        label = [None] if lead.label is None else lead.label
        return lead.told(run.ask(n, label, lead.prompt, self.attributes, image, self.negative, embedding))


@dataclass(frozen=True, eq=False)
class Scene:
    """A batch of results, `request.start` to `request.start` + B - 1 of `n`."""

    run: Run
    sampling: Sampling
    request: Request
    n: int
    device: torch.device
    helper: object | None = None
    whole: Request | None = None
    """The request that this one is a part of; this one itself unless given."""

    @property
    def rows(self) -> int:
        """B."""
        return len(self.request.labels)

    @property
    def plain(self) -> Denoises:
        """The network without guidance."""
        return self.run.denoiser

    @property
    def sampler(self) -> Sampler:
        """How to step."""
        return self.sampling.sampler

    @property
    def times(self) -> Tensor:
        """(N + 1,)."""
        return times_of(self.sampling, self.run.schedule)

    def cond(self, image: Tensor | None = None) -> Cond | None:
        """What each of B is to be; with an `image` (B, C', H, W), that one in place of the request's own."""
        own = self.request.condition(slice(None), self.device)
        return own if image is None or own is None else replace(own, image=image)

    def leading(self) -> Cond | None:
        """What result 0 of all is to be, one row: the same in every batch."""
        return (self.whole or self.request).condition(slice(0, 1), self.device)

    def guided(self, image: Tensor | None = None) -> Denoises:
        """The network with its guidance; what is led away from is told the same `image`."""
        away = None if self.request.negative is None else self.request.negative.to(self.device)
        if away is not None and image is not None:
            away = replace(away.map(lambda v: v.expand(self.rows, *v.shape[1:])), image=image)
        return guided(self.plain, self.sampling, away, self.helper)

    def noise(self, *window: int) -> BrownianPath:
        """That of each result, for the first window or for another one."""
        return paths([(*key, *window) for key in self.request.keys])

    def sampled(self, f: Denoises, sampler: Sampler, noise: BrownianPath, cond: Cond | None) -> Tensor:
        """x0 (B, C, H, W) of the run's shape, from noise."""
        times = self.times
        like = torch.empty(self.rows, *self.run.shape, device=self.device)
        return generate(f, sampler, times, prior(f.schedule, times[0], like, noise), cond, noise)

    def encoded(self, picture: Tensor) -> Tensor:
        """Data to the model's space, on the device."""
        return self.run.space.encode(picture).to(self.device)

    def decoded(self, x: Tensor) -> Tensor:
        """The model's space to data, on the CPU."""
        return self.run.space.decode(x.cpu())
