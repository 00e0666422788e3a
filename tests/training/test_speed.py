"""Settings of speed: each trains as without it, bit for bit or to rounding, and resumes as ever."""

import copy
import math
import re
from dataclasses import replace

import pytest
import torch
from toys import DIT, UNET, Ahead, begun, cli, interrupted, metrics, outcome, toy, trained

from reverie.conditioning import Cond
from reverie.denoiser import Denoiser
from reverie.losses import Denoising, UniformTimes
from reverie.memory import available
from reverie.parameterizations import Velocity
from reverie.recipe import Train
from reverie.runs import load, network
from reverie.schedules import Flow
from reverie.tensor_files import read_tensors
from reverie.training import NonFiniteError, Trainer, speed
from reverie.training.optim import optimizer, settle
from reverie.training.state import optimizer_tensors, restore_optimizer

HALF = ("train.precision=bf16",)
FEW = ("train.steps=4", "train.accumulate=2")
GRAPHS = ("train.compile=true",)


def train(trainer, after):
    """To the end, with `after(step)` behind every step."""
    for report in trainer:
        after(report.step)


def losses(run):
    return [line["loss"] for line in metrics(run) if "loss" in line]


# -------------------------------------------------------------------------- gradient checkpointing


@pytest.mark.parametrize("net", [DIT, UNET], ids=["dit", "unet"])
def test_checkpointing_changes_no_bit(net):
    """Dropout included: what is computed again draws the same."""
    assert outcome(trained(*net, *FEW, "train.checkpointing=true")) == outcome(trained(*net, *FEW))


def test_the_average_is_not_checkpointed(tmp_path):
    run, examples = begun(tmp_path / "run", *DIT, "train.checkpointing=true")
    trainer = Trainer(run, examples)
    next(iter(trainer))
    assert trainer.learner.denoiser.net.checkpointing
    assert not trainer.learner.average.net.checkpointing


def test_checkpointing_and_a_loss_that_differentiates_twice_are_refused():
    loss = ("loss.kind=sliced_score_matching", "parameterization.kind=edm", "schedule.kind=ve")
    assert toy(*loss).loss.kind == "sliced_score_matching"
    with pytest.raises(ValueError, match=r"differentiates twice; set train\.checkpointing=false"):
        toy(*loss, "train.checkpointing=true")


# ------------------------------------------------------------------------------------- compilation


@pytest.fixture
def eager(monkeypatch):
    """torch.compile traces, and runs what it traced by the same kernels."""
    monkeypatch.setattr(speed, "BACKEND", "aot_eager")


@pytest.mark.usefixtures("eager")
def test_a_compiled_network_trains_as_the_plain_one_does(tmp_path):
    ours = interrupted(tmp_path / "ours", 5, *DIT, *GRAPHS)
    whole = interrupted(tmp_path / "whole", 12, *DIT, *GRAPHS)
    assert outcome(ours) == outcome(whole)
    assert losses(ours) == pytest.approx(losses(trained(*DIT)), rel=1e-4)
    names = read_tensors(trained(*DIT) / "model.safetensors").keys()
    assert read_tensors(ours / "model.safetensors").keys() == names
    assert read_tensors(ours / "state" / "00000012" / "network.safetensors").keys() == names


@pytest.mark.usefixtures("eager")
def test_what_was_compiled_is_counted(tmp_path):
    run, examples = begun(tmp_path / "run", *GRAPHS)
    lines = [report.metrics for report in Trainer(run, examples) if "loss" in report.metrics]
    assert [line["compilations"] for line in lines] == [1] * 4
    assert all("compilations" not in line for line in metrics(trained()))


def test_copies_of_a_compiled_network_are_plain():
    net = torch.nn.Linear(2, 2)
    compiled = speed.Compiled(net)
    assert net._compiled_call_impl is not None
    assert copy.deepcopy(net)._compiled_call_impl is None
    assert list(net.state_dict()) == ["weight", "bias"]
    assert (
        compiled.gives_up(RuntimeError("no gcc")) == "the network cannot be compiled here (no gcc); it runs uncompiled"
    )
    assert net._compiled_call_impl is None
    assert compiled.gives_up(RuntimeError("again")) is None


def test_a_lack_of_memory_is_no_fault_of_the_compiler():
    assert speed.Compiled(torch.nn.Linear(2, 2)).gives_up(MemoryError()) is None


@pytest.mark.parametrize("stage", ["forward", "backward"])
def test_where_the_compiler_fails_training_goes_on_without_it(tmp_path, monkeypatch, stage):
    """As if it had never been asked: the step is begun again, with the same noise and dropout."""

    def broken(graph, inputs):
        def fail(*args):
            raise RuntimeError("no room for a kernel\nin detail")

        if stage == "forward":
            fail()
        return fail

    whole = interrupted(tmp_path / "whole", 12, *DIT)
    monkeypatch.setattr(speed, "BACKEND", broken)
    run, examples = begun(tmp_path / "run", *DIT, *GRAPHS)
    notes = [note for report in Trainer(run, examples) for note in report.notes]
    assert [note for note in notes if "compiled" in note] == [notes[0]], notes
    assert "the network cannot be compiled here (" in notes[0]
    assert "no room for a kernel" in notes[0]
    assert outcome(run.path) == outcome(whole)


def test_other_errors_of_a_compiled_run_are_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "BACKEND", "eager")
    run, examples = begun(tmp_path / "run", *GRAPHS)
    trainer = Trainer(run, examples)

    def fails(batch):
        raise KeyError("a fault of the loss")

    def spoil(step):
        if step == 3:
            trainer.learner.objective.forward = fails

    with pytest.raises(KeyError, match="a fault of the loss"):
        train(trainer, spoil)


@pytest.mark.usefixtures("eager")
def test_a_loss_that_is_not_finite_is_named_as_ever(tmp_path):
    run, examples = begun(tmp_path / "run", *DIT, *GRAPHS)
    trainer = Trainer(run, examples)

    def spoil(step):
        if step == 3:
            torch.nn.init.constant_(trainer.learner.denoiser.net.out.weight, math.nan)

    with pytest.raises(NonFiniteError, match=r"step 4: .* First: the weight net\.out\.weight"):
        train(trainer, spoil)


# -------------------------------------------------------------------------------------- precision


def test_half_precision_trains_as_float32_does():
    full, half = losses(trained(*UNET, *FEW)), losses(trained(*UNET, *FEW, *HALF))
    assert half != full
    assert half == pytest.approx(full, rel=0.02)


def test_what_a_device_is_slow_or_no_use_at_is_said(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(speed, "computes_bf16", lambda device: False)
    (slow,) = speed.advice(Train(precision="bf16"), cpu)
    assert "takes longer" in slow
    (idle,) = speed.advice(Train(tf32=True), cpu)
    assert "does nothing on cpu" in idle
    (wasted,) = speed.advice(Train(), cuda)
    assert "train.precision=bf16" in wasted
    monkeypatch.setattr(speed, "computes_bf16", lambda device: True)
    for train, device in ((Train(), cpu), (Train(precision="bf16"), cpu), (Train(tf32=True), cuda)):
        assert not [*speed.advice(train, device)]


def test_tf32_is_for_the_time_of_training_alone():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for wanted in (True, False):
        with speed.arithmetic(Train(tf32=wanted), torch.device("cuda")):
            assert torch.backends.cuda.matmul.allow_tf32 is wanted
            assert torch.backends.cudnn.allow_tf32 is wanted
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_channels_lie_innermost_on_cuda_where_tensor_cores_compute():
    def layout(train, device):
        net = network(load(trained(*UNET, *FEW)).recipe, load(trained(*UNET, *FEW)).facts).net
        speed.lay_out(net, train, torch.device(device))
        return net.out.weight.is_contiguous(memory_format=torch.channels_last), net

    for train in (Train(precision="bf16"), Train(tf32=True)):
        assert layout(train, "cuda")[0]
        assert not layout(train, "cpu")[0]
    assert not layout(Train(), "cuda")[0]
    _, net = layout(Train(tf32=True), "cuda")
    _, plain = layout(Train(), "cuda")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), plain.state_dict().values(), strict=True))


# ---------------------------------------------------------------------------------- the optimizer


def stepped(train, weights=None, state=None):
    """Two steps of AdamW, or two more: what became of the weights, and its state."""
    conv = torch.nn.Conv2d(2, 4, 3)
    conv.load_state_dict(weights or {"weight": torch.linspace(-1, 1, 72).reshape(4, 2, 3, 3), "bias": torch.zeros(4)})
    conv = conv.to(memory_format=torch.channels_last)
    adam = optimizer(conv, train)
    if state:
        restore_optimizer(conv, adam, {k: v.contiguous() for k, v in state.items()})
        settle(adam)
        assert adam.state[conv.weight]["exp_avg"].stride() == conv.weight.stride()
    for _ in range(2):
        conv.weight.square().sum().backward()
        conv.bias.sub(1).square().sum().backward()
        adam.step()
        adam.zero_grad()
    return {k: v.clone() for k, v in conv.state_dict().items()}, optimizer_tensors(conv, adam)


def test_one_kernel_for_all_parameters_is_adam_with_decoupled_decay():
    """Loshchilov & Hutter, 2019, algorithm 2, step by step in float64."""
    train = Train(weight_decay=0.1)
    assert optimizer(torch.nn.Linear(1, 1), train).defaults["fused"]
    found, _ = stepped(train)
    w = torch.linspace(-1, 1, 72, dtype=torch.float64).reshape(4, 2, 3, 3)
    m = v = torch.zeros_like(w)
    (first, second), lr = train.betas, train.lr
    for n in (1, 2):
        g = 2 * w
        m, v = first * m + (1 - first) * g, second * v + (1 - second) * g**2
        step = (m / (1 - first**n)) / ((v / (1 - second**n)).sqrt() + 1e-8)
        w = w - lr * 0.1 * w - lr * step
    torch.testing.assert_close(found["weight"].double(), w, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_its_state_is_put_back_in_the_layout_of_the_weights(precision):
    train = Train(precision=precision)
    weights, state = stepped(train)
    again, _ = stepped(train, weights, state)
    adam_twice = stepped(train)  # and four steps without a break
    conv_weights, _ = stepped(train, adam_twice[0], adam_twice[1])
    for name, value in again.items():
        assert torch.equal(value, conv_weights[name])


# ------------------------------------------------------------------- a host that is a step ahead


@pytest.mark.parametrize("net", [DIT, (*UNET, "net.magnitude=true")], ids=["dit", "magnitude"])
def test_reading_late_changes_no_bit(net, tmp_path):
    """Weights that are brought back after each step too: before they are averaged, whenever that is."""
    expected = outcome(trained(*net, *HALF))
    for moment in (1, 5, 12):
        assert outcome(interrupted(tmp_path / f"at {moment}", moment, *net, *HALF, trainer=Ahead)) == expected


def test_losses_are_told_where_they_have_been_read(tmp_path):
    run, examples = begun(tmp_path / "run", *HALF, "train.log_every=5", "train.snapshots=1")
    told = {report.step: report.loss for report in Ahead(run, examples)}
    assert {step for step, loss in told.items() if loss is not None} == {4, 5, 6, 8, 10, 12}


@pytest.mark.parametrize("spoilt", [4, 6, 11])
def test_a_bad_step_changes_nothing_and_ends_the_run_when_it_is_read(tmp_path, monkeypatch, spoilt):
    """Step `spoilt` + 1 has data that are not finite; what is saved is the state before it, averages and all."""
    from reverie.training import batches

    encoded = batches.encoded

    def spoiled(*args):
        x0, label = encoded(*args)
        x0[3, 0, 2, 2] = math.nan
        return x0, label

    def message(trainer, path):
        monkeypatch.setattr(batches, "encoded", encoded)
        run, examples = begun(path, *HALF)
        with pytest.raises(NonFiniteError) as caught:
            train(
                trainer(run, examples),
                lambda step: monkeypatch.setattr(batches, "encoded", spoiled if step == spoilt else encoded),
            )
        return str(caught.value).replace(str(path), ""), run, examples

    ours, run, examples = message(Ahead, tmp_path / "ours")
    theirs, other, _ = message(Trainer, tmp_path / "theirs")
    assert ours == theirs
    assert ours.startswith(f"step {spoilt + 1}: ")
    assert outcome(run.path) == outcome(other.path)
    monkeypatch.setattr(batches, "encoded", encoded)
    for _ in Ahead(load(run.path), examples):
        pass
    resumed, whole = outcome(run.path), outcome(trained(*HALF))
    assert all(resumed[what] == whole[what] for what in ("model", "metrics", "samples"))


@pytest.mark.parametrize("net", [(), DIT, UNET], ids=["mlp", "dit", "unet"])
def test_a_step_asks_the_device_nothing(net):
    """On meta there are no numbers to be read: whatever waits for one fails."""
    run = load(trained(*net, *FEW))
    with torch.device("meta"):
        built = run.recipe.net.build(run.facts.shape)
    f = Denoiser(built.train(), Flow(), Velocity())
    x0 = torch.empty(8, *run.facts.shape, device="meta")
    cond = Cond(label=torch.empty(8, dtype=torch.int64, device="meta"), drop=torch.empty(8, dtype=bool, device="meta"))
    Denoising("flow", UniformTimes())(f, x0, torch.rand(8).double(), cond).mean().backward()
    norm = torch.nn.utils.clip_grad_norm_(built.parameters(), 1.0)
    assert norm.device.type == "meta"


# ------------------------------------------------------------------------- what is said beforehand


def test_the_command_says_what_it_needs(tmp_path):
    said = cli("train", "digits", "net.kind=mlp", "train.steps=0", "--out", tmp_path / "run")
    assert said.code == 0
    assert "network: mlp, " in said.out
    assert re.search(r"an example; training needs about [\d.]+ [MG]B( of [\d.]+ [MG]B free)?\n", said.out)
    assert "are free" not in said.err


def needs(free, monkeypatch, *settings):
    from reverie.training import needs

    run = load(trained(*UNET, *FEW))
    recipe = replace(run.recipe, train=toy(*settings, "train.batch=4096").train)
    monkeypatch.setattr(needs.memory, "available", lambda device: free)
    return needs.Needs(recipe, run.facts, torch.device("cpu"))


def test_where_memory_is_short_it_says_what_fits(monkeypatch):
    found = needs(None, monkeypatch)
    assert found.warning() == ""
    whole = found.bytes
    assert needs(whole, monkeypatch).warning() == ""
    said = needs(int(0.7 * whole), monkeypatch).warning()
    assert said.startswith("training needs about ")
    assert "train.batch=2048 train.accumulate=2 (" in said
    assert "train.checkpointing=true (" in said
    said = needs(int(0.25 * whole), monkeypatch).warning()
    assert "accumulate" in said
    assert "train.batch=2048 " not in said
    assert "not even a batch of 1 fits" in needs(1000, monkeypatch).warning()


@pytest.mark.parametrize("batch", [31, 75, 96])
def test_a_batch_of_any_number_can_be_divided(monkeypatch, batch):
    """Down to examples one by one, where each of the larger parts is too much."""
    found = needs(0, monkeypatch)
    one = replace(found.recipe.train, batch=1, checkpointing=True, precision="bf16")
    found = replace(found, recipe=replace(found.recipe, train=replace(found.recipe.train, batch=batch)))
    monkeypatch.setattr("reverie.memory.available", lambda device: found._bytes(one))
    assert f"train.batch=1 train.accumulate={batch} " in found.warning()


def test_what_is_said_to_fit_does(monkeypatch):
    from reverie.cli.compose import composed

    for share in (0.8, 0.5, 0.3):
        found = needs(int(share * needs(None, monkeypatch).bytes), monkeypatch)
        for words, train in found._fitting(available("cpu") or 0):
            made = composed(["digits", *words.split()])[0].train
            assert (made.precision, made.checkpointing) == (train.precision, train.checkpointing)
            if "batch" in words:
                assert made.batch * made.accumulate == 4096


def test_operations_of_a_step_count_what_is_computed_again(monkeypatch):
    plain, again = needs(None, monkeypatch), needs(None, monkeypatch, "train.checkpointing=true")
    assert plain.flops == 3 * 4096 * plain.network.flops
    assert again.flops == 4 * 4096 * plain.network.flops
    assert again.bytes < plain.bytes
