"""The loss of an autoencoder.

Letters in shapes: B batch, C channels of data, Z channels of latents, N numbers of an example, G examples of a whole
step, `...` the axes of space of one example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.losses.adversarial import Critic, critic_term, generator_term, untouched
from reverie.losses.base import Bring, Loss
from reverie.losses.perceptual import Perceptual
from reverie.schedules import Schedule
from reverie.tensors import Noise, count

STAGE = "perceptual"
"""The stage of a run that `Reconstruction` asks for, a classifier."""
Distance = Literal["l1", "l2"]


@dataclass(frozen=True)
class Reconstruction(Loss, kind="reconstruction"):
    r"""How far x' = decode(encode(x)) is from x, and what keeps latents and x' as they should be.

        mean |x' - x|  +  kl KL / N  +  perceptual_weight d(x', x)  +  adversarial (-D(x'))  +  hinge(D)
                       +  equivariance mean |decode(T z) - T x|

    - KL, in nats an example, is the divergence of the posterior of the latents from a standard normal (Kingma &
      Welling, 2014), and N the numbers of x. So the first two terms are `kl` times the negative lower bound on
      log p(x) in nats for each number of x, p(x | z) being a Laplace distribution of scale b = `kl` around x'
      (with l2: a normal of variance `kl` / 2), but for a constant: `kl` is the error that the decoder is excused,
      0.01 being 1.3 of 255 grey levels.
      Where encoder and decoder may scale latents, by c, KL is least if the mean of c^2 (mean^2 + variance) over them
      is 1, so that latents tend to unit size whatever `kl` is; a small one takes longer to get there, and
      leaves less noise in them. With the 1e-6 of Rombach et al. (2022) that is not felt: they divide latents by their
      standard deviation afterwards.
      A network whose latents are kept in bounds otherwise says so (`divergence`): its penalty counts as it is, that of
      a codebook by its own `commitment`.
    - d is the distance in the features of a classifier (`Perceptual`; Zhang et al., 2018).
    - D judges patches of x' and learns beside the autoencoder to tell them from those of x (`Critic`; Isola et al.,
      2017; Esser et al., 2021). One backward pass serves both: the autoencoder's term sees D's weights as constants,
      and D's own, the hinge loss, sees x' as one.
    - T is what decoding should commute with: half the examples are halved in size, and all are turned (`Moves`;
      Kouzelis et al., 2025), which makes latents smoother and easier for a denoiser.

    Without its memory it is the loss before anything is learned: no perceptual and no adversarial term.

    Args:
        distance: of the first term and of T's: l1, the mean of |x' - x|, or l2, that of its square.
        kl: weight of the divergence.
        perceptual: a run of kind classifier on the same data, whose features are compared, or `stage`, for that of the
            table `stages.perceptual`; empty for none.
        perceptual_weight: of their distance.
        adversarial: weight of the judgement of D; 0 for none.
        adversarial_after: steps before D is switched on: it would have an easy time at first.
        equivariance: weight of the last term; 0 for none.

    Raises:
        ValueError: another distance, or a negative weight or number of steps.
    """

    distance: Distance = "l1"
    kl: float = 0.01
    perceptual: str = ""
    perceptual_weight: float = 1.0
    adversarial: float = 0.0
    adversarial_after: int = 0
    equivariance: float = 0.0
    trains = "autoencoder"
    apart = True

    def __post_init__(self) -> None:
        if self.distance not in get_args(Distance):
            raise ValueError(f"distance must be {' or '.join(get_args(Distance))}; given {self.distance!r}")
        for name in ("kl", "perceptual_weight", "adversarial", "adversarial_after", "equivariance"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0; given {getattr(self, name)}")

    @property
    def positive(self) -> bool:  # type: ignore[override]
        """Whether nothing is judged: a judgement may be of either sign."""
        return not self.adversarial

    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        """U itself: there are no noise levels."""
        return u

    def memory(self, bring: Bring | None = None) -> Judges | None:
        """D, and the features that are compared; None where there is neither.

        Raises:
            ValueError: the examples have no use for them, or nothing is known of the run.
        """
        if not self.adversarial and not self.perceptual:
            return None
        if bring is None:
            raise ValueError("Reconstruction judges what a run makes: give memory(bring), the run's shape and stages")
        return Judges(
            Critic(bring.shape) if self.adversarial else None,
            self._features(bring) if self.perceptual else None,
        )

    def _features(self, bring: Bring) -> Perceptual:
        classifier = bring.stage(STAGE)
        known, shape = tuple(classifier.net.backbone.shape), tuple(bring.shape)
        if known != shape:
            raise ValueError(
                f"loss.perceptual={self.perceptual} is a classifier of examples of shape {known}, and these have "
                f"{shape}; train one with `reverie train DATA kind=classifier` on the same data"
            )
        return Perceptual(classifier)

    def __call__(
        self,
        f: Any,  # noqa: ANN401  # a `reverie.models.Autoencoder`
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        made = f.rebuilt(x0, noise)
        value = self._far(made.x, x0) + made.penalty * (self.kl / count(x0.shape[1:]) if f.net.divergence else 1.0)
        if self.equivariance:
            value = value + self.equivariance * self._uneven(f, x0, made.z, noise)
        if memory is None:
            return value
        assert isinstance(memory, Judges)
        if memory.perceptual is not None:
            value = value + self.perceptual_weight * memory.perceptual(made.x, x0)
        if memory.critic is None:
            return value
        if not memory.begun(self.adversarial_after):
            return value + untouched(memory.critic)
        judged = self.adversarial * generator_term(memory.critic, made.x)
        return value + judged + critic_term(memory.critic, x0, made.x)

    def observe(self, memory: nn.Module | None, u: Tensor, values: Tensor) -> None:
        """Count the step."""
        assert isinstance(memory, Judges)
        memory.step += 1

    def _far(self, a: Tensor, b: Tensor) -> Tensor:
        """(B,), the mean distance of the numbers of a and b (B, ...)."""
        error = (a - b).flatten(1)
        return (error.abs() if self.distance == "l1" else error.square()).mean(1)

    def _uneven(self, f: Any, x0: Tensor, z: Tensor, noise: Noise) -> Tensor:  # noqa: ANN401  # as for `__call__`
        """(B,), how far decode(T z) is from T x, T drawn for each example; those of one size are decoded at once."""
        moves = Moves.drawn(x0, z, noise)
        far = x0.new_zeros(len(x0))
        for halve in sorted(set(moves.halve)):
            rows = [i for i, own in enumerate(moves.halve) if own == halve]
            x, latents = (moves.made(a, rows, halve) for a in (x0, z))
            far = far.index_add(0, torch.tensor(rows, device=x0.device), self._far(f.decode(latents), x))
        return far


class Judges(nn.Module):
    """What `Reconstruction` judges x' by, and how many steps were taken."""

    step: Tensor

    def __init__(self, critic: Critic | None, perceptual: Perceptual | None) -> None:
        super().__init__()
        self.critic, self.perceptual = critic, perceptual
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self._begun = False

    def begun(self, after: int) -> bool:
        """Whether so many steps have been taken; once they have, the device is not waited for to ask again."""
        self._begun = self._begun or after == 0 or int(self.step) >= after
        return self._begun


POOL: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True)
class Moves:
    """What is done to each of B examples and to its latents alike (after Kouzelis et al., 2025).

    Images are turned by quarters, or by halves if they are not square; waves and videos are flipped along each of
    their axes by chance. Where a move halves, every axis whose sides are even is halved by means of neighbours.
    """

    turn: tuple[int, ...]
    """Of B: the number of quarters, or the axes to flip, one a bit."""
    halve: tuple[bool, ...]
    """Of B."""
    even: tuple[bool, ...]
    """For each axis of space, whether it may be halved."""

    @classmethod
    def drawn(cls, x: Tensor, z: Tensor, noise: Noise) -> Moves:
        """Moves for x (B, C, ...) and z (B, Z, ...), each example's by its own row of the noise.

        Raises:
            ValueError: the latents have not the axes of space that the examples have.
        """
        if x.ndim < 3 or z.ndim != x.ndim:
            raise ValueError(
                f"equivariance needs examples with axes of space and latents with the same; given examples of shape "
                f"{tuple(x.shape[1:])} and latents of {tuple(z.shape[1:])}: leave loss.equivariance at 0"
            )
        even = tuple(n % 2 == m % 2 == 0 for n, m in zip(x.shape[2:], z.shape[2:], strict=True))
        square = all(a.shape[2] == a.shape[3] for a in (x, z)) if x.ndim == 4 else False
        step, kinds = (1, 4) if square else (2, 2) if x.ndim == 4 else (1, 2 ** (x.ndim - 2))
        first, second = torch.special.ndtr(noise(torch.empty(len(x), 2))).T.tolist()  # uniform in [0, 1]
        turn = tuple(step * min(int(u * kinds), kinds - 1) for u in first)
        return cls(turn, tuple(any(even) and u < 0.5 for u in second), even)

    def made(self, a: Tensor, rows: list[int], halve: bool) -> Tensor:
        """The moves of some rows of `a`, (B, C, ...), that are all to be halved or all not."""
        turned = torch.stack([self._turned(a[i], self.turn[i]) for i in rows])
        return POOL[a.ndim - 2](turned, tuple(1 + even for even in self.even)) if halve else turned

    @staticmethod
    def _turned(a: Tensor, turn: int) -> Tensor:
        if a.ndim == 3:
            return a.rot90(turn, (1, 2))
        return a.flip([axis for axis in range(1, a.ndim) if turn >> (axis - 1) & 1])
