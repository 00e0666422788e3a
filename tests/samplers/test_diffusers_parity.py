"""The same chain, network and noise as diffusers' DDPMScheduler and DDIMScheduler: the same samples.

diffusers keeps its tables in float32, so a whole chain agrees to about 1e-5; with its tables
replaced by the same numbers in float64 it agrees to 1e-9.
"""

import pytest
import torch
from helpers import DOUBLE, close, noise_from, randn, seeded

from reverie.denoiser import Clipped, Denoiser
from reverie.grids import Knots
from reverie.parameterizations import X0, Eps, V
from reverie.samplers import DDIM, Ancestral
from reverie.sampling import generate, trajectory
from reverie.schedules import CosineBetas, GivenBetas, LinearBetas, ScaledLinearBetas, Table
from reverie.time_labels import Index

diffusers = pytest.importorskip("diffusers")

RULES = {
    "linear": (LinearBetas(), {"beta_start": 1e-4, "beta_end": 0.02}),
    "scaled_linear": (ScaledLinearBetas(), {"beta_start": 0.00085, "beta_end": 0.012}),
    "squaredcos_cap_v2": (CosineBetas(), {}),
}
PREDICTIONS = {"epsilon": Eps(), "v_prediction": V(), "sample": X0()}
X = randn(3, 4, seed=1)


class Toy(torch.nn.Module):
    """tanh of a fixed linear map of x, plus a function of the chain's index."""

    def __init__(self):
        super().__init__()
        self.map = torch.nn.Parameter(0.5 * randn(4, 4, seed=2), requires_grad=False)

    def forward(self, x, index, cond=None):
        return torch.tanh(x @ self.map) + 0.1 * torch.sin(index / 100)[:, None]


def grid(spacing: str, steps: int) -> Knots:
    stride = 1000 // steps
    return Knots(1000, stride, None if spacing == "trailing" else 1000 - stride + 1)


def scheduler(kind, rule, spacing, steps, exact=True, **settings):
    made = kind(num_train_timesteps=1000, beta_schedule=rule, timestep_spacing=spacing, **RULES[rule][1], **settings)
    if exact:  # the same tables, in float64
        made.betas = RULES[rule][0].values()
        made.alphas = 1 - made.betas
        made.alphas_cumprod = made.alphas.cumprod(0)
        made.one = made.final_alpha_cumprod = torch.tensor(1.0, dtype=DOUBLE)
    made.set_timesteps(steps)
    return made


def theirs(made, generator, **settings):
    x, net, chain = X, Toy(), []
    for index in made.timesteps:
        out = net(x, index.to(DOUBLE).expand(len(x)))
        if isinstance(made, diffusers.DDIMScheduler):
            noise = noise_from(generator)(x) if settings.get("eta", 0) > 0 else None
            x = made.step(out, index, x, variance_noise=noise, **settings).prev_sample
        else:
            x = made.step(out, index, x, generator=generator).prev_sample
        chain.append(x)
    return chain


def ours(sampler, rule, prediction, spacing, steps, generator, clip=False):
    f = Denoiser(Toy(), Table(RULES[rule][0]), PREDICTIONS[prediction], Index(1000))
    f = Clipped(f) if clip else f
    return [s.x for s in trajectory(f, sampler, grid(spacing, steps)(f.schedule), X, noise=noise_from(generator))]


def agree(a, b, tolerance):
    assert len(a) == len(b)
    return all(close(x, y, tolerance) for x, y in zip(a, b, strict=True))


VARIANCES = [("fixed_small", 0.0), ("fixed_large", 1.0)]


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("variance", "fraction"), VARIANCES)
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("rule", RULES)
def test_ddpm_of_50_steps(rule, spacing, variance, fraction, prediction, clip):
    settings = {"variance_type": variance, "prediction_type": prediction, "clip_sample": clip}
    made = scheduler(diffusers.DDPMScheduler, rule, spacing, 50, **settings)
    expected = theirs(made, seeded(5))
    got = ours(Ancestral(fraction), rule, prediction, spacing, 50, seeded(5), clip)
    if variance == "fixed_large" and spacing == "trailing":
        # diffusers adds noise in every step but that from index 0; "trailing" ends at index 19, so its
        # last step, which lands on the data, adds noise of the whole variance there. Ours never does.
        assert (expected.pop() - got.pop()).abs().max() > 0.01
    assert agree(expected, got, 1e-9)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("rule", RULES)
def test_ddim_of_50_steps(rule, spacing, eta, prediction, clip):
    made = scheduler(diffusers.DDIMScheduler, rule, spacing, 50, prediction_type=prediction, clip_sample=clip)
    # Unless told to derive eps again from the clipped x0, as ADM and GLIDE do, diffusers lets x0 and eps disagree.
    expected = theirs(made, seeded(5), eta=eta, use_clipped_model_output=clip)
    assert agree(expected, ours(DDIM(eta), rule, prediction, spacing, 50, seeded(5), clip), 1e-9)


@pytest.mark.parametrize(("variance", "fraction"), VARIANCES)
@pytest.mark.parametrize("rule", RULES)
def test_ddpm_of_1000_steps(rule, variance, fraction):
    made = scheduler(diffusers.DDPMScheduler, rule, "leading", 1000, variance_type=variance, clip_sample=True)
    expected = theirs(made, seeded(5))
    assert agree(expected, ours(Ancestral(fraction), rule, "epsilon", "trailing", 1000, seeded(5), True), 1e-8)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("rule", RULES)
def test_ddim_of_1000_steps(rule, eta):
    made = scheduler(diffusers.DDIMScheduler, rule, "leading", 1000, prediction_type="v_prediction", clip_sample=False)
    expected = theirs(made, seeded(5), eta=eta)
    assert agree(expected, ours(DDIM(eta), rule, "v_prediction", "leading", 1000, seeded(5)), 1e-8)


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("rule", RULES)
def test_schedulers_as_shipped_in_float32(rule, spacing):
    # The cosine chain starts at alpha = 5e-5 of 1e-9, which float32 tables know to a few digits only: eps is
    # divided by it, so v stands in there.
    prediction = "v_prediction" if rule == "squaredcos_cap_v2" else "epsilon"
    settings = {"prediction_type": prediction, "clip_sample": True}
    made = scheduler(diffusers.DDPMScheduler, rule, spacing, 50, exact=False, **settings)
    expected = theirs(made, seeded(5))
    assert agree(expected, ours(Ancestral(), rule, prediction, spacing, 50, seeded(5), True), 2e-5)
    made = scheduler(diffusers.DDIMScheduler, rule, spacing, 50, exact=False, **settings)
    expected = theirs(made, seeded(5), eta=0.5, use_clipped_model_output=True)
    assert agree(expected, ours(DDIM(0.5), rule, prediction, spacing, 50, seeded(5), True), 2e-5)


def test_betas_are_diffusers_to_float32():
    for rule, (betas, settings) in RULES.items():
        made = diffusers.DDPMScheduler(num_train_timesteps=1000, beta_schedule=rule, **settings)
        assert close(made.betas, betas.values(), 1e-7)
        assert close(made.alphas_cumprod, Table(betas).alpha(torch.arange(1, 1001).double() / 1000) ** 2, 1e-5)


def test_zero_terminal_snr():
    made = diffusers.DDIMScheduler(
        rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False
    )
    betas = [*made.betas.double().tolist()[:-1], 1.0]
    made.alphas_cumprod = (1 - torch.tensor(betas, dtype=DOUBLE)).cumprod(0)
    made.final_alpha_cumprod = torch.tensor(1.0, dtype=DOUBLE)
    made.set_timesteps(50)
    f = Denoiser(Toy(), Table(GivenBetas(tuple(betas))), V(), Index(1000))
    got = generate(f, DDIM(), grid("trailing", 50)(f.schedule), X)
    assert close(theirs(made, seeded(5), eta=0.0)[-1], got, 1e-9)
