"""Evaluation in training: what it measures, that it changes nothing, which weights it keeps, when it ends a run."""

import itertools
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toys
from toys import DIT, TOY, KillAt, begun, cli, copied, killed, metrics, moments, process, trained

from reverie import config
from reverie.data import Examples
from reverie.evaluation.drawing import draw
from reverie.evaluation.evaluate import Settings, evaluate
from reverie.evaluation.extractors import from_text
from reverie.evaluation.metrics import from_names
from reverie.evaluation.reading import of_run
from reverie.evaluation.subject import Subject, as_collection
from reverie.recipe import Evaluating
from reverie.runs import digest, load, network
from reverie.tensor_files import fill, read_tensors, read_with_metadata
from reverie.training import Trainer, best
from reverie.training.evaluation import Evaluator, Outcome
from reverie.training.state import read, states
from reverie.tuning.record import model_of

HARD = (*DIT, "train.accumulate=2", "train.flip=true", "train.drop=0.3", "train.lr=0.003")
SMALL = ("evaluate.n=24", "evaluate.extractor=pixels", "train.keep=100")
WATCHED = (*HARD, *SMALL, "evaluate.every=3")
LONG = (*WATCHED, "train.steps=40", "train.save_every=7", "train.sample_every=40", "train.validate_every=20")


def evaluations(run):
    return [{"step": line["step"], **line["evaluation"]} for line in metrics(run) if "evaluation" in line]


def steps(run):
    return [line["step"] for line in evaluations(run)]


def kept(run):
    tensors, about = read_with_metadata(run / "best.safetensors")
    return digest(tensors), about


def outcome(run):
    return {**toys.outcome(run), "best": kept(run)}


@pytest.fixture
def scripted(monkeypatch):
    """Training whose evaluations have these values, in turn of the steps they are due at."""

    def script(values, every=1):
        def measure(self, f):
            value = values[measure.run.progress // every - 1]
            return Outcome(value, why="" if value is not None else "it is scripted so")

        take = best_watch().take

        def counted(self, f, step):
            measure.run = SimpleNamespace(progress=step)
            return take(self, f, step)

        monkeypatch.setattr(Evaluator, "measure", measure)
        monkeypatch.setattr(best_watch(), "take", counted)

    return script


def best_watch():
    from reverie.training.watch import Watch

    return Watch


# ----------------------------------------------------------------------------- what it measures


def test_a_line_at_every_interval_and_at_the_last_step():
    assert steps(trained(*WATCHED)) == [3, 6, 9, 12]
    assert steps(trained(*HARD, *SMALL, "evaluate.every=5")) == [5, 10, 12]
    assert steps(trained(*HARD)) == []


def test_the_numbers_are_those_of_an_evaluation_of_the_saved_average():
    run = load(trained(*WATCHED))
    real, settings = of_run(run, 96, 24, 0), Settings((from_text("pixels"),), from_names("sliced_wasserstein,mmd"))
    request = Subject(run, run.settings(), 24).beside(real.train).request()
    denoiser = network(run.recipe, run.facts).eval()
    for line in evaluations(run.path):
        fill(denoiser, read(run.path / "state" / f"{line['step']:08d}").files["average.safetensors"], run.path)
        items = draw(denoiser, run.space, run.facts.shape, request, run.recipe.sample)
        found = evaluate(as_collection(run, items, request), real.train, settings, real.held_out)
        own = found.number("sliced_wasserstein")
        assert (line["value"], line["error"], line["floor"]) == (own.value, own.error, own.floor)
        assert line["numbers"] == {n.name: n.value for n in found.numbers}


def test_the_protocol_is_written_once_beside_its_numbers_and_has_their_id():
    lines = metrics(trained(*WATCHED))
    (told,) = [line for line in lines if "protocol" in line]
    assert told["step"] == 3
    assert {line["protocol"] for line in evaluations(trained(*WATCHED))} == {told["protocol"]["id"]}
    assert told["protocol"]["samples"]["n"] == 24
    assert (
        told["protocol"]["reference"] | {"n": 96, "split": "train", "augmented": False} == told["protocol"]["reference"]
    )


def test_mirrored_batches_do_not_mirror_the_reference(tmp_path):
    def protocol(*settings):
        run, examples = begun(tmp_path / str(len(settings)), *settings)
        made = Evaluator(run, examples, _alone(), torch.device("cpu"))
        return made.protocol, made.reference.real

    plain, real = protocol(*SMALL, "evaluate.every=3")
    mirrored, same = protocol(*SMALL, "evaluate.every=3", "train.flip=true")
    assert mirrored == plain
    assert (same.items == real.items).all()


def _alone():
    from reverie.evaluation.team import Team

    return Team()


@pytest.mark.parametrize("setting", ["n=32", "seed=1", "metric=mmd", "steps=2"])
def test_another_setting_is_another_protocol(tmp_path, setting):
    ids = []
    for name, words in (("a", ()), ("b", (f"evaluate.{setting}",))):
        run, examples = begun(tmp_path / name, *SMALL, "evaluate.every=3", *words)
        ids.append(Evaluator(run, examples, _alone(), torch.device("cpu")).id)
    assert ids[0] != ids[1]


def test_what_does_not_change_the_numbers_is_the_same_protocol(tmp_path):
    ids = set()
    for i, words in enumerate([(), ("evaluate.patience=3",), ("train.lr=0.1",), ("evaluate.every=1",)]):
        run, examples = begun(tmp_path / str(i), *SMALL, "evaluate.every=3", *words)
        ids.add(Evaluator(run, examples, _alone(), torch.device("cpu")).id)
    assert len(ids) == 1


def test_points_are_compared_by_their_values(tmp_path):
    words = ("swissroll", "net.kind=mlp", "net.width=16", "net.depth=1", "train.steps=4", "evaluate.every=2",
             "sample.grid.kind=uniform", "sample.grid.steps=3", "evaluate.n=200")  # fmt: skip
    out = tmp_path / "run"
    said = cli("train", *words, "--out", out)
    assert said.code == 0, said
    assert "step 4/4:" in said.out
    assert said.out.count("sliced_wasserstein ") == 2
    assert {line["extractor"] for line in evaluations(out)} == {"values"}


# --------------------------------------------------------------------------- it changes nothing


def test_a_run_is_the_same_bit_for_bit_with_and_without():
    watched, plain = trained(*WATCHED), trained(*HARD, "train.keep=100")
    for path in states(load(plain)):
        ours, theirs = read(watched / "state" / path.name), read(path)
        assert ours.progress == theirs.progress
        assert {k: digest(v) for k, v in ours.files.items()} == {k: digest(v) for k, v in theirs.files.items()}
    assert digest(read_tensors(watched / "model.safetensors")) == digest(read_tensors(plain / "model.safetensors"))
    assert toys.hashes(watched / "samples") == toys.hashes(plain / "samples")
    others = [line for line in metrics(watched) if not {"evaluation", "protocol"} & line.keys()]
    assert others == metrics(plain)


def test_without_it_nothing_is_opened_or_kept(tmp_path, monkeypatch):
    def never(*args):
        raise AssertionError

    monkeypatch.setattr(Evaluator, "__init__", never)
    run, examples = begun(tmp_path / "run", "evaluate.patience=1")
    assert [report.step for report in Trainer(run, examples)][-1] == 12
    assert not (run.path / "best.safetensors").exists()


def test_its_time_does_not_count(tmp_path, monkeypatch):
    now = itertools.count()
    lost = []
    clock = SimpleNamespace(perf_counter=lambda: next(now) * 1e-3 + sum(lost))
    monkeypatch.setattr("reverie.training.trainer.time", clock)
    monkeypatch.setattr(Evaluator, "measure", lambda self, f: lost.append(1e6) or Outcome(1.0))
    run, examples = begun(tmp_path / "run", *SMALL, "evaluate.every=1")
    speeds = [r.metrics["steps_per_second"] for r in Trainer(run, examples) if "steps_per_second" in r.metrics]
    assert len(speeds) == 4
    assert min(speeds) > 100
    assert len(lost) == 12


def test_a_run_folder_of_before_reads_as_it_did(tmp_path):
    run = copied(tmp_path / "run")
    plain = json.loads((run / "config.json").read_text())
    del plain["recipe"]["evaluate"]
    (run / "config.json").write_text(json.dumps(plain))
    assert load(run).recipe == load(trained()).recipe
    assert "finished at step 12" in cli("train", *TOY, "--out", run).out


# --------------------------------------------------------------------------- the best is kept


def test_the_best_has_the_least_value_and_the_weights_of_its_step():
    for run in (trained(*WATCHED), trained(*LONG)):
        lines = evaluations(run)
        values = [line["value"] for line in lines]
        least = lines[int(np.argmin(values))]
        assert [line["best"] for line in lines] == [v == min(values[: i + 1]) for i, v in enumerate(values)]
        found, about = kept(run)
        assert about["step"] == str(least["step"])
        assert (about["metric"], float(about["value"])) == ("sliced_wasserstein", least["value"])
        assert about["protocol"] == least["protocol"]
        assert found == digest(read_tensors(run / "state" / f"{least['step']:08d}" / "average.safetensors"))


VALUES = [0.5, 0.4, None, 0.45, 0.4, 0.3, 0.7, 0.6, 0.9, 0.31, 0.2, 0.8]


@pytest.mark.parametrize(("metric", "expected"), [("mmd", [1, 2, 6, 11]), ("coverage", [1, 7, 9])])
def test_better_is_what_the_metric_says(tmp_path, scripted, metric, expected):
    scripted(VALUES)
    run, examples = begun(tmp_path / "run", *SMALL, "evaluate.every=1", f"evaluate.metric={metric}")
    reports = list(Trainer(run, examples))
    assert [line["step"] for line in evaluations(run.path) if line["best"]] == expected
    assert kept(run.path)[1]["step"] == str(expected[-1])
    assert any("step 3 could not be evaluated: it is scripted so" in report.notes for report in reports)
    assert [r.metrics["evaluation"]["value"] for r in reports[1:]] == VALUES


def test_the_log_line_tells(tmp_path):
    said = cli("train", *TOY, *WATCHED, "--out", tmp_path / "run").out
    first = evaluations(tmp_path / "run")[0]
    assert f"sliced_wasserstein {first['value']:.4g} (best)" in said


def test_the_best_weights_can_be_asked_for(tmp_path, scripted):
    scripted([0.5, 0.1, 0.9, 0.8], every=3)
    run, examples = begun(tmp_path / "run", *WATCHED)
    for _ in Trainer(run, examples):
        pass
    model, other = load(run.path), load(run.path, weights="best")
    weights = read_tensors(run.path / "state" / "00000006" / "average.safetensors")
    assert digest(other.denoiser.net.state_dict()) == digest(weights) != digest(model.denoiser.net.state_dict())
    assert model_of(other) == digest(weights) != model_of(model)
    assert model.average == f"exponential, decay {run.recipe.train.ema}"
    assert other.average == f"{model.average}, at step 6, the best by sliced_wasserstein"
    assert not torch.equal(other.sample(4), model.sample(4))
    assert torch.equal(other.at("model").sample(4), model.sample(4))
    told = json.loads(cli("info", run.path, "--json").out)
    assert told["best"] == "sliced_wasserstein 0.1 at step 6, kept in best.safetensors"


def test_there_are_none(tmp_path):
    run = trained()
    with pytest.raises(ValueError, match=r"best.safetensors is missing: .*evaluate.every"):
        load(run, weights="best")
    with pytest.raises(ValueError, match="model and best; given 'last'"):
        load(run, weights="last")
    assert json.loads(cli("info", run, "--json").out)["best"] == "-"


# ----------------------------------------------------------------------------- stop and resume


def test_killed_at_random_moments_and_resumed(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    codes = [killed(*TOY, *LONG, "--out", run, log=log, after=after) for after in moments(4, 2.5)]
    assert cli("train", *TOY, *LONG, "--out", run).code == 0
    assert set(codes) <= {-9, 0}, log.read_text()
    assert codes.count(-9) >= 2, codes
    assert outcome(run) == outcome(trained(*LONG))
    assert not list(run.rglob("*.tmp*"))


FEW = (*WATCHED, "train.ema_lengths=[]", "train.sample_every=100", "train.steps=6", "train.save_every=100")


@pytest.mark.parametrize("n", [14, 24, 25, 39])
def test_killed_while_it_writes_its_nth_file_and_resumed(tmp_path, n):
    run = tmp_path / "run"
    with process("train", *TOY, *FEW, "--out", run, log=tmp_path / "log", first=KillAt(n)) as child:
        child.join(60)
        assert child.exitcode in (-9, 0)
    assert cli("train", *TOY, *FEW, "--out", run).code == 0
    assert outcome(run) == outcome(trained(*FEW))
    assert not list(run.rglob("*.tmp*"))


@pytest.mark.parametrize("moment", [2, 3, 5, 9])
def test_leaving_the_loop_and_going_on(tmp_path, moment):
    run, examples = begun(tmp_path / "run", *WATCHED)
    for report in Trainer(run, examples):
        if report.step == moment:
            break
    for _ in Trainer(load(run.path), examples):
        pass
    theirs, ours = outcome(trained(*WATCHED)), outcome(run.path)
    assert {k: v for k, v in ours.items() if k != "states"} == {k: v for k, v in theirs.items() if k != "states"}


def test_an_evaluation_that_a_kill_prevented_is_made_up_for(tmp_path):
    run = copied(tmp_path / "run", *WATCHED)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert "evaluation" in lines[-1]
    (run / "metrics.jsonl").write_text("".join(lines[:-1]))
    goal = outcome(trained(*WATCHED))
    assert "finished at step 12" in cli("train", *TOY, *WATCHED, "--out", run).out
    assert outcome(run) == goal


@pytest.mark.parametrize("spoil", ["gone", "damaged", "older"])
def test_the_file_of_the_best_is_mended(tmp_path, spoil):
    run = copied(tmp_path / "run", *WATCHED)
    goal, path = outcome(run), run / "best.safetensors"
    if spoil == "gone":
        path.unlink()
    elif spoil == "damaged":
        path.write_bytes(path.read_bytes()[:-8])
    else:
        load(run).save_best(read(run / "state" / "00000003").files["average.safetensors"], 3, {"metric": "x"})
    said = cli("train", *TOY, *WATCHED, "--out", run).out
    assert f"restored {path} from the saved state" in said
    assert outcome(run) == goal


def test_the_best_of_a_step_that_is_undone_goes(tmp_path, scripted):
    scripted([0.5, 0.4, 0.3, 0.6], every=3)
    run, examples = begun(tmp_path / "run", *WATCHED)
    for _ in Trainer(run, examples):
        pass
    assert kept(run.path)[1]["step"] == "9"
    for name in ("00000009", "00000012"):
        shutil.rmtree(run.path / "state" / name)
    assert best.mend(run, 8) == f"restored {run.path / 'best.safetensors'} from the saved state"
    assert kept(run.path)[1]["step"] == "6"
    run.save_best(read_tensors(run.path / "best.safetensors"), 9, {"metric": "x"})
    shutil.rmtree(run.path / "state" / "00000006")
    assert "is of step 9, which is undone, and is removed" in best.mend(run, 8)
    assert not (run.path / "best.safetensors").exists()
    assert best.mend(run, 8) == ""


def test_settings_of_evaluation_may_change_and_start_another_count(tmp_path, scripted):
    scripted([0.5, 0.1, 0.3, 0.4, 0.2, 0.6], every=3)
    run = tmp_path / "run"
    assert cli("train", *TOY, *WATCHED, "--out", run).code == 0
    assert kept(run)[1]["step"] == "6"
    again = (*TOY, *WATCHED, "evaluate.n=30", "train.steps=18", "--out", run)
    before, about = kept(run)
    aside = run / f"best-6-{about['protocol']}.safetensors"
    said = cli("train", *again)
    assert f"the best weights by the one before, of step 6, are {aside}" in said.out + said.err
    assert digest(read_tensors(aside)) == before
    assert load(run).recipe.evaluate.n == 30
    lines = evaluations(run)
    assert [line["step"] for line in lines] == [3, 6, 9, 12, 12, 15, 18]
    assert [line["best"] for line in lines] == [True, True, False, False, True, True, False]
    assert kept(run)[1]["step"] == "15"


def test_a_finished_run_is_not_judged_again_by_other_settings(tmp_path):
    run = copied(tmp_path / "run", *WATCHED)
    goal, lines = outcome(run), evaluations(run)
    assert "finished at step 12" in cli("train", *TOY, *WATCHED, "evaluate.n=30", "--out", run).out
    assert (outcome(run), evaluations(run)) == (goal, lines)
    assert [p.name for p in run.glob("best*")] == ["best.safetensors"]


@pytest.mark.parametrize("spoil", ["line", "weights"])
def test_a_kill_before_the_best_by_other_settings_is_written_loses_nothing(tmp_path, scripted, monkeypatch, spoil):
    scripted([0.5, 0.1, 0.3, 0.4, 0.2, 0.6], every=3)
    run = tmp_path / "run"
    assert cli("train", *TOY, *WATCHED, "--out", run).code == 0
    before, about = kept(run)
    words = (*TOY, *WATCHED, "evaluate.n=30", "train.steps=18", "--out", run)
    name = "save_best" if spoil == "weights" else None
    with monkeypatch.context() as patched:
        if name:
            patched.setattr("reverie.runs.Run.save_best", _broken)
        else:
            patched.setattr("reverie.training.watch.keep", _broken)
        assert cli("train", *words).code != 0
    assert cli("train", *words).code == 0
    assert digest(read_tensors(run / f"best-6-{about['protocol']}.safetensors")) == before
    assert kept(run)[1]["step"] == "15"


def _broken(*args):
    raise OSError(28, "No space left on device")


def test_a_finished_run_is_evaluated_when_asked(tmp_path):
    run = copied(tmp_path / "run", *HARD)
    before = toys.outcome(run)
    said = cli("train", *TOY, *HARD, "evaluate.every=3", "evaluate.n=24", "evaluate.extractor=pixels", "--out", run)
    assert said.code == 0
    assert evaluations(run) == [evaluations(trained(*WATCHED))[-1] | {"best": True}]
    assert "step 12/12: sliced_wasserstein" in said.out
    assert toys.outcome(run)["states"] == before["states"]
    assert kept(run)[0] == digest(read_tensors(run / "model.safetensors"))


# ------------------------------------------------------------------------------------ patience


def test_training_ends_after_so_many_evaluations_without_a_better_one(tmp_path, scripted):
    scripted(VALUES)
    run, examples = begun(tmp_path / "run", *SMALL, "evaluate.every=1", "evaluate.patience=4", "evaluate.metric=mmd")
    *_, last = Trainer(run, examples)
    assert last.step == 10
    assert last.saved == run.path / "state" / "00000010"
    assert last.stopped is None
    assert last.notes == (
        "stopped after step 10: mmd has not improved for 4 evaluations; best 0.3 at step 6, kept in best.safetensors",
    )


def test_the_same_command_again_says_so_and_a_larger_patience_goes_on(tmp_path, scripted):
    scripted(VALUES)
    run = tmp_path / "run"
    words = (*TOY, *SMALL, "evaluate.every=1", "evaluate.metric=mmd", "--out", run)
    first = cli("train", *words, "evaluate.patience=2")
    assert first.code == 0
    assert "stopped after step 4: mmd has not improved for 2 evaluations; best 0.4 at step 2" in first.out
    before = toys.hashes(run)
    again = cli("train", *words, "evaluate.patience=2")
    assert again.code == 0
    assert "stopped at step 4 already: mmd has not improved for 2 evaluations" in again.out
    assert "to go on, give a larger evaluate.patience, or 0" in again.out
    assert "resuming" not in again.out
    assert toys.hashes(run) == before
    third = cli("train", *words, "evaluate.patience=4")
    assert "resuming at step 4 of 12" in third.out
    assert "stopped after step 10" in third.out
    assert "resuming at step 10 of 12" in cli("train", *words, "evaluate.patience=0").out
    whole = cli("train", *words[:-1], tmp_path / "whole")
    assert whole.code == 0
    assert outcome(run) == outcome(tmp_path / "whole")


def test_a_run_that_ends_at_its_last_step_is_finished(tmp_path, scripted):
    scripted([0.1] * 12)
    run, examples = begun(tmp_path / "run", *SMALL, "evaluate.every=3", "evaluate.patience=3")
    *_, last = Trainer(run, examples)
    assert (last.step, last.notes) == (12, ())
    assert [r.notes for r in Trainer(load(run.path), examples)] == [
        ("finished at step 12 already; to go on, give a larger train.steps",)
    ]


def test_one_killed_before_the_evaluation_that_ends_it(tmp_path, scripted):
    scripted(VALUES)
    words = (*SMALL, "evaluate.every=1", "evaluate.patience=4", "evaluate.metric=mmd")
    run, examples = begun(tmp_path / "run", *words)
    for _ in Trainer(run, examples):
        pass
    goal, path = outcome(run.path), run.path / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    (only,) = Trainer(load(run.path), examples)
    assert only.notes[1].startswith("stopped after step 10: mmd has not improved for 4 evaluations")
    assert outcome(run.path) == goal


# ------------------------------------------------------------------- refused before it begins


@pytest.mark.parametrize(("name", "value"), [("every", -1), ("n", 1), ("patience", -1), ("steps", 0), ("seed", -1)])
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be at least {value + 1}; given {value}$"):
        Evaluating(**{name: value})


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("metric=kidd", "unknown metric 'kidd'"),
        ("metric=kid,mmd", "given 'kid,mmd'"),
        ("extractor=nothing", "no extractor 'nothing'"),
        ("every=-1", "every must be at least 0; given -1"),
    ],
)
def test_names_that_there_are_not_are_refused_before_there_is_a_run(tmp_path, setting, said):
    words = ("evaluate.every=3", f"evaluate.{setting}")
    assert said in cli("train", *TOY, *words, "--out", tmp_path / "run").sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate.metric=label_accuracy",), "needs an extractor that tells classes apart"),
        (("evaluate.extractor=values",), "values"),
        (("evaluate.metric=coverage", "evaluate.n=3"), "coverage needs at least"),
    ],
)
def test_what_would_fail_at_every_evaluation_is_refused_before_the_first_step(tmp_path, words, said):
    run = tmp_path / "run"
    assert said in cli("train", *TOY, *SMALL, "evaluate.every=3", *words, "--out", run).sentence
    assert not (run / "metrics.jsonl").exists()
    assert cli("train", *TOY, *SMALL, "evaluate.every=0", "--out", run).code == 0  # the run is none the worse


def test_a_package_that_is_missing_is_named_before_the_first_step(tmp_path, monkeypatch):
    def missing(self, real, device="cpu"):
        raise ImportError("this extractor needs a package; pip install 'reverie[eval]'")

    monkeypatch.setattr("reverie.evaluation.extractors.Pixels.open", missing)
    run = tmp_path / "run"
    assert "reverie[eval]" in cli("train", *TOY, *SMALL, "evaluate.every=3", "--out", run).sentence
    assert not (run / "metrics.jsonl").exists()


def test_a_handful_of_examples_is_too_few(tmp_path):
    items = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), dtype=np.uint8)
    words = ("evaluate.every=3", "train.validation=0", "train.batch=2", "labels=false")
    run, examples = begun(tmp_path / "run", *words, examples=Examples(items, image=True))
    with pytest.raises(ValueError, match=r"at least 10 training examples .* has 3; set evaluate.every=0"):
        next(iter(Trainer(run, examples)))


def test_samples_that_are_not_finite_have_no_value(tmp_path):
    points = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    words = ("evaluate.every=3", "evaluate.n=24", "labels=false")
    run, examples = begun(tmp_path / "run", *words, examples=Examples(points))
    made = Evaluator(run, examples, _alone(), torch.device("cpu"))
    f = network(run.recipe, run.facts).eval()
    for p in f.parameters():
        p.data.fill_(float("nan"))
    found = made.measure(f)
    assert found.value is None
    assert "not finite" in found.why


# ------------------------------------------------------------------------------- the lines


def past(*lines, lower=True):
    return best.Past(tuple({"step": s, "value": v, "best": b} for s, v, b in lines), lower)


def test_a_tie_is_no_improvement():
    assert past().improves(3.0)
    assert not past().improves(None)
    assert not past((1, 0.5, True)).improves(0.5)
    assert past((1, 0.5, True)).improves(0.4)
    assert past((1, 0.5, True), lower=False).improves(0.6)
    assert not past((1, 0.5, True), lower=False).improves(0.4)
    assert past((1, None, False)).improves(9.0)


def test_misses_are_counted_from_the_best():
    assert past().since == 0
    assert past((1, None, False), (2, None, False)).since == 2
    assert past((1, 0.5, True), (2, 0.6, False), (3, 0.4, True), (4, 0.5, False)).since == 1


def test_only_the_newest_lines_of_one_protocol_are_compared():
    lines = [{"step": i, "protocol": p, "value": 0.0} for i, p in enumerate("aabba")]
    assert [line["step"] for line in best.newest(lines, "a", lower=True).lines] == [4]
    assert best.newest(lines, "b", lower=True).lines == ()
    assert [line["step"] for line in best.newest(lines[:4], "b", lower=True).lines] == [2, 3]


def test_lines_that_are_damaged_are_no_evaluations(tmp_path):
    run, _ = begun(tmp_path / "run")
    wrong = [{"step": 3, "evaluation": 7}, {"step": 3, "evaluation": {"value": "low"}}, {"step": 9, "evaluation": {}}]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in wrong))
    assert best.evaluations(run, 8) == []


def test_the_section_comes_back_from_a_file(tmp_path):
    run, _ = begun(tmp_path / "run", "evaluate.every=7", "evaluate.metric=mmd", "evaluate.patience=2")
    assert load(run.path).recipe.evaluate == replace(Evaluating(), every=7, metric="mmd", patience=2)
    assert config.to_data(load(run.path).recipe)["evaluate"]["n"] == 512
