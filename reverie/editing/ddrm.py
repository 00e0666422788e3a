r"""Sampling in the spectrum of the operator.

In z = V^T x a measurement tells z_i + noise_i z' of each number by itself, ybar_i = (U^T y)_i / s_i, noise_i = sigma_y
/ s_i, infinite where s_i = 0. So ybar_i is what z_i would be on its way through the process, at the moment when sigma
/ alpha is noise_i.

Letters in shapes: B batch, n numbers of an example, ... the shape of one example.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.brownian import increment
from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.editing.measurement import Measurement
from reverie.editing.operators import Spectrum
from reverie.samplers import Sampler, State
from reverie.tensors import Noise


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a step of one batch has in the spectrum; all (B, n), (n,) or (B or (), 1)."""

    x0: Tensor
    eps: Tensor
    y: Tensor
    """ybar, 0 where nothing is measured."""
    noise: Tensor
    """noise_i, infinite there."""
    z: Tensor
    before: Tensor
    """sigma / alpha at t."""
    alpha: Tensor
    """At s, as is sigma."""
    sigma: Tensor

    @property
    def after(self) -> Tensor:
        """sigma / alpha at s."""
        return self.sigma / self.alpha

    @property
    def eps_y(self) -> Tensor:
        """(ybar - x0) / noise_i, what the noise of the measurement would be; eps where there is none."""
        some = (self.noise > 0) & self.noise.isfinite()
        return torch.where(some, (self.y - self.x0) / self.noise.where(some, 1.0), self.eps)


@dataclass(frozen=True, eq=False)
class Spectral(Sampler):
    """A sampler that takes each number of the spectrum its own way; its state is the spectrum."""

    measurement: Measurement

    @abc.abstractmethod
    def moved(self, seen: _Seen) -> Tensor:
        """V^T x_s, (B, n)."""

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        spectrum: Spectrum = self.measurement.operator.spectrum(x) if state is None else state
        q, b, inverse = f(x, t, cond), f.schedule.at(s, like=x), spectrum.inverse()
        before = q.level.sigma / q.level.alpha
        alpha, sigma, before = (c.to(x).reshape(-1, 1) for c in (b.alpha, b.sigma, before))
        noisy = torch.where(spectrum.values > 0, self.measurement.noise * inverse, torch.inf)
        seen = _Seen(
            x0=spectrum.of(q.x0), eps=spectrum.of(q.eps), y=inverse * spectrum.measured(self.measurement.rows(x)),
            noise=noisy, z=spectrum.of(increment(noise, x, t, s)), before=before, alpha=alpha, sigma=sigma,
        )  # fmt: skip
        return spectrum.back(self.moved(seen)), spectrum


@dataclass(frozen=True, eq=False)
class DDRM(Spectral):
    r"""Kawar et al. (2022), eq. 7 and 8, for any schedule; each x_s below over alpha_s, with rho = sigma_s / alpha_s.

        nothing measured   x0 + sqrt(1 - eta^2) rho eps + eta rho z
        rho < noise_i      x0 + sqrt(1 - eta^2) rho (ybar - x0) / noise_i + eta rho z
        rho >= noise_i     (1 - eta_b) x0 + eta_b ybar + sqrt(rho^2 - eta_b^2 noise_i^2) z

    Made for 20 or so steps. eta is the share of noise that is new at each step, however short: with more steps the
    first line loses spread unless eta = 0, and the second goes to ybar. The limit of many steps is the posterior for
    a measurement without noise, of data whose numbers in the spectrum are independent, with eta = 0 and eta_b = 1. With
    noise see `MeasuredPath`. One evaluation a step, without a gradient.

    Raises:
        ValueError: eta or eta_b outside [0, 1].
    """

    eta: float = 0.85
    eta_b: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.eta <= 1 and 0 <= self.eta_b <= 1):
            raise ValueError(f"DDRM needs eta and eta_b in [0, 1]; given {self.eta} and {self.eta_b}")

    def moved(self, seen: _Seen) -> Tensor:
        rho, kept = seen.after, (1 - self.eta**2) ** 0.5
        below = seen.x0 + rho * (kept * seen.eps_y + self.eta * seen.z)
        used = seen.noise.where(seen.noise <= rho, 0.0)
        rest = (rho**2 - (self.eta_b * used) ** 2).clamp_min(0).sqrt()
        above = torch.lerp(seen.x0, seen.y, self.eta_b) + rest * seen.z
        return seen.alpha * torch.where(seen.noise <= rho, above, below)


@dataclass(frozen=True, eq=False)
class MeasuredPath(Spectral):
    r"""The path of each number goes through its measurement; on from there it is that of `DDIM(eta)`.

        rho >= noise_i     ybar + sqrt(rho^2 - noise_i^2) z
        else               x0 + rho (sqrt(1 - tau) e + sqrt(tau) z),  tau = eta^2 (1 - (rho / rho')^2)

    with e = eps and rho' = sigma_t / alpha_t, but in the step across noise_i, which begins at ybar: e = (ybar - x0) /
    noise_i and rho' = noise_i. As in `DDRM` the measurement is taken for a state of the process; unlike there, noise
    is made new at a rate in time, so that the limit of many steps exists. For eta = 1 it is the posterior of data whose
    numbers in the spectrum are independent, with and without noise. One evaluation a step, without a gradient.

    Raises:
        ValueError: eta outside [0, 1].
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"MeasuredPath needs eta in [0, 1]; given {self.eta}")

    def moved(self, seen: _Seen) -> Tensor:
        rho = seen.after
        measured = seen.noise <= rho
        crossing = (seen.noise < seen.before) & ~measured
        began = torch.minimum(seen.noise, seen.before)
        tau = self.eta**2 * (1 - (rho / began.where(began > 0, 1.0)) ** 2).clamp_min(0)
        e = torch.where(crossing, seen.eps_y, seen.eps)
        below = seen.x0 + rho * ((1 - tau).sqrt() * e + tau.sqrt() * seen.z)
        rest = (rho**2 - seen.noise.where(measured, 0.0) ** 2).sqrt()
        return seen.alpha * torch.where(measured, seen.y + rest * seen.z, below)
