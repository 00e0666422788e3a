"""The weights of linear multistep methods, against 40 digits and against the systems that the papers state."""

import math
from dataclasses import replace

import mpmath
import pytest
import torch
from helpers import DOUBLE, SCHEDULES, close, randn

from reverie.config import from_data, to_data
from reverie.samplers import Sampler
from reverie.samplers.deis import DEIS
from reverie.samplers.dpmpp import DPMSolverPP
from reverie.samplers.dpmpp_sde import DPMSolverPPSDE
from reverie.samplers.interpolation import exponential, lagrange, plain
from reverie.samplers.lms import LMS
from reverie.samplers.pndm import PLMS, PNDM
from reverie.samplers.sa_solver import SASolver
from reverie.samplers.unipc import UniPC
from reverie.schedules import Level

mpmath.mp.dps = 40

STEPS = [1e-7, 1e-3, 0.03, 0.7, 4.0, 30.0, 400.0]


def vector(*values):
    return torch.tensor(values, dtype=DOUBLE)


def nodes_before(start, h, k):
    """k nodes, the first at `start`, at unequal distances of about h (1 at most, when h is large)."""
    gaps = vector(0.0, 1.1, 0.8, 1.3)[:k] * min(h, 1.0)
    return start - gaps.cumsum(0)


def exactly(nodes, start, end, rate):
    """int_start^end kernel L_j du in 40 digits, kernel = rate exp(-rate (end - u)), or 1 where the rate is 0."""
    u = [mpmath.mpf(float(n)) for n in nodes]
    a, b, r = mpmath.mpf(float(start)), mpmath.mpf(float(end)), mpmath.mpf(rate)
    out = []
    for j in range(len(u)):
        c = [mpmath.mpf(1)]  # L_j about b, in powers of (u - b), lowest first
        for i in range(len(u)):
            if i != j:
                c = [(p * (b - u[i]) + q) / (u[j] - u[i]) for p, q in zip([*c, 0], [0, *c], strict=True)]
        h, total = b - a, mpmath.mpf(0)
        for n, coefficient in enumerate(c):  # int_0^h kernel(v) (-v)^n dv, v = b - u
            part = mpmath.gammainc(n + 1, 0, r * h) / r**n if rate else h ** (n + 1) / (n + 1)
            total += coefficient * (-1) ** n * part
        out.append(total)
    return out


def agrees(weights, expected, tolerance=1e-13):
    """To `tolerance` of the largest, also where all are tiny."""
    largest = max(abs(e) for e in expected)
    off = max(abs(mpmath.mpf(float(w)) - e) for w, e in zip(weights, expected, strict=True)) / largest
    print(f"off by {float(off):.2g}")
    return off < tolerance


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("h", STEPS)
def test_exponential_weights_are_exact_to_rounding(h, k):
    # Nodes about 0, so that what the test measures is the rule and not the rounding of their differences.
    nodes = nodes_before(0.0, h, k)
    for rate in (1.0, 1.49, 2.0):
        assert agrees(exponential(nodes, nodes[0], vector(h)[0], rate), exactly(nodes, 0.0, h, rate), 2e-13)


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("h", STEPS[:-1])
def test_correctors_weights_are_exact_to_rounding(h, k):
    nodes = torch.cat([vector(h), nodes_before(0.0, h, k - 1)])
    assert agrees(exponential(nodes, nodes[1], nodes[0]), exactly(nodes, 0.0, h, 1.0), 2e-13)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("h", STEPS)
def test_plain_weights_are_exact_to_rounding(h, k):
    nodes = nodes_before(0.0, h, k)
    assert agrees(plain(nodes, nodes[0], vector(h)[0]), exactly(nodes, 0.0, h, 0))


def test_windows_are_computed_side_by_side():
    nodes, end = randn(3, 2, 5).cumsum(0).neg(), 4 + randn(2, 5, seed=1).abs()
    for rule in (plain, exponential):
        whole = rule(nodes, nodes[0], end)
        assert close(whole[:, 1, 3], rule(nodes[:, 1, 3], nodes[0, 1, 3], end[1, 3]), 1e-14)
    assert close(lagrange(nodes, nodes), torch.eye(3, dtype=DOUBLE)[:, :, None, None].expand(3, 3, 2, 5), 1e-14)


def levels(log_ratio):
    """Variance-preserving levels with log(alpha / sigma) as given."""
    return Level(-log_ratio, torch.sigmoid(2 * log_ratio).sqrt(), torch.sigmoid(-2 * log_ratio).sqrt())


KNOWN, AHEAD = vector(0.31, 0.12, -0.2, -0.33), vector(0.7)[0]


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_unipc_solves_the_papers_system(p, variant):
    # R a B(h) = phi, with r_m = (l_m - l_t) / h and phi_n = h n! (phi function n + 1 of -h), in data prediction.
    def weights(known, start, end, simplified):
        h = mpmath.mpf(float(end - start))
        size = -h if variant == "bh1" else mpmath.expm1(-h)
        r = [mpmath.mpf(float(l - start)) / h for l in known[1:]]
        n = len(r)
        moments, value = [], mpmath.expm1(-h) / -h - 1
        for i in range(1, n + 1):
            moments.append(mpmath.factorial(i) * value)
            value = value / -h - 1 / mpmath.factorial(i + 1)
        if simplified:
            a = [mpmath.mpf(1) / 2]
        elif n:
            rows = mpmath.matrix([[x**i for x in r] for i in range(n)])
            a = [c / size for c in mpmath.lu_solve(rows, mpmath.matrix([m / 1 for m in moments]))]
        else:
            a = []
        others = [-size * c / x for c, x in zip(a, r, strict=True)]
        return [-mpmath.expm1(-h) - sum(others), *others]

    sampler, s = UniPC(p, variant), levels(AHEAD)
    for k in range(1, p + 1):
        found = sampler.predictor(levels(KNOWN[:k]), s)
        assert agrees(found.m / s.alpha, weights(KNOWN[:k], KNOWN[0], AHEAD, k == 2))
        assert close(found.x, s.sigma / levels(KNOWN[0]).sigma)
        ahead = torch.cat([AHEAD[None], KNOWN[:k]])
        found = sampler.corrector(levels(ahead))
        # The paper puts the new node last.
        expected = weights(torch.cat([KNOWN[:k], AHEAD[None]]), KNOWN[0], AHEAD, k == 1)
        assert agrees(found.m / s.alpha, [expected[-1], *expected[:-1]])


def test_unipc_of_two_values_is_dpm_solver_2m():
    a, b = UniPC(2, "bh2").predictor(levels(KNOWN[:2]), levels(AHEAD)), DPMSolverPP(2)
    assert close(a.m, b.predictor(levels(KNOWN[:2]), levels(AHEAD)).m, 1e-14)


def test_the_midpoint_rule_agrees_with_the_exact_one_to_second_order():
    off = []
    for h in (0.02, 0.01):
        nodes, s = levels(vector(0.3, 0.3 - h)), levels(vector(0.3 + h)[0])
        off.append(float((DPMSolverPP(2).predictor(nodes, s).m - DPMSolverPP(2, False).predictor(nodes, s).m)[0]))
    assert 3.9 < off[0] / off[1] < 4.1
    assert abs(off[0]) < 1e-4


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_3m_as_published_has_half_the_second_derivative(eta):
    # x0 a parabola of second derivative 2: the published sum misses half of int kernel u^2 = 2 h^2 (1/2 - phi_2 / a).
    s, rate = levels(AHEAD), 1 + eta
    h = AHEAD - KNOWN[0]
    parabola = (KNOWN[:3] - KNOWN[0]) ** 2
    whole = exponential(KNOWN[:3], KNOWN[0], AHEAD, rate)
    published = DPMSolverPPSDE(3, eta).predictor(levels(KNOWN[:3]), s).m / s.alpha
    assert close((whole * parabola).sum(), 2 * (published * parabola).sum(), 1e-13)
    line = KNOWN[:3] - KNOWN[0]
    assert close((whole * line).sum(), (published * line).sum(), 1e-13)
    assert float((whole * parabola).sum()) > 0.05 * float(h) ** 2


@pytest.mark.parametrize("tau", [0.0, 0.6, 1.0])
def test_sa_solver_without_corrector_is_the_sde_solver_of_exact_weights(tau):
    nodes, s = levels(KNOWN[:3]), levels(AHEAD)
    found, same = SASolver(tau, 3, 0).predictor(nodes, s), DPMSolverPPSDE(3, tau**2).predictor(nodes, s)
    assert close(found.x, same.x)
    assert close(found.m / s.alpha, exponential(KNOWN[:3], KNOWN[0], AHEAD, 1 + tau**2))
    if tau == 0:
        assert found.z is None
        assert same.z is None
    else:
        assert close(found.z, same.z)
        # Without data (x0 = 0) the variance of the noise is kept: x x^2 sigma_t^2 + z^2 = sigma_s^2.
        assert close((found.x * nodes.sigma[0]) ** 2 + found.z**2, s.sigma**2, 1e-14)


MULTISTEP = [
    *(DPMSolverPP(order, midpoint) for order in (1, 2, 3) for midpoint in (False, True)),
    *(UniPC(p, variant) for p in (1, 2, 3) for variant in ("bh1", "bh2")),
    *(DPMSolverPPSDE(nodes, eta) for nodes in (2, 3) for eta in (0.0, 0.7)),
    *(SASolver(tau, p, c) for tau in (0.0, 0.7) for p, c in ((1, 2), (3, 0), (3, 3), (4, 5))),
    *(LMS(order) for order in (1, 2, 3, 4)),
    *(DEIS(order, variable) for order in (1, 2, 3, 4) for variable in ("rho", "log_rho")),
    PLMS(),
    PNDM(),
]


@pytest.mark.parametrize("sampler", MULTISTEP, ids=str)
@pytest.mark.parametrize("name", ["linear_vp", "ve", "flow", "sub_vp"])
def test_a_point_of_data_is_followed_exactly(name, sampler):
    # Then x0 is constant, and so is eps without noise: x_s is alpha_s x0 + sigma_s eps whatever the steps; noise
    # takes the place of a part of eps, so that the variance sigma_s^2 is kept.
    schedule, data, eps = SCHEDULES[name], 0.7, 1.3
    times = vector(0.93, 0.8, 0.61, 0.5, 0.33, 0.21, 0.0)
    for k in range(1, sampler.memory + 1):
        for end in (times[k], times[-1]):
            t = times[:k].flip(0)
            nodes = Level(t, schedule.alpha(t), schedule.sigma(t))
            s = Level(end, schedule.alpha(end), schedule.sigma(end))
            weights = sampler.predictor(nodes, s)
            a, b = sampler.value(nodes)
            said = (weights.m * (a * data + b * eps)[: len(weights.m)]).sum()
            out = weights.x * (nodes.alpha[0] * data + nodes.sigma[0] * eps) + said
            drawn = 0 * s.sigma if weights.z is None else weights.z
            assert close(out, s.alpha * data + (s.sigma**2 - drawn**2).sqrt() * eps, 1e-12)


def test_names_of_old():
    def read(kind):
        return from_data(Sampler, {"kind": kind}, "sampler")

    for kind, expected in {
        "dpmpp": DPMSolverPP(2),
        "dpmpp_2m": DPMSolverPP(2),
        "dpm++_2m": DPMSolverPP(2),
        "k_dpmpp_2m": DPMSolverPP(2),
        "dpmpp_3m": DPMSolverPP(3),
        "dpmpp_2m_sde": DPMSolverPPSDE(2),
        "k_dpmpp_3m_sde": DPMSolverPPSDE(3),
        "unipc": UniPC(2),
        "uni_pc": UniPC(2),
        "unipc_3": UniPC(3),
        "uni_pc_bh1": UniPC(2, "bh1"),
        "deis": DEIS(3),
        "deis_rho": DEIS(3, "rho"),
        "lms": LMS(3),
        "k_lms": LMS(4, corrected=False),
        "plms": PLMS(),
        "pndm": PNDM(),
        "sa_solver": SASolver(),
    }.items():
        assert read(kind) == expected
    for sampler in MULTISTEP:
        again = from_data(Sampler, to_data(sampler), "sampler")
        assert again == sampler
        assert again.order == sampler.order


def test_orders_that_are_declared():
    assert [DPMSolverPP(k).order for k in (1, 2, 3)] == [1, 2, 3]
    assert [UniPC(p).order for p in (1, 2, 3)] == [2, 3, 4]
    assert [SASolver(0.0, p, c).order for p, c in ((1, 0), (2, 3), (3, 3), (4, 5))] == [1, 3, 3, 5]
    assert [SASolver(1.0, p, c).order for p, c in ((1, 0), (2, 3), (3, 3), (4, 5))] == [1, 2, 2, 2]
    assert [s.order for s in (PLMS(), PNDM(), DPMSolverPPSDE(3), DPMSolverPPSDE(3, 0.0))] == [2, 2, 2, 2]
    assert replace(UniPC(2), p=3).order == 4
    assert [s.deterministic for s in (SASolver(0.0), SASolver(), DPMSolverPPSDE(2, 0.0), DPMSolverPPSDE())] == [
        True, False, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DPMSolverPP(4), "orders 1, 2 and 3; given 4"),
        (lambda: DPMSolverPP(0), "given 0"),
        (lambda: DPMSolverPPSDE(1), "2 or 3 values; given nodes=1"),
        (lambda: DPMSolverPPSDE(4), "given nodes=4"),
        (lambda: DPMSolverPPSDE(2, -0.1), "eta of at least 0; given -0.1"),
        (lambda: DPMSolverPPSDE(2, math.nan), "given nan"),
        (lambda: UniPC(0), "p = 1, 2 and 3; given p=0"),
        (lambda: UniPC(4), "given p=4"),
        (lambda: UniPC(2, "bh3"), "'bh1' and 'bh2'; given 'bh3'"),
        (lambda: LMS(0), "orders 1 to 4; given 0"),
        (lambda: LMS(5), "given 5"),
        (lambda: DEIS(5), "orders 1 to 4; given 5"),
        (lambda: DEIS(0), "given 0"),
        (lambda: DEIS(3, "t"), "'rho' or 'log_rho'; given 't'"),
        (lambda: SASolver(-1.0), "tau of at least 0; given -1"),
        (lambda: SASolver(1.0, 5, 5), "given 5 and 5"),
        (lambda: SASolver(1.0, 0, 0), "given 0 and 0"),
        (lambda: SASolver(1.0, 2, 4), "given 2 and 4"),
        (lambda: SASolver(1.0, 2, 1), "given 2 and 1"),
    ],
)
def test_settings_that_make_no_sampler_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
