"""The same network in half precision or compiled gives the same samples, nearly."""

import copy

import pytest
import torch
from toys import DIT, MLP, UNET, trained

from reverie import devices
from reverie.faster import cast, checked_precision, compiled, computes_bf16
from reverie.grids import Uniform
from reverie.request import Request
from reverie.runs import load
from reverie.samplers import DDIM
from reverie.synthesis import synthesize

NOISE = ("schedule=ve", "parameterization=edm", "time_label=log_sigma", "net.time=fourier")
NETS = {"dit": DIT, "unet": UNET, "mlp": MLP, "frequencies": (*UNET, *NOISE)}
LEARNT = ("train.steps=40", "train.lr=0.01")


def samples(run, f, n=8):
    sampling = run.settings(DDIM(), Uniform(4), guidance=1.5)
    return synthesize(f, run.facts.shape, sampling, Request(run.labels_for(n, None)))


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_samples_in_bf16_are_close_and_in_float32(net):
    run = load(trained(*net, *LEARNT))
    before = copy.deepcopy(run.denoiser.state_dict())
    f = cast(run.denoiser, "bf16")
    assert {p.dtype for p in f.parameters()} == {torch.bfloat16}
    whole, half = samples(run, run.denoiser), samples(run, f)
    assert half.dtype == torch.float32
    off = float((half - whole).pow(2).mean().sqrt() / whole.pow(2).mean().sqrt())
    assert 0 < off < 0.02
    assert all(torch.equal(v, before[k]) for k, v in run.denoiser.state_dict().items())
    assert cast(run.denoiser, "no") is run.denoiser


def test_a_precision_that_is_of_no_use():
    assert checked_precision("fp16", "cuda") == "fp16"
    with pytest.raises(ValueError, match=r"no or bf16 on cpu; given 'fp16' \(fp16 is for cuda\)"):
        checked_precision("fp16", "cpu")
    with pytest.raises(ValueError, match="no or bf16 or fp16 on cuda; given 'float32'"):
        checked_precision("float32", "cuda")


@pytest.mark.parametrize("net", [DIT, MLP], ids=["dit", "mlp"])
def test_a_compiled_network_gives_the_same_samples(net):
    run, told = load(trained(*net, *LEARNT)), []
    f = compiled(run.denoiser, told.append, backend="eager")
    assert float((samples(run, f) - samples(run, run.denoiser)).abs().max()) < 1e-5
    assert told == []
    assert not f.training


def test_a_network_that_cannot_be_compiled_runs_as_it_is():
    run, told = load(trained(*MLP, *LEARNT)), []
    f = compiled(run.denoiser, told.append, backend="a backend that there is not")
    assert torch.equal(samples(run, f), samples(run, run.denoiser))
    (sentence,) = told
    assert "cannot be compiled here" in sentence
    assert "\n" not in sentence


def test_a_lack_of_memory_is_no_fault_of_the_compiler(monkeypatch):
    run, told, calls = load(trained(*MLP, *LEARNT)), [], []

    def compile(net, **settings):
        def fast(*arguments):
            calls.append(len(arguments[0]))
            if len(arguments[0]) > 16:
                raise torch.OutOfMemoryError("no more")
            return net(*arguments)

        return fast

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.warns(RuntimeWarning, match="going on with 16"):
        made = samples(run, compiled(run.denoiser, told.append))
    assert calls[:2] == [32, 16]
    assert told == []
    assert float((made - samples(run, run.denoiser)).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("told", "has"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse avx512f avx512_bf16 sha_ni\n", True),
        ("processor\t: 0\nflags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n", True),
        ("processor\t: 0\nflags\t\t: fpu sse avx2 avx512f\nbugs\t: bf16\n", False),
        ("processor\t: 0\nmachine: another\n", None),
    ],
)
def test_a_processor_says_whether_it_computes_in_bf16(told, has, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(told)
    monkeypatch.setattr(devices, "CPU", tmp_path / "cpuinfo")
    assert computes_bf16("cpu") is has
    monkeypatch.setattr(devices, "CPU", tmp_path / "missing")
    assert computes_bf16("cpu") is None
    assert computes_bf16("meta") is None
