"""The doctor finds nothing where all is well, and each fault that is put in, in a sentence."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from helpers import close, randn
from toys import copied, hashes, trained

import reverie.doctor as doctor
from reverie import likelihood, tensors
from reverie.bound import BoundTerms
from reverie.doctor import device, examine, parallel, process, run, sampling
from reverie.doctor.finding import Check, Seen, Undefined, find, worst
from reverie.doctor.sampling import FALSE_ALARM, N, law_share, law_statistic, lower_variance, mixture
from reverie.guidance import ClassifierFree
from reverie.prediction import Bridge, Prediction
from reverie.runs import load
from reverie.samplers import DDIM, Ancestral, EulerMaruyama, Heun
from reverie.schedules import VE, Cosine, Flow, Level, LinearVP, Schedule, SubVP
from reverie.tensor_files import read_with_metadata, write_tensors
from reverie.tensors import generator

SCHEDULES = {"cosine": Cosine(), "flow": Flow()}
SAMPLERS = {"ancestral": Ancestral(), "heun": Heun()}


@pytest.fixture
def few(monkeypatch):
    """Two samplers and two schedules instead of all."""
    monkeypatch.setattr(process, "schedules", lambda: SCHEDULES)
    monkeypatch.setattr(sampling, "schedules", lambda: SCHEDULES)
    monkeypatch.setattr(sampling, "samplers", lambda: SAMPLERS)
    own = sampling.defaults
    monkeypatch.setattr(sampling, "defaults", lambda family: SCHEDULES if family is Schedule else own(family))


def found(*groups, **arguments):
    """The findings by what was checked."""
    return {f.check: f for f in examine("cpu", only=groups, **arguments)}


def failed(*groups, **arguments):
    """Those that failed, each with a sentence that says what that means."""
    findings = {k: f for k, f in found(*groups, **arguments).items() if f.ok is False}
    assert all(f.verdict == "FAIL" and len(f.advice) > 20 for f in findings.values()), findings
    return findings


# ------------------------------------------------------------------------------- all is well


@pytest.mark.slow
def test_nothing_is_wrong_with_what_is_there():
    findings = list(examine("cpu"))
    assert [f for f in findings if f.ok is False] == []
    assert {f.group for f in findings} == {*doctor.GROUPS} - {"run", "stages"}


def test_nothing_is_wrong_with_some_of_it(few):
    findings = list(examine("cpu", trained()))
    assert [f for f in findings if f.ok is False] == []
    assert [f.check for f in findings if f.ok is None] == ["gradients of two processes"]
    assert list(dict.fromkeys(f.group for f in findings)) == [group for group in doctor.GROUPS if group != "stages"]
    assert all(f.check and f.expected and f.seen and not f.advice for f in findings)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision(precision):
    assert not failed("network", precision=precision)


def test_every_part_is_looked_at():
    assert {"flow", "cosine", "ve", "table", "sub_vp", "geometric", "shifted"} <= process.schedules().keys()
    assert {"ddim", "heun", "ancestral", "annealed_langevin", "euler_maruyama"} <= sampling.samplers().keys()
    assert {"dit", "mlp", "refinenet", "unet", "wavenet"} <= device.networks().keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "fp8"}, "precision is one of no, bf16, fp16; given 'fp8'"),
        ({"only": ["sampler"]}, "nothing called 'sampler'.*samplers"),
        ({"only": ["run"]}, "name its folder"),
        ({"run": "nowhere"}, "no run folder nowhere"),
    ],
)
def test_what_cannot_be_looked_at(arguments, message):
    with pytest.raises(ValueError, match=message):
        examine("cpu", **arguments)  # at once, not when the first finding is asked for


# -------------------------------------------------------------------------- how a finding is made


def test_the_worst_member_is_named_and_all_that_fail():
    def broken():
        raise ZeroDivisionError("by zero\nand more")

    def refuses():
        raise Undefined

    seen = worst({"a": lambda: 0.1, "b": lambda: 0.3, "c": refuses}, 0.3, "parts", " m")
    assert seen == Seen("2 parts, worst 0.3 m: b", True)
    seen = worst({"a": lambda: 0.1, "b": lambda: 0.3, "c": broken, "d": lambda: math.nan}, 0.2, "parts")
    assert not seen.ok
    assert "c (ZeroDivisionError: by zero)" in seen.advice
    assert "b (0.3)" in seen.advice
    assert "d (inf)" in seen.advice
    assert seen.advice.endswith("fail")
    assert worst({"a": lambda: 0.0}, 0.0, "parts") == Seen("1 parts, none off", True)
    assert worst({"c": refuses}, 0.0, "parts") == Seen("no parts", None)


def test_a_check_that_raises_has_failed():
    def broken():
        raise RuntimeError("out of memory")

    def absent():
        raise Undefined("no data")

    finding = find(Check("network", "a", "b", broken, "buy more"))
    assert (finding.ok, finding.seen, finding.advice) == (False, "RuntimeError: out of memory", "buy more")
    finding = find(Check("network", "a", "b", absent, "buy more"))
    assert (finding.verdict, finding.seen, finding.advice) == ("-", "no data", "")


# ------------------------------------------------------------------------------ faults: schedules


def doubled(low, high):
    sigma = Cosine.sigma

    def wrong(self, t):
        return sigma(self, t) * torch.where((t >= low) & (t <= high), 2.0, 1.0)

    return wrong


@pytest.mark.parametrize("where", [(0.4, 0.6), (0.5, 0.5), (0.7, 1.0)])
def test_sigma_doubled_at_some_t(few, monkeypatch, where):
    monkeypatch.setattr(Cosine, "sigma", doubled(*where))
    findings = failed("schedules")
    assert "time(log-SNR(t)) = t" in findings
    assert all("cosine" in f.advice and "flow" not in f.advice for f in findings.values())


@pytest.mark.parametrize(
    ("method", "wrong", "check"),
    [
        ("alpha", lambda self, t: 0.99 - 0.99 * t, "alpha(0) = 1 and sigma(0) = 0"),
        ("sigma", lambda self, t: (t - 1e-3).clamp_min(0), "log-SNR falls, alpha falls, sigma > 0"),
        ("sigma", lambda self, t: 1.01 * t, "time(log-SNR(t)) = t"),
        ("rates", lambda self, t: (-torch.ones_like(t), 1.02 * torch.ones_like(t)), "rates add up to alpha and sigma"),
        ("log_snr", lambda self, t: 2 * ((1 - t) / t).log() + 1e-6, "log-SNR = 2 log(alpha / sigma)"),
        ("time", lambda self, s: torch.sigmoid(-s / 2) + 1e-8, "time(log-SNR(t)) = t"),
    ],
)
def test_a_fault_of_a_schedule(few, monkeypatch, method, wrong, check):
    monkeypatch.setattr(Flow, method, wrong)
    assert "flow" in failed("schedules")[check].advice


def test_a_fault_of_a_notation(few, monkeypatch):
    monkeypatch.setattr(Prediction, "v", property(lambda q: q.level.alpha * q.eps + q.level.sigma * q.x0))
    assert "x0, eps, v, score, flow agree" in failed("notations")


def test_a_fault_of_a_parameterization(few, monkeypatch):
    from reverie.parameterizations import EDM, Velocity

    scale = EDM.scale
    monkeypatch.setattr(EDM, "scale", lambda self, level: 1.01 * scale(self, level))
    monkeypatch.setattr(Velocity, "decode", lambda self, out, x, level, schedule: Prediction.from_v(out, x, level))
    (finding,) = failed("notations").values()
    assert "edm on flow" in finding.advice
    assert "velocity on flow" in finding.advice


# ------------------------------------------------------------------------------- faults: samplers


def test_a_sampler_with_too_little_noise(few, monkeypatch):
    step = Ancestral.step

    def quieter(self, f, x, t, s, cond, noise, state):
        return step(self, f, x, t, s, cond, lambda like: 0.8 * noise(like), state)

    monkeypatch.setattr(Ancestral, "step", quieter)
    (finding,) = failed("samplers").values()
    assert finding.check == "samples have the law of a mixture"
    assert "ancestral on cosine" in finding.advice
    assert "ancestral on flow" in finding.advice
    assert "heun" not in finding.advice


def test_a_sampler_that_raises_and_one_of_a_lower_order(few, monkeypatch):
    monkeypatch.setattr(Ancestral, "step", lambda *arguments: 1 / 0)
    monkeypatch.setattr(Heun, "step", DDIM(0.0).step.__func__)
    monkeypatch.setattr(Heun, "eta", 0.0, raising=False)
    findings = failed("samplers")
    assert "ZeroDivisionError" in findings["samples have the law of a mixture"].advice
    assert "heun on flow (1" in findings["the error falls at the method's order"].advice


def scaled(noise, factor):
    return lambda like: factor * noise(like)


@pytest.mark.parametrize("sampler", [Ancestral(1.0), DDIM(1.0), EulerMaruyama(), Heun(churn=0.1)])
def test_the_law_has_the_power_to_see_noise_of_a_wrong_size(sampler, monkeypatch):
    assert law_share(sampler, LinearVP()) < 0.8
    own = sampling.normal_noise
    monkeypatch.setattr(sampling, "normal_noise", lambda *key: scaled(own(*key), 0.8))
    assert law_share(sampler, LinearVP()) > 1.2


def test_the_law_accepts_the_mixture_itself_and_sees_its_neighbours():
    f = mixture(Flow())
    x = f.sample(N, generator(2))
    assert law_statistic(f, x) < 0.8
    for neighbour in (0.85 * x, x + 0.2, torch.cat([x[: N // 2], x[: N // 2].abs()])):
        assert law_statistic(f, neighbour) > 1
    assert math.isinf(law_statistic(f, x * math.nan))


def test_chance_is_what_is_said_of_it():
    # Three statistics a pair.
    assert 3 * len(sampling.samplers()) * len(sampling.defaults(Schedule)) <= sampling.LAWS
    assert FALSE_ALARM <= 1e-6


# ------------------------------------------------- faults: guidance, noise, likelihoods and bound


def test_a_fault_of_guidance(monkeypatch):
    call = ClassifierFree.__call__

    def stronger(self, x, t, cond=None):
        scale, self.scale = self.scale, self.scale + 1
        try:
            return call(self, x, t, cond)
        finally:
            self.scale = scale

    monkeypatch.setattr(ClassifierFree, "__call__", stronger)
    assert set(failed("guidance")) == {"scale 1 is no guidance", "score = u + scale (c - u), of densities"}


def test_noise_that_depends_on_the_batch(monkeypatch):
    class Shared(tensors.Streams):
        def __call__(self, like):
            return tensors.Streams([self.seeds[0]] * len(like))(like) + torch.arange(len(like))[:, None]

    monkeypatch.setattr(sampling, "streams", Shared)
    assert set(failed("noise")) == {"a sample's noise is its own", "noise is standard normal"}


def test_noise_of_a_wrong_size(monkeypatch):
    monkeypatch.setattr(sampling, "streams", lambda seeds: lambda like: 1.03 * tensors.streams(seeds)(like))
    assert set(failed("noise")) == {"noise is standard normal"}


def test_a_fault_of_the_bound(few, monkeypatch):
    own = sampling.variational_bound

    def wrong(*arguments, **settings):
        terms = own(*arguments, **settings)
        return BoundTerms(terms.times, terms.prior, terms.steps * torch.linspace(1, 1.5, terms.steps.shape[1]))

    monkeypatch.setattr(sampling, "variational_bound", wrong)
    assert set(failed("likelihood")) == {"the bound on Gaussian data is its closed form"}


def test_a_fault_of_the_likelihood(few, monkeypatch):
    def wrong(*arguments, **settings):
        found = likelihood.log_likelihood(*arguments, **settings)
        return dataclasses.replace(found, value=1.001 * found.value)

    monkeypatch.setattr(sampling, "log_likelihood", wrong)
    assert set(failed("likelihood")) == {"the flow ODE gives a mixture's density"}


@pytest.mark.parametrize("schedule", [Cosine(), VE(), SubVP(), LinearVP()])
def test_the_lower_variance_is_that_of_the_bridge(schedule):
    t = torch.tensor([0.7, 0.4], dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    levels = [Level(*v) for v in zip(t, alpha, sigma, strict=True)]
    assert close(lower_variance(alpha, sigma), Bridge.between(*levels).lower, 1e-12)


# -------------------------------------------------------------------------------- faults: devices


def in_float32(monkeypatch, change):
    """The perceptron with its float32 output changed, the reference in float64 left as it is."""
    from reverie.nets.mlp import MLP

    forward = MLP.forward

    def wrong(self, x, label, cond=None):
        out = forward(self, x, label, cond)
        return change(out) if out.dtype == torch.float32 else out

    monkeypatch.setattr(MLP, "forward", wrong)


def test_a_device_that_computes_something_else(monkeypatch):
    in_float32(monkeypatch, lambda out: 1.001 * out)
    (finding,) = failed("network").values()
    assert finding.check == "output and gradients on cpu in float32"
    assert finding.advice.startswith("mlp (0.001")


def test_a_device_that_gives_nan(monkeypatch):
    in_float32(monkeypatch, lambda out: out / 0 * 0)
    assert {"output and gradients on cpu in float32", "output under bfloat16 autocast"} < set(failed("network"))


def test_training_that_does_not_learn(monkeypatch):
    monkeypatch.setattr(device, "optimizer", lambda model, train: torch.optim.SGD(model.parameters(), lr=0.0))
    assert set(failed("network")) == {"50 steps of training in float32"}


def test_files_whose_changes_go_unnoticed(monkeypatch):
    monkeypatch.setattr("reverie.runs.digest", lambda tensors: "the same")
    monkeypatch.setattr(device, "digest", lambda tensors: "the same")
    assert set(failed("network")) == {"weights written and read back"}


def test_samples_that_depend_on_the_batch(monkeypatch):
    synthesize = device.synthesize

    def wrong(f, shape, settings, request, where):
        return synthesize(f, shape, settings, request, where) + 1e-6 * request.batch

    monkeypatch.setattr(device, "synthesize", wrong)
    assert set(failed("network")) == {"samples of a seed, in another batch"}


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one():
    seen = parallel.compared("cpu")
    assert seen.ok, seen


@pytest.mark.slow
def test_two_processes_that_see_the_same_rows_are_noticed(monkeypatch):
    monkeypatch.setattr(parallel, "ROWS", parallel.ROWS * 2)  # here, and not in the processes
    assert not parallel.compared("cpu").ok


# ------------------------------------------------------------------------------------ faults: runs


def ill(path):
    """Of a run, what fails and what cannot be checked; its folder stays as it is."""
    before = hashes(path)
    findings = found("run", run=path)
    assert hashes(path) == before
    assert all(len(f.advice) > 20 for f in findings.values() if f.ok is False)
    return {k: f for k, f in findings.items() if not f.ok}


def rewritten(path, change):
    """The run's model with its weights changed, and a hash that fits."""
    weights, _ = read_with_metadata(path / "model.safetensors")
    change(weights)
    load(path).save_model(weights, 12)


def test_a_run_can_be_given_opened(few):
    assert not [f for f in examine("cpu", load(trained()), only=["run"]) if not f.ok]


def test_a_run_without_config(tmp_path):
    path = copied(tmp_path / "run")
    (path / "config.json").unlink()
    (finding,) = ill(path).values()
    assert "not a run folder" in finding.advice


def test_a_run_with_an_unknown_setting(tmp_path):
    path = copied(tmp_path / "run")
    data = json.loads((path / "config.json").read_text())
    data["recipe"]["train"]["stpes"] = 3
    (path / "config.json").write_text(json.dumps(data))
    assert "stpes" in ill(path)["config.json"].advice


def test_a_weight_that_is_not_a_number(tmp_path):
    path = copied(tmp_path / "run")
    rewritten(path, lambda weights: weights["out.bias"].fill_(math.nan))
    findings = ill(path)
    assert "out.bias of model.safetensors" in findings["weights"].advice
    assert "nan" in findings["samples"].seen
    assert "average of the weights" in findings


def test_a_tampered_model(tmp_path):
    path = copied(tmp_path / "run")
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))
    findings = ill(path)
    assert "not what was written" in findings["model.safetensors"].advice
    assert findings["model.safetensors"].ok is False
    assert {k for k, f in findings.items() if f.ok is None} >= {"samples", "average of the weights"}


def test_a_model_without_a_hash_a_missing_one_and_another_networks(tmp_path):
    path = copied(tmp_path / "run")
    file = path / "model.safetensors"
    weights, about = read_with_metadata(file)
    write_tensors(file, weights, {k: v for k, v in about.items() if k != "sha256"})
    assert "a change would go unnoticed" in ill(path)["model.safetensors"].advice
    load(path).save_model({**weights, "out.bias": weights["out.bias"][:2]}, 12)
    assert "out.bias has shape (2,)" in ill(path)["model.safetensors"].advice
    file.unlink()
    assert "missing" in ill(path)["model.safetensors"].advice


def test_a_model_that_is_not_the_saved_average(tmp_path):
    path = copied(tmp_path / "run")
    rewritten(path, lambda weights: weights["out.weight"].add_(0.5 * randn(*weights["out.weight"].shape).float()))
    findings = ill(path)
    assert "not the average saved with that step" in findings["average of the weights"].advice
    assert "metrics.jsonl says" in findings["held-out loss"].advice


def test_a_model_worse_than_at_the_start(tmp_path):
    path = copied(tmp_path / "run")
    (path / "metrics.jsonl").write_text('{"step": 0, "validation_loss": 0.01}\n')
    assert set(ill(path)) == {"held-out loss"}


def test_a_damaged_state(tmp_path):
    path = copied(tmp_path / "run")
    (path / "state" / "00000012" / "network.safetensors").write_bytes(b"nothing")
    findings = ill(path)
    assert findings["saved states"].seen == "1 of 2"
    assert "network.safetensors is damaged" in findings["saved states"].advice


def test_data_that_have_changed_and_data_that_are_gone(tmp_path):
    from toys import MLP, SHORT, cli

    file, path = tmp_path / "data.npy", tmp_path / "run"
    np.save(file, np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32))
    assert cli("train", file, *MLP, *SHORT, "train.steps=4", "--out", path).code == 0
    assert ill(path) == {}
    np.save(file, np.random.default_rng(1).standard_normal((64, 3)).astype(np.float32))
    findings = ill(path)
    assert "the data have changed" in findings["data"].advice
    assert findings["samples"].ok is None
    file.unlink()
    assert {f.ok for f in ill(path).values()} == {None}


def test_a_chain_that_does_not_end_in_noise(tmp_path):
    settings = ("schedule.kind=table", "schedule.betas.steps=50", "parameterization.kind=eps", "loss.notation=eps")
    path = copied(tmp_path / "run", *settings)
    finding = ill(path)["x where sampling starts"]
    assert "another law" in finding.advice


def test_samples_out_of_range_and_not_reproducible(tmp_path, monkeypatch):
    own = run.synthesize
    calls = []

    def wrong(*arguments):
        calls.append(0)
        return own(*arguments) * 20 + len(calls)

    monkeypatch.setattr(run, "synthesize", wrong)
    findings = ill(trained())
    assert set(findings) == {"samples of a seed, in another batch", "samples"}
    assert findings["samples of a seed, in another batch"].seen == "not the same twice"


def test_a_step_that_moves_nothing(monkeypatch):
    monkeypatch.setattr(run, "optimizer", lambda model, train: torch.optim.SGD(model.parameters(), lr=0.0))
    assert set(ill(trained())) == {"a step of training from the saved state"}


def test_a_folder_that_changes_is_noticed(tmp_path, monkeypatch):
    path, own = copied(tmp_path / "run"), run.stepped

    def untidy(who):
        (path / "metrics.jsonl").write_text("")
        return own(who)

    monkeypatch.setattr(run, "stepped", untidy)
    findings = found("run", run=path)
    assert findings["the folder"].ok is False
    assert findings["the folder"].seen.endswith("metrics.jsonl changed")


def test_slow_runs_take_the_word_of_the_log(monkeypatch):
    monkeypatch.setattr(run, "SECONDS", 1e-6)
    findings = found("run", run=trained())
    assert "by the log" in findings["held-out loss"].seen
    assert "in 2 steps" in findings["samples"].seen


def test_langevin_steps_forget_where_they_start(tmp_path):
    settings = ("schedule.kind=ve", "schedule.high=2.0", "sample.sampler.kind=annealed_langevin")
    finding = found("run", run=copied(tmp_path / "run", *settings, "sample.sampler.steps=1"))["x where sampling starts"]
    assert finding.ok is None
    assert "Langevin" in finding.seen
