"""Snapshots of averages: when they are stored, that resuming does not change them, and what is made of them."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import toys
from helpers import close
from toys import DIT, TOY, begun, cli, copied, toy, trained

from reverie import config
from reverie.recipe import Train
from reverie.runs import EMA, SAMPLES, Run, digest, load, network
from reverie.tensor_files import fill, read_tensors, read_with_metadata, write_tensors
from reverie.training import Trainer, reconstruct
from reverie.training.ema import PowerAverages
from reverie.training.profiles import Profile, exponent
from reverie.training.snapshots import due, snapshots, write
from reverie.training.state import states
from reverie.training.validation import validate

HARD = (
    *DIT,
    "train.accumulate=2",
    "train.flip=true",
    "train.drop=0.3",
    "train.snapshots=4",
    "train.ema_lengths=[0.1,0.2]",
)
LONG = (*DIT, "train.steps=200", "train.sample_every=1000", "train.validate_every=1000", "train.lr=3e-3")


def stored(run):
    """Every snapshot: the hash of its tensors, and what it says of itself, whose order in the file is by chance."""
    files = {p.name: read_with_metadata(p) for p in (run / EMA).iterdir()}
    return {name: (digest(tensors), about) for name, (tensors, about) in files.items()}


def outcome(run):
    return {**toys.outcome(run), "ema": stored(run)}


def steps_of(run):
    return sorted({s.profile.step for s in snapshots(load(run))})


# --------------------------------------------------------------------------------- when and how


@pytest.mark.parametrize("steps", [1, 3, 7, 8, 12, 100, 1001])
@pytest.mark.parametrize("n", [1, 2, 8, 13])
def test_snapshots_are_spread_evenly_and_the_last_step_has_one(steps, n):
    found = [s for s in range(1, steps + 1) if due(s, Train(steps=steps, snapshots=n))]
    assert found[-1] == steps
    assert len(found) == min(n, steps)
    assert all(abs(s - steps * (i + 1) / len(found)) <= 1 for i, s in enumerate(found))


def test_a_run_stores_them(tmp_path):
    run = trained(*HARD)
    assert steps_of(run) == [3, 6, 9, 12]
    assert sorted(p.name for p in (run / EMA).iterdir())[:2] == [
        "00000003-0.1.safetensors",
        "00000003-0.2.safetensors",
    ]
    state, about = read_with_metadata(run / EMA / "00000012-0.2.safetensors")
    assert (about["step"], about["length"]) == ("12", "0.2")
    assert len(about["sha256"]) == 64
    net = network(load(run).recipe, load(run).facts).net
    assert state.keys() == net.state_dict().keys()
    assert {t.dtype for t in state.values()} == {torch.float16}
    exact = read_tensors(next(states(load(run))) / "ema.safetensors")
    for name, t in state.items():  # half a unit in the last place of 11 bits, or of the smallest number there is
        off = (t.double() - exact[f"0.2/{name}"].double()).abs()
        assert bool((off <= exact[f"0.2/{name}"].double().abs() * 2**-11 + 2**-25).all())


def test_no_lengths_no_snapshots():
    run = trained("train.ema_lengths=[]")
    assert not (run / EMA).exists()
    assert not (next(states(load(run))) / "ema.safetensors").exists()


def test_other_lengths_and_numbers_change_nothing_else():
    """What they cost is their own: the model, the metrics, the raw weights are those of a run without them."""
    plain, kept = toys.outcome(trained("train.ema_lengths=[]")), toys.outcome(trained())
    assert {k: plain[k] for k in ("model", "metrics", "samples")} == {
        k: kept[k] for k in ("model", "metrics", "samples")
    }


def test_a_weight_that_float16_has_no_room_for_is_stored_as_it_is(tmp_path):
    run, net = load(trained()), torch.nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1e6, 1.0]]))
    write(Run(tmp_path, run.recipe, run.facts, {}), 1, PowerAverages(net, (0.05,)), net)
    found = read_tensors(tmp_path / EMA / "00000001-0.05.safetensors")
    assert found["weight"].tolist() == [[1e6, 1.0]]
    assert found["bias"].dtype == torch.float16


@pytest.mark.parametrize("given", [(0.0,), (0.3,), (-0.1,), (0.05, 0.05), (float("nan"),)])
def test_lengths_out_of_range_are_refused(given):
    with pytest.raises(ValueError, match=r"ema_lengths must be different shares .* or \[\] for no power-function"):
        Train(ema_lengths=given)


def test_there_is_one_at_least():
    with pytest.raises(ValueError, match="snapshots must be at least 1; given 0"):
        Train(snapshots=0)


# ------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("moment", [0, 2, 3, 5, 7, 12])
def test_a_resumed_run_has_the_snapshots_of_one_that_was_not_stopped(tmp_path, moment):
    run, examples = begun(tmp_path / "run", *HARD)
    for report in Trainer(run, examples):
        if report.step == moment:
            break
    for _ in Trainer(load(run.path), examples):
        pass
    assert outcome(run.path) == outcome(trained(*HARD))


def test_snapshots_newer_than_the_state_are_written_again(tmp_path):
    run = copied(tmp_path / "run", *HARD)
    shutil.rmtree(run / "state" / "00000012")  # as if killed between the snapshot and the state
    (run / EMA / "00000012-0.1.safetensors").write_bytes(b"half")
    (run / EMA / ".00000012-0.2.abcdef.tmp.safetensors").write_bytes(b"half")
    (run / SAMPLES / ".00000012.abcdef.tmp.png").write_bytes(b"half")
    assert "resuming at step 8" in cli("train", *TOY, *HARD, "--out", run).out
    assert outcome(run) == outcome(trained(*HARD))
    assert not [*(run / EMA).glob(".*"), *(run / SAMPLES).glob(".*")]


def without_averages(run):
    """Make a run what an earlier version would have left."""
    shutil.rmtree(run / EMA)
    for state in (run / "state").iterdir():
        (state / "ema.safetensors").unlink()
        about = json.loads((state / "state.json").read_text())
        del about["sha256"]["ema.safetensors"]
        (state / "state.json").write_text(json.dumps(about))
    settings = json.loads((run / "config.json").read_text())
    for key in ("ema_lengths", "snapshots"):
        settings["recipe"]["train"].pop(key, None)
    (run / "config.json").write_text(json.dumps(settings))


def test_a_run_from_before_there_were_any_goes_on_and_they_begin_there(tmp_path):
    run = copied(tmp_path / "run")
    without_averages(run)
    assert load(run).recipe == load(trained()).recipe
    assert "begin" not in cli("train", *TOY, "--out", run).out  # nothing is left to do
    begin = read_tensors(run / "state" / "00000012" / "network.safetensors")
    resumed = cli("train", *TOY, "train.steps=13", "--out", run)
    assert resumed.code == 0
    assert "the power-function averages of length 0.05 and 0.1 begin here" in resumed.out
    after = read_tensors(run / "state" / "00000013" / "network.safetensors")
    found = read_tensors(run / "state" / "00000013" / "ema.safetensors")
    past = (12 / 13) ** (exponent(0.1) + 1)
    for name, w in begin.items():
        assert close(found[f"0.1/{name}"], past * w.double() + (1 - past) * after[name].double(), 1e-6)
    assert steps_of(run) == [13]
    assert "begin" not in cli("train", *TOY, "train.steps=14", "--out", run).out


def test_lengths_and_number_may_change_on_the_way(tmp_path):
    run = copied(tmp_path / "run")
    resumed = cli("train", *TOY, "train.steps=16", "train.ema_lengths=[0.05,0.2]", "train.snapshots=2", "--out", run)
    assert resumed.code == 0
    assert "averages of length 0.2 begin here" in resumed.out
    assert {p.name for p in (run / EMA).glob("00000016-*")} == {
        "00000016-0.05.safetensors",
        "00000016-0.2.safetensors",
    }
    assert config.to_data(load(run).recipe)["train"]["ema_lengths"] == [0.05, 0.2]


def test_a_state_that_names_other_files_is_damaged(tmp_path):
    run = copied(tmp_path / "run")
    path = run / "state" / "00000012" / "state.json"
    path.write_text(path.read_text().replace("ema.safetensors", "emb.safetensors"))
    assert "00000012/state.json is damaged" in cli("train", *TOY, "--out", run).out
    assert outcome(run) == outcome(trained())


# -------------------------------------------------------------------------------- reconstruction


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run of 200 steps, and the power-function averages of its weights by direct sums in float64."""
    run, examples = begun(tmp_path_factory.mktemp("tracked") / "run", *LONG)
    trainer, history = Trainer(run, examples), []
    for report in trainer:
        if report.step:
            history.append(
                {name: p.detach().double().clone() for name, p in trainer.learner.denoiser.net.named_parameters()}
            )

    def average(length, step):
        edge = torch.arange(step + 1, dtype=torch.float64) / step
        shares = (edge ** (exponent(length) + 1)).diff()
        return torch.cat([sum(s * h[n] for s, h in zip(shares, history, strict=False)).flatten() for n in history[0]])

    return load(run.path), average


def flat(weights):
    return torch.cat([t.double().flatten() for t in weights.values()])


@pytest.mark.parametrize("length", [0.05, 0.1])
@pytest.mark.parametrize("step", [None, 100])
def test_a_tracked_length_comes_back_as_it_was_stored(tracked, length, step):
    """To rounding of the mixture's weights; that is below float32's own but for numbers that are nearly 0."""
    run, average = tracked
    found = reconstruct(run, length, step)
    step = step or 200
    kept = read_tensors(run.path / EMA / f"{step:08d}-{length}.safetensors")
    assert found.profile == Profile(step, length)
    assert found.mismatch < 1e-7
    assert {t.dtype for t in found.weights.values()} == {torch.float32}
    assert all(close(found.weights[name], t, 1e-9) for name, t in kept.items())
    assert float((flat(found.weights) - average(length, step)).norm() / average(length, step).norm()) < 2**-11


@pytest.mark.parametrize("length", [0.05, 0.1])
def test_rounding_does_not_matter_to_the_loss(tracked, length):
    run, _ = tracked
    recipe, examples = run.recipe, run.recipe.data.load()
    rows = recipe.data.split(examples, recipe.train.validation, recipe.train.seed).validation
    exact = read_tensors(next(states(run)) / "ema.safetensors")
    losses = []
    for weights in (
        {k: exact[f"{length}/{k}"] for k in reconstruct(run, length).weights},
        reconstruct(run, length).weights,
    ):
        denoiser = network(recipe, run.facts).eval()
        fill(denoiser, weights, run.path)
        losses.append(validate(denoiser, recipe.loss, examples, rows, run.space, 0, labels=True).loss)
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(("length", "share"), [(0.03, 0.12), (0.04, 0.05), (0.07, 0.02), (0.15, 0.03), (0.2, 0.15)])
def test_another_length_comes_near_to_the_average_tracked_in_training(tracked, length, share):
    """Within a stated share of the way from the average of length 0.05 to that of 0.1.

    What is missing is what 16 profiles cannot match, 10, 3, 1.3, 3 and 8 % of the norm of the profile, and the
    rounding to float16, which is 2e-4 of the weights and 0.007 of this distance. Twice what is found is allowed.
    """
    run, average = tracked
    found = reconstruct(run, length)
    unit = float((average(0.05, 200) - average(0.1, 200)).norm())
    assert float((flat(found.weights) - average(length, 200)).norm()) < share * unit
    assert found.snapshots == 16


def test_a_step_between_snapshots_is_made_of_those_up_to_the_one_after_it(tracked):
    run, average = tracked
    found = reconstruct(run, 0.1, 140)
    assert found.snapshots == 12  # to step 150
    assert found.mismatch > 0.1
    assert float((flat(found.weights) - average(0.1, 140)).norm()) < 0.2 * float(
        (average(0.1, 150) - average(0.1, 140)).norm()
    )


def test_what_is_no_parameter_is_that_of_the_newest_snapshot(tmp_path, monkeypatch):
    run = load(copied(tmp_path / "run"))
    net = network(run.recipe, run.facts).net
    for snapshot in snapshots(run):
        state, about = read_with_metadata(snapshot.path)
        del about["sha256"]
        write_tensors(snapshot.path, {**state, "count": torch.tensor(snapshot.profile.step)}, about)
    with pytest.raises(ValueError, match=r"another network: count is not in the network.*Remove it"):
        reconstruct(run, 0.05)
    net.register_buffer("count", torch.tensor(0))
    monkeypatch.setattr("reverie.training.snapshots.new_model", lambda recipe, facts: SimpleNamespace(net=net))
    assert int(reconstruct(run, 0.05).weights["count"]) == 12
    assert int(reconstruct(run, 0.05, 6).weights["count"]) == 6


def test_what_cannot_be_made_is_refused(tmp_path):
    run = load(copied(tmp_path / "run"))
    with pytest.raises(ValueError, match=r"step 13 is after the last snapshot of .*, at step 12"):
        reconstruct(run, 0.05, 13)
    with pytest.raises(ValueError, match="begins with step 1; given 0"):
        reconstruct(run, 0.05, 0)
    with pytest.raises(ValueError, match=r"at most 0\.28"):
        reconstruct(run, 0.3)
    (run.path / EMA / "notes-of-mine.safetensors").write_bytes(b"")  # is passed over
    reconstruct(run, 0.05)
    spoiled = run.path / EMA / "00000006-0.1.safetensors"
    whole = spoiled.read_bytes()
    for data in (whole[:-10], whole[:-1] + bytes([whole[-1] ^ 1]), b"", (run.path / "model.safetensors").read_bytes()):
        spoiled.write_bytes(data)
        with pytest.raises(
            ValueError, match=r"00000006-0\.1\.safetensors is damaged.* Remove it, and the average is made"
        ):
            reconstruct(run, 0.05)
    spoiled.unlink()
    assert reconstruct(run, 0.05).snapshots == 15
    with pytest.raises(ValueError, match=r"holds no snapshots .* train\.ema_lengths, .* train\.snapshots times"):
        reconstruct(load(trained("train.ema_lengths=[]")), 0.05)


def test_settings_without_them_still_load():
    data = config.to_data(toy())
    del data["train"]["ema_lengths"], data["train"]["snapshots"]
    assert config.from_data(type(toy()), data) == toy()
