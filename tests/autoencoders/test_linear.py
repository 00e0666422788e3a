"""The linear autoencoder, of which everything is known."""

import pytest
import torch
from helpers import DOUBLE, close, randn

from reverie.autoencoders import AutoencoderConfig, LinearConfig
from reverie.autoencoders.linear import fitted
from reverie.config import from_data, to_data


def made(shape, channels):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LinearConfig(channels).build(shape).double()


def correlated(n=60, seed=0):
    """(n, 2, 5) with a mean and ten different variances along no axis."""
    mixing = randn(10, 10, seed=seed + 1) * torch.linspace(0.2, 2, 10, dtype=DOUBLE)
    return (randn(n, 10, seed=seed) @ mixing.T + randn(10, seed=seed + 2)).unflatten(1, (2, 5))


def squared(net, x):
    return (net.rebuilt(x).x - x).square().flatten(1).sum(1).mean()


def test_principal_components_leave_the_smaller_eigenvalues():
    x, net = correlated(), made((2, 5), 4)
    net.load_state_dict(fitted(x, 4))
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.flatten(1).T, correction=0))
    assert close(squared(net, x), eigenvalues[:6].sum())
    assert close(net.weight.T @ net.weight, torch.eye(4, dtype=DOUBLE))
    assert close(net.encode(x).mean(0), torch.zeros(4, dtype=DOUBLE))


def test_no_other_weights_do_better():
    """The gradient vanishes there, and steps away from it lose."""
    x, net = correlated(), made((2, 5), 3)
    net.load_state_dict(fitted(x, 3))
    best = squared(net, x)
    best.backward()
    assert max(float(p.grad.abs().max()) for p in net.parameters()) < 1e-10
    for seed in range(5):
        other = made((2, 5), 3)
        other.load_state_dict({k: v + 0.05 * randn(*v.shape, seed=seed) for k, v in net.state_dict().items()})
        assert squared(other, x) > best


def test_as_many_latents_as_numbers_lose_nothing_from_the_start():
    x, net = correlated(), made((2, 5), 10)
    assert close(net.decode(net.encode(x)), x, 1e-4)  # the columns are orthonormal as float32 has it
    assert net.rebuilt(x, torch.full_like).penalty.tolist() == [0.0] * 60  # the noise would fail if it were drawn


def test_encoding_is_the_product_with_weights_that_decode():
    net, x = made((3, 4), 5), randn(2, 3, 4)
    with torch.no_grad():
        net.mean.add_(randn(12, seed=3))
    z = (x.reshape(2, 12) - net.mean) @ net.weight
    assert close(net.encode(x), z)
    assert close(net.decode(z), (z @ net.weight.T + net.mean).reshape(2, 3, 4))


def test_settings_come_back_and_more_latents_than_numbers_are_refused():
    assert from_data(AutoencoderConfig, to_data(LinearConfig(3)), "autoencoder") == LinearConfig(3)
    assert LinearConfig(3).latent((2, 4, 4)) == (3,)
    with pytest.raises(ValueError, match=r"at most 8, the numbers of an example of \(2, 4\); given 9"):
        LinearConfig(9).latent((2, 4))
    with pytest.raises(ValueError, match="at least 1"):
        LinearConfig(0)
    with pytest.raises(ValueError, match="7 components need as many examples"):
        fitted(randn(6, 10), 7)
