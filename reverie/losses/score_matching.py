"""Score matching without knowing the noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.losses.base import Loss
from reverie.losses.denoising import Denoising
from reverie.losses.times import LogitNormalTimes, Times, UniformTimes
from reverie.losses.weights import MinSNR, SigmaSquared, Weight
from reverie.parameterizations import Parameterization, rates_at
from reverie.schedules import Schedule
from reverie.tensors import Noise


@dataclass(frozen=True)
class SlicedScoreMatching(Loss, kind="sliced_score_matching"):
    r"""w(level) (v^T grad(s) v + |s|^2 / 2) / D, for x_t and one random direction v an example.

    Song et al. (2020), eq. 8 with the variance-reduced second term, at each noise level (Song &
    Ermon, 2019, section 4.2). s is the score, D the numbers of an example. In the mean over v and
    x_t it is half the error of the score up to a constant, so it falls below 0. The derivative is the
    backward one: torch's forward one cannot be differentiated again through a layer norm, and says
    nothing of it. A step costs two to three and a half times one of `Denoising`.

    Args:
        times: the distribution of t.
        weight: of the squared error in score.
    """

    times: Times = field(default_factory=UniformTimes)
    weight: Weight = field(default_factory=SigmaSquared)
    positive = False

    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        return self.times(u, schedule)

    def __call__(
        self,
        f: Denoises,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        t = self.times(u, f.schedule)
        level = f.schedule.at(t, like=x0)
        x, v = level.alpha * x0 + level.sigma * noise(x0), noise(x0)
        learning = torch.is_grad_enabled()
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the fused kernels have one derivative, not two
            x = x.detach().requires_grad_()
            q = f(x, t, cond)
            (along,) = torch.autograd.grad(q.eps, x, v, create_graph=learning)
        score, along = q.score, -along / level.sigma  # divided after, not before: half precision has no room for it
        score = score if learning else score.detach()
        weight = self.weight(level, "score", rates_at(f.schedule, level, x0))
        return (weight * (v * along + 0.5 * score**2)).flatten(1).mean(1)

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """As `Denoising.check`, in score.

        Raises:
            ValueError: with what would fit.
        """
        if parameterization.outputs > 1:
            raise ValueError(
                f"{type(parameterization).__name__} puts out a variance, which score matching does not train; use "
                f"loss.kind=hybrid or loss.kind=bound, or a parameterization without it"
            )
        known: dict[str, Weight] = {"sigma_squared": SigmaSquared(), "min_snr": MinSNR()}
        remedies = {
            f"loss.weight.kind={kind}": Denoising("score", self.times, weight) for kind, weight in known.items()
        }
        remedies["loss.times.kind=logit_normal"] = Denoising("score", LogitNormalTimes(), self.weight)
        Denoising("score", self.times, self.weight).check_balance(schedule, parameterization, remedies)
