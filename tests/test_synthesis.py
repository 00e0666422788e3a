"""Sample i of a seed is one sample, in whatever batch, order or number it is drawn."""

import pytest
import torch
from toys import DIT, MLP, UNET, trained

from reverie.denoiser import FixedRows
from reverie.runs import load
from reverie.samplers import DDIM, Ancestral, Heun
from reverie.synthesis import Request, denoise, rows_at_once, synthesize
from reverie.tensors import streams

SAMPLERS = {"ddim": DDIM(), "stochastic": DDIM(1.0), "heun": Heun(), "churn": Heun(churn=0.3), "ancestral": Ancestral()}
NETS = {"dit": DIT, "unet": UNET, "mlp": MLP}
LEARNT = ("train.steps=40", "train.lr=0.01")


def drawn(run, sampling, labels, **request):
    return synthesize(run.denoiser, run.facts.shape, sampling, Request(tuple(labels), **request))


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_a_sample_does_not_depend_on_its_batch_or_its_neighbours(net, sampler):
    run = load(trained(*net, *LEARNT))
    sampling = run.settings(sampler, steps=5, guidance=2.0)
    n = 70
    labels = run.labels_for(n, None)
    whole = drawn(run, sampling, labels, seed=5, batch=64)
    assert len(torch.unique(whole, dim=0)) == n
    others = {
        "batch 7": drawn(run, sampling, labels, seed=5, batch=7),
        "batch 1": torch.cat([drawn(run, sampling, labels[:9], seed=5, batch=1), whole[9:]]),
        "from 13": torch.cat([whole[:13], drawn(run, sampling, labels[13:], seed=5, start=13, batch=30)]),
        "alone": torch.cat([whole[:42], drawn(run, sampling, labels[42:43], seed=5, start=42), whole[43:]]),
    }
    for name, other in others.items():
        assert float((other - whole).abs().max()) <= 1e-5, name
        assert torch.equal(run.space.decode(other), run.space.decode(whole)), name
    assert not torch.equal(drawn(run, sampling, labels, seed=6), whole)


def test_bit_for_bit_on_the_same_number_of_rows():
    run = load(trained(*DIT, *LEARNT))
    sampling, labels = run.settings(SAMPLERS["churn"], steps=5), run.labels_for(40, 3)
    whole = drawn(run, sampling, labels, batch=40)
    assert torch.equal(drawn(run, sampling, labels, batch=7), whole)
    assert torch.equal(drawn(run, sampling, labels[:7], batch=3), whole[:7])


def test_the_noise_of_a_sample_is_its_own_bit_for_bit():
    like = torch.empty(7, 2, 3)
    whole = streams([(5, i) for i in range(7)])
    first, second = whole(like), whole(like)
    for i in range(7):
        alone = streams([(5, i)])
        assert torch.equal(alone(like[:1])[0], first[i])
        assert torch.equal(alone(like[:1])[0], second[i])


def test_samples_of_several_classes_and_of_none_go_together():
    run = load(trained(*DIT, *LEARNT))
    sampling = run.settings(steps=4, guidance=1.5)
    mixed = drawn(run, sampling, (3, None, 7, None), seed=1)
    assert torch.allclose(mixed[:1], drawn(run, sampling, (3,), seed=1), atol=1e-5)
    assert torch.allclose(mixed[1:2], drawn(run, sampling, (None,), seed=1, start=1), atol=1e-5)


def test_states_from_noise_to_sample():
    run = load(trained())
    sampling = run.settings(DDIM(), steps=6)
    (states,) = denoise(run.denoiser, run.facts.shape, sampling, Request((1, 2)))
    states = list(states)
    assert len(states) == 7
    assert torch.equal(states[0], streams([(0, 0), (0, 1)])(states[0]))  # sigma(1) = 1
    assert torch.equal(states[-1], drawn(run, sampling, (1, 2)))


def test_an_untrained_run_samples_too(tmp_path):
    from toys import begun

    from reverie.training import Trainer

    run, examples = begun(tmp_path / "run")
    for _ in Trainer(run, examples):
        break
    assert load(run.path).sample(2).dtype == torch.uint8


def test_clip_and_guidance_are_applied():
    run = load(trained(*DIT, *LEARNT))
    labels = (3,) * 8
    plain = drawn(run, run.settings(steps=4, guidance=1.0), labels)
    guided = drawn(run, run.settings(steps=4, guidance=4.0), labels)
    assert float((plain - guided).abs().max()) > 1e-3


def test_fixed_rows_change_nothing_but_rounding():
    run = load(trained(*DIT, *LEARNT))
    x, t = torch.randn(13, 1, 8, 8), torch.linspace(0.1, 0.9, 13, dtype=torch.float64)
    plain, fixed = run.denoiser(x, t), FixedRows(run.denoiser, 8)(x, t)
    assert fixed.x0.shape == x.shape
    assert float((plain.x0 - fixed.x0).abs().max()) < 1e-5
    assert rows_at_once((1, 8, 8), 5, "cpu") == rows_at_once((1, 8, 8), 500, "cpu") == 32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": ()}, "at least 1 sample"),
        ({"labels": (1,), "batch": 0}, "batch of at least 1"),
        ({"labels": (1,), "seed": -1}, "seed and start must be at least 0"),
        ({"labels": (1,), "start": -5}, "seed and start must be at least 0"),
    ],
)
def test_a_request_for_nothing_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Request(**settings)
