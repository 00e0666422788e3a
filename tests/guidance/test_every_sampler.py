"""Guidance works with every sampler."""

import pytest
import torch
from guided import COND, TEXT, Deaf, LinearClassifier, Seeing, X
from helpers import DOUBLE, close, every_sampler, gaussian, labelled, noise_from, quadratic, randn, seeded

from reverie.conditioning import Cond
from reverie.guidance import AdaptiveProjected, AutoGuided, ClassifierFree, ClassifierGuided, ClipGuided, Thresholded
from reverie.sampling import generate
from reverie.schedules import LinearVP

DATA = labelled(LinearVP())
TIMES = quadratic(3)

SAME = {
    "classifier": ClassifierGuided(Deaf(DATA), DATA.classifier(), 2.0),
    "auto": AutoGuided(DATA, Deaf(DATA), 2.0),
    "scales": ClassifierFree(DATA, 1.0, scales={"label": 2.0}),
    "adaptive_projected": AdaptiveProjected(DATA, 2.0, eta=1.0),
}
"""On exact models all of them are classifier-free guidance of scale 2."""


def drawn(sampler, f):
    return generate(f, sampler, TIMES, X, COND, noise_from(seeded(3)))


@pytest.mark.parametrize("sampler", **every_sampler)
def test_guidance_of_five_kinds_draws_one_sample(sampler):
    wanted = drawn(sampler, ClassifierFree(DATA, 2.0))
    assert bool(wanted.isfinite().all())
    for name, f in SAME.items():
        assert close(drawn(sampler, f), wanted, 1e-6), name
    other = Thresholded(AdaptiveProjected(ClipGuided(DATA, Seeing(DATA.schedule), TEXT, 10.0), 2.0, momentum=-0.5))
    made = drawn(sampler, other)
    assert bool(made.isfinite().all())
    assert not close(made, wanted, 1e-3)


LINEAR = LinearClassifier(gaussian(LinearVP()), torch.tensor([0.5, -1.0, 0.3], dtype=DOUBLE))


@pytest.mark.parametrize("sampler", **every_sampler)
def test_a_guided_gaussian_ends_where_its_flow_does(sampler):
    """A solver of the flow up to its error, here 0.03, or 0.1 for order 1; one that draws as it does from that law."""
    f, tilted = ClassifierGuided(LINEAR.data, LINEAR, 1.5), LINEAR.tilted(1.5)
    x, times = randn(3, 3, seed=7), quadratic(24 if sampler.deterministic else 3)
    label, noises = Cond(label=torch.zeros(3, dtype=torch.int64)), [noise_from(seeded(4)) for _ in range(2)]
    made = generate(f, sampler, times, x, label, noises[0])
    assert close(made, generate(tilted, sampler, times, x, None, noises[1]), 1e-6)
    if sampler.deterministic:
        assert close(made, tilted.solution(x, 1.0, 0.0), 0.03 if sampler.order > 1 else 0.1)
