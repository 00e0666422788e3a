"""A run as it is judged: its weights, how it is sampled, and the samples.

Letters in shapes: N samples.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from reverie import config
from reverie.cascade import sampled
from reverie.config import Plain
from reverie.evaluation.collection import Collection
from reverie.evaluation.drawing import draw
from reverie.evaluation.evaluate import Told
from reverie.evaluation.frequencies import counts_in, in_proportion
from reverie.evaluation.team import Team
from reverie.faster import Precision, cast, checked_precision
from reverie.guidance import ClipGuide
from reverie.guiding import Lead, helper_of, lead_of
from reverie.prompts import Prompt
from reverie.recipe import Sampling
from reverie.request import Request
from reverie.runs import Run
from reverie.samplers import Sampler, Weighed
from reverie.synthesis import times_of
from reverie.tuning.cost import evaluations
from reverie.tuning.record import model_of


@dataclass(frozen=True)
class Subject:
    """What samples of a run are drawn with.

    Raises:
        ValueError: fewer than 2 samples, a negative seed, or an unknown class; or there is no such guide, or it cannot
            guide this run.
    """

    run: Run
    sampling: Sampling
    n: int = 1500
    labels: tuple[int | str | None, ...] | None = None
    """Classes to be used in turn; unless given all of them, in turn or as `counts` says."""
    seed: int = 0
    precision: Precision = "no"
    counts: tuple[int, ...] | None = None
    """How often each class occurs in the real examples: samples are of classes in that proportion."""
    prompts: tuple[Prompt, ...] = ()
    """What the model is told of real examples, where that is more than a class: samples are asked to be such."""
    texts: tuple[str, ...] = ()
    """Captions of real examples, for a guide that reads text where the run is told nothing; used in turn."""
    like: str = "the reference"
    """Of which real examples these are, as the protocol tells it."""

    def __post_init__(self) -> None:
        if self.n < 2 or self.seed < 0:
            raise ValueError(f"at least 2 samples and a seed of at least 0; given n={self.n}, seed={self.seed}")
        self.classes()  # an unknown one is refused before anything is drawn

    @property
    def name(self) -> str:
        """A file name that tells samples of a run apart, without an ending."""
        kind, steps = self.method.kind, self.steps
        told = f"{kind}-{self.sampling.grid.kind}{steps}-guidance{self.sampling.guidance:g}"
        below = self._below()
        mark = f"-{hashlib.sha256(repr(below).encode()).hexdigest()[:6]}" if below else ""
        return f"{told}-seed{self.seed}-n{self.n}{mark}{self.run.mark}"

    @cached_property
    def lead(self) -> Lead:
        """Who is asked for the classes and the texts: the run, or the guide alone where the run knows neither."""
        return lead_of(self.run, self.sampling, self.labels, self.texts)

    @property
    def known(self) -> tuple[str, ...]:
        """Names of the classes that can be asked for, of the run or of the guide in its place."""
        return (self.lead.guide or self.run).classes

    def request(self) -> Request:
        """What the N samples are asked to be.

        Raises:
            ValueError: the guide leads to a text, and there is none.
        """
        lead = self.lead
        own = self.labels is None or lead.guide is not None  # no class is asked of the run
        if self.prompts and own:
            made = self.run.request([self.prompts[i % len(self.prompts)] for i in range(self.n)])
        elif self.run.facts.prompts and own:
            made = self.run.ask(self.n)
        else:
            made = self.run.request([Prompt(label=label) for label in self.classes()])
        made = replace(lead, labels=self.classes()).told(made)
        if isinstance(self.sampling.guide, ClipGuide) and not any(made.texts):
            raise ValueError(
                f"guide.kind=clip leads to a text, and samples of {self.run.path} are asked for none here: texts are "
                f"those that the run reads or, where it is told nothing at all, captions of what it is compared with"
            )
        return replace(made, seed=self.seed)

    def classes(self) -> tuple[int | None, ...]:
        """The class of each of the N samples, for a model that is told no more."""
        if self.labels is None and self.counts is not None and self.known:
            return in_proportion(self.counts, self.n)
        return (self.lead.guide or self.run).labels_for(self.n, self.labels)

    def beside(self, real: Collection, like: str = "the reference") -> Subject:
        """The same, asked for what these real examples are, where no classes were asked for.

        That is the prompts of some of them, classes as often as they have them, or for a guide alone captions of some.
        `like` is what the protocol calls them.
        """
        draw = np.random.Generator(np.random.Philox(np.random.SeedSequence((self.n, len(real)))))
        order = draw.permutation(len(real))
        if real.prompts and self.run.facts.prompts:
            return replace(self, prompts=tuple(real.prompts[i] for i in order[: self.n]), like=like)
        if isinstance(self.sampling.guide, ClipGuide) and not self.run.vocabulary.parts and any(real.captions):
            texts = filter(None, (real.captions[i] for i in order))
            return replace(self, texts=tuple(texts)[: self.n], like=like)
        return replace(self, counts=counts_in(real, self.known), like=like) if self.known else self

    @property
    def untold(self) -> bool:
        """Whether the model could be told an image, and is told none, as no sample is made of an example."""
        return self.run.recipe.image_condition is not None and not self.run.has("base")

    @property
    def method(self) -> Sampler:
        """The sampler, without weights that were tuned for it."""
        sampler = self.sampling.sampler
        return sampler.method if isinstance(sampler, Weighed) else sampler

    @property
    def steps(self) -> int:
        """How many steps the sampler makes."""
        return len(times_of(self.sampling, self.run.schedule)) - 1

    def network_evaluations(self) -> int:
        """How often a sample makes the sampler ask for a denoised example; guidance makes two calls of one."""
        return evaluations(self.method, self.run.schedule, self.steps)

    def about(self) -> dict[str, Plain]:
        """What the protocol says of the samples."""
        run, settings = self.run, config.to_data(self.sampling)
        return {
            "run": run.path.resolve().name,
            "model": model_of(run)[:16],
            "weights": run.average,
            "sampler": settings["sampler"],
            "grid": settings["grid"],
            "steps": self.steps,
            "evaluations": self.network_evaluations(),
            "guidance": self.sampling.guidance,
            **({"guide": settings["guide"]} if self.sampling.guide else {}),
            **({"threshold": self.sampling.threshold} if self.sampling.threshold else {}),
            **self._below(),
            "clip": self.sampling.clip,
            "classes": self._classes_told(),
            **({"texts": f"captions of {self.like}"} if self.texts else {}),
            **({"image": "none"} if self.untold else {}),
            "seed": self.seed,
            "precision": self.precision,
            "quantization": "rounded to 8 bits" if run.facts.image else "none",
        }

    def _below(self) -> dict[str, Plain]:
        """What is said of the stages whose samples condition these, and of theirs."""
        found: dict[str, Plain] = {}
        for path, (stage, sampling) in sampled(self.run, self.run.sampling_below).items():
            found[path] = {"model": model_of(stage)[:16], **config.to_data(sampling)}
        if "base" in found:
            found |= {"augmentation": self.sampling.augmentation, "truncated": self.sampling.truncated}
        return found

    def _classes_told(self) -> Plain:
        if self.labels is not None:
            return [str(label) for label in self.labels]
        if self.run.facts.prompts:
            return f"as in {self.like}" if self.prompts else "of the run's own prompts in turn"
        if not self.known:
            return "none"
        return "all in turn" if self.counts is None else f"as often as in {self.like}"

    def draw(
        self,
        team: Team = Team(),  # noqa: B008  # a value
        device: torch.device | str = "cpu",
        told: Told = lambda what, share: None,
    ) -> Collection:
        """The samples. The run's network must be on `device`."""
        run, request = self.run, self.request()
        labels = request.labels
        f = cast(run.denoiser, checked_precision(self.precision, device))
        items = draw(
            f, run.space, run.shape, request, self.sampling, team=team, device=device,
            done=lambda n: told("samples", min(n * team.size / len(labels), 1.0)),
            helper=helper_of(run, self.sampling, request, device),
        )  # fmt: skip
        return as_collection(run, items, request, self.about(), self.known)


def as_collection(
    run: Run, items: np.ndarray, request: Request, about: dict[str, Plain] | None = None,
    classes: tuple[str, ...] | None = None,
) -> Collection:  # fmt: skip
    """Samples of a run with the class and the text asked for, where every one of them was asked for one.

    Args:
        run: which drew them.
        items: (N, ...), themselves.
        request: what was asked for.
        about: what the protocol says of them.
        classes: names of the classes asked for; the run's unless given.
    """
    classes = run.classes if classes is None else classes
    known = [label for label in request.labels if label is not None]
    told = bool(classes) and len(known) == len(items)
    return Collection(
        items, run.facts.image, f"samples of {run.path.resolve().name}", about or {},
        np.array(known, np.int64) if told else None, classes if told else (),
        request.texts if request.texts and all(request.texts) else (),
    )  # fmt: skip
