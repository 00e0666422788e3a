r"""Denoisers that are exact: E[x0 | x_t] in closed form, for data whose law is known.

They stand in for a trained network wherever the answer must be known: tests, benchmarks, figures.

Letters in shapes: B batch, K components or examples of a finite data set, ... one example.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.prediction import Prediction
from reverie.schedules import Level, Schedule
from reverie.tensors import host


class GaussianMixture:
    r"""Data from sum_k w_k N(mean_k, diag(std_k^2)).

    With x_t = alpha x0 + sigma eps, component k of x_t is N(alpha mean_k, V_k), V_k = alpha^2
    std_k^2 + sigma^2, and r_k its responsibility for x_t:

        x0  = sum_k r_k (mean_k + alpha std_k^2 / V_k (x - alpha mean_k))
        eps = sum_k r_k sigma / V_k (x - alpha mean_k)

    Args:
        schedule: the process.
        means: (K, ...).
        stds: a number, (K,) or (K, ...); 0 makes a component a point.
        weights: (K,), positive, scaled to sum to 1; equal unless given.
        labels: (K,) the class of each component; `Cond.label` then restricts the mixture to a
            class, unless dropped.

    Raises:
        ValueError: shapes that do not fit, negative stds or weights.
    """

    def __init__(
        self,
        schedule: Schedule,
        means: Tensor,
        stds: Tensor | float,
        weights: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> None:
        k = means.shape[0]
        std = torch.as_tensor(stds, dtype=means.dtype)
        if std.ndim == 1:
            std = std.reshape((k,) + (1,) * (means.ndim - 1))
        w = torch.ones(k, dtype=means.dtype) if weights is None else weights.to(means.dtype)
        if w.shape != (k,) or not bool((w > 0).all()) or not bool((std >= 0).all()):
            raise ValueError(f"{k} means need {k} positive weights and stds of at least 0; given {w} and {std}")
        self.schedule, self.means = schedule, means
        self.stds = std.expand(means.shape)
        self.weights = w / w.sum()
        self.labels = labels

    def _level(self, level: Level) -> tuple[Tensor, Tensor]:
        """alpha and sigma with a component axis after the batch: (B or 1, 1, ... or 1)."""
        alpha, sigma = level.alpha.to(self.means), level.sigma.to(self.means)
        return (alpha, sigma) if alpha.ndim == 0 else (alpha.unsqueeze(1), sigma.unsqueeze(1))

    def _log_joint(self, x: Tensor, level: Level, cond: Cond | None) -> tuple[Tensor, Tensor, Tensor]:
        """log w_k N(x; ...) (B, K), the residuals x - alpha mean_k and the variances V_k (B, K, ...)."""
        alpha, sigma = self._level(level)
        residual = x.to(self.means).unsqueeze(1) - alpha * self.means
        variance = (alpha * self.stds) ** 2 + sigma**2
        log_density = -0.5 * (residual**2 / variance + variance.log() + math.log(2 * math.pi))
        log_weight = self.weights.log().expand(len(x), -1)
        if self.labels is not None and cond is not None and cond.label is not None:
            other = self.labels != cond.label[:, None]
            hidden = cond.hidden("label")
            if hidden is not None:
                other = other & ~hidden[:, None]
            log_weight = log_weight.masked_fill(other, -math.inf).log_softmax(1)  # those of the class sum to 1
        return log_density.expand_as(residual).flatten(2).sum(2) + log_weight, residual, variance

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        level = self.schedule.at(t, like=x)
        log_joint, residual, variance = self._log_joint(x, level, cond)
        alpha, sigma = self._level(level)
        share = log_joint.softmax(1).reshape(log_joint.shape + (1,) * (x.ndim - 1))
        x0 = (share * (self.means + alpha * self.stds**2 / variance * residual)).sum(1)
        eps = (share * (sigma / variance) * residual).sum(1)
        return Prediction(x, level, x0.to(x), eps.to(x))

    def log_density(self, x: Tensor, t: Tensor | float = 0.0, cond: Cond | None = None) -> Tensor:
        """log p_t(x), or log p_t(x | label) where `cond` gives one, (B,), in nats; t = 0 for the data."""
        return self._log_joint(x, self.schedule.at(host(t), like=x), cond)[0].logsumexp(1)

    def classifier(self) -> MixtureClassifier:
        """The exact classifier of noisy examples.

        Raises:
            ValueError: the components have no classes, or not all of 0, 1, ..., K - 1.
        """
        return MixtureClassifier(self)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n draws of the data, (n, ...)."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn((n, *self.means.shape[1:]), dtype=self.means.dtype, generator=generator)
        return self.means[k] + self.stds[k] * z


class MixtureClassifier:
    """log p(class | x_t) of a labelled mixture, what a classifier of noisy examples is trained towards.

    The logits (B, K) are log sum_k w_k N(x; ...) over the components of each class, less their logarithmic
    sum; they are differentiable in x.

    Raises:
        ValueError: the components have no classes, or not all of 0, 1, ..., K - 1.
    """

    def __init__(self, data: GaussianMixture) -> None:
        labels = data.labels
        if labels is None or not torch.equal(labels.unique(), torch.arange(int(labels.max()) + 1)):
            raise ValueError(f"a classifier needs components of all classes from 0 on; given labels {labels}")
        self.data, self.schedule = data, data.schedule
        self.other = labels != torch.arange(int(labels.max()) + 1)[:, None]  # (K classes, components)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Logits (B, K), which are logarithms of probabilities, for x (B, ...) at t, (B,) or ()."""
        joint = self.data._log_joint(x, self.schedule.at(t, like=x), None)[0]
        return joint[:, None].masked_fill(self.other, -math.inf).logsumexp(2).log_softmax(1).to(x)


class Gaussian(GaussianMixture):
    """Data from N(mean, diag(std^2)): also the flow ODE has a closed-form solution.

    Args:
        schedule: the process.
        mean: (...), one example.
        std: a number, or like `mean`.
    """

    def __init__(self, schedule: Schedule, mean: Tensor, std: Tensor | float) -> None:
        super().__init__(schedule, mean[None], torch.as_tensor(std, dtype=mean.dtype).expand(mean.shape)[None])

    def solution(self, x: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        """Where the flow ODE takes x from t to s: the quantile of x is kept.

        x_s = alpha_s mean + sqrt(V_s / V_t) (x - alpha_t mean), with V as in `GaussianMixture`.
        """
        a, b = self.schedule.at(host(t), like=x), self.schedule.at(host(s), like=x)
        mean, var = self.means[0], self.stds[0] ** 2
        ratio = ((b.alpha**2 * var + b.sigma**2) / (a.alpha**2 * var + a.sigma**2)).sqrt()
        return b.alpha * mean + ratio * (x - a.alpha * mean)


class FiniteData(GaussianMixture):
    """Data that are one of K examples, each as likely: what a network that memorises converges to.

    x0 is the mean of the examples weighted by softmax(-|x - alpha x_k|^2 / (2 sigma^2)).

    Args:
        schedule: the process.
        data: (K, ...), best in float64.
        labels: (K,), the examples' classes.
    """

    def __init__(self, schedule: Schedule, data: Tensor, labels: Tensor | None = None) -> None:
        super().__init__(schedule, data, 0.0, labels=labels)
