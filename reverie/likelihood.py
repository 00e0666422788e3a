r"""The exact log-likelihood, by the probability-flow ODE.

Along dx/dt = alpha' x0 + sigma' eps the density of x changes by the divergence alone (Song et al., 2021,
section 4.3). Here the ODE is followed in

    theta = atan(sigma / (alpha sd))                        0 is the data, pi/2 noise
    y     = x / sqrt(alpha^2 sd^2 + sigma^2)                = cos(theta) x0 / sd + sin(theta) eps
    dy/dtheta = v = cos(theta) eps - sin(theta) x0 / sd

    log p(x0) = log N(y(pi/2); 0, 1) + int_0^{pi/2} div v dtheta - D log sd

which is the same for every schedule, keeps y of the same size all along, and where the data are normal
with mean 0 and standard deviation sd, at rest.

Letters in shapes: B batch, D numbers of one example, K probes, N steps, ... one example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.schedules import Schedule
from reverie.spaces import Space
from reverie.tensors import Noise, count, host, right

EXACT_UP_TO = 256
"""Numbers of an example up to which the trace is exact unless said otherwise."""
PROBES = 16
"""Random probes above that."""
SPHERE_UP_TO = 16
"""Numbers of an example up to which probes are uniform on the sphere, not signs."""
ROWS = 1024
"""How many rows of tangents go through the denoiser at a time, about."""
ORDER = 3
"""Of the Adams-Bashforth steps. Higher ones lose in stability more than they gain: see the tests."""
STIFF = 0.1
"""How fast a path may settle, per step, before its steps become exponential ones."""
WINDOW = 9
"""How many neighbours tell a derivative or an integral along the path."""


@dataclass(frozen=True)
class LogLikelihood:
    """The log-likelihood of B examples."""

    value: Tensor
    """(B,) float64, log p(x0) in nats, a density in the model's space; `bits_per_dim` turns it into the data's."""
    error: Tensor
    """(B,) float64, the standard error of `value` that random probes leave; 0 where the trace is exact."""
    evaluations: int
    """How many points (x, t) the denoiser was asked about, for each example."""


def log_likelihood(
    f: Denoises,
    x0: Tensor,
    cond: Cond | None = None,
    *,
    steps: int = 128,
    probes: int | None = None,
    noise: Noise = torch.randn_like,
    sd: float = 1.0,
    low: float = 0.002,
) -> LogLikelihood:
    r"""log p(x0) under the flow ODE of a denoiser, (B,) in nats, for x0 (B, ...).

    The path takes N steps from sigma / alpha = `low` to 80 sd, or to what the schedule reaches if that
    is less, and is closed at both ends by what v is at the very end: 0 at theta = 0, where it is odd,
    and -mean / sd at pi/2, with the mean of the data as the denoiser tells it: what is left of x0 at
    t = 1 is accounted for, not taken for noise. That takes N + 4 evaluations, N + 1 of them with the
    trace of the Jacobian, and memory for 3 N copies of x0 in float64.

    The trace is exact, at D derivatives an evaluation, or estimated from K of them along random probes z,
    each kept all along a path (Hutchinson, 1990; Grathwohl et al., 2019): signs, or where D is 16 or
    less, uniform on the sphere |z|^2 = D. With A the integral of the Jacobian along the path, q = z^T A z
    has mean tr A, and all of A z tells its variance, better than the scatter of K numbers q could:

        2 E |A z - a z|^2,   a the diagonal of A for signs, q / D on the sphere (and where K = 1)

    `error` is the root of this over K, times half of Student's 97.7 % point with K degrees of freedom (7
    for K = 1, 2.3 for 2, 1.1 for 16). Then value +- 2 `error` holds the truth with probability 0.95 if one
    direction has all the variance, which is the worst of common cases, and with more otherwise.

    Args:
        f: the denoiser, on any schedule. Derivatives are by `torch.func.jvp`.
        x0: (B, ...), data as the model sees them; data on a grid need `dequantised`.
        cond: what the denoiser is told.
        steps: N. The error falls at least as N^-3, and as N^-6 where the denoiser is consistent.
        probes: K; 0 for the exact trace, which costs less than D probes. Unless given, exact up to D = 256,
            16 probes above.
        noise: where probes are drawn from.
        sd: the standard deviation of the data, about; it sets the scale of the path, and where that ends:
            beyond, what is left of the data counts as normal. Give it where that is far from 1.
        low: the lowest sigma / alpha that the denoiser is asked about, well below the finest detail
            of the data: what lies below is taken to be smooth.

    Raises:
        ValueError: x0 is not a batch of floating-point numbers, steps < 1, probes < 0, sd or low is
            not positive, or the schedule does not reach `low`.
    """
    z = _probes(x0, probes, noise)
    return _along(_Path.of(f.schedule, steps, sd, low), f, x0, cond, z)


@dataclass(frozen=True)
class SolverRow:
    """What a number of steps gives, in nats per dimension."""

    steps: int
    evaluations: int
    value: float
    """The mean log-likelihood."""
    change: float
    """The mean distance from the values of the finest row."""


def solver_table(
    f: Denoises,
    x0: Tensor,
    cond: Cond | None = None,
    steps: Sequence[int] = (16, 32, 64, 128),
    *,
    probes: int | None = None,
    noise: Noise = torch.randn_like,
    sd: float = 1.0,
    low: float = 0.002,
) -> list[SolverRow]:
    """How the log-likelihood settles as steps are added: a row each, the finest last, the same probes in all.

    Arguments and errors are those of `log_likelihood`.

    Raises:
        ValueError: no numbers of steps.
    """
    if not steps:
        raise ValueError("a solver table needs at least one number of steps; given none")
    z, d = _probes(x0, probes, noise), count(x0.shape[1:])
    found = {n: _along(_Path.of(f.schedule, n, sd, low), f, x0, cond, z) for n in sorted(steps)}
    finest = found[max(found)].value
    return [
        SolverRow(n, r.evaluations, float(r.value.mean()) / d, float((r.value - finest).abs().mean()) / d)
        for n, r in found.items()
    ]


# ------------------------------------------------------------------------------------ integration


def _along(path: _Path, f: Denoises, x0: Tensor, cond: Cond | None, z: Tensor | None) -> LogLikelihood:
    r"""The log-likelihood by Adams-Bashforth steps, what they get wrong mended in the integral.

    log p obeys the continuity equation, so that along any path y(tau), a solution or not,

        log p(y) at its start = log p(y) at its end + int div v dtheta + score . (v dtheta - dy)

    with score = -eps / sin(theta). The last term is 0 on a solution; with it, the error of the steps
    counts squared. All of the integrand is smooth in tau, so a rule of high order does it justice.
    """
    fields = [_Field(f, cond, t, path.sd, x0.dtype) for t in path.times.unbind()]
    first, last = fields[0], fields[-1]
    below, beyond = first.theta / 2, (math.pi / 2 - last.theta) / 2
    nodes: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.no_grad():
        y = x0.to(torch.float64) / path.sd
        y = y + below * first(y)
        jacobian = torch.zeros((), dtype=y.dtype, device=y.device)
        for field, rate, weight in zip(fields, path.rates, path.weights, strict=True):
            v, eps, products = field.derivatives(y, z)
            nodes.append((y, rate * v, -eps / field.sin))
            ends = below * (field is first) + beyond * (field is last)
            jacobian = jacobian + (weight * rate + ends) * products
            if field is first:  # Heun's step; Euler's alone would lower the order of all
                ahead = path.rates[1] * fields[1](y + path.h * rate * v)
                y = y + path.h / 2 * (rate * v + ahead)
            elif field is not last:
                y = _step(nodes, path.h)
        mean = -last(torch.zeros_like(y)) / last.sin
        y = y - last.cos * mean + beyond * (v + last.sin * mean)
    normal = -0.5 * (y**2 + math.log(2 * math.pi)).flatten(1).sum(1)
    trace, error = _trace(jacobian, z)
    value = normal + trace + _mended(path, nodes) - count(x0.shape[1:]) * math.log(path.sd)
    return LogLikelihood(value, error, path.steps + 4)


def _step(nodes: list[tuple[Tensor, Tensor, Tensor]], h: float) -> Tensor:
    r"""y (B, ...) at the next node, from nodes (y, v, score), at least two.

    Adams-Bashforth, but not for examples whose path is stiff, as between two narrow modes: with Dy and
    Dv the last changes, lambda = Dv . Dy / |Dy|^2 and l = h lambda < -`STIFF`, the exponential method
    of order 2 that is exact for v linear in y (Cox & Matthews, 2002, ETD2),

        y + h (phi_1(l) v + phi_2(l) (Dv - lambda Dy)),    phi_1 = (e^l - 1) / l,  phi_2 = (phi_1 - 1) / l
    """
    recent = nodes[-ORDER:]
    (before, v_before, _), (y, v, _) = nodes[-2:]
    adams = sum(w * node[1] for w, node in zip(_adams(len(recent)), recent, strict=True))
    dy, dv = y - before, v - v_before
    rate = (dv * dy).flatten(1).sum(1) / dy.square().flatten(1).sum(1).clamp_min(1e-300)
    l = (h * rate).clamp_max(-STIFF)
    phi_1 = torch.expm1(l) / l
    phi_2 = (phi_1 - 1) / l
    exponential = right(phi_1, y) * v + right(phi_2, y) * (dv - right(rate, y) * dy)
    return y + h * torch.where(right(h * rate < -STIFF, y).bool(), exponential, adams)


def _mended(path: _Path, nodes: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """(B,), the integral of score . (v - dy/dtau) over nodes (y, v, score)."""
    total = torch.zeros(len(nodes[0][0]), dtype=torch.float64, device=nodes[0][0].device)
    for i, (weight, (_, v, score)) in enumerate(zip(path.weights, nodes, strict=True)):
        around = _window(i, len(nodes))
        slope = _rule([j - i for j in around], [float(p == 1) for p in range(len(around))])
        dy = sum(w * nodes[j][0] for w, j in zip(slope, around, strict=True)) / path.h
        total = total + weight * (score * (v - dy)).flatten(1).sum(1)
    return total


@dataclass(frozen=True)
class _Path:
    """N + 1 nodes from near the data to near the noise, evenly spaced in tau.

    With r = sigma / alpha, tau = log((r + a) / (1 + r / b)) runs evenly in r below a = 0.02 sd, in log r
    above it, and in theta above b = 20 sd.
    """

    times: Tensor
    """(N + 1,), of the schedule."""
    rates: list[float]
    """dtheta / dtau at the nodes."""
    weights: list[float]
    """Of the nodes in an integral over tau, exact for polynomials of degree `WINDOW` - 1."""
    h: float
    """Between nodes, in tau."""
    sd: float

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    @classmethod
    def of(cls, schedule: Schedule, steps: int, sd: float, low: float) -> _Path:
        if steps < 1:
            raise ValueError(f"a likelihood needs at least 1 step; given steps={steps}")
        if not (sd > 0 and low > 0):
            raise ValueError(f"a likelihood needs sd > 0 and low > 0; given sd={sd}, low={low}")
        top = min(float((-schedule.log_snr(host(1.0)) / 2).exp()), 80 * sd)
        if not low < top:
            raise ValueError(f"a likelihood needs low < {top:.4g}, where its path ends here; given low={low}")
        a, b = 0.02 * sd, 20 * sd
        start, end = (math.log((r + a) / (1 + r / b)) for r in (low, top))
        w = torch.linspace(start, end, steps + 1, dtype=torch.float64).exp()
        r = (w - a) / (1 - w / b)
        rates = (r + a) * (r + b) / (b - a) * sd / (sd**2 + r**2)
        h = (end - start) / steps
        weights = [0.0] * (steps + 1)
        for i in range(steps):
            around = _window(i, steps + 1)
            part = _rule([j - i for j in around], [1 / (p + 1) for p in range(len(around))])
            for j, weight in zip(around, part, strict=True):
                weights[j] += h * weight
        return cls(schedule.time(-2 * r.log()), rates.tolist(), weights, h, sd)


def _window(i: int, n: int) -> range:
    """The `WINDOW` of n nodes that are nearest to node i, or all n."""
    size = min(WINDOW, n)
    start = min(max(i - size // 2, 0), n - size)
    return range(start, start + size)


def _rule(nodes: Sequence[int], moments: Sequence[float]) -> list[float]:
    """Weights w with sum_j w_j nodes_j^p = moments_p: exact for all polynomials of that many terms."""
    powers = torch.tensor(nodes, dtype=torch.float64) ** torch.arange(len(nodes))[:, None]
    rule: list[float] = torch.linalg.solve(powers, torch.tensor(moments, dtype=torch.float64)).tolist()
    return rule


def _adams(order: int) -> list[float]:
    """Adams-Bashforth weights of the last `order` slopes, the oldest first."""
    return _rule(range(1 - order, 1), [1 / (p + 1) for p in range(order)])


# ---------------------------------------------------------------------------------------- the field


class _Field:
    """v at one time, as a function of y (B, ...)."""

    def __init__(self, f: Denoises, cond: Cond | None, t: Tensor, sd: float, dtype: torch.dtype) -> None:
        self.f, self.cond, self.t, self.sd, self.dtype = f, cond, t, sd, dtype
        alpha, sigma = float(f.schedule.alpha(t)), float(f.schedule.sigma(t))
        self.size, self.theta = math.hypot(alpha * sd, sigma), math.atan2(sigma, alpha * sd)
        self.cos, self.sin = alpha * sd / self.size, sigma / self.size

    def _of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q = self.f(x, self.t, self.cond)
        return self.cos * q.eps - (self.sin / self.sd) * q.x0, q.eps

    def _x(self, y: Tensor) -> Tensor:
        return (self.size * y).to(self.dtype)

    def __call__(self, y: Tensor) -> Tensor:
        return self._of(self._x(y))[0].to(y)

    def derivatives(self, y: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """v, eps and J z for J = dv / dy and tangents z (K, B, ...); without them, the diagonal of J (1, B, ...)."""
        x, found = self._x(y), []

        def along(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            (v, eps), (jacobian, _), *_ = torch.func.jvp(self._of, (x,), (u,))
            return v, eps, jacobian

        push = torch.func.vmap(along, out_dims=(None, None, 0))  # type: ignore[arg-type]
        at_once = max(1, ROWS // len(x))
        if z is not None:
            for part in z.split(at_once):
                v, eps, jacobian = push(part)
                found.append(jacobian)
            products = torch.cat(found)
        else:
            axes = torch.eye(count(x.shape[1:]), dtype=x.dtype, device=x.device)
            for part in axes.reshape(-1, 1, *x.shape[1:]).split(at_once):
                v, eps, jacobian = push(part.expand(-1, *x.shape))
                found.append((part * jacobian).sum(0, keepdim=True))
            products = torch.stack(found).sum(0)
        return v.to(y), eps.to(y), self.size * products.to(y)


# ---------------------------------------------------------------------------------------- the trace


def _probes(x0: Tensor, probes: int | None, noise: Noise) -> Tensor | None:
    """K probes (K, B, ...), of mean 0, covariance 1 and |z|^2 = D; None where the trace is exact."""
    if not x0.is_floating_point() or x0.ndim < 2 or not x0.numel():
        raise ValueError(
            f"a likelihood needs x0 as a batch (B, ...) of floating-point numbers, as a space encodes it; "
            f"given shape {tuple(x0.shape)} of {x0.dtype}"
        )
    d = count(x0.shape[1:])
    k = (0 if d <= EXACT_UP_TO else PROBES) if probes is None else probes
    if k < 0:
        raise ValueError(f"a likelihood needs at least 1 probe, or 0 for the exact trace; given probes={k}")
    if not k:
        return None
    z = torch.stack([noise(x0) for _ in range(k)])
    if d > SPHERE_UP_TO:
        return torch.where(z < 0, -torch.ones_like(z), torch.ones_like(z))
    flat = z.flatten(2)
    return (flat * (math.sqrt(d) / flat.norm(dim=2, keepdim=True))).reshape(z.shape)


def _trace(products: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor]:
    """tr A (B,) and its standard error, from A z (K, B, ...), or from the diagonal of A (1, B, ...)."""
    if z is None:
        trace = products.flatten(2).sum(2)[0]
        return trace, torch.zeros_like(trace)
    from scipy.special import stdtrit

    z, products = z.to(products).flatten(2), products.flatten(2)
    k, _, d = z.shape
    shares = z * products
    signs = d > SPHERE_UP_TO and k > 1
    diagonal = shares.mean(0) if signs else shares.mean(2, keepdim=True)
    spread = (products - diagonal * z).square().sum((0, 2)) / (k - 1 if signs else k)
    student = float(stdtrit(k, torch.special.ndtr(host(2.0)).item())) / 2
    return shares.sum(2).mean(0), student * (2 * spread / k).sqrt()


# ------------------------------------------------------------------------------- densities of data


def dequantised(space: Space, data: Tensor, noise: Noise = torch.randn_like) -> Tensor:
    """x0 (B, ...) of data + quantum u, u uniform on [-1/2, 1/2]: data on a grid have no density.

    The mean log density of the dequantised is a lower bound on the log mass of the grid's points
    (Theis et al., 2016). Data that are not on a grid stay as they are.

    Args:
        space: of the model; it knows the quantum.
        data: (B, ...).
        noise: where u is drawn from, through the normal distribution function.
    """
    if not space.quantum:
        return space.encode(data)
    data = data.to(torch.float32)
    return space.encode(data + space.quantum * (torch.special.ndtr(noise(data)) - 0.5))


def bits_per_dim(nats: Tensor, shape: Sequence[int], space: Space) -> Tensor:
    """-log2 of the density of data per number of an example, (B,), from log p(x0) (B,) in nats.

    -(nats + log |det dx0/d data|) / (D log 2). For dequantised data, bits a number (Theis et al., 2016).

    Args:
        nats: (B,).
        shape: of one example.
        space: of the model.
    """
    return -(nats + space.log_volume(shape)) / (count(shape) * math.log(2))
