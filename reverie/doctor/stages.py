"""The stages of a run: whether they are there, and which of them is at fault; see `reverie.diagnosis`.

Nothing in the run's folder is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING

from reverie.diagnosis import DIAGNOSES, Case, Unmeasured, diagnoses
from reverie.diagnosis.case import CEILING, LATENTS, PRIOR, SHARES, UPSAMPLER
from reverie.doctor.finding import Check, Seen, Undefined
from reverie.runs import CONFIG

if TYPE_CHECKING:
    from reverie.doctor.run import Patient

GROUP = "stages"
SECONDS = 15.0
"""What the samples of one diagnosis may take, about."""
EXPECTED = {
    CEILING: "loses less than half of the variance",
    LATENTS: "mean 0, std 1 in every channel, to a tenth",
    PRIOR: "nearer to the true ones than the mean",
    UPSAMPLER: "outputs follow their own small pictures",
    SHARES: "told, whichever is the largest",
}


class Staged:
    """A run with the diagnoses of its stages.

    Args:
        who: the run.
    """

    def __init__(self, who: Patient) -> None:
        self.who = who

    @cached_property
    def case(self) -> Case:
        """The run and its data, where there are both."""
        who = self.who
        if unfit(who):
            raise Undefined("a stage cannot be used")
        _, examples = who.trained, who.examples
        return Case(who.run, examples, who.device, seconds=SECONDS)

    def look(self, name: str) -> Seen:
        """One diagnosis."""
        try:
            found = DIAGNOSES[name](self.case)
        except Unmeasured as why:
            raise Undefined(str(why)) from None
        return Seen(found.seen, not found.faulty, found.words)


def checks(who: Patient, of: str = "") -> Iterator[Check]:
    """Of the stages of a run that opens, and of theirs; none of a model by itself.

    Args:
        who: the run.
        of: which stage of another run it is, for the names of the checks.
    """
    from reverie.doctor.run import Patient as Patients

    run = who.run
    staged, advice = Staged(who), "put the folder back that the run was begun with, or train the run again"
    if run.facts.stages:
        yield Check(GROUP, f"stages{of}", "there, and those of the run's beginning", partial(opened, who), advice)
    for name in diagnoses(run.recipe):
        yield Check(GROUP, f"{name}{of}", EXPECTED[name], partial(staged.look, name))
    for fact in run.facts.stages:
        if (who.path / fact.name / CONFIG).is_file() and fact.name in ("base", "prior"):
            yield from checks(Patients(who.path / fact.name, who.device), f" of {fact.name}{of}")


def opened(who: Patient) -> Seen:
    """Each stage, opened."""
    facts, wrong = who.run.facts.stages, unfit(who)
    told = f"{len(wrong)} of {len(facts)} cannot be used" if wrong else ", ".join(fact.name for fact in facts)
    return Seen(told, not wrong, "; ".join(wrong))


def unfit(who: Patient) -> list[str]:
    """Why stages of the run cannot be used, a sentence each."""
    wrong = []
    for fact in who.run.facts.stages:
        try:
            _ = who.run.stage(fact.name).model
        except ValueError as error:
            wrong.append(str(error))
    return wrong
