"""`reverie tune`: its table, its file, what `sample` and `info` make of it, its sentences."""

import json
import re

import numpy as np
import pytest
from toys import MLP, SHORT, begun, cli, copied, trained

from reverie.pictures import read_metadata
from reverie.runs import load
from reverie.tuning import FILE, read

QUICK = ("-n", "4", "--reference", "12", "--seconds", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A run tuned for DDIM, and what the command said."""
    path = copied(tmp_path_factory.mktemp("tuned") / "run")
    return path, cli("tune", path, "--nfe", "4,2", "--sampler", "ddim", *QUICK)


def test_it_prints_the_errors_beside_other_grids_and_how_to_go_on(tuned):
    path, result = tuned
    assert result.code == 0, result
    assert result.err == ""
    assert "100%" in result.out
    for of in ("root mean square", "median"):
        table = result.out.split(of)[1].splitlines()
        assert table[1].split() == ["evaluations", "steps", "tuned", "angle", "uniform", "karras", "log_snr"]
        assert [line.split()[:2] for line in table[2:4]] == [["2", "2"], ["4", "4"]]
    stored = read(path)[0]
    for c in stored.counts:
        assert f" {c.errors['tuned'].rms:.2g} " in result.out
        assert f" {c.errors['karras'].median:.2g} " in result.out
    assert f"wrote {path / FILE}" in result.out
    assert f"reverie sample {path} --sampler ddim --steps 4" in result.out
    assert max(map(len, result.out.splitlines()[:-2])) <= 100


def test_no_line_of_the_table_is_cut(tuned):
    _, result = tuned
    assert "…" not in result.out


def test_samples_are_drawn_with_it_and_say_so(tuned, tmp_path):
    path, _ = tuned
    stored = read(path)[0]
    result = cli("sample", path, "-n", "2", "--sampler", "ddim", "--steps", "4", "--out", tmp_path / "a.png")
    assert result.code == 0, result
    assert result.out.startswith("wrote ")
    grid = read_metadata(tmp_path / "a.png")["sampling"]["grid"]
    assert grid["kind"] == "tuned"
    assert grid["steps"] == 4
    assert [list(c.times) for c in stored.counts] == grid["knots"]
    assert stored.model[:16] in grid["origin"]
    assert cli("sample", path, "-n", "2", "--sampler", "ddim", "--steps", "3", "--out", tmp_path / "a.gif").code == 0
    assert read_metadata(tmp_path / "a.gif")["sampling"]["grid"]["steps"] == 3
    made = cli("sample", path, "-n", "2", "--sampler", "ddim", "grid.steps=4")
    assert re.search(r"ddim-tuned4-guidance", made.out)


def test_a_grid_that_is_asked_for_wins(tuned, tmp_path):
    path, _ = tuned
    for words in (("--grid", "karras"), ("grid.kind=karras",), ("grid.kind=karras", "grid.low=0.01")):
        result = cli(
            "sample", path, "-n", "2", "--sampler", "ddim", "--steps", "4", *words, "--out", tmp_path / "b.png"
        )
        assert result.code == 0, result
        assert read_metadata(tmp_path / "b.png")["sampling"]["grid"]["kind"] == "karras"
        assert result.out.startswith("wrote ")


def test_where_it_does_not_serve_one_line_says_so(tuned, tmp_path):
    path, _ = tuned
    asked = ("sample", path, "-n", "2", "--steps", "2", "--out", tmp_path / "c.png")
    shown = cli(*asked)
    assert shown.err.startswith("note: the grid is uniform, not a tuned one: it was fitted for ddim, not for adams; ")
    assert len(shown.err.splitlines()) == len(shown.out.splitlines()) == 1
    assert shown.out.startswith("wrote ")
    assert (
        "uniform, not a tuned one: it was fitted with guidance 1.5, not 3"
        in cli(*asked, "--sampler", "ddim", "--guidance", "3").err
    )
    near = cli(*asked, "--sampler", "ddim", "--guidance", "2").err
    assert near.startswith("note: the grid was tuned with guidance 1.5, not 2; ")
    assert read_metadata(tmp_path / "c.png")["sampling"]["grid"]["kind"] == "tuned"
    assert cli(*asked, "--sampler", "ancestral").err == ""


def test_the_tuned_grid_may_be_insisted_on(tuned, tmp_path):
    path, _ = tuned
    asked = ("sample", path, "-n", "2", "--steps", "2", "--grid", "tuned", "--out", tmp_path / "d.png")
    assert cli(*asked, "--sampler", "ddim").code == 0
    assert "fitted for ddim, not for adams" in cli(*asked).sentence
    assert "no grid is tuned for adams" in cli("sample", trained(), "--grid", "tuned").sentence


def test_info_tells(tuned):
    path, _ = tuned
    assert json.loads(cli("info", path, "--json").out)["tuned"] == "ddim, guidance 1.5: 2, 4 evaluations"
    assert json.loads(cli("info", trained(), "--json").out)["tuned"] == "not yet"


def test_training_on_makes_it_stale(tmp_path):
    path = copied(tmp_path / "run")
    assert cli("tune", path, "--nfe", "2", "--sampler", "ddim", *QUICK).code == 0
    from toys import TOY

    assert cli("train", *TOY, "train.steps=14", "--out", path).code == 0
    said = cli("sample", path, "-n", "2", "--sampler", "ddim", "--steps", "2").err
    assert "fitted to other weights than the run has now" in said.splitlines()[0]
    assert cli("tune", path, "--nfe", "2", "--sampler", "ddim", *QUICK).code == 0
    assert cli("sample", path, "-n", "2", "--sampler", "ddim", "--steps", "2").err == ""
    assert load(path).recipe.train.steps == 14


def test_settings_of_the_sampler(tmp_path):
    path = copied(tmp_path / "run", "sample.sampler.kind=ddim", "sample.guidance=2.0")
    said = cli("tune", path, "--nfe", "3", "--sampler", "adams", "sampler.order=2", *QUICK).out
    assert f"reverie sample {path} --sampler adams sampler.order=2 --steps 3" in said
    assert read(path)[0].sampler.order == 2
    assert read(path)[0].guidance == 2
    assert cli("sample", path, "--sampler", "adams", "sampler.order=2", "-n", "2").err == ""


def test_the_remedy_for_clipping_is_the_command_that_a_note_tells(tmp_path):
    path = copied(tmp_path / "run")
    assert cli("tune", path, "--nfe", "2", *QUICK).code == 0
    asked = ("sample", path, "-n", "2", "--steps", "2", "clip=true", "--out", tmp_path / "a.png")
    remedy = re.search("`reverie (.*)` fits one", cli(*asked).err)[1]
    assert remedy == f"tune {path} clip=true"
    said = cli(*remedy.split(), "--nfe", "2", *QUICK).out
    assert f"to use it: reverie sample {path} clip=true --steps 2" in said
    assert [t.clip for t in read(path)] == [False, True]
    assert cli(*asked).err == ""
    assert read_metadata(tmp_path / "a.png")["sampling"]["grid"]["kind"] == "tuned"


def test_clipping_is_for_pixels(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((40, 2)).astype(np.float32))
    assert cli("train", tmp_path / "x.npy", *MLP, *SHORT, "--out", tmp_path / "run").code == 0
    assert "these data are not 8-bit images" in cli("tune", tmp_path / "run", "clip=true", *QUICK).sentence


def test_a_damaged_file_is_kept_and_that_is_said(tmp_path):
    path = copied(tmp_path / "run")
    (path / FILE).write_text("{")
    result = cli("tune", path, "--nfe", "2", *QUICK)
    assert result.code == 0
    assert result.err.startswith(f"note: {path / FILE} is damaged (not well-formed")
    assert (path / f"{FILE}.damaged").read_text() == "{"


def test_counts_that_cannot_be_made_are_said(tmp_path):
    path = copied(tmp_path / "run")
    said = cli("tune", path, "--nfe", "4,5", "--sampler", "heun", *QUICK).err
    assert "note: heun makes 2 steps of 3 evaluations, and none of 4: 3 are fitted" in said
    assert [c.evaluations for c in read(path)[0].counts] == [3, 5]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--nfe", "0"), "from 1 to 1000"),
        (("--nfe", "ten"), "whole numbers with commas, such as 5,10,20; given 'ten'"),
        (("--nfe", "5,,6"), "whole numbers"),
        (("--nfe", "1001"), "given 1001"),
        (("--nfe", "-3"), "given -3"),
        (("--sampler", "magic"), "unknown sampler 'magic'"),
        (("--sampler", "ancestral"), "ancestral, draws noise"),
        (("sampler.order=nine",), "sampler.order must be int; given 'nine'"),
        (("sampler.eta=0.5",), "unknown setting sampler.eta; adams has: order, std"),
        (("steps=5",), "'steps=5' is not a setting of a fit"),
        (("sampler",), "'sampler' is not a setting"),
        (("clip",), "'clip' is not a setting of a fit; .* or clip=true"),
        (("clip=maybe",), "clip must be bool; given 'maybe'"),
        (("--guidance", "-1"), "guidance must be at least 0"),
        (("-n", "1"), "n must be at least 2"),
        (("--seed", "-1"), "seed must be at least 0"),
        (("--reference", "2"), "must be at least 10"),
        (("--device", "abacus"), "cannot be used here"),
    ],
)
def test_bad_input_is_a_sentence(words, says):
    assert re.search(says, cli("tune", trained(), *words).sentence)
    assert not (trained() / FILE).exists()


def test_a_run_that_is_none_or_not_saved_yet(tmp_path):
    assert "is not a run folder" in cli("tune", tmp_path).sentence
    begun(tmp_path / "run")
    assert "has not saved yet" in cli("tune", tmp_path / "run", "--nfe", "5").sentence


def test_a_recipe_whose_sampler_draws_noise(tmp_path):
    path = copied(tmp_path / "run", "sample.sampler.kind=ancestral")
    assert "the run's sampler, ancestral, draws noise" in cli("tune", path).sentence
    assert cli("tune", path, "--nfe", "2", "--sampler", "ddim", *QUICK).code == 0
