"""The autoencoder with a codebook: the vector at each place is replaced by the nearest of K codes.

Letters in shapes: B batch, C channels of data, Z channels of latents, `...` one to three axes of space or time,
K codes, L vectors, of all places of all examples.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from reverie.autoencoders.base import Rebuilt
from reverie.autoencoders.convolutional import ConvolutionalConfig, ConvolutionalNet
from reverie.autoencoders.shared import wide
from reverie.nets.base import at_least_one
from reverie.tensors import Noise, generator

AT_ONCE = 2**22
"""Distances that are held at once when codes are looked up."""
SMOOTHING = 1e-5
"""Added to the count of each code (Razavi et al., 2019)."""
INITIAL = 0.01
"""Standard deviation of codes before any have been seen."""


@dataclass(frozen=True)
class VQConfig(ConvolutionalConfig, kind="vq"):
    """Settings of a `VQNet`."""

    codes: int = 512
    """K, codes in the codebook."""
    decay: float = 0.99
    """What a step keeps of the averages that codes are made of."""
    commitment: float = 0.25
    """Weight of the squared distance between the encoder's vectors and their codes."""
    restart: float = 0.1
    """A code that is used less than so many times as often as the mean of all begins again; 0: none does."""

    def __post_init__(self) -> None:
        """Refuse settings that no network has."""
        super().__post_init__()
        at_least_one(self.kind, "autoencoder", codes=self.codes)
        for name in ("decay", "restart"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} of autoencoder 'vq' must be at least 0 and below 1, given {getattr(self, name)}"
                )
        if not self.commitment >= 0:
            raise ValueError(f"commitment of autoencoder 'vq' must be at least 0, given {self.commitment}")

    def build(self, shape: tuple[int, ...]) -> VQNet:
        return VQNet(self, shape)


class VQNet(ConvolutionalNet):
    """z = the nearest code e_k of each vector of the encoder (van den Oord et al., 2017; Esser et al., 2021).

    The gradient goes past that choice, as if z were the encoder's vector. The penalty is the commitment, weight times
    mean (encoder - sg(z))^2. The codebook is no parameter: with n_k vectors of a step nearest to e_k and s_k their sum,

        N_k <- decay N_k + (1 - decay) n_k
        m_k <- decay m_k + (1 - decay) s_k
        e_k <- m_k / N'_k,  N'_k = N (N_k + eps) / (N + K eps),  N = sum_k N_k

    (van den Oord et al., 2017, appendix A.1; the smoothing of Razavi et al., 2019). A code with an N_k below `restart`
    times the mean then takes the place of a vector of this step (Dhariwal et al., 2020), with the mean count. Counts
    begin at 0, so the codes that the first step leaves unused are vectors of the first step.

    In training mode `rebuilt` notes the vectors, and `constrain` learns from all that were noted since its last call,
    those of all processes where there are several.
    """

    divergence = False

    config: VQConfig
    codebook: Tensor
    """(K, Z)."""
    counts: Tensor
    """(K,), N_k."""
    sums: Tensor
    """(K, Z), m_k."""

    def __init__(self, config: VQConfig, shape: tuple[int, ...]) -> None:
        """`shape` is (C, ...) of an example."""
        super().__init__(config, shape, config.channels)
        self.register_buffer("codebook", INITIAL * torch.randn(config.codes, config.channels))
        self.register_buffer("counts", torch.zeros(config.codes))
        self.register_buffer("sums", torch.zeros(config.codes, config.channels))
        # No buffers, which a parallel wrapper would copy from the first process to the others in the midst of a step.
        self.noted: list[tuple[Tensor, Tensor]] = []

    def encode(self, x: Tensor) -> Tensor:
        return self.encoded(x)

    def decode(self, z: Tensor) -> Tensor:
        """(B, C, ...) of the codes nearest to latents; the gradient goes past the choice of codes."""
        vectors = rows(z)
        return self.decoded(_straight(z, self._codes(nearest(vectors, self.codebook), z)))

    def rebuilt(self, x: Tensor, noise: Noise = torch.randn_like) -> Rebuilt:
        """The pass of training; `noise` is not drawn."""
        z = self.encoded(x)
        vectors = rows(z)
        index = nearest(vectors, self.codebook)
        if self.training:
            self.noted.append((vectors, index))
        codes = self._codes(index, z)
        penalty = self.config.commitment * (z - codes).square().flatten(1).mean(1)
        straight = _straight(z, codes)
        return Rebuilt(self.decoded(straight), straight, penalty)

    @torch.no_grad()
    def told(self, x: Tensor) -> dict[str, float]:
        index = nearest(rows(self.encoded(x)), self.codebook)
        share = torch.bincount(index, minlength=self.config.codes) / len(index)
        return {"codes": float((share > 0).sum()), "perplexity": float(torch.special.entr(share).sum().exp())}

    @torch.no_grad()
    def constrain(self) -> None:
        """Move the codes after what was noted, restart those that are not used, and forget what was noted."""
        if not self.noted:
            return
        vectors, index = (torch.cat(each) for each in zip(*self.noted, strict=True))
        self.noted = []
        vectors = vectors.to(self.sums.dtype)
        counts = torch.zeros_like(self.counts).index_add_(0, index, torch.ones_like(vectors[:, 0]))
        sums = torch.zeros_like(self.sums).index_add_(0, index, vectors)
        fresh = _offered(vectors, self.config.codes)
        if distributed.is_available() and distributed.is_initialized():
            for summed in (counts, sums):
                distributed.all_reduce(summed)
            distributed.broadcast(fresh, 0)
        sound, learned = sums.isfinite().all(), (self.counts, self.sums, self.codebook)
        before = [each.clone() for each in learned]
        self.counts.lerp_(counts, 1 - self.config.decay)
        self.sums.lerp_(sums, 1 - self.config.decay)
        total = self.counts.sum()
        smoothed = total * (self.counts + SMOOTHING) / (total + self.config.codes * SMOOTHING)
        seen = self.counts[:, None] > 0
        self.codebook.copy_(torch.where(seen, self.sums / smoothed[:, None], self.codebook))
        self._restart(fresh, total / self.config.codes)
        for each, old in zip(learned, before, strict=True):  # a step that is not finite teaches nothing; nothing waits
            each.copy_(torch.where(sound, each, old))

    def _restart(self, fresh: Tensor, mean: Tensor) -> None:
        """Put the i-th of `fresh` (K, Z) in place of the i-th unused code, with the `mean` count; nothing waits."""
        unused = self.counts < self.config.restart * mean
        fresh = fresh[unused.cumsum(0) - 1]  # where no code is unused, some that nobody reads
        self.codebook.copy_(torch.where(unused[:, None], fresh, self.codebook))
        self.counts.copy_(torch.where(unused, mean, self.counts))
        self.sums.copy_(torch.where(unused[:, None], mean * fresh, self.sums))

    def _codes(self, index: Tensor, z: Tensor) -> Tensor:
        """The codes of (L,) at the places of z, (B, Z, ...)."""
        made = self.codebook[index].to(z.dtype)
        return made.reshape(len(z), *z.shape[2:], -1).movedim(-1, 1)


def rows(z: Tensor) -> Tensor:
    """The vectors of latents, without a gradient, (B, Z, ...) -> (L, Z)."""
    return z.detach().movedim(1, -1).flatten(0, -2)


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """(L,), the code nearest to each of (L, Z), of (K, Z): argmin_k |e_k|^2 - 2 v e_k; in float32 at least."""
    device = vectors.device.type
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        codebook = wide(codebook).to(torch.promote_types(vectors.dtype, torch.float32))
        sizes, at_once = codebook.square().sum(1), max(1, AT_ONCE // len(codebook))
        parts = vectors.to(codebook.dtype).split(at_once)
        return torch.cat([torch.addmm(sizes, part, codebook.T, alpha=-2).argmin(1) for part in parts])


def _straight(z: Tensor, codes: Tensor) -> Tensor:
    """The codes, with the gradient of z; their values exactly, for z - z is 0."""
    return codes + (z - z.detach())


def _offered(vectors: Tensor, codes: int) -> Tensor:
    """(K, Z), of (L, Z), in an order that mixes examples and places, again from the first where L is below K.

    The order depends on L alone, so that a step repeats itself.
    """
    mixed = torch.randperm(len(vectors), generator=generator(len(vectors))).to(vectors.device)
    return vectors[mixed[torch.arange(codes, device=vectors.device) % len(vectors)]]
