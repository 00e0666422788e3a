"""`reverie evaluate`: the same numbers from the command line, on 1 and 2 processes, and its sentences."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys import MLP, SHORT, cli, copied, free_port, hashes, trained

from reverie.evaluation.numbers import read

QUICK = ("--extractor", "pixels", "-n", "60", "--device", "cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path_factory.mktemp("cache")))


def written(result):
    assert result.code == 0, result
    return read(Path(next(line.removeprefix("wrote ") for line in result.out.splitlines() if line.endswith(".json"))))


def folder(path, n, seed, size=(8, 8), mode="L"):
    path.mkdir()
    random = np.random.default_rng(seed)
    channels = {"L": (), "RGB": (3,)}[mode]
    for i in range(n):
        Image.fromarray(random.integers(0, 256, (*size, *channels), dtype=np.uint8), mode).save(path / f"{i:03}.png")
    return path


def test_a_run_is_judged_and_nothing_else_of_it_changes(tmp_path):
    run = copied(tmp_path / "run")
    before = hashes(run)
    result = cli("evaluate", run, *QUICK)
    found = written(result)
    assert {n.name for n in found.numbers} >= {"sliced_wasserstein", "mmd", "modes"}
    assert found.id in result.out
    for number in found.numbers:
        assert number.title in result.out
    assert {k: v for k, v in hashes(run).items() if not k.startswith("evaluation/")} == before
    again = written(cli("evaluate", run, *QUICK, "--out", tmp_path / "again.json"))
    assert (again.numbers, again.protocol) == (found.numbers, found.protocol)
    assert again.protocol["reference"]["split"] == "train"
    assert again.protocol["floor"]["split"] == "validation"


def test_settings_of_sampling_are_those_of_sample(tmp_path):
    run = trained()
    words = ("--sampler", "ddim", "sampler.eta=0.5", "--steps", "4", "--label", "3,5", "--guidance", "2")
    found = written(cli("evaluate", run, *QUICK, *words, "--metrics", "mmd", "--out", tmp_path / "a.json"))
    told = found.protocol["samples"]
    assert (told["sampler"], told["steps"], told["guidance"]) == ({"kind": "ddim", "eta": 0.5}, 4, 2.0)
    assert told["classes"] == ["3", "5"]
    assert [n.name for n in found.numbers] == ["mmd"]


def test_bits_per_dimension_are_those_of_the_verb(tmp_path):
    run = copied(tmp_path / "run")
    found = written(cli("evaluate", run, *QUICK, "--metrics", "mmd", "--likelihood", "4"))
    assert cli("likelihood", run, "-n", "4", "--device", "cpu").code == 0
    other = json.loads(next((run / "likelihood").glob("*.json")).read_text())
    assert found.number("bits_per_dim_ode").value == pytest.approx(other["ode"]["bits_per_dim"], rel=1e-4)
    assert found.number("bits_per_dim_bound").error == pytest.approx(other["bound"]["standard_error"], rel=1e-3)
    assert found.protocol["likelihood"]["examples"] == other["protocol"]["examples"] == "4 of 180"


def test_two_folders_are_compared_with_no_run(tmp_path):
    one, other = folder(tmp_path / "one", 12, 0), folder(tmp_path / "other", 15, 1)
    found = written(cli("evaluate", one, other, "--extractor", "pixels"))
    assert (found.protocol["samples"]["n"], found.protocol["reference"]["n"]) == (12, 15)
    assert (tmp_path / "one.evaluation.json").is_file()
    same = written(cli("evaluate", one, one, "--extractor", "pixels", "--metrics", "sliced_wasserstein"))
    assert same.numbers[0].value == 0


def test_folders_of_other_sizes_are_read_alike_when_told(tmp_path):
    one, other = folder(tmp_path / "one", 6, 0, (8, 8)), folder(tmp_path / "other", 6, 1, (12, 16), "RGB")
    said = cli("evaluate", one, other, "--extractor", "pixels").sentence
    assert "read both alike with --size 12,16 --channels 3" in said
    found = written(
        cli("evaluate", one, other, "--extractor", "pixels", "--size", "12,16", "--resize", "stretch", "--channels", 3)
    )
    assert found.protocol["samples"]["read"] == {"size": [12, 16], "resize": "stretch", "channels": 3}


def test_arrays_of_numbers_need_no_images(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", random.standard_normal((40, 3)).astype(np.float32))
    found = written(cli("evaluate", tmp_path / "a.npy", tmp_path / "b.npy"))
    assert {n.extractor for n in found.numbers} == {"values"}


def test_a_curve_is_drawn(tmp_path):
    run = copied(tmp_path / "run")
    result = cli("evaluate", run, *QUICK, "--curve", "3,5", "--samplers", "heun")
    assert result.code == 0, result
    path = next((run / "curves").glob("*.json"))
    data = json.loads(path.read_text())
    assert [(p["sampler"], p["evaluations"]) for p in data["points"]] == [
        ("adams", 3), ("adams", 5), ("heun", 3), ("heun", 5),
    ]  # fmt: skip
    assert Image.open(path.with_suffix(".png")).size[0] > 1000
    assert "worth its cost" in result.out


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one_to_the_last_digit(tmp_path):
    run = trained()
    words = ["evaluate", run, "--extractor", "classifier,pixels", "-n", "700", "--device", "cpu"]
    alone = written(cli(*words, "--out", tmp_path / "one.json"))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1",
        f"--master_port={free_port()}", "-m", "reverie", *map(str, words), "--out", str(tmp_path / "two.json"),
    ]  # fmt: skip
    fresh = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "REVERIE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=fresh, timeout=240)
    assert done.returncode == 0, done.stderr
    both = read(tmp_path / "two.json")
    assert both.about["processes"] == 2
    assert both.protocol == alone.protocol
    assert both.numbers == alone.numbers


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing-here",), "is no run, so say what its samples are to be compared with"),
        (("nothing-here", "digits"), "there is no data 'nothing-here'"),
        (("RUN", "--curve", "5,x"), "--curve takes numbers of evaluations"),
        (("RUN", "--curve", "0"), "--curve takes numbers of evaluations"),
        (("digits", "digits", "--curve", "5"), "--curve and --likelihood ask for a run"),
        (("digits", "digits", "fashion"), "one reference is enough"),
        (("digits", "digits", "--size", "8"), "how a folder of images is read; digits is digits"),
        (("RUN", "--size", "x"), "--size is a number of pixels"),
        (("RUN", "--resize", "bend"), "--resize is one of crop, pad, stretch"),
        (("RUN", "--channels", "2"), "--channels is one of 1, 3, 4"),
        (("RUN", "--sets", "2"), "at least 3 disjoint sets"),
        (("RUN", "-n", "1"), "at least 2 samples"),
        (("RUN", "--extractor", "inceptoin"), "there is no extractor 'inceptoin'"),
        (("RUN", "--metrics", "fdi"), "unknown metric 'fdi'"),
        (("RUN", "--label", "12"), "unknown label '12'"),
        (("RUN", "--precision", "fp16", "--device", "cpu"), "fp16 is for cuda"),
        (("RUN", "--weights", "best"), "best.safetensors is missing"),
        (("RUN", "--pair", "trained", *QUICK), "has no captions to judge"),
        (("RUN", "--metrics", "fid", *QUICK, "--device", "cpu"), "nothing can be measured of these samples: fid"),
        (("RUN", "swissroll", *QUICK), "arrays"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(words, said):
    result = cli("evaluate", *(trained() if word == "RUN" else word for word in words))
    assert said in result.sentence


def test_a_run_of_points_has_numbers_of_its_own(tmp_path):
    made = cli("train", "checkerboard", *MLP, *SHORT, "train.steps=2", "--out", tmp_path / "run")
    assert made.code == 0, made
    found = written(cli("evaluate", tmp_path / "run", "-n", "100"))
    assert 0.2 < found.number("off_board").value <= 1  # hardly trained
    assert found.number("off_board").floor == 0
