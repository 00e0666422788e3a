"""To say what a teacher says, guidance within, whatever the outputs of the two networks stand for."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.losses.denoising import Denoising
from reverie.losses.teaching import ByDenoising
from reverie.losses.times import UniformTimes
from reverie.losses.weights import TruncatedSNR
from reverie.prediction import Prediction
from reverie.tensors import Noise


@dataclass(frozen=True)
class Imitation(ByDenoising, kind="imitation"):
    r"""A denoising loss whose truth is what the teacher says of the same x_t: E w(level) (guess - teacher)^2.

    Meng et al. (2023), section 3.1: the first of their two stages, in which one evaluation learns what guidance did
    with two. The student is an ordinary model, sampled by any sampler, and its network may put out something else than
    the teacher's: noise or velocity have to be copied from x_t where that is all noise, and v says x0 there.

    Args:
        loss: how the two are compared, and at which times.

    Raises:
        ValueError: as `Taught`.
    """

    loss: Denoising = field(default_factory=lambda: Denoising("x0", UniformTimes(), TruncatedSNR()))
    anew = True

    def __call__(
        self,
        f: Denoises,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        t = self.times_at(u, f.schedule)
        truth = Prediction.of(x0, self.loss.paired(x0, noise(x0), cond), f.schedule.at(t, like=x0))
        said, told = self.leading(f, truth, t, cond, noise)
        return self.loss.compare(said, f(truth.x, t, told), f.schedule)
