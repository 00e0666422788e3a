import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import DOUBLE, close, named, noise_from, randn, seeded
from torch import nn

from reverie.data import Examples
from reverie.spaces import Pixels, Standardized
from reverie.training import reconstruction as module
from reverie.training.reconstruction import BEST_DB, in_words, newest, psnr, reconstruction, snr
from reverie.training.ssim import ssim

# ----------------------------------------------------------------------------------------- SSIM


def images(shape, seed, noise=0.4):
    x = torch.rand(shape, dtype=DOUBLE, generator=seeded(seed)) * 2 - 1
    return x, (x + noise * noise_from(seeded(seed + 1))(x)).clamp(-1, 1)


def slowly(x, y, size, span):
    """The SSIM of two images (H, W), window by window."""
    line = [math.exp(-((i - size // 2) ** 2) / 4.5) for i in range(size)]
    weight = torch.tensor([[a * b for a in line] for b in line], dtype=DOUBLE)
    weight = weight / weight.sum()
    found = []
    for i in range(x.shape[0] - size + 1):
        for j in range(x.shape[1] - size + 1):
            p, q = (a[i : i + size, j : j + size] for a in (x, y))
            mp, mq = (weight * p).sum(), (weight * q).sum()
            vp, vq, both = (
                (weight * (p - mp) ** 2).sum(),
                (weight * (q - mq) ** 2).sum(),
                (weight * (p - mp) * (q - mq)).sum(),
            )
            c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
            found.append((2 * mp * mq + c1) * (2 * both + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return torch.stack(found).mean()


@pytest.mark.parametrize(("height", "width", "size"), [(14, 13, 11), (11, 20, 11), (8, 8, 7), (10, 9, 9), (1, 9, 1)])
def test_ssim_is_the_mean_over_windows_that_fit(height, width, size):
    x, y = images((2, 3, height, width), 1)
    for span in (2.0, 1.0):
        pairs = zip(x.flatten(0, 1), y.flatten(0, 1), strict=True)
        expected = torch.stack([slowly(a, b, size, span) for a, b in pairs]).reshape(2, 3).mean(1)
        assert close(ssim(x, y, span), expected, 1e-9)


@pytest.mark.parametrize("shape", [(3, 1, 32, 32), (2, 3, 16, 28)])
@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_ssim_equals_torchmetrics(shape, noise):
    theirs = pytest.importorskip("torchmetrics.functional.image", reason="torchmetrics is what it is compared with")
    x, y = images(shape, 3, noise)
    _, places = theirs.structural_similarity_index_measure(x, y, data_range=2.0, return_full_image=True)
    inside = places[..., 5:-5, 5:-5]  # theirs goes on to the border, where windows see mirrored pixels
    assert close(ssim(x, y, 2.0), inside.mean((1, 2, 3)), 1e-6)


def test_ssim_of_equal_and_of_plain_images():
    x, y = images((4, 3, 16, 16), 5)
    assert close(ssim(x, x, 2.0), torch.ones(4), 1e-12)
    assert close(ssim(x, y, 2.0), ssim(y, x, 2.0), 1e-12)
    a, b, c1 = 0.6, -0.2, 0.02**2  # only the means differ
    plain = ssim(torch.full((1, 1, 12, 12), a), torch.full((1, 1, 12, 12), b), 2.0)
    assert close(plain, torch.tensor([(2 * a * b + c1) / (a * a + b * b + c1)]), 1e-6)


# ---------------------------------------------------------------------------------- PSNR and SNR


def test_psnr_is_the_mean_in_decibels_of_a_range_of_two():
    x = randn(2, 3, 4, 4, seed=1)
    made = x.clone()
    made[0] += 0.02  # 20 log10(2 / 0.02) = 40
    made[1] -= 0.2  # 20
    assert psnr(made, x) == pytest.approx(30)
    assert psnr(x, x) == BEST_DB


def test_snr_is_none_for_the_mean_of_a_channel_and_20_for_a_tenth_of_the_noise():
    x = 3 * randn(200, 2, 5, seed=1) + torch.tensor([1.0, -4.0])[:, None]
    mean = x.mean((0, 2), keepdim=True).expand_as(x)
    assert snr(mean, x) == pytest.approx(0, abs=1e-9)
    assert snr(x + 0.1 * (x - mean), x) == pytest.approx(20)
    assert snr(x, x) == BEST_DB


# ------------------------------------------------------------------------------------ what is measured


class Halving(nn.Module):
    """z = 2 x + 1, x' = (z - 1) / 2 + `off`; tells how many examples it was asked about."""

    def __init__(self, off=0.0):
        super().__init__()
        self.off, self.net = off, SimpleNamespace(told=lambda x: {"codes": float(len(x)), "perplexity": 2.5})

    def encode(self, x):
        return 2 * x + 1

    def decode(self, z):
        return (z - 1) / 2 + self.off


class Small(SimpleNamespace):
    """What is asked of a run."""

    def __init__(self, examples, space, path=None, seed=3):
        recipe = SimpleNamespace(train=SimpleNamespace(seed=seed))
        super().__init__(recipe=recipe, space=space, facts=SimpleNamespace(shape=examples.shape), path=path)


def pictures(n=40):
    pixels = np.random.default_rng(0).integers(0, 256, (n, 3, 12, 12), dtype=np.uint8)
    return Examples(pixels)


def measured(examples, space, f, rows=None, **kwargs):
    rows = np.arange(len(examples)) if rows is None else rows
    return reconstruction(Small(examples, space, **kwargs), f, examples, rows, "cpu")


def test_images_are_measured_in_their_range():
    examples = pictures()
    x = Pixels().encode(torch.from_numpy(examples.items)).double()
    found = measured(examples, Pixels(), Halving(0.1))
    made = (x + 0.1).clamp(-1, 1)
    assert found.quality["psnr"] == pytest.approx(
        float((20 * (2 / (made - x).square().mean((1, 2, 3)).sqrt()).log10()).mean()), rel=1e-5
    )
    assert found.quality["ssim"] == pytest.approx(float(ssim(made, x, 2.0).mean()), rel=1e-5)
    assert set(found.line()) == {"psnr", "ssim", "codes", "perplexity", "latent_mean", "latent_std"}
    latents = (2 * x + 1).transpose(0, 1).flatten(1)
    assert found.line()["latent_mean"] == pytest.approx(latents.mean(1).tolist(), rel=1e-5)
    assert found.line()["latent_std"] == pytest.approx(latents.std(1, correction=0).tolist(), rel=1e-5)


def test_other_data_are_measured_by_their_variance():
    values = randn(60, 2, 9, seed=4).float().numpy()
    space = Standardized().fit(torch.from_numpy(values))
    found = measured(Examples(values), space, Halving(0.1))
    assert found.quality == {"snr": pytest.approx(20, abs=1e-3)}  # the variance is 1 there
    assert len(found.latent_mean) == 2


def test_the_network_tells_of_all_rows_of_which_there_are_so_many_at_the_most(monkeypatch):
    examples = pictures(60)
    assert measured(examples, Pixels(), Halving()).told["codes"] == 60
    assert measured(examples, Pixels(), Halving(), np.arange(7)).told["codes"] == 7
    monkeypatch.setattr(module, "MOST", 20)
    few = measured(examples, Pixels(), Halving(0.1))
    assert few.told["codes"] == 20
    assert few == measured(examples, Pixels(), Halving(0.1))  # the same rows every time
    assert few.quality != measured(examples, Pixels(), Halving(0.1), seed=4).quality


def test_what_is_measured_does_not_depend_on_how_many_go_at_once(monkeypatch):
    examples = pictures()
    whole = measured(examples, Pixels(), Halving(0.1))
    monkeypatch.setattr(module, "AT_ONCE", 7 * 3 * 12 * 12)
    parts = measured(examples, Pixels(), Halving(0.1))
    assert parts.told["codes"] == 7
    for name, number in whole.quality.items():
        assert parts.quality[name] == pytest.approx(number, rel=1e-12)
    assert parts.latent_std == pytest.approx(whole.latent_std, rel=1e-12)


LINES = named(
    kl=({"psnr": 28.31, "ssim": 0.9312, "kl": 1.234, "latent_mean": [0.0]}, "PSNR 28.3 dB, SSIM 0.931, kl 1.23 nats"),
    codes=({"snr": 11.96, "codes": 410.0, "perplexity": 305.21}, "SNR 12.0 dB, 410 codes, perplexity 305"),
    nothing=({"step": 3, "kl": 1.0}, ""),
)


@pytest.mark.parametrize(("line", "words"), **LINES)
def test_a_line_in_words(line, words):
    assert in_words(line) == words


def test_the_newest_is_the_last_that_was_measured(tmp_path):
    examples = pictures()
    run = Small(examples, Pixels(), tmp_path)
    lines = [{"step": 0, **measured(examples, Pixels(), Halving(off)).line()} for off in (0.5, 0.1)]
    lines.append({"step": 9, "loss": 0.2})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert newest(run) == in_words(lines[1])
    assert newest(run) != in_words(lines[0])
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.3}\n')
    assert newest(run) == ""
