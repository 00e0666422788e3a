"""Samplers, guidance, noise and likelihood, against data whose law is known.

Letters in shapes: B batch, N samples, ... one example.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from reverie.bound import variational_bound
from reverie.conditioning import Cond
from reverie.doctor.finding import Check, Seen, Undefined, alone, defaults, over, pairs
from reverie.doctor.process import schedules
from reverie.exact import Gaussian, GaussianMixture
from reverie.grids import LogSNR
from reverie.guidance import ClassifierFree
from reverie.likelihood import log_likelihood
from reverie.samplers import DDIM, Ancestral, AnnealedLangevin, Consistency, Heun, Picard, Sampler
from reverie.sampling import generate, prior
from reverie.schedules import Schedule
from reverie.tensors import Noise, generator, host, streams

SAMPLERS, GUIDANCE, NOISE, LIKELIHOOD = "samplers", "guidance", "noise", "likelihood"
N, STEPS = 3000, 100
FALSE_ALARM = 1e-6
"""Of all laws together, if the steps were infinitely many."""
LAWS = 1000
"""How many statistics they may be: three a sampler and schedule."""
SHORT = 0.2
"""What a method's order, measured, may lack of the one it claims."""
BIAS = 0.06
"""What STEPS steps may do to the variance, and to the mean in standard deviations."""


def samplers() -> dict[str, Sampler]:
    """Every registered sampler, and other settings of those that have several laws.

    Langevin's and Picard's take fewer steps a level than they do by default: these levels lie closer.
    """
    return {
        **defaults(Sampler),
        "annealed_langevin": AnnealedLangevin(steps=6, step_size=0.15),
        "picard": Picard(steps=1, tolerance=1e-3),
        "ancestral, upper variance": Ancestral(1.0),
        "ddim, eta 1": DDIM(1.0),
        "heun, churn": Heun(churn=0.1),
    }


def checks() -> Iterator[Check]:
    """Of every sampler on every schedule, of guidance, noise streams and likelihoods."""
    known = defaults(Schedule)
    name = "samples have the law of a mixture"
    expected = f"within chance ({FALSE_ALARM:.0e} in all) and {BIAS:.0%} for {STEPS} steps"
    advice = "samples of any model would be too wide, too narrow or shifted with this sampler"
    yield Check(SAMPLERS, name, expected, over(law_share, pairs(samplers(), known), 1.0, "pairs", " of that"), advice)
    name, expected = "the error falls at the method's order", f"at most {SHORT} less than it claims"
    advice = "the step is not the method that it claims to be"
    yield Check(
        SAMPLERS, name, expected, over(order_gap, pairs(samplers(), schedules()), SHORT, "pairs", " less"), advice
    )
    advice = "guided samples would not be what the scale says"
    yield Check(GUIDANCE, "scale 1 is no guidance", "bit for bit", unguided, advice)
    name, scales = "score = u + scale (c - u), of densities", {f"scale {w:g}": (w,) for w in (0.0, 1.0, 3.0)}
    yield Check(GUIDANCE, name, "to 1e-9", over(guidance_gap, scales, 1e-9, "scales"), advice)
    advice = "the same seed would not give the same sample"
    yield Check(NOISE, "a sample's noise is its own", "the same bits in any batch", own_noise, advice)
    advice = "samples of any model would be too wide, too narrow or shifted"
    yield Check(NOISE, "noise is standard normal", "within chance (1e-7)", noise_law, advice)
    advice = "bits per dimension of any model would be wrong"
    name, expected = "the bound on Gaussian data is its closed form", "to 6.5 standard errors of 1,000 draws"
    yield Check(LIKELIHOOD, name, expected, over(bound_gap, alone(known), 6.5, "schedules", " errors"), advice)
    name = "the flow ODE gives a mixture's density"
    yield Check(LIKELIHOOD, name, "to 1e-4 nats", over(flow_gap, alone(known), 1e-4, "schedules", " nats"), advice)


# ------------------------------------------------------------------------------------- samplers


def mixture(schedule: Schedule) -> GaussianMixture:
    """A lopsided one, on the line: (1,) an example."""
    means, stds = torch.tensor([[1.0], [-1.5]], dtype=torch.float64), torch.tensor([0.6, 0.4], dtype=torch.float64)
    return GaussianMixture(schedule, means, stds, torch.tensor([0.75, 0.25]))


def normal_noise(*key: int) -> Noise:
    """Noise of a generator of this key."""
    random = generator(*key)
    return lambda like: torch.randn(like.shape, dtype=like.dtype, generator=random)


def law_share(sampler: Sampler, schedule: Schedule) -> float:
    """How much of what chance and the finite steps allow the samples' law is off.

    With F the mixture's distribution function, F(x) is uniform and z = Phi^-1(F(x)) standard normal:
    the mean of z, the mean of z^2 and Kolmogorov's distance are compared with what they exceed with
    probability FALSE_ALARM / LAWS (the last by Massart, 1990). What `Consistency` makes of any but a consistency
    model has another law.
    """
    if isinstance(sampler, Consistency):
        raise Undefined
    f, noise = mixture(schedule), normal_noise(3)
    times = LogSNR(STEPS, 0.01, 80.0)(schedule)
    _defined(sampler, schedule, times)
    x = generate(f, sampler, times, prior(schedule, times[0], f.means.new_empty(N, 1), noise), noise=noise)
    return law_statistic(f, x)


def law_statistic(f: GaussianMixture, x: Tensor) -> float:
    """For samples x (N, 1) of a mixture on the line: see `law_share`."""
    n, alarm = len(x), FALSE_ALARM / LAWS
    u = (torch.special.ndtr((x.sort(0).values - f.means[:, 0]) / f.stds[:, 0]) * f.weights).sum(1)
    z = torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))
    rank = torch.arange(n, dtype=torch.float64)
    distance = float(torch.maximum(u - rank / n, (rank + 1) / n - u).max())
    bound = -float(torch.special.ndtri(host(alarm / 2)))
    shares = (
        abs(float(z.mean())) / (bound / math.sqrt(n) + BIAS),
        abs(float((z**2).mean()) - 1) / (bound * math.sqrt(2 / n) + BIAS),
        distance / (math.sqrt(math.log(2 / alarm) / (2 * n)) + BIAS / 4),  # 0.24 a standard deviation at most
    )
    return max(math.inf if math.isnan(s) else s for s in shares)


def order_gap(sampler: Sampler, schedule: Schedule) -> float:
    """The order that a deterministic sampler claims, less the one it shows on Gaussian data when its steps are halved.

    From 80 to 160 steps; where that is more than `SHORT` less, from 160 to 320, at the most from 320 to 640: methods
    with a long memory come close to their order only when neighbouring steps are. t_i = (1 - i / N)^3, so that
    sigma / alpha falls to 0 at least as N^-1.5 also where sigma ~ sqrt(t) near the data: on steps even in sigma
    polynomials in log-SNR leave an error of N^-2. Samplers that work to a tolerance have their error from that.
    """
    if not sampler.deterministic or sampler.adaptive:
        raise Undefined
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in ([0.7, -0.4, 1.1], [0.8, 0.5, 1.2]))
    f, z = Gaussian(schedule, mean, std), torch.randn(6, 3, dtype=torch.float64, generator=generator(1))

    def error(steps: int) -> float:
        times = torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** 3
        _defined(sampler, schedule, times)
        x = schedule.at(times[0], z).sigma * z
        return float((generate(f, sampler, times, x) - f.solution(x, times[0], 0.0)).abs().max())

    gap, last = math.inf, error(80)
    for steps in (160, 320, 640):
        now = error(steps)
        gap, last = min(gap, sampler.order - math.log2(last / now)), now
        if gap <= SHORT:
            break
    return gap


def _defined(sampler: Sampler, schedule: Schedule, times: Tensor) -> None:
    try:
        sampler.check(schedule, times)
    except ValueError:
        raise Undefined from None


# ------------------------------------------------------------------------------------- guidance


def labelled() -> tuple[GaussianMixture, Tensor, Cond]:
    """A mixture of four components in two classes, some x (16, 2) and their labels."""
    means = torch.tensor([[1.0, 0.5], [-1.5, -0.5], [0.0, 1.5], [0.5, -1.0]], dtype=torch.float64)
    stds, labels = torch.tensor([0.6, 0.4, 0.5, 0.7], dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    f = GaussianMixture(schedules()["flow"], means, stds, torch.tensor([1.0, 2, 3, 2]), labels=labels)
    x = torch.randn(16, 2, dtype=torch.float64, generator=generator(5))
    return f, x, Cond(label=torch.arange(16) % 2)


def unguided() -> Seen:
    """Classifier-free guidance of scale 1 against none."""
    f, x, cond = labelled()
    t = host(0.6)
    a, b = ClassifierFree(f, 1.0)(x, t, cond), f(x, t, cond)
    same = bool((a.x0 == b.x0).all()) and bool((a.eps == b.eps).all())
    return Seen("the same" if same else f"x0 is off by {float((a.x0 - b.x0).abs().max()):.2g}", same)


def guidance_gap(scale: float) -> float:
    """The guided score against u + scale (c - u), c and u the gradients of log p(x | c) and log p(x)."""
    f, x, cond = labelled()
    gaps = []
    for t in (0.1, 0.6, 1.0):
        with torch.enable_grad():
            at = x.clone().requires_grad_()
            (c,) = torch.autograd.grad(f.log_density(at, t, cond).sum(), at)
            (u,) = torch.autograd.grad(f.log_density(at, t).sum(), at)
        found = ClassifierFree(f, scale)(x, host(t), cond).score
        gaps.append(float((found - (u + scale * (c - u))).abs().max()) / (1 + float(c.abs().max())))
    return max(gaps)


# ---------------------------------------------------------------------------------------- noise


def own_noise() -> Seen:
    """Two draws of five streams, and of three of them in another order."""
    all_, some = streams([3, 4, 5, 6, (7, 1)]), streams([(7, 1), 4, 3])
    like = torch.empty(5, 3)
    same = all(bool((all_(like)[[4, 1, 0]] == some(like[:3])).all()) for _ in range(2))
    repeated = bool((streams([1, 1])(like[:2]).diff(dim=0) == 0).all())
    apart = bool((streams([5, (5, 0)])(like[:2]).diff(dim=0) != 0).all())
    return Seen("the same" if same else "other noise in another batch", same and repeated and apart)


def noise_law() -> Seen:
    """Kolmogorov's distance of 300,000 draws of 1,000 streams, of what Massart (1990) allows."""
    z = streams(range(1000))(torch.empty(1000, 300, dtype=torch.float64)).flatten().sort().values
    u, rank = torch.special.ndtr(z), torch.arange(len(z), dtype=torch.float64)
    distance = float(torch.maximum(u - rank / len(z), (rank + 1) / len(z) - u).max())
    share = distance / math.sqrt(math.log(2 / 1e-7) / (2 * len(z)))
    return Seen(f"{share:.2g} of that", share <= 1)


# ----------------------------------------------------------------------------------- likelihood


def flow_gap(schedule: Schedule) -> float:
    """The largest error of the log-likelihood by the flow ODE, exact trace, of 32 draws of a mixture."""
    f = mixture(schedule)
    x0 = f.sample(32, generator(13))
    return float((log_likelihood(f, x0, steps=64, probes=0).value - f.log_density(x0)).abs().max())


def bound_gap(schedule: Schedule) -> float:
    """The means of the variational bound's terms, and of their sum, less their expectations, in standard errors.

    For x0 ~ N(m, v), the exact denoiser and the lower variance, with C = v sigma^2 / (alpha^2 v + sigma^2)
    the variance of x0 given x_t and snr = alpha^2 / sigma^2, a number's

        E L_T = snr (m^2 + v) / 2,   E L_{t -> s} = (snr(s) - snr(t)) C(t) / 2,   E L_0 = (log 2 pi w + C / w) / 2

    Kingma et al. (2021), eq. 13; w is the variance of the last step that has one.
    """
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in ([0.4, -0.7], [0.8, 0.5]))
    f, times = Gaussian(schedule, mean, std), LogSNR(40, 0.05, 80.0)(schedule)
    terms = variational_bound(f, f.sample(1000, generator(11)), times, noise=normal_noise(12))
    found = torch.cat([terms.prior[:, None], terms.steps, terms.total[:, None]], 1)
    alpha, sigma = schedule.alpha(times[:-1]), schedule.sigma(times[:-1])
    snr, var = (alpha / sigma) ** 2, std**2
    left = var * sigma[:, None] ** 2 / (alpha[:, None] ** 2 * var + sigma[:, None] ** 2)
    w = lower_variance(alpha[-2:], sigma[-2:])
    decoder = 0.5 * (math.log(2 * math.pi) + w.log() + left[-1] / w).sum()
    expected = torch.stack([0.5 * snr[0] * (mean**2 + var).sum(), *(0.5 * snr.diff() * left[:-1].sum(1)), decoder])
    expected = torch.cat([expected, expected.sum()[None]])
    gap, error = (found.mean(0) - expected).abs(), found.std(0) / math.sqrt(len(found))
    return float((gap / error.clamp_min(1e-12)).max())


def lower_variance(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Of q(x_s | x_t, x0), for the pairs (alpha_t, alpha_s) and (sigma_t, sigma_s), by adding precisions."""
    ratio = alpha[0] / alpha[1]
    return 1 / (1 / sigma[1] ** 2 + ratio**2 / (sigma[0] ** 2 - (ratio * sigma[1]) ** 2))
