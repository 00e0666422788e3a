"""Runs that come with the package: every verb opens them by name, and none changes them."""

import json

import pytest
from toys import cli, copied, hashes

from reverie.runs import located, of_package
from reverie.schedules import Cosine


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """The folder of a run `tiny` in the package, on points in the plane; the current folder is an empty one."""
    monkeypatch.setattr("reverie.runs.SHIPPED", tmp_path / "package")
    run = copied(tmp_path / "package" / "tiny", "swissroll", "data.count=400", "schedule.kind=cosine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return run


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_name_is_that_of_the_package_unless_there_is_such_a_folder(shipped, tmp_path):
    assert located("tiny") == shipped
    assert of_package(located("tiny"))
    copied(tmp_path / "here" / "tiny")
    assert not of_package(located("tiny"))


def test_a_report_and_pictures_are_written_here(shipped, tmp_path):
    before, here = hashes(shipped), tmp_path / "here"
    told = cli("report", "tiny", "--device", "cpu")
    assert (told.code, told.out, told.err) == (0, "wrote report.html\n", "")
    assert cli("plot", "tiny").code == 0
    assert files(here) == ["field.png", "process.png", "report.html", "schedule.png"]
    assert cli("plot", "field", "tiny", "--out", "one.svg").code == 0
    assert "none changed" in cli("doctor", "tiny", "--only", "run", "--device", "cpu").out
    assert hashes(shipped) == before
    assert "digits is one too many" in cli("report", "tiny", "digits").sentence


def test_a_schedule_is_that_of_the_run_and_data_come_before_a_run_of_their_name(shipped, tmp_path, monkeypatch):
    from reverie.cli.plot import _run_of, _schedules, _words

    assert _schedules(_words(["tiny", "ve"]))["tiny"] == Cosine()
    run = _run_of("tiny")
    assert run is not None
    assert run.path == shipped
    shipped.rename(shipped.with_name("digits"))
    assert _run_of("digits") is None
    copied(tmp_path / "here" / "digits")
    assert _run_of("digits") is not None


@pytest.mark.parametrize("verb", ["tune", "ema"])
def test_what_would_change_it_says_to_copy_it(verb, shipped):
    before = files(shipped)
    said = cli(verb, "tiny").sentence
    assert said.startswith("tiny comes with the package")
    assert str(shipped) in said
    assert "runs/tiny" in said
    assert files(shipped) == before


def test_info_knows_the_name(shipped):
    told = json.loads(cli("info", "tiny", "--json").out)
    assert told["run"] == str(shipped)
    said = cli("info", "tinny").sentence
    assert "tinny is neither a run folder, such as runs/digits, nor one of `reverie info networks`" in said
