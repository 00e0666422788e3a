"""From a trained run and the name of a method to the plan of its student: all else is an ordinary training.

A student begins as its teacher, on the same data, process and network, with another loss. So a method is a loss and a
way to sample, and nothing here trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reverie import config
from reverie.config import Plain
from reverie.plan import Plan, planned
from reverie.recipe import Train

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

    Raises:
        ValueError: there is no such method, or it makes no such students.
    """

    method: str
    steps: tuple[int, ...]
    guidance: tuple[float, float]
    out: Path
    words: tuple[Mapping[str, Plain], ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"there is no method {self.method!r}; there are: {', '.join(METHODS)}")
        steps = self.steps
        if not steps or min(steps) < 1 or list(steps) != sorted(set(steps)):
            raise ValueError(f"--steps takes rising numbers of steps, such as 1,2,4; given {','.join(map(str, steps))}")
        METHODS[self.method].check(self)


@dataclass(frozen=True)
class Method:
    """A way to learn to sample in few steps.

    Attributes:
        about: a line for `--help`.
        loss: the settings of the loss, for the largest number of steps asked for.
        sampler: how its students sample.
        evaluations: of the network, that a step of training costs with an unguided teacher; a backward pass is two.
        lessons: of them the teacher's, which guidance doubles.
        grid: of the samples, without the number of steps.
        single: whether a student makes one number of steps and no other.
    """

    about: str
    loss: Mapping[str, Plain]
    sampler: str
    evaluations: float
    lessons: float
    grid: Mapping[str, Plain]
    single: bool = False

    def check(self, asked: Asked) -> None:
        """Refuse numbers of steps, or guidance, that it has no students for.

        Raises:
            ValueError: with what there are students for.
        """
        if self.single and len(asked.steps) > 1 and asked.method != "progressive":
            raise ValueError(
                f"a student by {asked.method} makes one number of steps; give one, such as --steps {asked.steps[-1]}"
            )
        if asked.method == "progressive":
            ratios = [b / a for a, b in zip(asked.steps, asked.steps[1:], strict=False)]
            if any(ratio != int(ratio) for ratio in ratios):
                raise ValueError(
                    f"each student by progressive distillation makes one step of several of the one before, so each of "
                    f"--steps must divide the next, as in 1,2,4; given {','.join(map(str, asked.steps))}"
                )
        if not self.lessons and asked.guidance != (1.0, 1.0):
            raise ValueError(
                f"{asked.method} learns from data, without a teacher whose guidance it could take over: leave out "
                f"--guidance"
            )

    def cost(self, guided: bool) -> float:
        """Evaluations a step of training."""
        return self.evaluations + (self.lessons if guided else 0.0)


_KARRAS: Mapping[str, Plain] = {"kind": "karras"}
_UNIFORM: Mapping[str, Plain] = {"kind": "uniform"}
METHODS: Mapping[str, Method] = {
    "progressive": Method(
        "one step for several of the teacher's, student after student (Salimans & Ho, 2022)",
        {"kind": "progressive"}, "ddim", 5, 2, _UNIFORM, single=True,
    ),
    "consistency": Method(
        "where the path of the flow ends, learned along the teacher's (Song et al., 2023; Song & Dhariwal, 2024)",
        {"kind": "consistency"}, "consistency", 6, 2, _KARRAS,
    ),
    "consistency_training": Method(
        "the same from data alone, beginning with the teacher's weights (Song & Dhariwal, 2024)",
        {"kind": "consistency", "taught": False}, "consistency", 4, 0, _KARRAS,
    ),
    "scm": Method(
        "the same in continuous time (Lu & Song, 2025)",
        {"kind": "uncertain", "loss": {"kind": "continuous_consistency"}}, "consistency", 7, 1, _KARRAS,
    ),
    "mean_flow": Method(
        "the mean of the flow over steps of any length (Geng et al., 2025)",
        {"kind": "mean_flow"}, "jump", 6, 1, _UNIFORM,
    ),
    "shortcut": Method(
        "steps of any length, each as two of half its length (Frans et al., 2024)",
        {"kind": "shortcut", "taught": True}, "jump", 6, 1, _UNIFORM,
    ),
    "reflow": Method(
        "straight paths between noise and what the teacher makes of it (Liu et al., 2023)",
        {"kind": "reflow"}, "ddim", 13, 10, _UNIFORM,
    ),
    "distribution_matching": Method(
        "samples whose law, at every level of noise, is the teacher's (Yin et al., 2024)",
        {"kind": "distribution_matching"}, "consistency", 6.5, 1, _UNIFORM, single=True,
    ),
}  # fmt: skip
"""By name."""


def plan_for(teacher: Run, asked: Asked) -> Plan:
    """The plan of a student, with those of the students in between as its stages.

    It is trained for as many evaluations of the network as its teacher was, unless the words say otherwise.

    Raises:
        ValueError: the teacher is no denoiser or is a student itself of another kind, or words that do not fit.
    """
    if teacher.recipe.kind != "denoiser":
        raise ValueError(f"{teacher.path} draws no samples (kind={teacher.recipe.kind}), so there is nothing to distil")
    if teacher.recipe.loss.leaps or teacher.recipe.loss.scales:
        raise ValueError(
            f"{teacher.path} is a student already (loss.kind={teacher.recipe.loss.kind}); name its teacher"
        )
    if asked.guidance != (1.0, 1.0) and not teacher.vocabulary.parts:
        raise ValueError(f"{teacher.path} is told nothing that it could be guided by; leave out --guidance")
    data = _student(teacher, asked, asked.steps, asked.out)
    return planned([{key: value for key, value in data.items() if value is not None}])


def students(teacher: Run, asked: Asked) -> dict[int, Path]:
    """The folder of the student that makes so many steps, for each number asked for."""
    if asked.method != "progressive":
        return dict.fromkeys(asked.steps, asked.out)
    return {n: asked.out.joinpath(*["teacher"] * i) for i, n in enumerate(asked.steps)}


def _student(teacher: Run, asked: Asked, steps: Sequence[int], folder: Path) -> dict[str, Plain]:
    """The recipe of the student in `folder`, that of the least number of steps, with its stages."""
    method, recipe = METHODS[asked.method], teacher.recipe
    in_between = asked.method == "progressive" and len(steps) > 1
    first = _named(teacher.path) if not in_between else folder / "teacher"
    number = steps[0] if asked.method == "progressive" else steps[-1]
    low, high = asked.guidance if not in_between else (1.0, 1.0)
    loss = config.merged(dict(method.loss), _guided(method, low, high))
    if asked.method == "progressive":
        substeps = steps[1] // steps[0] if in_between else max(2, -(-FINE // number))
        loss = config.merged(loss, {"grid": {"kind": "uniform", "steps": number}, "substeps": substeps})
    if asked.method == "distribution_matching":
        loss = config.merged(loss, {"grid": {"kind": "uniform", "steps": number}})
    own: dict[str, Plain] = config.to_data(recipe)
    own["train"] = {**own["train"], **_training(recipe.train, method, asked, first)}
    if asked.method == "scm":
        loss = config.merged(loss, {"loss": {"warmup": own["train"]["steps"] // 10}})
    own["loss"] = loss
    chosen = recipe.sample.guidance if low < high else 1.0
    own["sample"] = {
        **own["sample"], "sampler": {"kind": method.sampler}, "grid": {**method.grid, "steps": number},
        "guidance": min(max(chosen, low), high) if low < high else 1.0, "guide": None,
    }  # fmt: skip
    own["evaluate"] = {**own["evaluate"], "every": 0}
    for word in asked.words:
        own = config.merged(own, word)
    given: dict[str, Plain] = {
        each.name: str(_named(teacher.path) / each.name)
        for each in teacher.facts.stages
        if each.name not in ("teacher", "weaker")
    }
    if "autoencoder" in given:
        own["space"] = {**own["space"], "autoencoder": given.pop("autoencoder")}
    taught: Plain = _student(teacher, asked, steps[1:], first) if in_between else str(first)
    return {**own, "stages": {**given, "teacher": taught} if method.lessons else given}


def _named(path: Path) -> Path:
    """A path as a plan may name it, in which those beginning with `../` are of the stage beside."""
    return path.resolve() if path.parts[:1] == ("..",) else path


def _guided(method: Method, low: float, high: float) -> dict[str, Plain]:
    """The setting of a loss that says so, of the loss inside where one stands around it."""
    told: dict[str, Plain] = {"guidance": [low, high]} if method.lessons else {}
    return {"loss": told} if "loss" in method.loss and told else told


def _training(train: Train, method: Method, asked: Asked, start: Path) -> dict[str, Plain]:
    """What is other in the training of a student."""
    guided, several = asked.guidance != (1.0, 1.0), len(asked.steps) if asked.method == "progressive" else 1
    steps = max(1, round(train.steps * ORDINARY / method.cost(guided) / several))
    found: dict[str, Plain] = {
        "start": str(start), "steps": steps, "decay": "cosine", "warmup": min(train.warmup, max(1, steps // 20)),
        "ema": min(train.ema, 0.99), "ema_lengths": [],
    }  # fmt: skip
    return {**found, "drop": 0.0, "drop_part": 0.0} if guided else found
