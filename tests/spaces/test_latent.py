"""A space of latents: an autoencoder between data and model, to zero mean and unit variance of the training split."""

import json
from dataclasses import replace

import pytest
import torch
from staged import images, latent, own_cache  # noqa: F401  # a fixture
from toys import MLP

from reverie.config import to_data
from reverie.runs import load
from reverie.spaces import Latent, OpenedLatent


@pytest.fixture
def run(tmp_path):
    return latent(tmp_path / "run", images(40), *MLP)


def data_of(n, seed=1):
    return torch.from_numpy(images(n, seed=seed).items)


def test_mean_and_deviation_are_those_of_the_training_split(run):
    examples = images(40)
    rows = run.recipe.data.split(examples, run.recipe.train.validation, run.recipe.train.seed).train
    assert 0 < len(rows) < len(examples)
    stage = run.stage("autoencoder")
    x0 = stage.space.encode(torch.from_numpy(examples.items[rows]))
    z = stage.autoencoder.encode(x0).double().transpose(0, 1).flatten(1)
    assert run.recipe.space.mean == pytest.approx(z.mean(1).tolist(), abs=1e-6)
    assert run.recipe.space.std == pytest.approx(z.std(1, correction=0).tolist(), rel=1e-6)
    x = run.space.encode(torch.from_numpy(examples.items[rows])).double().transpose(0, 1).flatten(1)
    assert torch.allclose(x.mean(1), torch.zeros(3, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(x.std(1, correction=0), torch.ones(3, dtype=torch.float64), atol=1e-5)


def test_the_model_sees_latents_and_the_run_tells_of_data(run):
    assert run.facts.shape == (1, 8, 8)
    assert run.shape == run.recipe.space.latent == (3, 4, 4)
    assert tuple(run.denoiser(torch.zeros(2, 3, 4, 4), torch.tensor(0.5)).x0.shape) == (2, 3, 4, 4)
    made = run.sample(3)
    assert made.shape == (3, 1, 8, 8)
    assert made.dtype == torch.uint8


def test_what_is_decoded_is_what_the_autoencoder_makes_of_the_latents(run):
    stage, space, data = run.stage("autoencoder"), run.space, data_of(5)
    mean, std = (torch.tensor(v)[:, None, None] for v in (run.recipe.space.mean, run.recipe.space.std))
    z = stage.autoencoder.encode(stage.space.encode(data))
    assert torch.allclose(space.encode(data), (z - mean) / std, atol=1e-5)
    exact = stage.autoencoder.decode(z)
    assert torch.allclose(stage.space.encode(space.rebuilt(data)), exact.clamp(-1, 1), atol=1 / 127.5)
    assert int((space.rebuilt(data).int() - data.int()).abs().max()) > 20  # it has learned nothing


@pytest.mark.parametrize("n", [1, 5, 16, 17, 33])
def test_an_example_is_the_same_bits_beside_any_others(run, n):
    data = data_of(33)
    whole = run.space.encode(data)
    assert torch.equal(run.space.encode(data[:n]), whole[:n])
    assert torch.equal(run.space.encode(data[-n:]), whole[-n:])
    assert torch.equal(run.space.decode(whole[-n:]), run.space.decode(whole)[-n:])


def test_what_is_stored_is_opened_with_the_stage(run):
    stored = json.loads((run.path / "config.json").read_text())["recipe"]["space"]
    assert stored == to_data(run.recipe.space)
    again = load(run.path)
    assert isinstance(again.space, OpenedLatent)
    assert again.space.settings == run.recipe.space
    assert again.space is again.space  # opened once
    assert again.space.model is again.stage("autoencoder").autoencoder


def test_large_latents_are_decoded_in_tiles(run):
    """Latents of 4x4 lie in one tile of 8; of 12x12 they do not, and places deep inside the first are its own."""
    large = OpenedLatent(replace(run.recipe.space, tile=8), run.space.inner, run.space.model)
    small = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(large.decode(small), run.space.decode(small))
    wide = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    made, first = large.decode(wide), run.space.decode(wide[..., :8, :8])
    assert made.shape == (1, 1, 24, 24)
    assert torch.equal(made[..., :8, :8], first[..., :8, :8])
    assert not torch.equal(made, run.space.decode(wide))


def test_what_has_no_autoencoder_yet_says_so():
    space = Latent()
    for use in (space.encode, space.decode):
        with pytest.raises(ValueError, match="opened with its autoencoder"):
            use(torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"space\.autoencoder=RUN"):
        space.shape((1, 8, 8))
    with pytest.raises(ValueError, match="at least 8; given 7"):
        Latent(tile=7)


def test_the_density_of_latents_says_nothing_of_that_of_data(run):
    with pytest.raises(ValueError, match="log_volume"):
        run.space.log_volume((3, 4, 4))
    assert not run.space.bounded
