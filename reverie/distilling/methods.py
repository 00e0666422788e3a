"""From a trained run and the name of a method to the plan of its student: all else is an ordinary training.

A student begins as its teacher, on the same data, process and network, with another loss. So a method is a loss and a
way to sample, and nothing here trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from reverie import config
from reverie.config import Plain
from reverie.plan import Plan, planned
from reverie.recipe import Train
from reverie.stages import check_teaches

if TYPE_CHECKING:
    from reverie.runs import Run

ORDINARY = 3.0
"""Evaluations that a step of ordinary training costs, the backward pass counting as two."""
FINE = 32
"""Steps of DDIM that the first student of progressive distillation stands for, at least."""


@dataclass(frozen=True)
class Asked:
    """What a student is to be.

    Attributes:
        method: one of `METHODS`.
        steps: the numbers of steps that it is to sample in, rising.
        guidance: the lowest and the highest scale of guidance that becomes part of it.
        out: its folder.
        words: settings of the recipe on top, as layers.
        weaker: a run that the teacher is led away from, in the place of no condition.

    Raises:
        ValueError: there is no such method, or it makes no such students.
    """

    method: str
    steps: tuple[int, ...]
    guidance: tuple[float, float]
    out: Path
    words: tuple[Mapping[str, Plain], ...] = ()
    weaker: Path | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"there is no method {self.method!r}; there are: {', '.join(METHODS)}")
        steps = self.steps
        if not steps or min(steps) < 1 or list(steps) != sorted(set(steps)):
            raise ValueError(f"--steps takes rising numbers of steps, such as 1,2,4; given {','.join(map(str, steps))}")
        METHODS[self.method].check(self)
        if self.weaker is not None and self.guidance == (1.0, 1.0):
            raise ValueError("--weaker leads at a scale of guidance; give --guidance, such as 2")


@dataclass(frozen=True)
class Method:
    """A way to learn to sample in few steps.

    Attributes:
        loss: its settings.
        sampler: how its students sample.
        evaluations: of the student and what else learns, that a step of training costs; a backward pass is two.
        lessons: evaluations of the teacher besides, which guidance doubles; 0 where there is no teacher, and for each
            substep of a chain.
        grid: of the samples, without the number of steps.
        shares: settings of the loss that count steps of training, as shares of all of them.
        steps: for how many, unless said.
        single: whether a student makes one number of steps and no other, which is that of its loss's grid.
        chained: whether students for more steps teach those for fewer.
    """

    loss: Mapping[str, Plain]
    sampler: str
    evaluations: float
    lessons: float
    grid: Mapping[str, Plain]
    shares: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[int, ...] = (1, 2, 4)
    single: bool = False
    chained: bool = False

    def check(self, asked: Asked) -> None:
        """Refuse numbers of steps, or guidance, that it has no students for.

        Raises:
            ValueError: with what there are students for.
        """
        if self.single and not self.chained and len(asked.steps) > 1:
            raise ValueError(
                f"a student by {asked.method} makes one number of steps; give one, such as --steps {asked.steps[0]}"
            )
        if self.chained and any(b % a for a, b in pairwise(asked.steps)):
            raise ValueError(
                f"each student by {asked.method} distillation makes one step of several of the one before, so each of "
                f"--steps must divide the next, as in 1,2,4; given {','.join(map(str, asked.steps))}"
            )
        if not self.lessons and asked.guidance != (1.0, 1.0):
            raise ValueError(
                f"{asked.method} learns from data, without a teacher whose guidance it could take over: leave out "
                f"--guidance"
            )

    def cost(self, guided: bool, substeps: int = 1) -> float:
        """Evaluations a step of training, of a teacher that makes so many substeps if it is a chain's."""
        return self.evaluations + self.lessons * substeps * (2 if guided else 1)


_KARRAS: Mapping[str, Plain] = {"kind": "karras"}
_UNIFORM: Mapping[str, Plain] = {"kind": "uniform"}
_DOUBLING: Mapping[str, float] = {"doubling": 0.2}
"""Ten steps, doubled four times in the course of training."""
METHODS: Mapping[str, Method] = {
    "progressive": Method({"kind": "progressive"}, "ddim", 3, 1, _UNIFORM, single=True, chained=True),
    "distribution_matching": Method(
        {"kind": "distribution_matching"}, "consistency", 5.5, 1, _UNIFORM, steps=(1,), single=True
    ),
    "consistency": Method({"kind": "consistency"}, "consistency", 4, 2, _KARRAS, _DOUBLING),
    "consistency_training": Method({"kind": "consistency", "taught": False}, "consistency", 4, 0, _KARRAS, _DOUBLING),
    "scm": Method(
        {"kind": "uncertain", "loss": {"kind": "continuous_consistency"}}, "consistency", 5, 1, _KARRAS, {"warmup": 0.1}
    ),
    "mean_flow": Method({"kind": "mean_flow"}, "jump", 5, 1, _UNIFORM),
    "shortcut": Method({"kind": "shortcut", "taught": True}, "jump", 5, 1, _UNIFORM),
    "reflow": Method({"kind": "reflow"}, "ddim", 3, 10, _UNIFORM),
}
"""By name."""


def plan_for(teacher: Run, asked: Asked) -> Plan:
    """The plan of a student, with those of the students in between as its stages.

    It is trained for as many evaluations of the network as its teacher was, unless the words say otherwise.

    Raises:
        ValueError: the teacher is no denoiser or is a student itself of another kind, or words that do not fit.
    """
    _check_teacher(teacher, asked)
    made = _student(teacher, asked, asked.steps, asked.out)
    plan = planned([{key: value for key, value in made.items() if value is not None}])
    last = plan
    while isinstance(inner := last.stages.get("teacher"), Plan):
        last = inner
    check_teaches(last.recipe.loss, teacher, f"{teacher.path} cannot be distilled")
    return plan


def _check_teacher(teacher: Run, asked: Asked) -> None:
    """Refuse a run whose students would begin as something else, or could not be what is asked.

    Raises:
        ValueError: with what can be done.
    """
    recipe, who = teacher.recipe, f"{teacher.path} cannot be distilled"
    if recipe.kind != "denoiser":
        raise ValueError(f"{who}: it draws no samples (kind={recipe.kind}), so there is nothing to distil")
    if recipe.loss.self_conditions:
        raise ValueError(
            f"{who}: it is told its own estimate of x0 from step to step, which a student of few steps is not"
        )
    if recipe.parameterization.outputs > 1:
        raise ValueError(
            f"{who}: its network puts out a variance of the reverse step, for which few steps have no use; train a run "
            f"with parameterization.kind={getattr(recipe.parameterization, 'mean', recipe.parameterization).kind}"
        )
    if (
        recipe.parameterization.kind == "x0"
        and METHODS[asked.method].sampler == "consistency"
        and (not METHODS[asked.method].single)
    ):
        raise ValueError(
            f"{who} by {asked.method}: its network puts out x0, and a consistency model must say x where there is no "
            f"noise; take --method progressive, distribution_matching, mean_flow or reflow"
        )
    if asked.guidance != (1.0, 1.0) and not teacher.vocabulary.parts:
        raise ValueError(f"{teacher.path} is told nothing that it could be guided by; leave out --guidance")


def students(teacher: Run, asked: Asked) -> dict[int, Path]:
    """The folder of the student that makes so many steps, for each number asked for."""
    if not METHODS[asked.method].chained:
        return dict.fromkeys(asked.steps, asked.out)
    return {n: asked.out.joinpath(*["teacher"] * i) for i, n in enumerate(asked.steps)}


def _student(teacher: Run, asked: Asked, steps: Sequence[int], folder: Path) -> dict[str, Plain]:
    """The recipe of the student in `folder`, that of the least number of steps, with its stages."""
    method, recipe = METHODS[asked.method], teacher.recipe
    in_between = method.chained and len(steps) > 1
    first = folder / "teacher" if in_between else _named(teacher.path)
    number = steps[0] if method.chained else steps[-1]
    substeps = 1
    if method.chained:
        substeps = steps[1] // steps[0] if in_between else max(2, -(-FINE // number))
    own: dict[str, Plain] = config.to_data(recipe)
    own["train"] = {**own["train"], **_training(recipe.train, method, asked, first, substeps, in_between)}
    low, high = asked.guidance
    scale = min(max(recipe.sample.guidance, low), high) if low < high else 1.0
    own["sample"] = {
        **own["sample"], "sampler": {"kind": method.sampler}, "grid": {**method.grid, "steps": number},
        "guidance": scale, "guide": None,
    }  # fmt: skip
    own["evaluate"] = {**own["evaluate"], "every": 0}
    own["stages"] = {
        each.name: str(_named(teacher.path) / each.name)
        for each in teacher.facts.stages
        if each.name not in ("teacher", "weaker")
    }
    if "autoencoder" in own["stages"]:
        own["space"] = {**own["space"], "autoencoder": own["stages"].pop("autoencoder")}
    for word in asked.words:
        own = config.merged(own, {key: value for key, value in word.items() if key != "loss"})
    loss = config.merged(
        dict(method.loss), _of_loss(method, asked, number, substeps, in_between, own["train"]["steps"])
    )
    for word in asked.words:
        loss = config.merged({"loss": loss}, {"loss": word["loss"]})["loss"] if "loss" in word else loss
    own["loss"] = loss
    if asked.weaker is not None and not in_between:
        own["stages"]["weaker"] = str(_named(asked.weaker))
    if "teacher" in own["stages"]:
        raise ValueError(f"stages.teacher is the run that is distilled, {teacher.path}; leave it out")
    if method.lessons:
        own["stages"]["teacher"] = _student(teacher, asked, steps[1:], first) if in_between else str(first)
    return own


def _of_loss(
    method: Method, asked: Asked, number: int, substeps: int, in_between: bool, length: int
) -> dict[str, Plain]:
    """What a method's loss is told besides, by steps, guidance and length of training."""
    told: dict[str, Plain] = {}
    if method.lessons:
        told["guidance"] = list(asked.guidance)
        told["led"] = "within" if in_between else "auto" if asked.weaker else "classifier_free"
    if method.single:
        told["grid"] = {"kind": "uniform", "steps": number}
    if method.chained:
        told["substeps"] = substeps
    told |= {name: max(1, round(share * length)) for name, share in method.shares.items()}
    return {"loss": told} if "loss" in method.loss else told


def _named(path: Path) -> Path:
    """A path as a plan may name it, in which those beginning with `../` are of the stage beside."""
    return path.resolve() if path.parts[:1] == ("..",) else path


def _training(train: Train, method: Method, asked: Asked, start: Path, substeps: int, within: bool) -> dict[str, Plain]:
    """What is other in the training of a student, whose teacher has its guidance `within` itself or is led by it."""
    guided, several = asked.guidance != (1.0, 1.0), len(asked.steps) if method.chained else 1
    cost = method.cost(guided and not within, substeps)
    steps = max(1, round(train.steps * ORDINARY / cost / several))
    found: dict[str, Plain] = {
        "start": str(start), "steps": steps, "decay": "cosine", "warmup": min(train.warmup, max(1, steps // 20)),
        "ema": min(train.ema, 0.99), "ema_lengths": [],
    }  # fmt: skip
    return {**found, "drop": 0.0, "drop_part": 0.0} if guided else found
