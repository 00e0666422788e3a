"""Hiding conditions at a rate trains two models in one: with the condition, and without it."""

import math

import numpy as np
import pytest
import torch
from helpers import DOUBLE, seeded

from reverie.cli.compose import composed
from reverie.conditioning import Cond
from reverie.exact import GaussianMixture
from reverie.runs import begin, load, new_model
from reverie.schedules import Flow
from reverie.training import Trainer

MEANS, STDS, LABELS = ((-1.5, -1.0), (1.5, -1.0), (0.5, 1.5)), (0.4, 0.5, 0.6), (0, 1, 1)
TIMES = (0.2, 0.4, 0.6, 0.8)
NET = ("net.kind=mlp", "net.width=48", "net.depth=2", "time_label.kind=log_snr", "schedule.kind=flow")
TRAIN = (
    "train.steps=300", "train.batch=256", "train.lr=1e-2", "train.decay=cosine", "train.ema=0.9",
    "train.validate_every=300", "train.sample_every=300", "train.save_every=300", "train.ema_lengths=[]",
)  # fmt: skip


def mixture(space=None):
    """The data's law, or what it is once encoded: of each number its own mean is taken and its own scale divided by."""
    means, stds = torch.tensor(MEANS, dtype=DOUBLE), torch.tensor(STDS, dtype=DOUBLE)[:, None].expand(3, 2)
    if space is not None:
        one = torch.ones(1, 2, dtype=torch.float32)
        shift = space.encode(0 * one).to(DOUBLE)
        scale = space.encode(one).to(DOUBLE) - shift
        means, stds = means * scale + shift, stds * scale
    return GaussianMixture(Flow(), means, stds, labels=torch.tensor(LABELS))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """4,000 examples of the mixture in a file, with their classes."""
    which = torch.randint(3, (4000,), generator=seeded(1))
    z = torch.randn(4000, 2, generator=seeded(2))
    x = torch.tensor(MEANS)[which] + torch.tensor(STDS)[which, None] * z
    path = tmp_path_factory.mktemp("data") / "mixture.npz"
    np.savez(path, x=x.numpy(), y=np.asarray(LABELS)[which])
    return path


def trained(folder, data, *settings):
    """A run of the trainer itself, as it was before the first step and as it was after the last."""
    recipe, _ = composed([str(data), *NET, *TRAIN, *settings])
    examples = recipe.data.load()
    run = begin(folder / "run", recipe, examples)
    before = new_model(run.recipe, run.facts).eval()
    for _ in Trainer(run, examples):
        pass
    run = load(run.path)
    return run.space, before, run.denoiser


def off(space, f):
    """How far x0 is from the truth with the class and without it: rms, over that between the two truths."""
    truth, n = mixture(space), 2000
    which = torch.randint(3, (n,), generator=seeded(3))
    label = torch.tensor(LABELS)[which]
    x0 = truth.means[which] + truth.stds[which] * torch.randn(n, 2, generator=seeded(4), dtype=DOUBLE)
    t = torch.tensor(TIMES, dtype=DOUBLE)[torch.arange(n) % len(TIMES)]
    alpha, sigma = ((1 - t)[:, None], t[:, None])
    x = alpha * x0 + sigma * torch.randn(n, 2, generator=seeded(5), dtype=DOUBLE)
    told, hidden = Cond(label=label), Cond(label=label, drop=torch.ones(n, dtype=torch.bool))
    with torch.no_grad():
        own = [f(x.float(), t, cond).x0.to(DOUBLE) for cond in (told, hidden)]
    exact = [truth(x, t, cond).x0 for cond in (told, hidden)]
    between = (exact[0] - exact[1]).square().mean()
    return [math.sqrt((a - b).square().mean() / between) for a, b in zip(own, exact, strict=True)]


def test_each_of_the_two_models_is_near_the_truth(data, tmp_path):
    """So are their scores, (alpha x0 - x) / sigma^2, at the same x."""
    space, before, after = trained(tmp_path, data, "train.drop=0.2")
    assert max(off(space, after)) < 0.25
    assert min(off(space, before)) > 0.6  # the bound is no gift
    assert max(off(space, mixture(space))) < 1e-6  # and the truth is that of the encoded data


def test_without_hiding_only_the_model_with_the_condition_is_learned(data, tmp_path):
    space, _, after = trained(tmp_path, data, "train.drop=0")
    with_class, without = off(space, after)
    assert with_class < 0.25
    assert without > 0.6


def test_without_labels_only_the_model_without_the_condition_is_learned(data, tmp_path):
    space, _, after = trained(tmp_path, data, "train.drop=0.2", "labels=false")
    with_class, without = off(space, after)
    assert with_class > 0.9
    assert without < 0.25
