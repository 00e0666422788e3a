"""The section of stages: measured when the page is made, and left out where there is nothing to tell."""

import pytest
import torch
from toys import cli, copied

from reverie.autoencoders.linear import fitted
from reverie.diagnosis import DIAGNOSES, Case, diagnoses
from reverie.report import report, stages
from reverie.report.found import gather
from reverie.report.views import Heading, Missing, Table, Text
from reverie.runs import load

BRIEF = ("train.steps=3", "train.batch=8", "train.warmup=2", "train.sample_every=9999", "train.ema_lengths=[]")


@pytest.fixture(scope="module")
def latent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REVERIE_CACHE", str(folder / "cache"))
        words = ("kind=autoencoder", "autoencoder.kind=linear", "autoencoder.channels=3")
        assert cli("train", "digits", *words, *BRIEF, "--out", folder / "ae").code == 0
        stage = load(folder / "ae")
        items = torch.from_numpy(stage.recipe.data.load().items)
        stage.save_model(fitted(stage.space.encode(items), 3), 1)
        words = ("space.kind=latent", f"space.autoencoder={folder / 'ae'}", "net.kind=mlp", "net.width=16")
        result = cli("train", "digits", *words, *BRIEF, "--out", folder / "run")
        assert result.code == 0, result
        yield folder / "run"


def told(path, damage=None):
    (section,) = stages.sections(gather(load(path)), [] if damage is None else damage)
    assert section.name == "stages"
    return section.blocks


def gone(self):
    raise ValueError("it is gone")


def broken(self, rows):
    raise ValueError("no numbers")


def test_every_diagnosis_has_its_sentence_and_its_numbers(latent):
    run, damage = load(latent), []
    case, blocks = Case(run, run.recipe.data.load()), told(latent, damage)
    assert damage == []
    names = diagnoses(run.recipe)
    assert [type(block) for block in blocks] == [Heading, Text, Table] * len(names)
    assert [block.text.lower() for block in blocks[::3]] == [name.lower() for name in names]
    for name, text, table in zip(names, blocks[1::3], blocks[2::3], strict=True):
        found = DIAGNOSES[name](case)
        assert text.text[1:] == f"{found.words[1:]}."
        assert table.rows == found.rows()


def test_the_page_has_the_section_and_is_the_same_again(latent, tmp_path):
    first, second = (report(load(latent), tmp_path / name, "today").page.read_text() for name in ("a.html", "b.html"))
    assert first == second
    assert 'id="stages"' in first
    assert "Ceiling of the autoencoder" in first


def test_a_model_by_itself_has_no_such_section(tmp_path):
    assert stages.sections(gather(load(copied(tmp_path / "run"))), []) == ()


def test_what_cannot_be_measured_says_why(latent, monkeypatch):
    monkeypatch.setattr(stages, "SECONDS", 0.0)
    missing = [block for block in told(latent) if isinstance(block, Missing)]
    assert len(missing) == 1  # samples alone take time
    assert "would take" in missing[0].text
    assert missing[0].command == f"reverie doctor {latent}"
    damage = []
    monkeypatch.setattr(Case, "_x0", broken)
    assert "It could not be measured: no numbers" in [getattr(block, "text", "") for block in told(latent, damage)]
    assert [(d.where, d.why) for d in damage] == [("stages: latents", "no numbers")]
    monkeypatch.setattr("reverie.data.digits.Digits.load", gone)
    (block,) = told(latent)
    assert block.text == "The stages could not be looked at: it is gone"
