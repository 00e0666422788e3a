"""Sample i of a seed is one sample, in whatever batch, order or number it is drawn."""

from dataclasses import dataclass, replace

import pytest
import torch
from helpers import Stub
from toys import DIT, MLP, UNET, trained

from reverie import memory
from reverie.denoiser import FixedRows
from reverie.grids import Uniform
from reverie.recipe import Sampling
from reverie.request import Request
from reverie.runs import load
from reverie.samplers import DDIM, Ancestral, Heun
from reverie.schedules import Cosine, Flow
from reverie.synthesis import (
    HELD,
    MOST,
    SHARE,
    OutOfMemory,
    denoise,
    fitting,
    rows_at_once,
    sized,
    synthesize,
    times_of,
)
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
    states = list(denoise(run.denoiser, run.facts.shape, sampling, Request((1, 2))))
    assert [state.step for state in states] == list(range(7))
    assert [state.finished for state in states] == [False] * 6 + [True]
    assert torch.equal(states[0].x, streams([(0, 0), (0, 1)])(states[0].x))  # sigma(1) = 1
    assert torch.equal(states[-1].x, drawn(run, sampling, (1, 2)))


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
    sizes = {(4, 8, 8): 32, (4, 7, 7): 32, (3, 64, 64): 8, (384,): 8, (2,): 1024, (1, 1, 1): 1024}
    assert {shape: rows_at_once(shape, 5, "cpu") for shape in sizes} == sizes


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


# --------------------------------------------------------------------------------------- memory


@dataclass(frozen=True)
class Greedy(DDIM):
    """A sampler that runs out of memory in its third step, with more than `most` samples."""

    eta: float = 1.0
    most: int = 32

    def step(self, f, x, t, s, cond, noise, state):
        if len(x) > self.most and t < 0.7:
            raise torch.OutOfMemoryError("no more")
        return super().step(f, x, t, s, cond, noise, state)


def test_a_batch_that_does_not_fit_is_halved_and_no_sample_changes():
    run = load(trained(*DIT, *LEARNT))
    labels = run.labels_for(150, None)
    sampling = run.settings(DDIM(1.0), Uniform(5), guidance=2.0)
    whole = drawn(run, sampling, labels, seed=3, batch=128)
    told, seen = [], []
    short = replace(sampling, sampler=Greedy())
    for state in denoise(run.denoiser, run.facts.shape, short, Request(labels, 3, batch=128), notice=told.append):
        seen.append((state.first, state.step, len(state.x)))
        if state.finished:
            assert torch.equal(state.x, whole[state.first : state.first + len(state.x)])  # bit for bit
            assert state.done == (state.first + len(state.x)) * 5
    begun = [(first, n) for first, step, n in seen if step == 0]
    assert begun == [(0, 128), (0, 64), (0, 32), (32, 32), (64, 32), (96, 32), (128, 22)]
    assert told == [
        "out of memory with 128 samples at a time: going on with 64; samples stay the same",
        "out of memory with 64 samples at a time: going on with 32; samples stay the same",
    ]


def test_below_the_fixed_rows_samples_are_the_same_to_rounding():
    run = load(trained(*DIT, *LEARNT))
    sampling, labels = run.settings(Heun(churn=0.3), Uniform(4)), run.labels_for(40, None)

    class Small:
        schedule, most = run.schedule, 8

        def __call__(self, x, t, cond=None):
            if len(x) > self.most:
                raise MemoryError
            return run.denoiser(x, t, cond)

    whole = drawn(run, sampling, labels)
    with pytest.warns(RuntimeWarning, match="going on with 8; samples stay the same to rounding"):
        small = synthesize(Small(), run.facts.shape, sampling, Request(labels))
    assert float((small - whole).abs().max()) < 1e-5
    Small.most = 0
    with pytest.warns(RuntimeWarning), pytest.raises(OutOfMemory, match=r"a single sample of 1x8x8 does not fit.*bf16"):
        synthesize(Small(), run.facts.shape, sampling, Request(labels))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    f = Stub(Flow(), lambda x, t: x @ x)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        synthesize(f, (3,), Sampling(DDIM(), Uniform(2)), Request((None,)))


def test_on_a_cpu_the_batch_fits_the_rows_and_the_memory(monkeypatch):
    f, sampling = Stub(Flow(), lambda x, t: x), Sampling(DDIM(), Uniform(2))

    def chosen(shape, free):
        monkeypatch.setattr(memory, "available", lambda device: free)
        return fitting(f, shape, sampling, Request((None,) * 5000), "cpu")

    for shape in ((2,), (1, 8, 8), (3, 32, 32), (3, 256, 256)):
        rows = rows_at_once(shape, 1, "cpu")
        plenty = chosen(shape, None)
        assert plenty % rows == 0
        assert rows <= plenty <= MOST
        assert chosen(shape, 10**12) == plenty
        assert chosen(shape, 0) == rows
    assert chosen((3, 32, 32), 4e6 * HELD) * 3 * 32 * 32 * 4 * HELD <= SHARE * 4e6 * HELD


@pytest.mark.parametrize("once", [0, 10**7])
@pytest.mark.parametrize("each", [10**5, 3 * 10**6])
def test_elsewhere_the_batch_is_the_largest_power_of_two_that_fits(monkeypatch, once, each):
    # A device without numbers stands for the accelerator; its memory is a line that the probe has to find.
    rows = []

    def x0(x, t):
        rows.append(len(x))
        return x

    def peak(device, call):
        call()
        return once + each * rows[-1]

    monkeypatch.setattr(memory, "peak", peak)
    f, sampling, shape = Stub(Flow(), x0), Sampling(DDIM(), Uniform(2)), (3, 16, 16)
    held = 4 * HELD * 3 * 16 * 16
    for free in (10**8, 10**9, 10**12):
        monkeypatch.setattr(memory, "available", lambda device, free=free: free)
        n = fitting(f, shape, sampling, Request((None,) * 5000), "meta")
        assert n & (n - 1) == 0
        assert once + n * (each + held) <= SHARE * free
        assert n == MOST or once + 2 * n * (each + held) > SHARE * free
        assert fitting(f, shape, sampling, Request((None,) * 5), "meta") <= 8
    monkeypatch.setattr(memory, "peak", lambda device, call: 1 / 0 if len(rows) < 0 else _full())
    assert fitting(f, shape, sampling, Request((None,) * 5000), "meta") == 1


def _full():
    raise torch.OutOfMemoryError("full")


def test_on_an_accelerator_guidance_is_one_evaluation_of_twice_the_batch():
    rows = []

    def x0(x, t):
        rows.append(len(x))
        return x

    states = denoise(
        Stub(Flow(), x0), (2,), Sampling(DDIM(), Uniform(3), 2.0), Request((0, 1, 2, 0, 1), batch=4), "meta"
    )
    assert [state.x.shape[0] for state in states if state.finished] == [4, 1]
    assert rows == [8] * 6  # two batches of three steps, the second padded


@pytest.mark.parametrize(("n", "most"), [(1, 1), (3, 4), (4, 4), (5, 8), (700, 512)])
def test_on_an_accelerator_the_network_sees_no_more_rows_than_samples_need(n, most):
    """The next power of two, and the batch at the most."""
    rows = []

    def x0(x, t):
        rows.append(len(x))
        return x

    request = Request((None,) * n, batch=512)
    states = denoise(Stub(Flow(), x0), (2,), Sampling(DDIM(), Uniform(3)), request, "meta")
    assert sum(len(state.x) for state in states if state.finished) == n
    assert set(rows) == {most}


def test_a_batch_may_be_chosen_ahead_so_that_all_calls_have_as_many_rows(monkeypatch):
    rows = []

    def x0(x, t):
        rows.append(len(x))
        return x

    def peak(device, call):
        call()
        return 1000 * rows[-1]

    monkeypatch.setattr(memory, "peak", peak)
    monkeypatch.setattr(memory, "available", lambda device: 10**9)
    what = Stub(Flow(), x0), (3, 16, 16), Sampling(DDIM(), Uniform(3), 2.0)
    request = sized(*what, Request((0,) * 40), "meta")
    assert request.batch == 64
    assert sized(*what, request, "meta") is request
    rows.clear()
    list(denoise(*what, request, "meta"))
    assert rows == [128] * 3


def test_settings_that_cannot_work_are_refused_before_the_network_is_called():
    f = Stub(Cosine(), lambda x, t: 1 / 0)
    sampling = Sampling(Ancestral(), Uniform(3))
    with pytest.raises(ValueError, match="at least 1 step"):
        times_of(replace(sampling, grid=Uniform(3).with_steps(0)), f.schedule)

    @dataclass(frozen=True)
    class Picky(DDIM):
        def check(self, schedule, times):
            raise ValueError("not these times")

    with pytest.raises(ValueError, match="not these times"):
        denoise(f, (2,), replace(sampling, sampler=Picky()), Request((None,)))
