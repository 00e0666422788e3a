"""The model card: the Hub reads it, and every field is the run's."""

import json
import re

import pytest
from huggingface_hub import ModelCard
from reported import EVIL, evaluation, full, renamed, write
from toys import copied

from reverie.report import card, report
from reverie.report.found import gather
from reverie.runs import load

TOYS = {"digits": (), "unlabelled": ("labels=false",), "points": ("data.kind=swissroll",)}


def read(path):
    return ModelCard.load(path, ignore_metadata_errors=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return full(tmp_path_factory.mktemp("card") / "a run")


def test_the_hub_reads_the_numbers(run):
    made = read(write_card(run))
    assert made.data.library_name == "reverie"
    assert made.data.model_name == "a run"
    assert made.data.datasets == ["digits"]
    assert made.data.metrics == ["fid", "recall", "bits_per_dim"]
    assert made.data.license is None
    assert made.data.pipeline_tag is None  # the Hub has no word for images by class
    results = {r.metric_type: r for r in made.data.eval_results}
    assert results["fid"].metric_value == evaluation().number("fid").value
    assert results["fid"].metric_args == {"protocol": evaluation().id, "standard_error": 0.1234}
    assert results["fid"].dataset_name == "digits, train"
    assert results["bits_per_dim"].metric_value == 2.3456
    assert results["bits_per_dim"].dataset_split == "validation"


def write_card(run):
    path = run / card.FILE
    path.write_text(card.card(gather(load(run))), encoding="utf-8")
    return path


@pytest.mark.parametrize("settings", TOYS.values(), ids=TOYS)
def test_fields_are_the_run_s(settings, tmp_path):
    path = copied(tmp_path / "run", *settings)
    run = load(path)
    made = read(write_card(path))
    unconditional = run.facts.image and not run.classes
    assert made.data.pipeline_tag == ("unconditional-image-generation" if unconditional else None)
    assert {"diffusion", run.recipe.net.kind, run.schedule.kind} <= set(made.data.tags)
    assert made.data.eval_results is None
    for text in (f"{run.facts.train:,}", f"{run.facts.validation:,}", run.sampler.kind, "samples/00000012.png"):
        assert text in made.text, text
    assert (path / "samples" / "00000012.png").exists()
    assert not re.search(r"(?i:todo|fixme|more information needed)|\bNone\b|\bnan\b", made.content)
    assert str(path.parent) not in made.text.split("## How to train it again")[0]


def test_its_commands_and_names_are_escaped(tmp_path):
    run = full(tmp_path / "a <b> `run`")
    renamed(run, 3, EVIL)
    made = read(write_card(run))
    assert made.data.model_name == "a <b> `run`"
    body = re.sub(r"```.*?```", "", made.text, flags=re.DOTALL)
    assert "<script>" not in body
    assert "<b>" not in body
    assert body.count("<!--") == 1


def test_the_user_s_own_card_is_left_alone(tmp_path):
    run = copied(tmp_path / "run")
    (run / "README.md").write_text("my own words")
    assert report(load(run), date="x").card is None
    assert (run / "README.md").read_text() == "my own words"
    (run / "README.md").unlink()
    assert report(load(run), date="x").card == run / "README.md"
    before = (run / "README.md").read_text()
    assert report(load(run), date="y").card == run / "README.md"
    assert (run / "README.md").read_text() == before


def test_a_verdict_stands_in_the_card(run):
    assert "**no sign of memorising**: none of 4 tests" in read(write_card(run)).text


def test_broken_pieces_leave_a_card(tmp_path):
    run = copied(tmp_path / "run")
    (run / "evaluation").mkdir()
    (run / "evaluation" / "a.json").write_text("{")
    write(run / "likelihood" / "b.json", {"bound": "x"})
    assert read(write_card(run)).data.eval_results is None
    assert json.loads(json.dumps(read(write_card(run)).data.to_dict()))
