"""A `UNet` with the weights of a diffusers `UNet2DModel` computes what that computes."""

import math

import pytest
import torch
from helpers import DOUBLE, randn

from reverie.conditioning import Cond
from reverie.interop.diffusers_unet import converted

diffusers = pytest.importorskip("diffusers")

DDPM = {
    "sample_size": 8,
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 16,
}
ADM = {
    **DDPM,
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "resnet_time_scale_shift": "scale_shift",
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "attn_norm_num_groups": 16,
    "attention_head_dim": 16,
    "num_class_embeds": 5,
    "out_channels": 6,
}
NCSNPP = {
    "sample_size": 8,
    "block_out_channels": (32, 64, 96),
    "down_block_types": ("SkipDownBlock2D",) * 3,
    "up_block_types": ("SkipUpBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": None,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
    "mid_block_scale_factor": math.sqrt(2),
    "time_embedding_type": "fourier",
}
CASES = {
    "ddpm": DDPM,
    "ddpm, as published": {**DDPM, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1,
                           "norm_eps": 1e-6, "attention_head_dim": None, "layers_per_block": 2},
    "ddpm, not square": {**DDPM, "sample_size": (8, 12), "block_out_channels": (32, 64, 128)},
    "ddpm, two in": {**DDPM, "in_channels": 6},
    "adm": ADM,
    "adm, one level": {**ADM, "block_out_channels": (32,), "down_block_types": ("AttnDownBlock2D",),
                       "up_block_types": ("AttnUpBlock2D",), "downsample_type": "conv"},
    "ncsn++": NCSNPP,
    "ncsn++, attention": {**NCSNPP, "block_out_channels": (128, 128), "attention_head_dim": 64,
                          "down_block_types": ("AttnSkipDownBlock2D", "SkipDownBlock2D"),
                          "up_block_types": ("SkipUpBlock2D", "AttnSkipUpBlock2D")},
}  # fmt: skip


class Waves(torch.nn.Module):
    """What embeds the time in diffusers, which computes it in float32 whatever the network's dtype, in float64."""

    def __init__(self, width, cosines_first, shift):
        super().__init__()
        half = width // 2
        self.frequencies = 10_000.0 ** (-torch.arange(half, dtype=DOUBLE) / (half - shift))
        self.order = (torch.cos, torch.sin) if cosines_first else (torch.sin, torch.cos)

    def forward(self, t):
        return torch.cat([f(t.double()[:, None] * self.frequencies) for f in self.order], 1)


def peer(settings, dtype):
    """Theirs, randomly initialised, the norms and what they start at 0 included."""
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(**settings).to(dtype).eval()
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.add_(0.1 * torch.randn_like(p) if "norm" in name else 0)
    return net


def outputs(settings, net, theirs, dtype):
    """Of both, for the same examples, times and labels."""
    size = settings["sample_size"]
    sides = (size, size) if isinstance(size, int) else size
    x = randn(2, settings.get("in_channels", 3), *sides, seed=1).to(dtype)
    label = torch.tensor([1, 4]) if "num_class_embeds" in settings else None
    fourier = settings.get("time_embedding_type") == "fourier"
    t = torch.tensor([0.3, 7.0], dtype=dtype) if fourier else torch.tensor([3.0, 871.0], dtype=dtype)
    with torch.no_grad():
        expected = theirs(x, t, class_labels=label).sample
        out = net(x, t.log(), Cond()) / t[:, None, None, None] if fourier else net(x, t, Cond(label=label))
    return out, expected


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_theirs_in_float64(case):
    settings = CASES[case]
    theirs = peer(settings, DOUBLE)
    net = converted(theirs.config, theirs.state_dict()).build().eval()
    if settings.get("time_embedding_type") != "fourier":
        width, flip = settings["block_out_channels"][0], settings.get("flip_sin_to_cos", True)
        theirs.time_proj = Waves(width, flip, settings.get("freq_shift", 0))
    out, expected = outputs(settings, net, theirs, DOUBLE)
    assert expected.std() > 0.01
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("case", ["ddpm, as published", "adm", "ncsn++"])
def test_outputs_are_theirs_in_float32(case):
    theirs = peer(CASES[case], torch.float32)
    out, expected = outputs(
        CASES[case], converted(theirs.config, theirs.state_dict()).build().eval(), theirs, torch.float32
    )
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_weights_under_their_old_names_are_read():
    theirs = peer(DDPM, torch.float32)
    state = theirs.state_dict()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name):
        return next((name.replace(new, was) for new, was in old.items() if f".{new}." in name), name)

    a = converted(theirs.config, state).state
    b = converted(theirs.config, {renamed(name): v for name, v in state.items()}).state
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**DDPM, "act_fn": "gelu"}, "act_fn 'gelu'"),
        ({**DDPM, "time_embedding_type": "learned"}, "learned table"),
        ({**DDPM, "class_embed_type": "timestep"}, "class_embed_type 'timestep'"),
        ({**DDPM, "down_block_types": ("DownBlock2D",) * 3}, "other levels"),
        ({**DDPM, "down_block_types": ("KDownBlock2D",) * 3}, "a KDownBlock2D"),
        ({**DDPM, "downsample_type": "resnet"}, "several ways of resampling"),
        ({**DDPM, "block_out_channels": (32, 48, 64)}, "not multiples"),
        ({**DDPM, "center_input_sample": True}, "center_input_sample"),
        ({**DDPM, "add_attention": False}, "no attention in it"),
        ({**DDPM, "sample_size": None}, "no sample_size"),
        ({**DDPM, "encoder_hid_dim": 3}, "no setting encoder_hid_dim"),
        ({**DDPM, "_class_name": "UNet2DConditionModel"}, "given that of a UNet2DConditionModel"),
        ({**ADM, "attn_norm_num_groups": None}, "another norm, or none"),
        ({**NCSNPP, "mid_block_scale_factor": 1}, "mid_block_scale_factor 1"),
        ({**NCSNPP, "time_embedding_type": "positional"}, "Fourier features"),
        ({**NCSNPP, "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D", "SkipDownBlock2D"),
          "up_block_types": ("SkipUpBlock2D", "AttnSkipUpBlock2D", "SkipUpBlock2D")}, "at least 128"),
    ],
)  # fmt: skip
def test_what_no_unet_has_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        converted(settings, {})


def test_missing_and_left_over_weights_are_named():
    state = peer(DDPM, torch.float32).state_dict()
    with pytest.raises(ValueError, match=r"no place for: extra\.weight"):
        converted(DDPM, {**state, "extra.weight": torch.zeros(1)})
    del state["conv_out.bias"]
    with pytest.raises(ValueError, match=r"conv_out\.bias of a UNet2DModel is missing"):
        converted(DDPM, state)
