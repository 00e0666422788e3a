"""`reverie audit`: of a run and of files, what it writes, how it exits, what it refuses."""

import json
import re

import numpy as np
import pytest
from audited import copying, law, pictures
from toys import cli, copied, trained

from reverie.audit import read
from reverie.report.found import gather
from reverie.runs import load


def saved(folder, **arrays):
    paths = []
    for name, items in arrays.items():
        paths.append(folder / f"{name}.npy")
        np.save(paths[-1], items)
    return paths


def test_a_run(tmp_path):
    run = copied(tmp_path / "run")
    words = ("audit", run, "-n", "60", "--steps", "2", "--extractor", "none", "--device", "cpu")
    result = cli(*words)
    assert result.code == 0, result
    assert "verdict      no sign of memorising" in result.out
    assert "membership told by the loss (AUC)" in result.out
    assert "near-copies of training examples (pixels)" in result.out
    files = sorted(p.name for p in (run / "audit").iterdir())
    name = files[-1].removesuffix(".json")
    assert re.fullmatch("n60-seed0-[0-9a-f]{8}", name)
    assert files == [f"{name}-distances.png", f"{name}-pairs.png", f"{name}.json"]
    found = read(run / "audit" / files[-1])
    assert found.protocol["samples"]["steps"] == 2
    assert found.protocol["samples"]["classes"] == "as often as in training"
    assert found.protocol["samples"]["model"]
    assert found.protocol["held_out"]["n"] == 180
    assert len(found.levels) == 8
    assert found.protocol["losses"]["loss"]["kind"] == "denoising"
    before = (run / "audit" / files[-1]).read_text()
    assert cli(*words).code == 0
    assert len(list((run / "audit").iterdir())) == 3
    one, other = json.loads(before), json.loads((run / "audit" / files[-1]).read_text())
    one.pop("about")
    other.pop("about")
    assert one == other
    for others in (("--guidance", "3"), ("--level", "0.2")):
        assert cli(*words, *others).code == 0
    assert len(list((run / "audit").glob("*.json"))) == 3
    assert len(gather(load(run)).audits) == 3


def test_samples_of_any_origin(tmp_path):
    training, honest = pictures(300, 0), pictures(200, 2)
    files = saved(tmp_path, made=honest, training=training, held=pictures(200, 1))
    result = cli("audit", *files, "--extractor", "none", "--device", "cpu")
    assert result.code == 0, result
    assert "verdict      no sign of memorising" in result.out
    assert "wrote" not in result.out
    saved(tmp_path, made=copying(honest, training, 0.3, 1.0))
    result = cli("audit", *files, "--extractor", "none", "--out", tmp_path / "out")
    assert result.code == 0
    assert "verdict      memorises" in result.out
    (path,) = (tmp_path / "out").glob("n200-seed0-*.json")
    assert read(path).memorises
    assert cli("audit", *files, "--extractor", "none", "--fail").code == 1
    saved(tmp_path, made=copying(honest, training[..., ::-1], 0.3, 1.0))
    assert cli("audit", *files, "--extractor", "none", "--fail").code == 0
    assert cli("audit", *files, "--extractor", "none", "--fail", "--flip").code == 1


def test_without_held_out_examples(tmp_path):
    files = saved(tmp_path, made=law(60, 0), training=law(90, 1))
    result = cli("audit", *files, "--fail")
    assert result.code == 0
    assert "verdict      cannot tell: no held-out examples were given" in " ".join(result.out.split("\n"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["made.npy"], "is no run, so say what its model was trained on"),
        (["made.npy", "a.npy", "b.npy", "c.npy"], "is no run, so say"),
        (["made.npy", "nothing.npy"], "there is no data"),
        (["made.npy", "made.npy", "--extractor", "guess"], "there is no extractor 'guess'"),
        (["made.npy", "made.npy", "--level", "0.7"], "level must lie between 0 and 0.5; given 0.7"),
        (["made.npy", "made.npy", "-n", "1"], "n must be at least 2; given 1"),
        (["made.npy", "made.npy", "--size", "8"], "how a folder of images is read; made.npy and made.npy are none"),
        (["made.npy", "made.npy", "--out", "made.npy"], "made.npy/audit.json cannot be written"),
    ],
)
def test_what_it_refuses(tmp_path, monkeypatch, words, message):
    saved(tmp_path, made=law(60, 0))
    monkeypatch.chdir(tmp_path)
    assert message in cli("audit", *words).sentence


def test_a_run_may_be_given_other_held_out_examples(tmp_path):
    result = cli("audit", trained(), "digits", "-n", "60", "--extractor", "none", "--out", tmp_path)
    assert result.code == 0, result
    told = json.loads(next(tmp_path.glob("*.json")).read_text())["protocol"]["held_out"]
    assert (told["source"], told["used"], told["also_in_training"]) == ("digits", 180, 1617)
    assert "given digits and fashion besides" in cli("audit", trained(), "digits", "fashion").sentence
    np.savez(tmp_path / "bare.npz", np.zeros((60, 8, 8, 1), np.uint8))
    assert "these data have none" in cli("audit", trained(), tmp_path / "bare.npz").sentence


def test_a_run_that_held_nothing_out(tmp_path):
    run = copied(tmp_path / "run", "train.validation=0")
    result = cli("audit", run, "-n", "20", "--steps", "2", "--extractor", "none")
    assert result.code == 0, result
    assert "cannot tell: no held-out examples" in result.out


def test_what_a_run_is_not_told_is_said(tmp_path):
    seeing = trained("image_condition.kind=low_resolution", "image_condition.factor=2")
    result = cli("audit", seeing, "-n", "20", "--steps", "2", "--extractor", "none", "--out", tmp_path)
    assert result.code == 0, result
    said = " ".join(result.out.split())
    assert f"left out told an image: {seeing} is told none here; copies that it would make of an image" in said


def test_a_guide_is_asked_for_the_classes_of_training(tmp_path):
    guide = ("guide.kind=classifier", f"guide.run={trained('kind=classifier')}", "--guidance", "5")
    words = ("-n", "20", "--steps", "2", "--extractor", "none", "--out", tmp_path)
    result = cli("audit", trained("labels=false"), *guide, *words)
    assert result.code == 0, result
    (file,) = tmp_path.glob("*.json")
    assert read(file).protocol["samples"]["classes"] == "as often as in training"
