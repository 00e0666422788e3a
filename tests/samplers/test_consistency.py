"""Multistep consistency sampling, from the exact consistency function of Gaussian data."""

import pytest
import torch
from helpers import DOUBLE, Stub, close, every_schedule, gaussian, mixture, randn
from laws import chain, law

from reverie.config import from_data
from reverie.exact import Gaussian
from reverie.grids import Karras
from reverie.prediction import Prediction
from reverie.samplers import Sampler
from reverie.samplers.consistency import Consistency
from reverie.sampling import generate, prior
from reverie.schedules import VE, Cosine
from reverie.tensors import host


class Consistent(Gaussian):
    """x0 is where the flow ODE ends that passes x."""

    def __call__(self, x, t, cond=None):
        return Prediction.from_x0(self.solution(x, t, 0.0), x, self.schedule.at(t, like=x))


def consistent(schedule):
    return Consistent(schedule, *(a[0] for a in (gaussian(schedule).means, gaussian(schedule).stds)))


@pytest.mark.parametrize("times", [[1.0, 0.0], [0.9, 0.6, 0.0], [1.0, 0.7, 0.5, 0.1, 0.0]], ids=len)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_law_is_that_of_the_data_after_any_steps(schedule, times):
    f, times = consistent(schedule), torch.tensor(times, dtype=DOUBLE)
    mean, var = law(f, chain(f, Consistency(), times), times[0])
    assert close(mean, f.means[0], 1e-11)
    assert close(var, f.stds[0] ** 2, 1e-11)
    if len(times) > 2:  # and another, were the noise of another size
        assert ((law(f, chain(f, Consistency(), times), times[0], 0.8)[1] / var).sqrt() - 1).abs().min() > 0.02


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_mean_is_no_consistency_function(schedule):
    # E[x0 | x] of the same data: what is made varies too little, and more steps do not help.
    f, variances = gaussian(schedule), []
    for steps in (4, 32, 256):
        times = Karras(steps, 0.01)(schedule)
        variances.append(law(f, chain(f, Consistency(), times), times[0])[1] / f.stds[0] ** 2)
    assert max(float(v.max()) for v in variances) < 0.95


@pytest.mark.parametrize(("t", "s"), [(0.9, 0.5), (0.5, 0.2)])
def test_the_variance_that_a_step_leaves_of_standard_normal_data(t, s):
    f, t, s = Gaussian(Cosine(), torch.zeros(3, dtype=DOUBLE), 1.0), host(t), host(s)
    _, var = law(f, chain(f, Consistency(), torch.stack([t, s])), t)
    expected = (Cosine().alpha(s) * Cosine().alpha(t)) ** 2 + Cosine().sigma(s) ** 2
    assert close(var, expected.expand(3), 1e-12)


def test_it_is_algorithm_1_of_its_paper():
    # There in sigma, sigma(0) = 0: x0 = f(x, sigma_1); then x = x0 + sigma_n z and x0 = f(x, sigma_n).
    schedule, times = VE(), Karras(4, 0.1, 80.0)(VE())
    f = Stub(schedule, lambda x, t: torch.tanh(x) / (1 + t))
    x, z = 80 * randn(3, 2), randn(3, 2, seed=1)
    found = generate(f, Consistency(), times, x, noise=lambda like: z)
    x0 = f.x0(x, times[0])
    for t in times[1:-1]:
        x0 = f.x0(x0 + schedule.sigma(t) * z, t)
    assert close(found, x0, 1e-12)


def test_the_last_step_draws_no_noise_and_examples_may_differ_in_level():
    def refuse(like):
        raise AssertionError("noise was drawn")

    f, z = mixture(Cosine()), randn(3, 2, seed=2)
    x = prior(Cosine(), 1.0, z, lambda like: z)
    assert Consistency().step(f, x, host(1.0), host(0.0), None, refuse, None)[0].shape == x.shape
    t, s = torch.tensor([1.0, 0.5, 0.4]).double(), torch.tensor([0.5, 0.2, 0.0]).double()
    together, _ = Consistency().step(f, x, t, s, None, lambda like: z, None)
    for i in range(3):
        row = slice(i, i + 1)
        alone, _ = Consistency().step(f, x[row], t[i], s[i], None, lambda like, row=row: z[row], None)
        assert close(together[row], alone, 1e-12)
    rounded, _ = Consistency().step(f, x.float(), host(0.5), host(0.2), None, torch.randn_like, None)
    assert rounded.dtype == torch.float32


def test_names():
    for name in ("consistency", "lcm", "k_lcm"):
        assert from_data(Sampler, name, "sampler") == Consistency()
    assert not Consistency().deterministic
