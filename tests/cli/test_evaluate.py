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
from reverie.report.found import gather
from reverie.runs import load

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
    assert len(list(tmp_path.glob("one.*.evaluation.json"))) == 1
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


def test_results_that_differ_have_files_of_their_own(tmp_path):
    run = copied(tmp_path / "run")
    words = (
        "evaluate",
        run,
        "--extractor",
        "pixels",
        "--metrics",
        "mmd",
        "-n",
        "20",
        "--steps",
        "2",
        "--device",
        "cpu",
    )
    again = words
    for others in ((), ("--label", "3"), ("clip=true",), ("--sets", "4")):
        assert cli(*words, *others).code == 0
        again = (*words, *others)
    assert len(list((run / "evaluation").iterdir())) == 4
    assert cli(*again).code == 0
    assert len(list((run / "evaluation").iterdir())) == 4
    found = gather(load(run))
    assert len(found.evaluations) == 4
    for counts in ("2,4", "6,8"):
        assert cli(*words[:-4], "--curve", counts, "--samplers", "adams", "--device", "cpu").code == 0
    assert len(list((run / "curves").glob("*.json"))) == 2
    assert [[p["evaluations"] for p in one["points"]] for one in gather(load(run)).curves.values()] in (
        [[2, 4], [6, 8]], [[6, 8], [2, 4]],
    )  # fmt: skip


def test_samples_beside_two_references_have_two_files(tmp_path):
    random = np.random.default_rng(0)
    for name in ("made", "a", "b"):
        np.save(tmp_path / f"{name}.npy", random.standard_normal((20, 3)).astype(np.float32))
    for other in ("a", "b", "a"):
        written(cli("evaluate", tmp_path / "made.npy", tmp_path / f"{other}.npy", "--metrics", "mmd"))
    assert len(list(tmp_path.glob("made.npy.*.evaluation.json"))) == 2


@pytest.mark.parametrize("turned", [False, True])
def test_a_folder_is_read_as_arrays_are(tmp_path, turned):
    np.save(tmp_path / "b.npy", np.random.default_rng(0).integers(0, 256, (8, 1, 16, 16), dtype=np.uint8))
    both = [folder(tmp_path / "one", 6, 0), tmp_path / "b.npy"]
    both = both[::-1] if turned else both
    assert "read the folder alike with --size 16" in cli("evaluate", *both, "--extractor", "pixels").sentence
    found = written(cli("evaluate", *both, "--extractor", "pixels", "--metrics", "mmd", "--size", "16"))
    parts = [found.protocol["samples"], found.protocol["reference"]]
    assert ["read" in part for part in (parts[::-1] if turned else parts)] == [True, False]


def test_captions_matter_where_they_are_judged(tmp_path):
    one, other = folder(tmp_path / "one", 8, 0), folder(tmp_path / "other", 8, 1)
    words = ("evaluate", one, other, "--extractor", "pixels", "--metrics", "mmd")
    before = written(cli(*words))
    for name in ("000", "001", "002"):
        (one / f"{name}.txt").write_text("a digit")
    after = written(cli(*words))
    assert (after.protocol, after.numbers) == (before.protocol, before.numbers)
    assert "learns from real images with captions, and" in cli(*words, "--pair", "trained").sentence


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--pair", "trained"), "samples without captions"),
        (("--likelihood", "-3"), "likelihood must be at least 0; given -3"),
        (("--likelihood", "4"), "there are no examples in split 'validation'"),
        (("--out", "."), ". is a folder; name the file to write"),
        (("--out", "file/a.json"), "file/a.json cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_drawn(tmp_path, monkeypatch, words, said):
    def never(*args, **settings):
        raise AssertionError

    monkeypatch.setattr("reverie.evaluation.subject.Subject.draw", never)
    monkeypatch.setattr("reverie.evaluation.job.Reference", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    run = copied(tmp_path / "run", *(("train.validation=0",) if words == ("--likelihood", "4") else ()))
    assert said in cli("evaluate", run, *QUICK, *words).sentence


def test_samples_without_captions_are_refused_before_anything_is_measured(tmp_path, monkeypatch):
    def never(*args, **settings):
        raise AssertionError

    monkeypatch.setattr("reverie.evaluation.job.Reference", never)
    one = folder(tmp_path / "one", 6, 0)
    assert "has no captions to judge" in cli("evaluate", one, one, "--pair", "trained").sentence


def test_a_reference_may_have_any_name(tmp_path):
    made, real = folder(tmp_path / "made", 6, 0), folder(tmp_path / "lr=0.1", 6, 1)
    found = written(cli("evaluate", made, real, "--extractor", "pixels", "--metrics", "mmd"))
    assert found.protocol["reference"]["source"] == str(real)
    latin = folder(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")), 6, 1)
    result = cli("evaluate", latin, real, "--extractor", "pixels", "--metrics", "mmd")
    assert result.code == 0, result
    (path,) = tmp_path.glob("caf*.evaluation.json")
    assert read(path).protocol["samples"]["source"] == f"{tmp_path}/caf\\xe9"


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
        (("digits", "digits", "--size", "8"), "how a folder of images is read; digits and digits are none"),
        (("RUN", "--size", "8"), "how a folder of images is read; none is given"),
        (("RUN", "digits", "--size", "8"), "how a folder of images is read; digits is none"),
        (("digits", "digits", "sampler.eta=0.5"), "sampler.eta=0.5 says how a run draws samples"),
        (("digits", "digits", "--steps", "5"), "--steps says how a run draws samples"),
        (("RUN", "--size", "x"), "--size is a number of pixels"),
        (("RUN", "--resize", "bend"), "--resize is one of crop, pad, stretch"),
        (("RUN", "--channels", "2"), "--channels is one of 1, 3, 4"),
        (("RUN", "--sets", "2"), "at least 3 disjoint sets"),
        (("RUN", "-n", "1"), "at least 2 samples"),
        (("RUN", "-n", "0"), "at least 2 samples; given 0"),
        (("digits", "digits", "-n", "-1"), "at least 2 samples; given -1"),
        (("digits", "digits", "--references", "-5"), "at least 2 real examples; given -5"),
        (("RUN", "--extractor", "inceptoin"), "there is no extractor 'inceptoin'"),
        (("RUN", "--metrics", "fdi"), "unknown metric 'fdi'"),
        (("RUN", "--label", "12"), "unknown label '12'"),
        (("RUN", "--precision", "fp16", "--device", "cpu"), "fp16 is for cuda"),
        (("RUN", "--weights", "best"), "best.safetensors is missing"),
        (("RUN", "--pair", "trained", *QUICK), "samples without captions, so there are none to judge"),
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
