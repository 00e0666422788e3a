"""The autoencoder with a codebook: its gradient, and how the codebook learns."""

import copy
import math

import pytest
import torch
from helpers import DOUBLE, close, randn, seeded

from reverie.autoencoders import VQConfig
from reverie.autoencoders import vq as module
from reverie.autoencoders.vq import nearest

SMALL = {"width": 8, "groups": 4, "group_width": 2, "channels": 2}


def made(shape=(1, 16), **given):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VQConfig(**{**SMALL, "codes": 8, **given}).build(shape).double()


class Given(torch.nn.Module):
    """In the place of an encoder or a decoder: what comes in."""

    def forward(self, h):
        return h


def bare(**given):
    """A network whose encoder and decoder do nothing: its vectors are the examples, (B, 2, L)."""
    net = made((2, 4), **{"multipliers": (1,), "straight": False, **given})
    net.encoder, net.decoder = torch.nn.Sequential(Given()), torch.nn.Sequential(Given())
    return net


def learn(net, *examples):
    """One step of training on examples that come in several calls."""
    for x in examples:
        net.rebuilt(x)
    net.constrain()


CENTRES = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [-4.0, -4.0]], dtype=DOUBLE)


def clusters(seed, batch=16, places=8):
    """(batch, 2, places) around four centres, with a deviation of 0.2."""
    which = torch.randint(4, (batch, places), generator=seeded(seed, 7))
    return CENTRES[which].movedim(-1, 1) + 0.2 * randn(batch, 2, places, seed=seed)


# ----------------------------------------------------------------------------------------- lookup


def test_the_nearest_code_is_that_of_the_smallest_distance_however_many_are_held_at_once(monkeypatch):
    vectors, codebook = randn(50, 3, seed=1), randn(17, 3, seed=2)
    expected = torch.cdist(vectors, codebook).argmin(1)
    assert torch.equal(nearest(vectors, codebook), expected)
    monkeypatch.setattr(module, "AT_ONCE", 40)
    assert torch.equal(nearest(vectors, codebook), expected)


def test_codes_are_looked_up_in_float32_where_the_rest_is_bfloat16():
    codebook = torch.tensor([[1.0], [1.001]])
    with torch.autocast("cpu", torch.bfloat16):
        assert nearest(torch.tensor([[1.0004], [1.0006]]), codebook).tolist() == [0, 1]


def test_examples_are_rebuilt_from_codes_and_the_penalty_is_the_distance_to_them():
    net, x = made().eval(), randn(3, 1, 16)
    out, z = net.rebuilt(x), net.encode(x)
    vectors, made_of = z.movedim(1, -1), out.z.movedim(1, -1)
    distances = torch.cdist(vectors, net.codebook.expand(3, -1, -1))
    assert close(torch.cdist(vectors, made_of).diagonal(dim1=1, dim2=2), distances.min(-1).values, 1e-6)
    assert torch.equal(made_of, net.codebook[distances.argmin(-1)])
    assert close(out.x, net.decode(z))
    assert close(net.decode(out.z), out.x)
    assert close(out.penalty, 0.25 * (z - out.z).square().mean((1, 2)))


def test_the_gradient_goes_past_the_choice_of_codes():
    """That of the encoder is d loss / d z at the codes, plus that of the commitment, 2 weight (z - e) / numbers."""
    net, direction = bare(commitment=0.5).eval(), randn(3, 2, 4, seed=9)
    x = randn(3, 2, 4).requires_grad_()
    out = net.rebuilt(x)
    ((out.x * direction).sum() + (out.x**2).sum() + out.penalty.sum()).backward()
    assert close(x.grad, direction + 2 * out.z + 2 * 0.5 * (x - out.z) / 8)


def test_told_counts_codes_and_their_perplexity():
    net = bare().eval()
    net.codebook.copy_(torch.tensor([[float(i), 0.0] for i in range(8)]))
    x = torch.tensor([[0.0, 0.0, 1.0, 5.0]], dtype=DOUBLE)
    told = net.told(torch.stack([x, torch.zeros_like(x)], 1).reshape(1, 2, 4))
    assert told["codes"] == 3
    assert told["perplexity"] == pytest.approx(2**1.5)  # shares of 1/2, 1/4 and 1/4


# --------------------------------------------------------------------------------------- learning


def test_codes_become_the_means_of_clusters():
    net = bare(codes=4, decay=0.9)
    for step in range(100):
        learn(net, clusters(step))
    found = net.codebook[nearest(CENTRES, net.codebook)]
    assert (found - CENTRES).norm(dim=1).max() < 0.05
    assert net.counts.sum().item() == pytest.approx(16 * 8, rel=0.01)


def test_codes_stand_still_at_the_means_of_what_they_stand_for():
    """k-means: with the same examples at every step, the mean of those nearest to each code is that code."""
    net, x = bare(codes=6, decay=0.5), clusters(3)
    for _ in range(80):
        learn(net, x)
    vectors = x.movedim(1, -1).flatten(0, 1)
    index = nearest(vectors, net.codebook)
    for code in index.unique():
        assert close(net.codebook[code], vectors[index == code].mean(0), 1e-5)


def test_one_step_is_the_moving_average():
    net, x = bare(codes=3, decay=0.75, restart=0.0), randn(5, 2, 4, seed=4)
    net.codebook.copy_(randn(3, 2, seed=5))
    net.counts.copy_(torch.tensor([2.0, 3.0, 4.0]))
    net.sums.copy_(net.codebook * net.counts[:, None])
    vectors = x.movedim(1, -1).flatten(0, 1)
    index = nearest(vectors, net.codebook)
    n = torch.tensor([(index == k).sum() for k in range(3)])
    s = torch.stack([vectors[index == k].sum(0) for k in range(3)])
    counts, sums = 0.75 * net.counts + 0.25 * n, 0.75 * net.sums + 0.25 * s
    learn(net, x)
    assert close(net.counts, counts)
    assert close(net.sums, sums)
    assert close(net.codebook, sums / counts[:, None], 1e-4)  # but for the smoothing


def test_unused_codes_begin_again_at_vectors_of_the_step():
    net, x = bare(codes=4), clusters(1)
    net.codebook.copy_(torch.tensor([[0.0, 0.0], [90.0, 0.0], [91.0, 0.0], [92.0, 0.0]]))
    learn(net, x)
    vectors = x.movedim(1, -1).flatten(0, 1)
    assert close(net.codebook[0], vectors.mean(0), 1e-3)
    assert all((code == vectors).all(1).any() for code in net.codebook[1:])
    assert len(net.codebook.unique(dim=0)) == 4
    assert torch.equal(net.counts[1:], (net.counts[1]).expand(3))
    learn(net, clusters(2))
    assert net.eval().told(clusters(3))["codes"] == 4


def test_without_restarts_unused_codes_stay_where_they_are():
    net = bare(codes=2, restart=0.0)
    net.codebook.copy_(torch.tensor([[0.0, 0.0], [90.0, 0.0]]))
    learn(net, clusters(1))
    assert net.codebook[1].tolist() == [90.0, 0.0]


def test_a_codebook_larger_than_a_step_takes_all_its_vectors():
    net, x = bare(codes=40), randn(4, 2, 4, seed=2)
    learn(net, x)
    vectors = x.movedim(1, -1).flatten(0, 1)
    assert (torch.cdist(vectors, net.codebook).min(1).values < 1e-6).sum() >= 15


def test_a_batch_in_several_calls_is_one_batch():
    one, several, x = bare(), bare(), clusters(1)
    learn(one, x)
    learn(several, x[:3], x[3:4], x[4:])
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), several.buffers(), strict=True))
    assert not torch.equal(one.codebook, bare().codebook)


def test_nothing_is_learned_before_the_step_nor_from_evaluation():
    net = bare()
    before = copy.deepcopy(net.state_dict())
    net.rebuilt(clusters(1))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    net = bare().eval()
    learn(net, clusters(1))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_run_that_is_taken_up_again_is_the_run_that_was_not_left():
    straight, first, resumed = made(), made(), made()
    x = [randn(4, 1, 16, seed=i) for i in range(4)]
    for part in x:
        learn(straight, part)
    for part in x[:2]:
        learn(first, part)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    for part in x[2:]:
        learn(resumed, part)
    assert set(straight.state_dict()) >= {"codebook", "counts", "sums"}
    assert all(torch.equal(v, straight.state_dict()[k]) for k, v in resumed.state_dict().items())
    assert not torch.equal(first.codebook, straight.codebook)


def _process(rank, folder, x):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for restart in (0.0, 0.1):
        net = bare(codes=6, restart=restart)
        for part in x:
            learn(net, part[rank::2])
        torch.save(net.state_dict(), f"{folder}/{rank}-{restart}.pt")
    torch.distributed.destroy_process_group()


def test_processes_learn_one_codebook(tmp_path):
    """That of the vectors of both; but what restarts is of the first alone."""
    x = [clusters(i) for i in range(3)]
    torch.multiprocessing.spawn(_process, (str(tmp_path), x), nprocs=2)
    for restart in (0.0, 0.1):
        a, b = (torch.load(tmp_path / f"{rank}-{restart}.pt", weights_only=True) for rank in range(2))
        assert all(torch.equal(v, b[k]) for k, v in a.items())
        alone = bare(codes=6, restart=restart)
        for part in x:
            learn(alone, part)
        if restart == 0:
            assert all(close(a[k], alone.state_dict()[k], 1e-9) for k in ("codebook", "counts", "sums"))
        assert not torch.equal(alone.codebook, bare(codes=6).codebook)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"codes": 0}, "codes of autoencoder 'vq' must be at least 1"),
        ({"decay": 1.0}, "decay of autoencoder 'vq' must be at least 0 and below 1, given 1.0"),
        ({"restart": -0.1}, "restart of autoencoder 'vq'"),
        ({"commitment": -1.0}, "commitment of autoencoder 'vq'"),
    ],
)
def test_settings_that_no_network_has_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        VQConfig(**given)


def test_a_step_that_is_not_finite_teaches_the_codebook_nothing():
    net = bare(codes=4).train()
    learn(net, clusters(0))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    bad = clusters(1)
    bad[0, 0, 0] = math.nan
    learn(net, bad)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    learn(net, clusters(1))
    assert not torch.equal(net.codebook, before["codebook"])
