"""A run that is stopped, however, and started again by the same command is the run that never stopped."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import toys
from toys import DIT, TOY, KillAt, begun, cli, copied, killed, moments, process, trained, wait_for

from reverie.runs import digest, load
from reverie.tensor_files import read_tensors
from reverie.training import Trainer

HARD = (*DIT, "train.accumulate=2", "train.flip=true", "train.decay=cosine", "train.drop=0.3", "train.weight_decay=0.1")
LONG = (*HARD, "train.steps=60", "train.save_every=7", "train.keep=3", "train.sample_every=30")


def outcome(run):
    return {**toys.outcome(run), "ema": {p.name: digest(read_tensors(p)) for p in (run / "ema").iterdir()}}


def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    codes = [killed(*TOY, *LONG, "--out", run, log=log, after=after) for after in moments(7, 2.0)]
    assert cli("train", *TOY, *LONG, "--out", run).code == 0
    assert set(codes) <= {-9, 0}, log.read_text()
    assert codes.count(-9) >= 2, codes
    assert outcome(run) == outcome(trained(*LONG))
    assert not list(run.rglob("*.tmp*"))
    assert not list(run.rglob(".partial*"))


@pytest.mark.parametrize("n", [1, 5, 9, 12, (13, 28), (28, 57), (57, 86)], ids=str)
def test_a_run_killed_while_it_writes_its_nth_file_too(tmp_path, n):
    n = n if isinstance(n, int) else random.randrange(*n)
    print("file", n)
    run = tmp_path / "run"
    with process("train", *TOY, *HARD, "--out", run, log=tmp_path / "log", first=KillAt(n)) as child:
        child.join(60)
        assert child.exitcode in (-9, 0)
    assert cli("train", *TOY, *HARD, "--out", run).code == 0
    assert outcome(run) == outcome(trained(*HARD))
    assert not list(run.rglob("*.tmp*"))
    assert not list(run.rglob(".partial*"))


def test_the_command_itself_killed_and_resumed(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    command = [sys.executable, "-m", "reverie", "train", *TOY, *LONG, "--out", str(run)]
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as child:
        wait_for(lambda: (run / "state" / "00000007").exists() or child.poll() is not None)
        time.sleep(random.uniform(0, 0.3))
        child.kill()
    assert child.wait() == -9, log.read_text()
    resumed = cli("train", *TOY, *LONG, "--out", run)
    assert "resuming at step" in resumed.out
    assert outcome(run) == outcome(trained(*LONG))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_nothing_is_lost(tmp_path, number):
    run, log = tmp_path / "run", tmp_path / "log"
    with process("train", *TOY, *LONG, "--out", run, log=log) as child:
        wait_for(lambda: log.exists() and b"step 3/" in log.read_bytes())
        os.kill(child.pid, number)
        child.join(60)
    said = log.read_text()
    assert child.exitcode == 128 + number, said
    assert "Traceback" not in said
    stopped = [line for line in said.splitlines() if line.startswith("stopped at step ")]
    assert len(stopped) == 1
    assert number.name in stopped[0]
    assert "run the same command again" in stopped[0]
    step = int(stopped[0].split()[3])
    assert 3 <= step < 60
    assert (run / "state" / f"{step:08d}").is_dir()
    assert f"resuming at step {step} of 60" in cli("train", *TOY, *LONG, "--out", run).out
    ours, theirs = outcome(run), outcome(trained(*LONG))
    assert ours == theirs


def test_two_signals_at_once_are_one(tmp_path):
    """torchrun passes on a signal that the system has given to its processes as well."""
    run, log = tmp_path / "run", tmp_path / "log"
    with process("train", *TOY, "train.steps=100000", "--out", run, log=log) as child:
        wait_for(lambda: log.exists() and b"step 3/" in log.read_bytes())
        os.kill(child.pid, signal.SIGTERM)
        os.kill(child.pid, signal.SIGTERM)
        child.join(60)
    assert child.exitcode == 143
    assert "stopped at step" in log.read_text()


@pytest.mark.parametrize("moment", [0, 1, 4, 7, 12])
def test_leaving_the_loop_saves(tmp_path, moment):
    run, examples = begun(tmp_path / "run", *HARD)
    for report in Trainer(run, examples):
        if report.step == moment:
            break
    assert (run.path / "state" / f"{moment:08d}").is_dir()
    assert run.sample(1).shape == (1, 1, 8, 8)
    for _ in Trainer(load(run.path), examples):
        pass
    assert outcome(run.path) == outcome(trained(*HARD))


def test_a_trainer_can_be_iterated_again(tmp_path):
    run, examples = begun(tmp_path / "run", *HARD)
    trainer = Trainer(run, examples)
    for report in trainer:
        if report.step == 5:
            break
    assert [r.step for r in trainer] == [5, *range(6, 13)]
    assert outcome(run.path) == outcome(trained(*HARD))


def test_a_finished_run_is_left_as_it_is_and_goes_on_when_asked(tmp_path):
    run = copied(tmp_path / "run", *HARD)
    before = outcome(run)
    assert "finished at step 12" in cli("train", *TOY, *HARD, "--out", run).out
    assert outcome(run) == before
    assert cli("train", *TOY, *HARD, "train.decay=linear", "train.steps=16", "--out", run).code == 0
    assert load(run).recipe.train.steps == 16
    assert [line["step"] for line in outcome(run)["metrics"]] == [0, 3, 6, 6, 9, 12, 12, 15, 16, 16]


def test_mixed_precision_resumes_too(tmp_path):
    run, examples = begun(tmp_path / "run", *HARD, "train.precision=bf16")
    for report in Trainer(run, examples):
        if report.step == 5:
            break
    for _ in Trainer(load(run.path), examples):
        pass
    assert outcome(run.path) == outcome(trained(*HARD, "train.precision=bf16"))


def test_the_model_is_brought_up_to_a_state_that_a_kill_left_it_behind(tmp_path):
    run = copied(tmp_path / "run", *HARD)
    goal = outcome(run)
    early, examples = begun(tmp_path / "early", *HARD)
    for report in Trainer(early, examples):
        if report.step == 8:
            break
    (early.path / "model.safetensors").rename(run / "model.safetensors")
    assert outcome(run) != goal
    assert "restored" in cli("train", *TOY, *HARD, "--out", run).out
    assert outcome(run) == goal
