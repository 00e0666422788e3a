"""The networks that are compared: ours and the peers', at about the same parameters and floating-point operations.

Letters in shapes: B batch, C channels, H height, W width of an image.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.training.stub import without_torchvision

SHAPE = (3, 32, 32)
FAMILIES = ("dit", "unet")
SIZES = ("small", "large")
"""`small` for CPUs, `large` for GPUs, which would be waiting for their host on the small ones."""

Call = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Network:
    """A network of some library, and how it is asked: `call(net, x, t)` with x (B, C, H, W) and t (B,) in [0, 1]."""

    library: str
    family: str
    build: Callable[[str], nn.Module]
    """Given a size."""
    call: Call
    variant: str = ""
    """A word for it, where a library has several of a family."""
    like: str = "reverie"
    """Which of ours it is compared with, for what it has and has not."""

    @property
    def name(self) -> str:
        """Library, variant and family."""
        return "-".join(word for word in (self.library, self.variant, self.family) if word)


@dataclass(frozen=True)
class Plan:
    """Dimensions shared by all networks of a size."""

    channels: tuple[int, ...]
    """Of the levels of a U-Net."""
    width: int
    """Of a transformer."""
    depth: int
    patch: int
    head: int = 64
    """Channels of an attention head of a transformer."""

    @property
    def heads(self) -> int:
        """Attention heads of a transformer."""
        return self.width // self.head

    @property
    def multipliers(self) -> tuple[int, ...]:
        """Of a U-Net's levels, in units of the first."""
        return tuple(c // self.channels[0] for c in self.channels)


PLANS = {"small": Plan((64, 128, 128), 256, 6, 4), "large": Plan((128, 256, 256), 768, 12, 2)}


def plain_path() -> AbstractContextManager[None]:
    """Inside, our networks compute by the plain definitions of `reverie.nets.kernels`."""
    from reverie.nets import kernels

    return kernels.plain()


# ------------------------------------------------------------------------------------------ ours


def _asked(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    return net(x, 1000 * t)


def _our_unet(size: str, attention: int = 16, heads: int = 0) -> nn.Module:
    from reverie.nets.unet import UNetConfig

    plan = PLANS[size]
    return UNetConfig(plan.channels[0], plan.multipliers, blocks=2, attention=attention, heads=heads).build(SHAPE)


def _our_convolutional_unet(size: str) -> nn.Module:
    """Without attention, but for the one in the middle."""
    return _our_unet(size, attention=0)


def _our_one_headed_unet(size: str) -> nn.Module:
    """With one head in every attention."""
    return _our_unet(size, heads=1)


def _our_dit(size: str) -> nn.Module:
    from reverie.nets.dit import DiTConfig

    plan = PLANS[size]
    return DiTConfig(patch=plan.patch, width=plan.width, depth=plan.depth, heads=plan.heads).build(SHAPE)


# --------------------------------------------------------------------------------------- diffusers


def _diffusers_unet(size: str) -> nn.Module:
    from diffusers import UNet2DModel

    channels = PLANS[size].channels
    deeper = len(channels) - 1  # attention at half the resolution and below, as ours has
    return UNet2DModel(
        sample_size=SHAPE[-1],
        in_channels=SHAPE[0],
        out_channels=SHAPE[0],
        block_out_channels=channels,
        down_block_types=("DownBlock2D", *("AttnDownBlock2D",) * deeper),
        up_block_types=(*("AttnUpBlock2D",) * deeper, "UpBlock2D"),
        layers_per_block=2,
        attention_head_dim=64,
    )


def _diffusers_unet_asked(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    return net(x, 1000 * t, return_dict=False)[0]


def _diffusers_dit(size: str) -> nn.Module:
    from diffusers import DiTTransformer2DModel

    plan = PLANS[size]
    return DiTTransformer2DModel(
        num_attention_heads=plan.heads,
        attention_head_dim=plan.head,
        in_channels=SHAPE[0],
        out_channels=SHAPE[0],
        num_layers=plan.depth,
        sample_size=SHAPE[-1],
        patch_size=plan.patch,
        num_embeds_ada_norm=10,  # it insists on classes, and each block has a table of them
    )


def _diffusers_dit_asked(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    label = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    return net(x, 1000 * t, label, return_dict=False)[0]


# ---------------------------------------------------------------------------------- the other peers


def _ddp_unet(size: str) -> nn.Module:
    with without_torchvision():
        from denoising_diffusion_pytorch import Unet

    plan = PLANS[size]
    return Unet(dim=plan.channels[0], dim_mults=plan.multipliers, channels=SHAPE[0], flash_attn=True)


def _small_unet(size: str) -> nn.Module:
    with without_torchvision():
        from smalldiffusion import Unet

    plan = PLANS[size]
    return Unet(SHAPE[-1], SHAPE[0], SHAPE[0], ch=plan.channels[0], ch_mult=plan.multipliers, dropout=0.0)


def _small_dit(size: str) -> nn.Module:
    with without_torchvision():
        from smalldiffusion import DiT

    plan = PLANS[size]
    return DiT(SHAPE[-1], SHAPE[0], plan.patch, plan.depth, plan.head, plan.heads)


def _small_asked(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    return net(x, (0.01 + t).reshape(-1, 1, 1, 1))  # a sigma, of which it takes the logarithm


class AzulaUNet(nn.Module):
    """azula's U-Net, told the time by sines and cosines; its blocks have an embedding each."""

    def __init__(self, size: str) -> None:
        """Of the channels of the plan, three blocks a level."""
        super().__init__()
        from azula.nn.layers import SineEncoding
        from azula.nn.unet import UNet

        channels = PLANS[size].channels
        features = 4 * channels[0]
        self.time = SineEncoding(features)
        self.net = UNet(
            SHAPE[0], SHAPE[0], hid_channels=channels, hid_blocks=(3,) * len(channels), mod_features=features
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """`x` is (B, C, H, W), `t` (B,)."""
        return self.net(x, self.time(t))


class AzulaDiT(nn.Module):
    """azula's DiT on patches, told the time by sines and cosines and each patch's row and column."""

    positions: Tensor

    def __init__(self, size: str) -> None:
        """Of the plan's dimensions."""
        super().__init__()
        from azula.nn.dit import DiT
        from azula.nn.layers import Patchify, SineEncoding, Unpatchify

        plan = PLANS[size]
        side, inside = SHAPE[-1] // plan.patch, SHAPE[0] * plan.patch**2
        self.side = side
        self.split, self.join = (f((plan.patch, plan.patch), channel_last=True) for f in (Patchify, Unpatchify))
        self.time = SineEncoding(plan.width)
        self.register_buffer("positions", torch.cartesian_prod(*(torch.arange(float(side)),) * 2))
        self.net = DiT(
            inside,
            inside,
            mod_features=plan.width,
            pos_channels=2,
            hid_channels=plan.width,
            hid_blocks=plan.depth,
            attention_heads=plan.heads,
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """`x` is (B, C, H, W), `t` (B,)."""
        h = self.split(x).flatten(1, 2)
        out = self.net(h, self.time(t), self.positions)
        return self.join(out.unflatten(1, (self.side, self.side)))


NETWORKS = {
    n.name: n
    for n in (
        Network("reverie", "dit", _our_dit, _asked),
        Network("diffusers", "dit", _diffusers_dit, _diffusers_dit_asked),
        Network("azula", "dit", AzulaDiT, lambda net, x, t: net(x, t)),
        Network("smalldiffusion", "dit", _small_dit, _small_asked),
        Network("reverie", "unet", _our_unet, _asked),
        Network("reverie", "unet", _our_convolutional_unet, _asked, variant="convolutional"),
        Network("reverie", "unet", _our_one_headed_unet, _asked, variant="one-head"),
        Network("diffusers", "unet", _diffusers_unet, _diffusers_unet_asked),
        Network("denoising-diffusion-pytorch", "unet", _ddp_unet, _asked),
        Network("azula", "unet", AzulaUNet, lambda net, x, t: net(x, t), like="reverie-convolutional"),
        Network("smalldiffusion", "unet", _small_unet, _small_asked, like="reverie-one-head"),
    )
}


def gflop(network: Network, size: str, batch: int) -> float:
    """Floating-point operations of one forward and backward pass of a batch, in thousands of millions.

    Counted by torch at a batch of two, by the plain definitions: it knows matrix products, convolutions
    and nothing of ours. A multiplication and an addition are two operations.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    net, counter = network.build(size), FlopCounterMode(display=False)
    with plain_path(), sdpa_kernel(SDPBackend.MATH), counter:
        network.call(net, torch.randn(2, *SHAPE), torch.rand(2)).square().mean().backward()
    return counter.get_total_flops() / 2 * batch / 1e9


def parameters(net: nn.Module) -> int:
    """Numbers that are learned."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
