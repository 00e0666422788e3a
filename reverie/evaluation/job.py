"""What `reverie evaluate` does: an evaluation of a run, of samples of any origin, and a curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import torch

from reverie import config
from reverie.evaluation.collection import Collection
from reverie.evaluation.curve import Curve, measure, planned
from reverie.evaluation.evaluate import Reference, Settings, Told
from reverie.evaluation.extractors import suited
from reverie.evaluation.likelihood.chosen import choose
from reverie.evaluation.likelihood.figures import Settings as LikelihoodSettings
from reverie.evaluation.likelihood.measure import measure as measure_likelihood
from reverie.evaluation.metrics.kid import KID
from reverie.evaluation.metrics.sliced_wasserstein import SlicedWasserstein
from reverie.evaluation.numbers import Evaluation, Number
from reverie.evaluation.pairs.base import Pair
from reverie.evaluation.reading import of_run
from reverie.evaluation.subject import Subject
from reverie.evaluation.team import Team, one_thread
from reverie.guidance import ClipGuide
from reverie.runs import Run
from reverie.samplers import Sampler

OF_A_POINT = ("sampler", "grid", "steps", "evaluations")
"""What the protocol of samples says that differs from point to point of a curve."""


@dataclass(frozen=True)
class Job:
    """What is to be measured, beside what, by whom.

    Attributes:
        settings: extractors, metrics, sets.
        reference: real examples; a run's own training examples where there are none.
        references: how many of those, at the most.
        pair: which pair judges captions, as `reverie.evaluation.pairs.from_text` reads it; None for none.
        likelihood: of how many held-out examples bits per dimension are measured.
        team: the processes that share the work.
        device: of this one.

    Raises:
        ValueError: fewer than 2 references, or a negative number of examples for the likelihood.
    """

    settings: Settings
    reference: Collection | None = None
    references: int = 5000
    pair: str | None = None
    likelihood: int = 0
    team: Team = Team()  # noqa: RUF009  # a value
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        for name, least in (("references", 2), ("likelihood", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; given {getattr(self, name)}")

    def of_samples(self, made: Collection, told: Told) -> Evaluation:
        """Samples of any origin, beside `reference`.

        Raises:
            ValueError: as `Reference`; captions are asked about, and the samples have none.
        """
        assert self.reference is not None
        if self.pair is None:
            return self._made_ready(self.reference, None, self.settings, told).evaluate(made)
        from reverie.evaluation.pairs import from_text

        if not made.captions:
            raise ValueError(
                f"{made.source} has no captions to judge: write metadata.jsonl with file_name and text, or image.txt "
                "beside each image"
            )
        pair = from_text(self.pair)
        return self._paired(made, self._made_ready(self.reference, None, self.settings, told), pair)

    def of_run(self, subject: Subject, told: Told) -> Evaluation:
        """Samples of a run, which are drawn first.

        Where captions are judged by a pair that learns, samples are asked for captions of held-out examples, if there
        are any: those it has not learnt, which is what the real images that stand beside are too.

        Raises:
            ValueError: as `Reference`; the run's data are gone or have changed; captions are asked about, and the
                samples have none; nothing was held out of which the likelihood could be measured.
        """
        pair = self._pair_for(subject)
        if self.likelihood:
            choose(subject.run, LikelihoodSettings(n=self.likelihood), None)  # refused before anything is drawn
        real, floor = self._real(subject)
        if pair is not None:
            real, floor = real.captioned(), floor and floor.captioned()
        unseen = floor if pair is not None and pair.learns else None
        subject = subject.beside(unseen, "held-out examples") if unseen else subject.beside(real)
        if pair is not None and not all(subject.request().texts):
            raise ValueError(_without_captions(subject.run))
        reference = self._made_ready(real, floor, self.settings, told)
        made = subject.draw(self.team, self.device, told)
        found = reference.evaluate(made) if pair is None else self._paired(made, reference, pair)
        return with_likelihood(found, subject.run, self.likelihood) if self.likelihood else found

    def _pair_for(self, subject: Subject) -> Pair | None:
        """The pair that judges captions, if one is asked for."""
        if self.pair is None:
            return None
        from reverie.evaluation.pairs import from_text

        if subject.run.vocabulary.text is None and not isinstance(subject.sampling.guide, ClipGuide):
            raise ValueError(_without_captions(subject.run))
        return from_text(self.pair)

    def curve(self, subject: Subject, samplers: Sequence[Sampler], counts: Sequence[int], told: Told) -> Curve:
        """One number of a run by several samplers at several costs.

        It is the first metric in the features of the first extractor asked for; KID in the features of a network,
        and the sliced Wasserstein distance elsewhere, unless asked for. Guidance and clipping are the subject's.

        Raises:
            ValueError: no sampler makes so few evaluations; as `Reference`.
        """
        run, given = subject.run, subject.sampling
        sample = replace(
            run.recipe.sample, guidance=given.guidance, guide=given.guide, clip=given.clip, threshold=given.threshold
        )
        guided = Run(run.path, replace(run.recipe, sample=sample), run.facts, run.about, run.weights)
        asked = planned(guided, samplers, counts)
        real, floor = self._real(subject)
        extractor = (self.settings.extractors or suited(real))[0]
        metric = (self.settings.metrics or (KID() if extractor.learned else SlicedWasserstein(),))[0]
        one = Settings((extractor,), (metric,), self.settings.sets)
        reference = self._made_ready(real, floor, one, told)
        subject = subject.beside(real)
        points = tuple(measure(subject, reference, asked))
        kept = {key: value for key, value in subject.about().items() if key not in OF_A_POINT}
        protocol = {"samples": {"source": "its own samples", "n": subject.n, **kept}, **reference.protocol}
        date = datetime.now(UTC).isoformat(timespec="seconds")
        return Curve(protocol, points, {"threads": torch.get_num_threads(), "device": str(self.device), "date": date})

    def _real(self, subject: Subject) -> tuple[Collection, Collection | None]:
        """Real examples to judge a run by, and those for the floor."""
        if self.reference is not None:
            return self.reference, None
        own = of_run(subject.run, self.references, subject.n)
        return own.train, own.held_out

    def _made_ready(self, real: Collection, floor: Collection | None, settings: Settings, told: Told) -> Reference:
        return Reference(real, settings, floor, self.team, self.device, told)

    def _paired(self, made: Collection, reference: Reference, pair: Pair) -> Evaluation:
        """The numbers of samples, those of their captions among them."""
        from reverie.evaluation.pairs.scores import AMONG, scores

        opened = pair.open(reference.real, self.device)
        # A pair that has learnt from the reference knows it too well to tell by it what perfect samples would get.
        floor = reference.floor if pair.learns else reference.floor or reference.real
        numbers = scores(opened, made, floor, self.team, self.device, self.settings.sets)
        told = {"digest": opened.digest, "captions": reference.real.captions_digest, "among": AMONG}
        about = {**config.to_data(pair), **told, **opened.about}
        found = reference.evaluate(made)
        return replace(found, numbers=found.numbers + numbers, protocol={**found.protocol, "pair": about})


def _without_captions(run: Run) -> str:
    return f"{run.path} draws samples without captions, so there are none to judge"


def with_likelihood(found: Evaluation, run: Run, n: int) -> Evaluation:
    """The evaluation with bits per dimension of held-out examples, by the flow ODE and by the bound.

    Raises:
        ValueError: nothing was held out, or the run's data have changed.
    """
    with one_thread():
        *_, last = measure_likelihood(run, LikelihoodSettings(n=n))
    assert last.result is not None
    made = [
        Number(f"bits_per_dim_{name}", title, part.bits_per_dim, error=part.standard_error)
        for name, title, part in (
            ("ode", "bits/dim, flow ODE", last.result.ode),
            ("bound", "bits/dim, bound", last.result.bound),
        )
        if part is not None
    ]
    judged = ("run", "weights", "device", "reverie")  # what the protocol tells of the samples, and what changes nothing
    asked = {key: value for key, value in last.result.protocol.items() if key not in judged}
    protocol = {**found.protocol, "likelihood": asked}
    return replace(found, numbers=found.numbers + tuple(made), protocol=protocol)
