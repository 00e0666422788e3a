"""`reverie sample`: its help, what it refuses and when, memory, precision, and what it writes while it runs."""

import re

import numpy as np
import pytest
import torch
from toys import DIT, cli, trained

from reverie import config
from reverie.denoiser import Denoiser
from reverie.grids import Grid
from reverie.guidance import Guide
from reverie.pictures import read_metadata
from reverie.samplers import Sampler


def test_the_help_lists_every_sampler_and_grid():
    shown = re.findall(r"[\w+]+", cli("sample", "--help").out)
    for family in (Sampler, Grid, Guide):
        assert set(config.registered(family)) <= set(shown)
    assert set(config.aliases(Sampler)) <= set(shown)
    assert "reverie config" in cli("sample", "--help").out


@pytest.mark.parametrize(("words", "steps"), [("ddim50", 50), ("3,4,5", 12), ("7", 7)])
def test_sections_of_a_chain_are_a_grid(words, steps, tmp_path):
    out = cli("sample", trained("schedule.kind=table"), "-n", 2, "--grid", words, "--out", tmp_path / "a.npz").out
    assert f"2 samples, adams, {steps} steps" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sampler", "hune"], "did you mean 'heun'"),
        (["--grid", "karas"], "did you mean 'karras'"),
        (["--grid", "karras", "--steps", "0"], "at least 1 step"),
        (["--sampler", "euler_maruyama", "--grid", "uniform"], "divides by alpha"),
        (["--precision", "fp16", "--device", "cpu"], "fp16 is for cuda"),
        (["--precision", "half", "--device", "cpu"], "precision must be no or bf16"),
        (["-n", "-3"], "at least 1 sample can be asked for; given -3"),
        (["--with", "shade"], "--with shade gives no value; write --with shade=VALUE"),
        (["--with", "=left"], "--with '=left' names no attribute; write --with NAME=VALUE"),
    ],
)
def test_what_cannot_work_is_refused_before_the_network_is_called(words, message, tmp_path, monkeypatch):
    run = trained()
    monkeypatch.setattr(Denoiser, "forward", lambda *arguments: 1 / 0)
    assert message in cli("sample", run, *words, "--out", tmp_path / "a.png").sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_any_number_of_steps(steps, tmp_path):
    words = ("-n", 1, "--sampler", "ddim", "--grid", "uniform", "--steps", steps)
    shown = cli("sample", trained(), *words, "--out", tmp_path / "a.npy")
    assert f"1 sample, ddim, {steps} step" in shown.out


def drawn(run, *words, out):
    """The samples that the words ask for, and what was noted of them."""
    fixed = ("-n", 3, "--sampler", "ddim", "--grid", "uniform", "--steps", 2, "--out", out)
    done = cli("sample", run, *words, *fixed)
    assert done.code == 0, done
    return np.load(out).astype(int), done.err.strip()


@pytest.mark.parametrize(
    ("trained_with", "words", "told"),
    [
        ((), ["--label", "none", "--guidance", 3], "guidance 3 does nothing: no sample is asked for anything; .*label"),
        (["labels=false"], ["--guidance", 3], "guidance 3 does nothing: .* can be asked for nothing; guide.kind=auto"),
        ((), ["--label", "none", "--guidance", 3, "guide.kind=classifier", "guide.run={classifier}"],
         "guidance 3 does nothing: guide.kind=classifier leads to a class, and no sample is asked for one"),
        ((), ["--guidance", 3, "guide.kind=auto", "guide.run={own}"], "guide.run is the run itself.*a weaker model"),
        ((), ["guidance=1", "guide.interval=[0.3,4]"], "guide.kind=classifier_free does nothing at guidance 1;"),
        (["sample.guidance=1"], ["guide.kind=auto", "guide.run={own}"], "nothing at guidance 1, the scale of the run"),
    ],
    ids=["label none", "told nothing", "no class", "itself", "scale 1", "the run's scale 1"],
)  # fmt: skip
def test_guidance_that_does_nothing_is_said(trained_with, words, told, tmp_path):
    run, at = trained(*trained_with), {"classifier": trained("kind=classifier"), "own": trained(*trained_with)}
    words = [word.format(**at) if isinstance(word, str) else word for word in words]
    led, said = drawn(run, *words, out=tmp_path / "led.npy")
    assert re.fullmatch(f"note: .*{told}.*", said)
    label = ["--label", "none"] if "none" in words else []
    plain, said = drawn(run, *label, "guidance=1", out=tmp_path / "plain.npy")
    assert said == ""
    assert np.abs(led - plain).max() <= 1


def test_the_scale_of_a_run_is_not_taken_for_another_models_in_silence(tmp_path):
    run, guide = trained("sample.guidance=1.5"), ["guide.kind=classifier", f"guide.run={trained('kind=classifier')}"]
    own, said = drawn(run, *guide, out=tmp_path / "own.npy")
    assert re.fullmatch("note: guidance is 1.5, the scale of the run, which was not chosen for guide.kind=cl.*", said)
    given, said = drawn(run, *guide, "--guidance", 1.5, out=tmp_path / "given.npy")
    assert said == ""
    assert np.array_equal(own, given)


def limited(monkeypatch, most):
    """A network that runs out of memory with more rows than `most`; the rows it saw."""
    forward, seen = Denoiser.forward, []

    def small(self, x, t, cond=None):
        seen.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError("no more")
        return forward(self, x, t, cond)

    monkeypatch.setattr(Denoiser, "forward", small)
    return seen


def test_a_batch_that_does_not_fit_is_halved_with_a_note(tmp_path, monkeypatch):
    words = ("-n", 50, "--seed", 4, "--sampler", "ddim", "--steps", 3)
    assert cli("sample", trained(*DIT), *words, "--out", tmp_path / "a.npy").code == 0
    seen = limited(monkeypatch, 16)
    shown = cli("sample", trained(*DIT), *words, "--batch", 64, "--out", tmp_path / "b.npy")
    assert shown.code == 0
    notes = [line for line in shown.err.splitlines() if line.startswith("note: out of memory with ")]
    assert [re.findall(r"\d+", line) for line in notes] == [["64", "32"], ["32", "16"]]
    assert max(seen[2:]) == 16
    a, b = (np.load(tmp_path / name).astype(int) for name in ("a.npy", "b.npy"))
    assert np.abs(a - b).max() <= 1


def test_no_memory_for_one_sample(tmp_path, monkeypatch):
    run = trained()
    limited(monkeypatch, 0)
    said = cli("sample", run, "-n", 3, "--out", tmp_path / "a.png").sentence
    assert re.search("a single sample of 1x8x8 does not fit the memory of cpu.*--precision bf16", said)
    assert not list(tmp_path.iterdir())


def test_single_pictures_are_written_batch_by_batch(tmp_path, monkeypatch):
    from reverie.cli.sample import sample

    run, forward = trained(), Denoiser.forward

    def failing(self, x, t, cond=None):
        if len(list((tmp_path / "folder").glob("*.png"))) >= 32:
            raise KeyboardInterrupt
        return forward(self, x, t, cond)

    monkeypatch.setattr(Denoiser, "forward", failing)
    with pytest.raises(KeyboardInterrupt):
        sample(run, n=70, batch=32, out=tmp_path / "folder", steps=2)
    files = sorted((tmp_path / "folder").iterdir())
    assert [f.name for f in files] == [f"{i:06d}.png" for i in range(32)]
    assert [read_metadata(f)["start"] for f in files] == list(range(32))
    assert read_metadata(files[13])["labels"] == [3]


def test_half_precision_is_told_in_the_picture(tmp_path):
    for precision in ("no", "bf16"):
        words = ("-n", 4, "--precision", precision, "--device", "cpu", "--out", tmp_path / f"{precision}.png")
        assert cli("sample", trained(*DIT), *words).code == 0
        told = read_metadata(tmp_path / f"{precision}.png")
        assert (told["precision"], told["compiled"]) == (precision, False)


def test_without_a_compiler_the_network_runs_as_it_is(tmp_path, monkeypatch):
    def broken(*arguments, **settings):
        raise RuntimeError("No working C++ compiler found\n\nSet THIS or THAT")

    monkeypatch.setattr(torch, "compile", broken)
    shown = cli("sample", trained(), "-n", 4, "--compile", "--out", tmp_path / "a.png")
    assert shown.code == 0
    assert "note: the network cannot be compiled here (No working C++ compiler found); it runs uncompiled" in shown.err
    assert cli("sample", trained(), "-n", 4, "--out", tmp_path / "b.png").code == 0
    told = [read_metadata(tmp_path / name) for name in ("a.png", "b.png")]
    assert [t["compiled"] for t in told] == [True, False]
