"""`reverie ema`: averages compared, the chosen one put into the run, and what it says when it cannot."""

import fcntl
import json
import os
import re
import shutil

import pytest
import torch
from helpers import close
from toys import TOY, cli, copied, metrics, outcome, trained

from reverie.runs import load
from reverie.tensor_files import read_tensors, read_with_metadata
from reverie.training import reconstruct

SETTINGS = ("train.lr=3e-3", "train.steps=40", "train.sample_every=1000")


def rows(out):
    """First column to the others, of the table that was printed."""
    lines = [line.split() for line in out.splitlines() if re.match(r"\s+(present|exponential|[\d.]+)\s", line)]
    return {line[0]: line[1:] for line in lines}


def losses(out):
    return {name: float(cells[0]) for name, cells in rows(out).items()}


def about(run):
    return read_with_metadata(run / "model.safetensors")[1]


def files(run):
    """All of the run but its model."""
    return {
        p: p.read_bytes()
        for p in sorted(run.rglob("*"))
        if p.is_file() and p.name not in ("model.safetensors", ".lock")
    }


# ------------------------------------------------------------------------------------- choosing


def test_one_length_becomes_the_model(tmp_path):
    run = copied(tmp_path / "run", *SETTINGS)
    before, model = files(run), read_tensors(run / "model.safetensors")
    result = cli("ema", run, "--length", "0.07")
    assert result.code == 0
    assert "has: exponential, decay 0.995" in result.out
    assert "has now: power function, length 0.07, at step 40" in result.out
    assert files(run) == before
    found, told = read_with_metadata(run / "model.safetensors")
    assert (told["average"], told["length"], told["at"], told["step"]) == ("power", "0.07", "40", "40")
    expected = reconstruct(load(run), 0.07)
    assert all(torch.equal(found[name], t) for name, t in expected.weights.items())
    assert not torch.equal(found["out.weight"], model["out.weight"])
    assert rows(result.out)["0.07"][1] == f"{expected.mismatch:.2%}"
    assert all(torch.equal(t, found[name]) for name, t in load(run).denoiser.net.state_dict().items())


def test_the_losses_are_those_of_validation(tmp_path):
    run = copied(tmp_path / "run", *SETTINGS)
    first = losses(cli("ema", run, "--length", "0.1").out)
    assert first["present"] == pytest.approx(metrics(run)[-1]["validation_loss"], rel=1e-5)
    second = losses(cli("ema", run, "--length", "0.05,0.1").out)
    assert second["present"] == first["0.1"] == second["0.1"]


def test_of_several_the_one_with_the_lowest_loss_becomes_the_model(tmp_path):
    run = copied(tmp_path / "run", *SETTINGS)
    result = cli("ema", run, "--length", "0.25, 0.05, 0.1, 0.05")
    found = losses(result.out)
    assert list(found) == ["present", "0.25", "0.05", "0.1"]
    best = min(("0.25", "0.05", "0.1"), key=found.get)
    assert found[best] < found["present"]  # so early in training, the exponential average lags
    assert about(run)["length"] == best


def test_a_model_that_was_better_is_named_and_comes_back(tmp_path):
    run = copied(tmp_path / "run", *SETTINGS)
    model = read_tensors(run / "model.safetensors")
    cli("ema", run, "--length", "0.05")
    result = cli("ema", run, "--length", "0.2,0.25")
    found = losses(result.out)
    assert found["present"] < min(found["0.2"], found["0.25"])
    assert "the model before was better" in result.out
    assert about(run)["length"] == min(("0.2", "0.25"), key=found.get)
    back = cli("ema", run, "--length", "exponential")
    assert back.code == 0
    assert about(run)["average"] == "exponential"
    assert all(torch.equal(t, model[name]) for name, t in read_tensors(run / "model.safetensors").items())


def test_lengths_need_not_be_given(tmp_path):
    run = copied(tmp_path / "run", *SETTINGS)
    assert len(rows(cli("ema", run).out)) == 8


def test_an_earlier_step(tmp_path):
    run = copied(tmp_path / "run", *SETTINGS)
    result = cli("ema", run, "--length", "0.1", "--step", 20)
    assert "between snapshots" not in result.out
    assert load(run).average == "power function, length 0.1, at step 20"
    stored = read_tensors(run / "ema" / "00000020-0.1.safetensors")
    found = read_tensors(run / "model.safetensors")
    assert all(close(found[name], t, 1e-9) for name, t in stored.items())
    told = cli("ema", run, "--length", "0.1", "--step", 18).out
    assert "step 18 lies between snapshots, and is matched badly; they are at 5, 10, 15, 20, 25, 30, 35, 40" in told


def test_without_held_out_examples_the_first_is_taken(tmp_path):
    run = copied(tmp_path / "run", "train.validation=0.0")
    result = cli("ema", run, "--length", "0.1,0.05")
    assert result.code == 0
    assert "no held-out loss" in result.out
    assert about(run)["length"] == "0.1"


def moved_data(run):
    """The run's data are no longer where they were."""
    path = run / "config.json"
    data = json.loads(path.read_text())
    data["recipe"]["data"] = {"kind": "arrays", "path": "gone.npz"}
    path.write_text(json.dumps(data))


def test_without_the_data_a_length_must_be_given_alone(tmp_path):
    run = copied(tmp_path / "run")
    moved_data(run)
    assert "gone.npz" in cli("ema", run, "--length", "0.05,0.1").sentence
    result = cli("ema", run, "--length", "0.05")
    assert result.code == 0
    assert "no held-out loss: " in result.out
    assert about(run)["length"] == "0.05"


def test_a_run_whose_model_is_gone(tmp_path):
    run = copied(tmp_path / "run")
    (run / "model.safetensors").unlink()
    result = cli("ema", run, "--length", "0.05,0.1")
    assert "no model that can be read" in result.out
    assert rows(result.out)["present"][0] == "-"
    assert load(run).sample(1).shape == (1, 1, 8, 8)


# ---------------------------------------------------------------------- what the run is told of it


def test_info_tells_which_average_the_model_is(tmp_path):
    run = copied(tmp_path / "run")
    decay = load(run).recipe.train.ema
    assert json.loads(cli("info", run, "--json").out)["average"] == f"exponential, decay {decay}"
    cli("ema", run, "--length", "0.05")
    assert json.loads(cli("info", run, "--json").out)["average"] == "power function, length 0.05, at step 12"
    (run / "model.safetensors").write_bytes(b"")
    assert load(run).average is None
    assert json.loads(cli("info", run, "--json").out)["average"] == "-"


def test_a_finished_run_keeps_the_chosen_average_and_training_on_replaces_it(tmp_path):
    run = copied(tmp_path / "run")
    cli("ema", run, "--length", "0.05", "--step", 6)
    chosen = outcome(run)
    assert "finished at step 12" in cli("train", *TOY, "--out", run).out
    assert outcome(run) == chosen
    assert load(run).average == "power function, length 0.05, at step 6"
    other = copied(tmp_path / "other")
    for path in (run, other):
        assert cli("train", *TOY, "train.steps=16", "--out", path).code == 0
    assert outcome(run) == outcome(other)
    assert load(run).average == load(other).average


# ----------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--length", "0.3"), r"at most 0\.28 .*given 0\.3"),
        (("--length", "0"), r"greater than 0 .*given 0"),
        (("--length", "0.05,nan"), "given nan"),
        (("--length", "0.05;0.1"), r"numbers with commas, such as 0\.05,0\.1; given '0\.05;0\.1'"),
        (("--length", ""), "numbers with commas"),
        (("--step", 13), "step 13 is after the last snapshot .*, at step 12"),
        (("--step", 0), "begins with step 1; given 0"),
    ],
)
def test_wrong_words(words, said):
    run = trained()
    assert re.search(said, cli("ema", run, *words).sentence)


def test_a_run_without_snapshots(tmp_path):
    said = cli("ema", trained("train.ema_lengths=[]")).sentence
    assert "holds no snapshots" in said
    assert "train.ema_lengths" in said
    assert "train.snapshots" in said
    assert "not a run folder" in cli("ema", tmp_path).sentence


def test_a_damaged_snapshot_is_named_and_nothing_changes(tmp_path):
    run = copied(tmp_path / "run")
    path = run / "ema" / "00000006-0.1.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    before = (run / "model.safetensors").read_bytes()
    assert re.search(
        r"00000006-0\.1\.safetensors is damaged .* Remove it", cli("ema", run, "--length", "0.05").sentence
    )
    assert (run / "model.safetensors").read_bytes() == before
    path.unlink()
    assert "length 0.05, at step 12" in cli("ema", run, "--length", "0.05").out


def test_a_run_in_training_is_left_alone(tmp_path):
    run = copied(tmp_path / "run")
    held = os.open(run / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    said = cli("ema", run, "--length", "0.05").sentence
    assert "another process is training in" in said
    assert "--out" not in said
    os.close(held)
    assert cli("ema", run, "--length", "0.05").code == 0


def test_a_run_that_has_moved_without_its_states(tmp_path):
    run = copied(tmp_path / "run")
    shutil.rmtree(run / "state")
    assert cli("ema", run, "--length", "0.05").code == 0
    assert about(run)["step"] == "12"
