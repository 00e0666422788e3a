"""`reverie doctor`: a row each, exit code 1 where anything fails, sentences for what it cannot do."""

import json
from itertools import pairwise

import pytest
from toys import cli, copied, trained

from reverie.schedules import Flow


def test_a_row_each_and_no_failure(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = cli("doctor", "--device", "cpu", "--only", "schedules, notations,guidance")
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert "device cpu, precision no" in lines[0]
    assert lines[1].split() == ["what", "expected", "seen"]
    assert all(line.startswith("ok  ") for line in lines[2:-1])
    assert lines[-1].startswith(f"{len(lines) - 3} checks, none failed")
    assert len({line.index("  ", 20) > 0 for line in lines[2:-1]}) == 1


def test_a_failure_says_what_it_means(monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setattr(Flow, "sigma", lambda self, t: 2 * t)
    result = cli("doctor", "--device", "cpu", "--only", "schedules")
    assert result.code == 1
    lines = result.out.splitlines()
    told = [below for line, below in pairwise(lines) if line.startswith("FAIL")]
    assert "shifted (ValueError: Flow cannot be shifted" in told[0]
    assert all(line.startswith("      flow (") for line in told[1:])
    assert all(line.endswith("no sampler or loss can be right on this schedule") for line in told[1:])
    assert "checks failed" in lines[-1]
    assert not result.err


def test_json(monkeypatch):
    shown = json.loads(cli("doctor", trained(), "--device", "cpu", "--only", "noise,run", "--json").out)
    assert shown["ok"] is True
    assert shown["about"]["device"] == "cpu"
    assert {f["group"] for f in shown["findings"]} == {"noise", "run"}
    assert {f["verdict"] for f in shown["findings"]} == {"ok"}
    monkeypatch.setattr(Flow, "alpha", lambda self, t: 1 - 0.9 * t)
    result = cli("doctor", "--device", "cpu", "--only", "schedules", "--json")
    assert result.code == 1
    assert json.loads(result.out)["ok"] is False


def test_a_damaged_run(tmp_path):
    path = copied(tmp_path / "run")
    (path / "model.safetensors").write_bytes(b"nothing")
    result = cli("doctor", path, "--device", "cpu", "--only", "run")
    assert result.code == 1
    assert "model.safetensors is damaged" in " ".join(result.out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no run folder nowhere"),
        (["--only", "sampler"], "nothing called 'sampler' to look at; there is schedules"),
        (["--only", "run"], "to look at a run, name its folder"),
        (["--precision", "fp8"], "precision is one of no, bf16, fp16; given 'fp8'"),
        (["--device", "abacus"], "device 'abacus' cannot be used here"),
    ],
)
def test_what_it_cannot_do(words, message):
    assert message in cli("doctor", *words).sentence


def test_a_narrow_page_gets_two_lines_a_row_with_the_same_words(monkeypatch):
    shown = {}
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        shown[columns] = cli("doctor", "--device", "cpu", "--only", "schedules,guidance").out.splitlines()
    assert max(map(len, shown["80"])) <= 80 < max(map(len, shown["200"]))
    start = next(i for i, line in enumerate(shown["80"]) if line.startswith("ok "))
    narrow, rows = " ".join(shown["80"][start:-1]).split("ok    ")[1:], shown["200"][2:-1]
    assert len(narrow) == len(rows) > 5
    for below, row in zip(narrow, rows, strict=True):
        assert below.replace(" expected ", " ").replace("; seen ", " ").split() == row.split()[1:]
    assert " ".join(shown["80"][:start]).split() == shown["200"][0].split()
