"""A `KLNet` with the weights of a diffusers `AutoencoderKL` computes what that computes."""

import pytest
import torch
from helpers import DOUBLE, randn

from reverie.interop.diffusers_autoencoder import converted

diffusers = pytest.importorskip("diffusers")


def levels(*widths, **given):
    n = len(widths)
    return {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * n,
        "up_block_types": ("UpDecoderBlock2D",) * n,
        "norm_num_groups": 8,
        **given,
    }


THREE = levels(16, 32, 32)
CASES = {
    "three levels": THREE,
    "four levels, two blocks": levels(8, 16, 24, 24, layers_per_block=2),
    "one level": levels(16),
    "32 groups": levels(32, 64, norm_num_groups=32),
    "no attention": {**THREE, "mid_block_add_attention": False},
    "16 latent channels, no convolutions of kernel 1": {
        **THREE, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False,
        "scaling_factor": 0.3611, "shift_factor": 0.1159, "force_upcast": True,
    },
    "one channel, one convolution of kernel 1": {
        **THREE, "in_channels": 1, "out_channels": 1, "use_post_quant_conv": False,
    },
}  # fmt: skip


def peer(settings, dtype):
    """Theirs, randomly initialised, the norms included."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = diffusers.AutoencoderKL(**settings).to(dtype).eval()
        with torch.no_grad():
            for name, p in net.named_parameters():
                p.add_(0.2 * torch.randn_like(p) if "norm" in name else 0)
    return net


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_posteriors_and_images_are_theirs(case, dtype):
    theirs = peer(CASES[case], dtype)
    found = converted(theirs.config, theirs.state_dict())
    x = randn(2, found.channels, 16, 24, seed=1).to(dtype)
    net = found.build(tuple(x.shape[1:])).eval()
    with torch.no_grad():
        expected = theirs.encode(x).latent_dist
        mean, log_variance = net.posterior(x)
        z = randn(*mean.shape, seed=2).to(dtype)
        images, decoded = theirs.decode(z).sample, net.decode(z)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-11}
    assert mean.shape[1:] == found.config.latent(tuple(x.shape[1:]))
    assert min(expected.mean.std(), expected.logvar.std(), images.std()) > 0.01
    torch.testing.assert_close(mean, expected.mean, **tolerance)
    torch.testing.assert_close(log_variance, expected.logvar, **tolerance)
    torch.testing.assert_close(decoded, images, **tolerance)


def test_their_divergence_is_our_penalty():
    theirs, x = peer(THREE, DOUBLE), randn(2, 3, 8, 8)
    net = converted(theirs.config, theirs.state_dict()).build((3, 8, 8))
    torch.testing.assert_close(net.rebuilt(x).penalty, theirs.encode(x).latent_dist.kl(), rtol=1e-10, atol=1e-10)


def test_weights_under_their_old_names_are_read():
    """Those of attention, which were convolutions in the oldest files."""
    theirs = peer(THREE, torch.float32)
    state = theirs.state_dict()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name):
        return next((name.replace(new, was) for new, was in old.items() if f".{new}." in name), name)

    def aged(name, value):
        return value[:, :, None, None] if name.endswith(tuple(f"{new}.weight" for new in old)) else value

    a = converted(theirs.config, state).state
    b = converted(theirs.config, {renamed(name): aged(name, v) for name, v in state.items()}).state
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**THREE, "act_fn": "gelu"}, "act_fn 'gelu'"),
        ({**THREE, "down_block_types": ("AttnDownEncoderBlock2D",) * 3}, "a AttnDownEncoderBlock2D"),
        ({**THREE, "up_block_types": ("UpDecoderBlock2D",) * 2}, "another number of up_block_types"),
        ({**THREE, "out_channels": 6}, "other channels out than in"),
        (levels(16, 24), "not multiples"),
        ({**THREE, "norm_num_groups": 5}, "5 groups, which do not divide 16"),
        ({**THREE, "patch_size": (2, 2)}, "no setting patch_size"),
        ({**THREE, "_class_name": "VQModel"}, "given that of a VQModel"),
    ],
)
def test_what_no_network_of_ours_has_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        converted(settings, {})


def test_missing_and_left_over_weights_are_named():
    state = peer(THREE, torch.float32).state_dict()
    with pytest.raises(ValueError, match=r"without a place: extra\.weight"):
        converted(THREE, {**state, "extra.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"without a place: post_quant_conv"):
        converted({**THREE, "use_post_quant_conv": False}, state)
    del state["decoder.conv_out.bias"]
    with pytest.raises(ValueError, match=r"decoder\.conv_out\.bias of an AutoencoderKL is missing"):
        converted(THREE, state)


def test_other_images_than_its_own_are_refused():
    theirs = peer(THREE, torch.float32)
    with pytest.raises(ValueError, match=r"for images of \(3, H, W\), given \(1, 16, 16\)"):
        converted(theirs.config, theirs.state_dict()).build((1, 16, 16))
