"""`reverie likelihood`: its figures against closed forms, its files, its seeds, its sentences."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import MLP, SHORT, cli, copied, hashes, trained

from reverie.evaluation.likelihood import Settings, measure
from reverie.evaluation.likelihood.chosen import choose
from reverie.evaluation.likelihood.measure import _Measurement
from reverie.exact import Gaussian
from reverie.likelihood import dequantised
from reverie.recipe import compose
from reverie.runs import begin, load
from reverie.tensors import streams

ROOT = Path(__file__).parent.parent.parent
QUICK = ("-n", "6", "--steps", "5", "--ode-steps", "4", "--probes", "1", "--device", "cpu")
STD, N = (3.0, 0.2), 256


class Exact(torch.nn.Module):
    """The exact denoiser of independent normal numbers, as a network of the run would be called."""

    def __init__(self, schedule, mean, std):
        super().__init__()
        self.schedule, self.f = schedule, Gaussian(schedule, mean.double(), std)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t, cond=None):
        return self.f(x, t, cond)


def run_of(path, data, *settings):
    file = path / "data.npy"
    np.save(file, data)
    assert cli("train", file, *MLP, *SHORT, "train.steps=2", *settings, "--out", path / "run").code == 0
    return load(path / "run")


@pytest.fixture(scope="module")
def normal(tmp_path_factory):
    """A run on independent normal numbers (2,) whose denoiser is exact, and their log density."""
    random = np.random.default_rng(0)
    run = run_of(tmp_path_factory.mktemp("normal"), (random.standard_normal((2000, 2)) * STD + 1).astype(np.float32))
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (run.space.mean, run.space.std))
    own = torch.tensor(STD, dtype=torch.float64)
    run.__dict__["denoiser"] = Exact(run.schedule, (1 - mean) / std, own / std)
    return run, lambda x: torch.distributions.Normal(1.0, own).log_prob(x).sum(1)


# ---------------------------------------------------------------------------------------- figures


def test_exact_data_have_the_bits_of_their_density(normal):
    run, log_density = normal
    settings = Settings(n=N, split="train", steps=100, ode_steps=24, seed=3)
    found = run.likelihood(settings)
    chosen = choose(run, settings, None)
    truth = -log_density(torch.from_numpy(chosen.examples.items[chosen.rows]).double()) / (2 * math.log(2))
    ode, bound = found.ode, found.bound
    assert abs(ode.bits_per_dim - float(truth.mean())) < 1e-4
    assert abs(ode.nats + float(truth.mean()) * 2 * math.log(2)) < 3e-4
    assert abs(ode.standard_error - float(truth.std()) / math.sqrt(N)) < 1e-4
    assert (ode.from_probes, ode.from_dequantisation) == (0, 0)
    # The chain of 100 steps costs a little more than the density, seen through noise of its own.
    gap = bound.bits_per_dim - float(truth.mean())
    assert -5 * bound.standard_error < gap < 0.1
    assert "density of the data in their own units" in found.protocol["unit"]


def test_more_steps_make_a_tighter_bound_whatever_the_variance(normal):
    run, _ = normal
    for fraction in (0.0, 1.0):
        made = [
            run.likelihood(Settings(n=N, steps=steps, fraction=fraction, ode=False)).bound.bits_per_dim
            for steps in (8, 40, 200)
        ]
        assert made[0] > made[1] > made[2]


def test_probes_tell_their_own_error(normal):
    run, _ = normal
    exact, probed = (run.likelihood(Settings(n=200, ode_steps=8, probes=k, bound=False)).ode for k in (0, 2))
    assert probed.from_probes > 0
    assert abs(exact.bits_per_dim - probed.bits_per_dim) < 5 * probed.from_probes


def test_pixels_count_on_their_grid(tmp_path):
    """Of x0 = a constant and normal noise, rounded to 8 bits: the density of the dequantised, in units of a bin."""
    random, std = np.random.default_rng(1), 0.25
    data = np.clip((0.1 + std * random.standard_normal((80, 2, 2, 1)) + 1) * 127.5, 0, 255).round().astype(np.uint8)
    run = run_of(tmp_path, data)
    assert run.facts.image
    run.__dict__["denoiser"] = Exact(run.schedule, torch.full((1, 2, 2), 0.1), std)
    settings = Settings(n=64, split="train", steps=200, ode_steps=32)
    found, chosen = run.likelihood(settings), choose(run, settings, None)
    items = torch.from_numpy(np.ascontiguousarray(chosen.examples.items[chosen.rows]))
    x = dequantised(run.space, items, streams([(0, int(row), 1, 0) for row in chosen.rows]))
    density = torch.distributions.Normal(0.1, std).log_prob(x.double()).flatten(1).sum(1)
    bits = -density / (4 * math.log(2)) + math.log2(127.5)
    assert abs(found.ode.bits_per_dim - float(bits.mean())) < 1e-3
    assert 0 < found.ode.from_dequantisation < found.ode.standard_error / 10  # a bin is small beside the data's spread
    mass = torch.distributions.Normal(0.1, std)
    centre, half = items.double() / 127.5 - 1, 1 / 255
    exact = -(mass.cdf(centre + half) - mass.cdf(centre - half)).log2().flatten(1).mean(1)
    gap = found.bound.bits_per_dim - float(exact.mean())
    assert -5 * found.bound.standard_error < gap < 0.15
    assert found.protocol["chain"]["decoder"] == "256 bins"


def test_draws_of_the_dequantisation_are_averaged(tmp_path):
    run = load(trained())
    once, thrice = (
        run.likelihood(Settings(n=8, ode_steps=2, probes=1, draws=draws, bound=False)).ode for draws in (1, 3)
    )
    assert once.bits_per_dim != thrice.bits_per_dim
    assert 0 < thrice.from_dequantisation < once.from_dequantisation
    assert thrice.from_dequantisation == pytest.approx(once.from_dequantisation / math.sqrt(3), rel=0.5)


# --------------------------------------------------------------------------- the chain, the labels


def test_a_chain_keeps_its_knots_and_what_it_has_learned():
    settings = (
        "schedule.kind=table", "schedule.betas.steps=40", "schedule.betas.end=0.3", "loss.kind=hybrid",
        "parameterization.kind=learned_variance",
    )  # fmt: skip
    run = load(trained(*settings))
    found = run.likelihood(Settings(n=4, ode_steps=2, probes=1))
    assert found.bound.t == pytest.approx([1 - i / 40 for i in range(39)])
    assert found.protocol["chain"]["variance"] == "learned"
    first = float((-run.schedule.log_snr(torch.tensor(1 / 40, dtype=torch.float64)) / 2).exp())
    assert found.protocol["ode"]["lowest sigma / alpha"] == first
    few = run.likelihood(Settings(n=4, steps=8, ode=False)).bound
    assert few.t == pytest.approx([1 - i / 8 for i in range(7)])
    with pytest.raises(ValueError, match="no 41 steps"):
        run.likelihood(Settings(steps=41))


def test_the_variance_is_that_of_the_run_unless_told():
    run = load(trained("sample.sampler.kind=ancestral", "sample.sampler.fraction=0.25"))
    for given, said in ((None, 0.25), (1.0, 1)):
        found = run.likelihood(Settings(n=2, steps=3, fraction=given, ode=False))
        assert found.protocol["chain"]["variance"] == f"fraction {said:g}"
    assert "fraction 1" in str(load(trained()).likelihood(Settings(n=2, steps=3, ode=False)).protocol)


def test_a_model_with_classes_is_told_them_or_not():
    run = load(trained("train.steps=60", "train.drop=0.5"))
    own, none = (run.likelihood(Settings(n=40, steps=20, label=label, ode=False)) for label in ("own", "none"))
    assert own.bound.bits_per_dim != none.bound.bits_per_dim
    assert (own.protocol["label"], none.protocol["label"]) == ("the example's class", "none")


# ------------------------------------------------------------------------------------------ seeds


def test_the_same_seed_gives_the_same_figures_whatever_the_batch():
    run = load(trained())
    first, same, other = (
        run.likelihood(Settings(n=40, steps=4, ode_steps=2, probes=1, batch=batch, seed=seed)).to_data()
        for batch, seed in ((64, 5), (7, 5), (64, 6))
    )
    assert first == same
    assert first["bound"]["bits_per_dim"] != other["bound"]["bits_per_dim"]
    assert first["ode"]["bits_per_dim"] != other["ode"]["bits_per_dim"]


def test_an_example_has_its_own_noise_and_more_examples_add_to_fewer():
    run = load(trained())
    rows = [choose(run, Settings(n=n), None).rows.tolist() for n in (8, 40, 10_000)]
    assert rows[1][:8] == rows[0]
    assert rows[2][:40] == rows[1]
    assert len(rows[2]) == len(set(rows[2])) == run.facts.validation
    assert choose(run, Settings(n=8, seed=1), None).rows.tolist() != rows[0]
    # Blocks are of 32 digits: the first 32 of 40 are those of 32.
    parts = [run.likelihood(Settings(n=n, steps=4, ode=False)).bound for n in (32, 40, 72)]
    assert parts[0].prior != parts[1].prior
    sums = [n * part.bits_per_dim for n, part in zip((32, 40, 72), parts, strict=True)]
    assert 0 < sums[0] < sums[1] < sums[2]


def test_progress_is_told_batch_by_batch():
    parts = list(measure(load(trained()), Settings(n=70, steps=3, ode_steps=1, probes=1)))
    assert [part.done for part in parts] == sorted(part.done for part in parts)
    assert {part.total for part in parts} == {parts[-1].done}
    assert [part.result is None for part in parts] == [True] * (len(parts) - 1) + [False]
    assert len(parts) >= 7


# -------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A run of digits, what the command says of it, and the JSON it leaves."""
    path = copied(tmp_path_factory.mktemp("told") / "run")
    before = hashes(path)
    result = cli("likelihood", path, *QUICK, "--seed", "2")
    assert result.code == 0, result
    file = path / "likelihood" / "digits-validation-n6-seed2.json"
    after = hashes(path)
    assert set(after) - set(before) == {f"likelihood/{file.stem}.{end}" for end in ("json", "png")}
    assert {k: after[k] for k in before} == before
    return path, result.out, json.loads(file.read_text())


def test_the_file_holds_the_terms_and_their_sum(told):
    _, _, data = told
    assert set(data) == {"protocol", "bound", "ode", "solver"}
    bound = data["bound"]
    assert set(bound) == {"t", "nats_per_dim", "prior", "decoder", "bits_per_dim", "standard_error"}
    assert len(bound["t"]) == len(bound["nats_per_dim"]) == 4
    assert sorted(bound["t"], reverse=True) == bound["t"]
    total = (sum(bound["nats_per_dim"]) + bound["prior"] + bound["decoder"]) / math.log(2)
    assert total == pytest.approx(bound["bits_per_dim"], rel=1e-9)
    assert bound["standard_error"] > 0
    assert data["ode"]["standard_error"] > 0
    assert data["ode"]["from_probes"] > 0
    assert data["ode"]["from_dequantisation"] > 0
    assert [row["steps"] for row in data["solver"]] == [1, 2, 4]
    assert data["solver"][-1]["change"] == 0
    assert data["solver"][-1]["bits_per_dim"] == pytest.approx(data["ode"]["bits_per_dim"], rel=1e-6)


def test_the_command_says_what_was_measured_and_how(told):
    _, out, data = told
    for word in ("digits", "validation", "6 of 180", "exponential, decay 0.995; step 12", "the example's class"):
        assert word in out
    for value in (data["bound"]["bits_per_dim"], data["ode"]["bits_per_dim"]):
        assert f"{value:.4f} ± " in out
    words = " ".join(out.split())
    assert "1 probes" in words
    assert "uniform, 1 drawn" in words
    assert "schedule flow" in words
    assert f"{data['ode']['from_probes']:.4f} from probes, {data['ode']['from_dequantisation']:.4f} from deq" in words
    assert re.search(r"seed +2$", out, re.MULTILINE)


def test_python_gives_the_figures_of_the_command(told):
    path, _, data = told
    found = load(path).likelihood(Settings(6, steps=5, ode_steps=4, probes=1, seed=2))
    assert found.to_data() == data


def test_the_picture_can_be_drawn_again(told, tmp_path):
    path, _, _ = told
    result = cli("plot", "bound", path, "--out", tmp_path / "again.png")
    assert result.code == 0, result
    assert (tmp_path / "again.png").stat().st_size > 5000


def test_one_of_the_two_alone(tmp_path):
    path = copied(tmp_path / "run")
    assert cli("likelihood", path, *QUICK, "--ode").code == 0
    assert cli("likelihood", path, *QUICK, "--bound", "--label", "none").code == 0
    files = {file.name: file for file in (path / "likelihood").iterdir()}
    ode, bound = "digits-validation-n6-seed0-ode.json", "digits-validation-n6-seed0-label-none-bound.json"
    assert set(files) == {ode, bound, bound.replace(".json", ".png")}
    assert set(json.loads(files[ode].read_text())) == {"protocol", "ode", "solver"}
    assert set(json.loads(files[bound].read_text())) == {"protocol", "bound"}


def test_a_single_example_has_no_error(tmp_path):
    path = copied(tmp_path / "run")
    result = cli("likelihood", path, *QUICK, "-n", "1", "--bound")
    assert result.code == 0, result
    assert "±" not in result.out
    assert json.loads(next((path / "likelihood").glob("*.json")).read_text())["bound"]["standard_error"] is None


def test_other_data_and_other_splits(tmp_path):
    path = copied(tmp_path / "run")
    rows = {}
    for words in (["digits"], ["digits", "--split", "all"], ["digits", "--split", "train"]):
        result = cli("likelihood", path, *words, *QUICK, "--bound")
        assert result.code == 0, result
        rows[" ".join(words[1:])] = re.search(r"^examples +6 of (\d+)$", result.out, re.MULTILINE)[1]
    assert rows == {"": "180", "--split all": "1797", "--split train": "1617"}
    np.savez(tmp_path / "other.npz", np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8))
    assert "--label none" in cli("likelihood", path, tmp_path / "other.npz", *QUICK).sentence
    result = cli("likelihood", path, tmp_path / "other.npz", *QUICK, "--label", "none", "--bound")
    assert result.code == 0, result
    assert "6 of 20" in result.out
    assert (path / "likelihood" / "other-all-n6-seed0-label-none-bound.json").exists()


@pytest.mark.slow
def test_the_example_gives_the_figures_of_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "likelihood.py", "--toy"], cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    result = cli("likelihood", tmp_path / "runs" / "roll", "-n", "50", "--ode-steps", "16", "--device", "cpu")
    for name in ("bound", "flow ODE"):
        told = [re.search(rf"^{name} +(-?\d.*? ± [\d.]+)", out, re.MULTILINE) for out in (done.stdout, result.out)]
        assert told[0][1] == told[1][1]
    assert "from probes" not in result.out  # the trace is exact
    assert "from dequantisation" not in result.out  # the data lie on no grid


# ------------------------------------------------------------------------------------- bad inputs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-n", "0"], "n must be at least 1; given 0"),
        (["--probes", "-1"], "probes must be at least 0; given -1"),
        (["--draws", "0"], "draws must be at least 1; given 0"),
        (["--ode-steps", "0"], "ode_steps must be at least 1; given 0"),
        (["--seed", "-1"], "seed must be at least 0; given -1"),
        (["--steps", "1"], "at least 2 steps"),
        (["--fraction", "1.5"], "fraction in [0, 1]; given 1.5"),
        (["--split", "test"], "split is one of train, validation, all; given 'test'"),
        (["--label", "3"], "label is one of own, none; given '3'"),
        (["swissroll"], "the data are arrays of shape 2, and"),
        (["nothing"], "there is no data 'nothing'"),
        (["--device", "abacus"], "device 'abacus' cannot be used here"),
    ],
)
def test_what_it_refuses(words, message):
    assert message in cli("likelihood", trained(), *words).sentence


def test_data_of_another_shape_a_run_without_held_out_data_and_one_not_saved(tmp_path):
    path = tmp_path / "run"
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32))
    np.save(tmp_path / "b.npy", np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32))
    assert cli("train", tmp_path / "a.npy", *MLP, *SHORT, "train.validation=0", "--out", path).code == 0
    assert "arrays of shape 4" in cli("likelihood", path, tmp_path / "b.npy").sentence
    assert "no examples in split 'validation'" in cli("likelihood", path).sentence
    assert cli("likelihood", path, *QUICK, "--split", "train").code == 0
    (path / "model.safetensors").unlink()
    assert "has not saved yet" in cli("likelihood", path).sentence
    assert "not a run folder" in cli("likelihood", tmp_path).sentence


def test_classes_that_the_model_does_not_know(tmp_path):
    np.savez(tmp_path / "a.npz", arr_0=np.zeros((4, 8, 8, 1), np.uint8), arr_1=np.array([0, 1, 2, 12]))
    assert "knows no class" in cli("likelihood", trained(), tmp_path / "a.npz").sentence


def test_data_that_have_changed(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32))
    recipe = compose(
        [{"data": {"kind": "arrays", "path": str(tmp_path / "a.npy")}, "net": {"kind": "mlp", "width": 8}}]
    )
    run = begin(tmp_path / "run", recipe, recipe.data.load())
    np.save(tmp_path / "a.npy", np.ones((30, 3), np.float32))
    with pytest.raises(ValueError, match="the data have changed"):
        choose(run, Settings(), None)


def test_an_example_has_the_same_mask_in_every_batch():
    """A model told masks is measured told those of the examples, each by chance of its own."""
    run = load(trained("image_condition.kind=masked"))
    seen = {}
    for n, batch in ((7, 3), (5, 64)):
        settings = Settings(n=n, batch=batch, seed=2)
        part = _Measurement(run, settings, None)
        part.at_once = batch
        rows, _, cond = part._padded(part.chosen.rows[-5:])
        assert cond.image.shape == (batch, 2, 8, 8)
        assert part._protocol()["image"] == "of the example"
        for row, image in zip(rows.tolist(), cond.image, strict=True):
            assert torch.equal(seen.setdefault(row, image), image)
    assert len({image[1].numpy().tobytes() for image in seen.values()}) > 3
