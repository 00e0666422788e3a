"""What the tests of guidance share: exact denoisers that hear in part, in every notation, or of two conditions."""

import math

import torch
from helpers import DOUBLE, labelled, randn

from reverie.conditioning import Cond
from reverie.denoiser import Wrapper
from reverie.exact import Gaussian, GaussianMixture
from reverie.prediction import Prediction
from reverie.schedules import LinearVP

TIMES = torch.tensor([0.05, 0.3, 0.6, 0.9], dtype=DOUBLE)
LABEL = torch.tensor([0, 1, 1, 0])
COND = Cond(label=LABEL)
X = randn(4, 2, seed=1)
DROP = torch.tensor([True, False, False, True])


class Deaf(Wrapper):
    """A denoiser that is told nothing: the unconditional model."""

    def __call__(self, x, t, cond=None):
        return self.denoiser(x, t)


class Encoded(Wrapper):
    """A denoiser whose prediction went through the output of a network of another parameterization."""

    def __init__(self, denoiser, parameterization):
        super().__init__(denoiser)
        self.parameterization = parameterization

    def __call__(self, x, t, cond=None):
        q = self.denoiser(x, t, cond)
        level, more = q.level, self.parameterization.outputs - 1

        def decoded(out):
            out = torch.cat([out] + [0.3 + 0 * out] * more, dim=1)
            return self.parameterization.decode(out, x, level, self.schedule)

        # x0 is linear in what the network puts out
        zero, one = (decoded(torch.full_like(x, v)).x0 for v in (0.0, 1.0))
        return decoded((q.x0 - zero) / (one - zero))


class Saying:
    """A labelled mixture that tells its prediction in one notation, and keeps the sizes of its calls."""

    def __init__(self, notation, data=None):
        self.data, self.notation, self.calls = data or labelled(LinearVP()), notation, []
        self.schedule = self.data.schedule

    def __call__(self, x, t, cond=None):
        self.calls.append(len(x))
        q = self.data(x, t, cond)
        if self.notation is None:
            return q
        return getattr(Prediction, f"from_{self.notation}")(getattr(q, self.notation), x, q.level)


class WithVariance(Wrapper):
    """A denoiser with a learned variance: 0 where all is dropped, 1 where all that is told counts, else between."""

    def __call__(self, x, t, cond=None):
        q = self.denoiser(x, t, cond)
        parts = cond.parts()
        hidden = [cond.hidden(p) for p in parts]
        told = sum(torch.ones(len(x)) if h is None else (~h).double() for h in hidden) / len(parts)
        return q.with_var(told.to(x)[:, None].expand_as(x))


class Two:
    """A mixture with two classes for each component: `Cond.label`, and the first number of `Cond.vector`."""

    def __init__(self, means, labels, numbers, std=0.5, schedule=None):
        self.schedule = schedule or LinearVP()
        self.means, self.labels, self.numbers, self.std = means, labels, numbers, std

    def _of(self, label, number):
        keep = torch.ones(len(self.means), dtype=torch.bool)
        keep &= True if label is None else self.labels == label
        keep &= True if number is None else self.numbers == number
        return GaussianMixture(self.schedule, self.means[keep], self.std)

    def __call__(self, x, t, cond=None):
        rows = []
        for i in range(len(x)):
            one = None if cond is None else cond[i : i + 1]

            def told(part, value, one=one):
                hidden = None if one is None else one.hidden(part)
                return None if one is None or value is None or (hidden is not None and bool(hidden)) else float(value)

            label = told("label", None if one is None else one.label)
            number = told("vector", None if one is None or one.vector is None else one.vector[0, 0])
            rows.append(self._of(label, number)(x[i : i + 1], t[i : i + 1] if t.ndim and len(t) == len(x) else t).x0)
        return Prediction.from_x0(torch.cat(rows), x, self.schedule.at(t, like=x))


class LinearClassifier:
    """Of data from a Gaussian, log p(0 | x0) = b . x0 - 60 nearly: so unlikely that its slope is b to rounding.

    Then p(0 | x_t) is the mean of exp(b . x0 - 60) over p(x0 | x_t), and the tilted law is Gaussian at every level.
    """

    def __init__(self, data: Gaussian, slope):
        self.data, self.slope, self.schedule = data, slope, data.schedule

    def __call__(self, x, t):
        likely = self.data(x, t).x0 @ self.slope
        return torch.stack([likely, torch.full_like(likely, 60.0)], 1)

    def tilted(self, scale):
        """The law p(x0) p(0 | x0)^scale."""
        mean, std = self.data.means[0], self.data.stds[0]
        return Gaussian(self.schedule, mean + scale * self.slope * std**2, std)


class Seeing:
    """The image side of a pair: a smooth function of x on the process of a schedule."""

    def __init__(self, schedule):
        self.schedule = schedule
        self.weight = randn(2, 3, seed=8)

    def image(self, x, t):
        level = self.schedule.at(t, like=x)
        size = (level.alpha**2 + level.sigma**2).sqrt()
        return torch.tanh(x / size) @ self.weight.to(x) + torch.atan2(level.sigma, level.alpha) / math.pi


TEXT = randn(1, 3, seed=9)
