"""From a trained run and the name of a method to the plan of its student: all else is an ordinary training.

A student begins as its teacher, on the same data, process and network, with another loss. So a method is a loss and a
way to sample, and nothing here trains. Students in between, of which each is the teacher of the next, are `Link`s.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from reverie import config
from reverie.config import Plain
from reverie.parameterizations import EDM, Parameterization, V, Velocity
from reverie.plan import Plan, planned
from reverie.recipe import Train
from reverie.schedules import Flow
from reverie.stages import check_teaches

if TYPE_CHECKING:
    from reverie.runs import Run

ORDINARY = 3.0
"""Evaluations that a step of ordinary training costs, the backward pass counting as two."""
SPENT = 0.75
"""Of the evaluations that its teacher was trained for, what a student is: in smaller steps an example takes longer."""
FINE = 32
"""Steps of DDIM that the first student of progressive distillation stands for, at least."""
IMITATING = 0.25
"""Of what a student is trained for, the share of what imitates its teacher first."""
IMITATION = "imitation"
"""The method whose student says what its teacher says, and nothing else: guided, by an output for few steps."""


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
        sampler: how its students sample; as their teacher does unless said.
        evaluations: of the student and what else learns, that a step of training costs; a backward pass is two.
        lessons: evaluations of the teacher besides, which guidance doubles; 0 where there is no teacher, and for each
            substep of a chain.
        grid: of the samples, without the number of steps; as its teacher's unless said.
        shares: settings of the loss that count steps of training, as shares of all of them.
        steps: for how many, unless said.
        single: whether a student makes one number of steps and no other, which is that of its loss's grid.
        chained: whether students for more steps teach those for fewer.
        velocity: whether all is said in eps - x0, which is best put out as it is where a network does so: on `Flow`.
    """

    loss: Mapping[str, Plain]
    sampler: str | None
    evaluations: float
    lessons: float
    grid: Mapping[str, Plain]
    shares: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[int, ...] = (1, 2, 4)
    single: bool = False
    chained: bool = False
    velocity: bool = False

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
        {"kind": "distribution_matching"}, "consistency", 5, 1, _UNIFORM, steps=(1,), single=True
    ),
    "consistency": Method({"kind": "consistency"}, "consistency", 4, 2, _KARRAS, _DOUBLING),
    "consistency_training": Method({"kind": "consistency", "taught": False}, "consistency", 4, 0, _KARRAS, _DOUBLING),
    "scm": Method(
        {"kind": "uncertain", "loss": {"kind": "continuous_consistency"}}, "consistency", 6, 1, _KARRAS, {"warmup": 0.1}
    ),
    "mean_flow": Method({"kind": "mean_flow"}, "jump", 6, 1, _UNIFORM, velocity=True),
    "shortcut": Method({"kind": "shortcut", "taught": True}, "jump", 5, 1, _UNIFORM, velocity=True),
    "reflow": Method({"kind": "reflow"}, "ddim", 3, 10, _UNIFORM),
    IMITATION: Method({"kind": "imitation"}, None, 3, 1, {}, steps=(16,)),
}
"""By name."""


@dataclass(frozen=True)
class Link:
    """A student on the way from the run to the one that is asked for.

    Attributes:
        name: of its method.
        steps: that it makes; as its teacher does unless said.
        substeps: of its teacher for each, in a chain.
        share: of the evaluations that all of them are trained for.
        folder: its own; its teacher's is `teacher` in there.
    """

    name: str
    steps: int | None
    substeps: int
    share: float
    folder: Path

    @property
    def method(self) -> Method:
        """Its own."""
        return METHODS[self.name]


def links(teacher: Run, asked: Asked) -> list[Link]:
    """The students that the one asked for takes: itself first, and last the one that the run itself teaches.

    The last imitates the run, and the others learn from it, where the run is guided, which is so learned once for all,
    or where its network puts out what is of no use to few steps (`output_of`). It has the share `IMITATING`, the others
    equal ones of what is left.
    """
    method, most = METHODS[asked.method], asked.steps[-1]
    numbers = [(n, more // n) for n, more in pairwise(asked.steps)] if method.chained else []
    numbers += [(most, max(2, -(-FINE // most)) if method.chained else 1)]
    anew = asked.guidance != (1.0, 1.0) or teacher.recipe.parameterization != _output(teacher, asked)
    before = IMITATING if method.lessons and asked.method != IMITATION and anew else 0.0
    share = (1 - before) / len(numbers)
    found = [Link(asked.method, *each, share, asked.out.joinpath(*["teacher"] * i)) for i, each in enumerate(numbers)]
    if before:
        found.append(Link(IMITATION, None, 1, before, found[-1].folder / "teacher"))
    return found


def output_of(teacher: Run, method: Method) -> Parameterization:
    """What the network of a student puts out: v, or as EDM does, of which one step from noise takes no noise over.

    Noise and velocity would have to be copied from x_t where it is all noise, and what is left of it stays in the
    picture; x0 does not become x_t where there is no noise. v is the output of students in Salimans & Ho (2022,
    section 4); it grows with sigma, so on processes that grow it is EDM's. Where the mean of eps - x0 over a step is
    learned, a network that puts it out goes on to do so.
    """
    given = teacher.recipe.parameterization
    mean = getattr(given, "mean", given)  # less a variance besides
    if isinstance(mean, (V, EDM)):
        return mean
    if method.velocity and isinstance(teacher.schedule, Flow):
        return Velocity()
    end = torch.ones((), dtype=torch.float64)
    power = teacher.schedule.alpha(end) ** 2 + teacher.schedule.sigma(end) ** 2  # 1 where variance is kept
    return V() if power < 4 else EDM()


def plan_for(teacher: Run, asked: Asked) -> Plan:
    """The plan of a student, with those of the students in between as its stages.

    It is trained for `SPENT` of the evaluations of the network that its teacher was, unless the words say otherwise.

    Raises:
        ValueError: the teacher is no denoiser or is a student itself of another kind, or words that do not fit.
    """
    _check_teacher(teacher, asked)
    _check_words(asked)
    made: dict[str, Plain] = {}
    for link in reversed(links(teacher, asked)):
        made = _student(teacher, asked, link, made)
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
    untaught = {
        "x0": "x0, and a consistency model must say x where there is no noise",
        "learned_variance": "a variance of the reverse step, for which few steps have no use",
    }
    if not METHODS[asked.method].lessons and (reason := untaught.get(recipe.parameterization.kind)):
        raise ValueError(
            f"{who} by {asked.method}: its network puts out {reason}; take a method with a teacher, such as "
            f"--method consistency"
        )
    if asked.guidance != (1.0, 1.0) and not teacher.vocabulary.parts:
        raise ValueError(f"{teacher.path} is told nothing that it could be guided by; leave out --guidance")


def _check_words(asked: Asked) -> None:
    """Refuse guidance among the settings of the loss: all students on the way have the same.

    Raises:
        ValueError: with the option that gives it.
    """
    for word in asked.words:
        table = word.get("loss")
        while isinstance(table, Mapping):
            for name, option in (("guidance", "--guidance"), ("led", "--weaker")):
                if name in table:
                    raise ValueError(f"loss.{name} follows from {option}, for all students on the way; give that")
            table = table.get("loss")


def students(teacher: Run, asked: Asked) -> dict[int, Path]:
    """The folder of the student that makes so many steps, for each number asked for."""
    if not METHODS[asked.method].chained:
        return dict.fromkeys(asked.steps, asked.out)
    return {n: link.folder for n, link in zip(asked.steps, links(teacher, asked), strict=False)}


def _student(teacher: Run, asked: Asked, link: Link, before: dict[str, Plain]) -> dict[str, Plain]:
    """The recipe of one student, `before` being that of its teacher, and empty where that is the run itself."""
    method, recipe, first = link.method, teacher.recipe, not before
    led = "classifier_free" if first and not asked.weaker else "auto" if first else "within"
    source = _named(teacher.path) if first else link.folder / "teacher"
    own: dict[str, Plain] = config.to_data(recipe)
    own["train"] = {**own["train"], **_training(recipe.train, asked, link, source, within=not first)}
    own["sample"] = {**own["sample"], **_sampling(teacher, asked, link)}
    own["evaluate"] = {**own["evaluate"], "every": 0}
    own["stages"] = {
        each.name: str(_named(teacher.path) / each.name)
        for each in teacher.facts.stages
        if each.name not in ("teacher", "weaker")
    }
    if "autoencoder" in own["stages"]:
        own["space"] = {**own["space"], "autoencoder": own["stages"].pop("autoencoder")}
    own = _layered(own, asked)
    if method.lessons:
        own["parameterization"] = config.to_data(_output(teacher, asked))
    own["loss"] = config.merged(dict(method.loss), _of_loss(asked, link, led, own["train"]["steps"]))
    if link.name == asked.method:  # what imitates on the way has a loss of its own
        own = _layered(own, asked, {"loss"})
    if asked.weaker is not None and first:
        own["stages"]["weaker"] = str(_named(asked.weaker))
    if "teacher" in own["stages"]:
        raise ValueError(
            f"stages.teacher follows from the run that is distilled, {teacher.path}, and the method; leave it out"
        )
    if method.lessons:
        own["stages"]["teacher"] = str(source) if first else before
    return own


def _layered(own: dict[str, Plain], asked: Asked, keys: Collection[str] | None = None) -> dict[str, Plain]:
    """Settings with the words on top, of these tables, or of all but the loss."""
    for word in asked.words:
        chosen = {key: value for key, value in word.items() if (key != "loss" if keys is None else key in keys)}
        own = config.merged(own, chosen)
    return own


def _output(teacher: Run, asked: Asked) -> Parameterization:
    """The parameterization of a student, as it is or as it is asked for."""
    made = config.to_data(output_of(teacher, METHODS[asked.method]))
    found = _layered({"parameterization": made}, asked, {"parameterization"})["parameterization"]
    read: Parameterization = config.from_data(Parameterization, found, "parameterization")
    return read


def _sampling(teacher: Run, asked: Asked, link: Link) -> dict[str, Plain]:
    """How a student is sampled."""
    recipe, method = teacher.recipe.sample, link.method
    low, high = asked.guidance
    found: dict[str, Plain] = {
        "guidance": min(max(recipe.guidance, low), high) if low < high else 1.0, "guide": None,
    }  # fmt: skip
    if method.sampler is not None:
        found["sampler"] = {"kind": method.sampler}
    if method.grid:
        found["grid"] = {**method.grid, "steps": link.steps}
    elif link.steps is not None:
        found["grid"] = config.to_data(recipe.grid.with_steps(link.steps))
    return found


def _of_loss(asked: Asked, link: Link, led: str, length: int) -> dict[str, Plain]:
    """What a method's loss is told besides, by steps, guidance and length of training."""
    method, told = link.method, dict[str, Plain]()
    if method.lessons:
        told |= {"guidance": list(asked.guidance), "led": led}
    if method.single:
        told["grid"] = {"kind": "uniform", "steps": link.steps}
    if method.chained:
        told["substeps"] = link.substeps
    told |= {name: max(1, round(share * length)) for name, share in method.shares.items()}
    return {"loss": told} if "loss" in method.loss else told


def _named(path: Path) -> Path:
    """A path as a plan may name it, in which those beginning with `../` are of the stage beside."""
    return path.resolve() if path.parts[:1] == ("..",) else path


def _of_a_step(train: Train, batch: int, asked: Asked) -> int:
    """Examples of a step of a student, of `batch` unless the words say otherwise."""
    own: dict[str, Plain] = {"train": {"batch": batch, "accumulate": train.accumulate}}
    told = _layered(own, asked, {"train"})["train"]
    numbers = [told.get(name) for name in ("batch", "accumulate")] if isinstance(told, Mapping) else []
    return math.prod(n if isinstance(n, int) and n > 0 else 1 for n in numbers)  # what is none is refused as a recipe


def _training(train: Train, asked: Asked, link: Link, start: Path, *, within: bool) -> dict[str, Plain]:
    """What is other in the training of a student, whose teacher has its guidance `within` itself or is led by it."""
    guided, batch = asked.guidance != (1.0, 1.0), max(1, train.batch // 2)
    cost = link.method.cost(guided and not within, link.substeps)
    examples = SPENT * link.share * train.steps * train.batch * train.accumulate * ORDINARY / cost
    steps = max(1, round(examples / _of_a_step(train, batch, asked)))
    found: dict[str, Plain] = {
        "start": str(start), "steps": steps, "batch": batch, "decay": "cosine",
        "warmup": min(train.warmup, max(1, steps // 20)), "ema": min(train.ema, 0.99), "ema_lengths": [],
    }  # fmt: skip
    return {**found, "drop": 0.0, "drop_part": 0.0} if guided else found
