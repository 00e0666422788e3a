"""The section of stages: what each brings to the error of a run that is made of several models.

It is measured when the page is made, as `reverie doctor` measures it, and left out where that takes too long.

Letters in shapes: none.
"""

from __future__ import annotations

from reverie.diagnosis import DIAGNOSES, Case, Unmeasured, diagnoses
from reverie.report import commands
from reverie.report.found import Found
from reverie.report.history import Damage
from reverie.report.views import Block, Heading, Missing, Section, Table, Text
from reverie.runs import check_data

SECONDS = 10.0
"""What the samples of one diagnosis may take, about."""
HEAD = ("", "measured", "beside")


def sections(found: Found, damage: list[Damage]) -> tuple[Section, ...]:
    """The section, for a run that has stages; none for a model by itself.

    Args:
        found: the run.
        damage: gets what fails.
    """
    names = diagnoses(found.run.recipe)
    return (Section("stages", "Stages", _blocks(found, names, damage)),) if names else ()


def _blocks(found: Found, names: tuple[str, ...], damage: list[Damage]) -> list[Block]:
    run = found.run
    if not found.saved:
        return [Missing("There are no weights yet: the run has not saved.", commands.train(run))]
    command = commands.with_run("doctor", run)
    try:
        examples = run.recipe.data.load()
        check_data(run, examples)
        case = Case(run, examples, next(run.model.parameters()).device, seconds=SECONDS)
    except (ValueError, OSError) as error:
        return [Missing(f"The stages could not be looked at: {error}", command)]
    blocks: list[Block] = []
    for name in names:
        blocks += [Heading(f"{name[0].upper()}{name[1:]}"), *_looked(case, name, command, damage)]
    return blocks


def _looked(case: Case, name: str, command: str, damage: list[Damage]) -> list[Block]:
    """What one diagnosis found."""
    try:
        told = DIAGNOSES[name](case)
    except Unmeasured as why:
        return [Missing(f"Not measured: {why}.", command)]
    except ValueError as error:
        damage.append(Damage(f"stages: {name}", str(error)))
        return [Missing(f"It could not be measured: {error}", command)]
    words = told.words
    return [Text(f"{words[0].upper()}{words[1:]}."), Table(HEAD, told.rows(), left=1)]
