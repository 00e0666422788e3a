"""P processes with a batch of B see what one with P B sees; so do P accumulated batches."""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from toys import DIT, TOY, cli, copied, free_port, metrics, process, trained, wait_for

from reverie.runs import digest
from reverie.tensor_files import read_tensors, read_with_metadata

EACH = (*DIT, "net.dropout=0", "train.log_every=1", "train.steps=14")


def same(run, other, tolerance=1e-5):
    """The losses; where a gradient is zero, as that of attention's key bias, Adam magnifies rounding in the weights."""
    ours, theirs = metrics(run), metrics(other)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in ("loss", "validation_loss", "grad_norm", "lr"):
            assert a.get(key, 0) == pytest.approx(b.get(key, 0), rel=tolerance, abs=tolerance)


def test_accumulated_batches_are_one_larger_batch():
    same(trained(*EACH, "train.batch=8", "train.accumulate=2"), trained(*EACH, "train.batch=16"))
    same(trained(*EACH, "train.batch=4", "train.accumulate=4"), trained(*EACH, "train.batch=16"))


@contextlib.contextmanager
def two(*words, log, first=None):
    port = str(free_port())
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                process(
                    "train",
                    *words,
                    log=log.with_name(f"{log.name}{rank}"),
                    first=first,
                    env={
                        "RANK": str(rank),
                        "LOCAL_RANK": str(rank),
                        "WORLD_SIZE": "2",
                        "LOCAL_WORLD_SIZE": "2",
                        "MASTER_ADDR": "127.0.0.1",
                        "MASTER_PORT": port,
                        "GLOO_SOCKET_IFNAME": "lo",
                        "OMP_NUM_THREADS": "1",
                    },
                )
            )
            for rank in (0, 1)
        ]


@pytest.mark.slow
def test_two_processes_stopped_and_resumed_are_one_with_twice_the_batch(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    words = (*TOY, *EACH, "train.steps=120", "train.sample_every=1000", "train.batch=8", "--out", run)
    with two(*words, log=log) as children:
        wait_for(lambda: (tmp_path / "log0").exists() and b"step 3/" in (tmp_path / "log0").read_bytes())
        for child in children:
            os.kill(child.pid, signal.SIGTERM)
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [143, 143], (tmp_path / "log1").read_text()
    said = (tmp_path / "log0").read_text()
    assert said.count("stopped at step ") == 1
    assert "Traceback" not in said + (tmp_path / "log1").read_text()
    step = int(said.partition("stopped at step ")[2].split()[0])
    assert (run / "state" / f"{step:08d}").is_dir()
    with two(*words, log=log) as children:
        for child in children:
            child.join(100)
        assert [child.exitcode for child in children] == [0, 0], (tmp_path / "log1").read_text()
    whole = trained(*EACH, "train.steps=120", "train.sample_every=1000", "train.batch=16")
    same(run, whole, 1e-3)  # a hundred steps later, rounding has grown


def test_one_signal_to_one_process_stops_both(tmp_path):
    log = tmp_path / "log"
    with two(*TOY, *EACH, "train.steps=100000", "--out", tmp_path / "run", log=log) as children:
        wait_for(lambda: (tmp_path / "log0").exists() and b"step 3/" in (tmp_path / "log0").read_bytes())
        os.kill(children[1].pid, signal.SIGINT)
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [130, 130]
    assert "stopped at step " in (tmp_path / "log0").read_text()


@pytest.mark.slow
def test_what_a_loss_learns_and_remembers_is_that_of_one_process(tmp_path):
    """Times are drawn by what was observed of all rows: the losses are the same only if all see the same."""
    loss = "{kind='uncertain', channels=8, loss={kind='denoising', notation='flow', times={kind='logit_normal'}}}"
    words = (*EACH, "loss.kind=resampled", "loss.levels=3", "loss.history=2", f"loss.loss={loss}", "train.accumulate=2")
    run = tmp_path / "run"
    with two(*TOY, *words, "train.batch=4", "--out", run, log=tmp_path / "log") as children:
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0, 0], (tmp_path / "log1").read_text()
    other = trained(*words, "train.batch=8")
    same(run, other)
    ours, theirs = (read_tensors(path / "state" / "00000014" / "loss.safetensors") for path in (run, other))
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[name] - theirs[name]).abs().max() < 1e-4) for name in ours)
    for step in ("00000007-0.05", "00000014-0.1"):
        name = f"ema/{step}.safetensors"
        ours, theirs = read_tensors(run / name), read_tensors(other / name)
        assert all(bool((ours[k].double() - theirs[k].double()).abs().max() < 2e-3) for k in ours)


# --------------------------------------------------------------------- evaluation in training

WATCHED = ("evaluate.every=4", "evaluate.n=40", "evaluate.extractor=pixels")


@dataclass(frozen=True)
class Watching:
    """Makes a process write down which weights it is about to evaluate, and how many samples it draws itself."""

    folder: Path

    def __call__(self) -> None:
        from reverie.evaluation import drawing
        from reverie.training.watch import Watch

        take, synthesize = Watch.take, drawing.synthesize

        def note(text):
            with (self.folder / f"noted{os.environ['RANK']}").open("a") as file:
                file.write(f"{text}\n")

        def taking(watch, f, step):
            note(f"{step} {digest(f.net.state_dict())}")
            return take(watch, f, step)

        def drawing_some(*args, helper):
            x = synthesize(*args, helper=helper)
            note(f"drawn {len(x)}")
            return x

        Watch.take, drawing.synthesize = taking, drawing_some


def evaluations(run):
    return [line for line in metrics(run) if "evaluation" in line]


def join(children, log, codes=(0, 0)):
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == list(codes), log.with_name("log1").read_text()


def test_a_saved_state_is_evaluated_by_two_processes_as_by_one_to_the_last_digit(tmp_path):
    many, log = ("evaluate.n=700", "evaluate.extractor=pixels", "evaluate.every=14"), tmp_path / "log"
    one, run = copied(tmp_path / "one", *EACH), copied(tmp_path / "two", *EACH)
    assert cli("train", *TOY, *EACH, *many, "--out", one).code == 0
    with two(*TOY, *EACH, *many, "--out", run, log=log, first=Watching(tmp_path)) as children:
        join(children, log)
    assert len(evaluations(run)) == 1
    assert metrics(run) == metrics(one)
    ours, theirs = (read_with_metadata(path / "best.safetensors") for path in (run, one))
    assert (digest(ours[0]), ours[1]) == (digest(theirs[0]), theirs[1])
    drawn = [sum(int(word) for word in _noted(tmp_path, rank, "drawn")) for rank in (0, 1)]
    assert sum(drawn) == 700
    assert min(drawn) > 100


def _noted(folder, rank, what):
    lines = (folder / f"noted{rank}").read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith(f"{what} ")]


def test_evaluations_of_two_processes_are_those_of_one_with_twice_the_batch(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    with two(*TOY, *EACH, *WATCHED, "train.batch=8", "--out", run, log=log, first=Watching(tmp_path)) as children:
        join(children, log)
    whole = trained(*EACH, *WATCHED, "train.batch=16")
    assert [line["step"] for line in evaluations(run)] == [4, 8, 12, 14]
    for ours, theirs in zip(evaluations(run), evaluations(whole), strict=True):
        ours, theirs = ours["evaluation"], theirs["evaluation"]
        assert ours["value"] == pytest.approx(theirs["value"], rel=1e-3)
        assert (ours["protocol"], ours["floor"]) == (theirs["protocol"], theirs["floor"])
    for step in ("4", "8", "12", "14"):  # every process has the average that the first one saves
        assert _noted(tmp_path, 0, step) == _noted(tmp_path, 1, step) != []
    assert "Traceback" not in log.with_name("log1").read_text()


@dataclass(frozen=True)
class Scripted:
    """Makes evaluations have these values, in turn; on other processes than the first, others."""

    values: tuple[float, ...]

    def __call__(self) -> None:
        from reverie.training.evaluation import Evaluator, Outcome

        values, rank = iter(self.values), int(os.environ["RANK"])
        Evaluator._measured = lambda self, f: Outcome(next(values) if rank == 0 else 1 / next(values))


def test_both_end_at_the_same_step_by_the_word_of_the_first(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    words = (*TOY, *EACH, *WATCHED, "evaluate.every=2", "evaluate.patience=2", "train.batch=8", "--out", run)
    with two(*words, log=log, first=Scripted((0.5, 0.4, 0.6, 0.7, 0.1))) as children:
        join(children, log)
    said = log.with_name("log0").read_text()
    assert "stopped after step 8: sliced_wasserstein has not improved for 2 evaluations; best 0.4 at step 4" in said
    assert [line["step"] for line in evaluations(run)] == [2, 4, 6, 8]
    assert read_with_metadata(run / "best.safetensors")[1]["step"] == "4"
    with two(*words, log=log) as children:
        join(children, log)
    assert "stopped at step 8 already" in log.with_name("log0").read_text()


@pytest.mark.slow
def test_torchrun(tmp_path):
    run = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1"]
    command = [*launcher, f"--master_port={free_port()}", "-m", "reverie", "train", *TOY, *EACH, "train.batch=8"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, "--out", str(run)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done: ") == 1
    same(run, trained(*EACH, "train.batch=16"))


def test_several_processes_need_to_know_their_folder(monkeypatch):
    class Two:
        num_processes = 2

        def __init__(self, cpu):
            pass

    monkeypatch.setattr("accelerate.PartialState", Two)
    assert "--out" in cli("train", *TOY).sentence
