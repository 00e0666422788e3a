"""Every combination of process, parameterization, loss and times either trains or says what would.

A network of a few numbers is trained on points of the plane for a few short steps, with the same data,
times and noise in each: the loss must be finite and fall.
"""

import re
from functools import cache
from itertools import product

import pytest
import torch
from helpers import DOUBLE, defaults, noise_from, seeded

from reverie.config import Part, parse_override, registered, to_data
from reverie.data import Data
from reverie.data.points import TwoMoons
from reverie.denoiser import Denoiser
from reverie.losses import (
    Denoising,
    Hybrid,
    Loss,
    OptimalTransport,
    Pairing,
    Penalty,
    Resampled,
    SelfConditioned,
    SlicedScoreMatching,
    Taught,
    Times,
    Uncertain,
    VariationalBound,
    Weight,
)
from reverie.parameterizations import LearnedVariance, Parameterization, Score
from reverie.recipe import LOSSES, Recipe, compose
from reverie.schedules import Betas, CosineBetas, GivenBetas, LinearBetas, Schedule, Table, ZeroTerminalSNR

NOTATIONS = ("x0", "eps", "v", "score", "flow")
STEPS, ROWS, RATE = 2, 16, 2e-4
DATA: Data = TwoMoons(count=ROWS)

BETAS = {
    kind: {
        "given": GivenBetas((0.1, 0.2, 0.5)),
        "zero_terminal_snr": ZeroTerminalSNR(LinearBetas(20, 0.005, 0.4)),
        "cosine": CosineBetas(20),
    }.get(kind)
    or cls(20, 0.005, 0.4)
    for kind, cls in registered(Betas).items()
}
SCHEDULES: dict[str, Schedule] = {
    **{kind: schedule for kind, schedule in defaults(Schedule).items() if kind != "table"},
    **{f"table_{kind}": Table(betas) for kind, betas in BETAS.items()},
}
PLAIN = {**{k: p for k, p in defaults(Parameterization).items() if p.outputs == 1}, "per_sigma": Score(per_sigma=True)}
LEARNED = {f"learned_{kind}": LearnedVariance(p) for kind, p in PLAIN.items()}
PARAMETERIZATIONS: dict[str, Parameterization] = {**PLAIN, **LEARNED}
TIMES: dict[str, Times] = defaults(Times)
PENALTIES = {kind: penalty for kind, penalty in defaults(Penalty).items() if kind != "squared"}
BOUNDS: dict[str, Loss] = {
    "bound": VariationalBound(bins=0),
    "bound_20": VariationalBound(20, bins=0, fraction=1.0),
    "resampled_bound": Resampled(VariationalBound(bins=0), 4, 1),
    "told_bound": SelfConditioned(VariationalBound(bins=0)),
    "masses": VariationalBound(),
    "balanced_masses": Resampled(Uncertain(VariationalBound()), 4, 1),
    **{f"hybrid_{n}": Hybrid(n, bins=0) for n in NOTATIONS},
}
"""Losses that have times of their own."""


def losses(times: Times) -> dict[str, Loss]:
    return {
        **{f"denoising_{n}": Denoising(n, times) for n in NOTATIONS},
        **{f"{kind}_penalty": Denoising("v", times, penalty=p) for kind, p in PENALTIES.items()},
        "matched": Denoising("flow", times, pairing=OptimalTransport()),
        "sliced": SlicedScoreMatching(times),
        "uncertain": Uncertain(Denoising("x0", times)),
        "resampled": Resampled(Denoising("eps", times), 4, 1),
        "told": SelfConditioned(Denoising("v", times)),
        "all_of_them": Resampled(SelfConditioned(Uncertain(Denoising("flow", times))), 4, 1),
        "told_sliced": SelfConditioned(SlicedScoreMatching(times)),
    }  # fmt: skip


# ------------------------------------------------------------------------------------ the two outcomes


@cache
def points() -> tuple[torch.Tensor, torch.Tensor]:
    """Data of unit variance in [-1, 1], where the loss counts bins, or nearly, and a stratified u."""
    x0 = torch.from_numpy(DATA.load().items).double()
    x0 = (x0 - x0.mean(0)) / x0.std(0)
    u = (torch.randperm(ROWS, generator=seeded(1)) + torch.rand(ROWS, generator=seeded(2), dtype=DOUBLE)) / ROWS
    return x0, u


class Tiny(torch.nn.Module):
    """One hidden layer, 0 at first."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.enter = torch.nn.Parameter(torch.randn(2 * inputs + 1, 8, generator=seeded(3), dtype=DOUBLE))
        self.out = torch.nn.Parameter(torch.zeros(8, 2 * outputs, dtype=DOUBLE))
        self.bias = torch.nn.Parameter(torch.zeros(2 * outputs, dtype=DOUBLE))

    def forward(self, x, label, cond):
        return torch.tanh(torch.cat([x, label[:, None]], 1) @ self.enter) @ self.out + self.bias


def refusal(schedule: Schedule, parameterization: Parameterization, loss: Loss) -> str:
    """The sentence with which a recipe refuses these parts; empty where it takes them."""
    try:
        Recipe(DATA, schedule=schedule, parameterization=parameterization, loss=loss)
    except ValueError as error:
        return str(error)
    return ""


def check_trains(schedule: Schedule, parameterization: Parameterization, loss: Loss) -> None:
    """A few short steps, each with the same data, times and noise: all is finite, and the loss falls.

    A `Hybrid` is no loss that falls: its mean is moved by the first half alone, which is what is looked at.
    """
    told = loss.self_conditions
    net = Tiny(1 + told, parameterization.outputs)
    f = Denoiser(net, schedule, parameterization, self_conditioned=told)
    (x0, u), memory = points(), loss.memory()
    parameters = [*f.parameters(), *([] if memory is None else memory.parameters())]
    optimizer = torch.optim.Adam(parameters, lr=RATE)

    falling = Denoising(loss.notation, loss.times, loss.weight) if isinstance(loss, Hybrid) else loss

    def value(loss: Loss = loss) -> torch.Tensor:
        found = loss(f, x0, u, None, noise_from(seeded(4)), memory)
        assert found.shape == (ROWS,)
        assert found.isfinite().all()
        return found

    if memory is not None:
        loss.observe(memory, u, value().detach())
    now = value()
    before = now if falling is loss else value(falling)
    for _ in range(STEPS):
        optimizer.zero_grad()
        now.mean().backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in parameters)
        optimizer.step()
        now = value()
    after = now if falling is loss else value(falling)
    assert after.mean() < before.mean()


SETTING = re.compile(r"\b((?:loss|parameterization)\.[\w.]+=\w+)")


def check_remedy(schedule: Schedule, parameterization: Parameterization, loss: Loss, said: str) -> None:
    """The sentence names a setting, or a part, that would do; where it says that levels are lost, each of them does."""
    assert re.search(r"\b([Uu]se|set|give|make)\b", said), said
    named = SETTING.findall(said)
    assert named or "make them equal" in said, said
    if "would be learned" not in said:
        return
    assert named, said
    parts = {"data": DATA, "schedule": schedule, "parameterization": parameterization, "loss": loss}
    data = {key: to_data(part) for key, part in parts.items()}
    for setting in named:
        compose([data, parse_override(setting)])


def check(schedule: Schedule, parameterization: Parameterization, loss: Loss, known: set[str]) -> bool:
    """Whether the parts are taken; `known` holds the sentences that have been looked at."""
    said = refusal(schedule, parameterization, loss)
    try:
        if not said:
            check_trains(schedule, parameterization, loss)
        elif said not in known:
            check_remedy(schedule, parameterization, loss, said)
    except Exception as error:
        error.add_note(f"{schedule} {parameterization} {loss}")
        raise
    known.add(said)
    return not said


GROUPS = {"eps_x0_v": ("eps", "x0", "v"), "scores": ("score", "per_sigma"), "others": (), "learned": tuple(LEARNED)}
GROUPS["others"] = tuple(kind for kind in PLAIN if not any(kind in group for group in GROUPS.values()))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_combination_trains_or_says_what_would(name, group):
    schedule, known, taken = SCHEDULES[name], set(), []
    for kind in GROUPS[group]:
        for times in TIMES.values():
            for loss in losses(times).values():
                taken.append(check(schedule, PARAMETERIZATIONS[kind], loss, known))
        for loss in BOUNDS.values():
            taken.append(check(schedule, PARAMETERIZATIONS[kind], loss, known))
    assert not all(taken)
    assert any(taken) or (group == "scores" and schedule.ends_in_noise())


@pytest.mark.parametrize("name", ["linear_vp", "ve", "table_linear", "flow"])
def test_every_weight_in_every_notation_trains_or_says_what_would(name):
    known, taken = set(), []
    for weight, notation, kind in product(defaults(Weight).values(), NOTATIONS, ("eps", "v", "edm")):
        taken.append(check(SCHEDULES[name], PARAMETERIZATIONS[kind], Denoising(notation, weight=weight), known))
    assert any(taken)


# ---------------------------------------------------------------------------------- nothing is left out


def parts_of(value: object) -> set[tuple[str, str]]:
    """Family and kind of a part and of all that it is made of."""
    found = {(value.family, value.kind)} if isinstance(value, Part) else set()
    for name in getattr(value, "__dataclass_fields__", {}):
        found |= parts_of(getattr(value, name))
    return found


def test_every_registered_part_is_taken_in_some_combination():
    families = (Schedule, Betas, Parameterization, Loss, Times, Weight, Penalty, Pairing)
    guides = {("loss", loss.kind) for loss in LOSSES.values() if loss.trains != "denoiser"}  # they train no denoiser
    taught = {("loss", kind) for kind, cls in registered(Loss).items() if issubclass(cls, Taught)}  # see tests/losses
    wanted = {(family.family, kind) for family in families for kind in registered(family)} - guides - taught
    everything = [
        *BOUNDS.values(),
        *(loss for times in TIMES.values() for loss in losses(times).values()),
        *(Denoising(n, weight=weight) for weight in defaults(Weight).values() for n in NOTATIONS),
    ]
    for schedule, parameterization, loss in product(SCHEDULES.values(), PARAMETERIZATIONS.values(), everything):
        parts = parts_of(schedule) | parts_of(parameterization) | parts_of(loss)
        if parts & wanted and not refusal(schedule, parameterization, loss):
            wanted -= parts
    assert not wanted
