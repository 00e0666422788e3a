"""Runs that are told more than a class, from data to samples."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from told import COLOURS, tiles, written
from toys import SHORT, cli, metrics, outcome

from reverie.cli.compose import composed
from reverie.cli.sampling import slug
from reverie.data import Arrays, Attribute
from reverie.outputs import sheet as drawn_sheet
from reverie.pictures import read_metadata, sheet
from reverie.runs import begin, check_data, load
from reverie.training import Trainer

READ = ("text.kind=transformer", "text.words=256", "text.width=16", "text.depth=1", "text.heads=2", "text.length=24")
NET = ("net.kind=dit", "net.width=32", "net.depth=1", "net.heads=2")
TOLD = ('data.attributes=["light", "shade"]', *NET, *READ)
LEARNT = (
    *("train.steps=220", "train.batch=32", "train.warmup=10", "train.lr=6e-3", "train.ema=0.97"),
    *("train.validate_every=220", "train.sample_every=220", "train.save_every=220"),
    *("sample.grid.kind=uniform", "sample.grid.steps=6"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return written(tmp_path_factory.mktemp("data") / "tiles.npz", tiles())


@pytest.fixture(scope="module")
def path(data, tmp_path_factory):
    """A run that has learnt what the words mean."""
    path = tmp_path_factory.mktemp("runs") / "told"
    result = cli("train", data, *TOLD, *LEARNT, "--out", path)
    assert result.code == 0, result
    return path


def colours(samples):
    """The brightest channel of each."""
    return samples.float().mean((2, 3)).argmax(1).tolist()


def halves(samples):
    """Mean brightness of the left and of the right half."""
    return float(samples[..., :2].float().mean()), float(samples[..., 2:].float().mean())


def test_the_prompt_decides(path):
    run = load(path)
    for number, name in enumerate(COLOURS):
        assert colours(run.sample(12, prompt=f"something {name} here")) == [number] * 12
    left, right = halves(run.sample(24, attributes={"shade": "left"}))
    assert left < 0.6 * right
    left, right = halves(run.sample(24, prompt="red", attributes={"shade": "none"}))
    assert 0.8 < left / right < 1.25
    lights = [float(run.sample(24, attributes={"light": v}).float().mean()) for v in (0.5, 0.75, 1.0)]
    assert lights[0] * 1.2 < lights[1] < lights[2] / 1.1
    assert set(colours(run.sample(24, prompt=""))) == {0, 1, 2}
    held_out = [prompt.text for prompt in run.facts.prompts]
    asked = run.sample(len(held_out))  # the run's own prompts in turn
    words = [next((i for i, name in enumerate(COLOURS) if name in text), None) for text in held_out]
    assert all(word in (None, found) for word, found in zip(words, colours(asked), strict=True))


def test_guidance_leads_to_the_prompt_and_away_from_the_negative_one(path):
    run = load(path)
    strong = run.settings(guidance=4.0)
    plain = [run.sample(24, prompt="the green one", sampling=s).float() for s in (None, strong)]
    shares = [float(x[:, 1].mean() / x.mean()) for x in plain]
    assert shares[1] > shares[0]
    away = run.sample(24, prompt="the green one", sampling=strong, negative="the red one").float()
    assert float(away[:, 0].mean()) < float(plain[1][:, 0].mean())


def test_a_sample_is_the_same_beside_any_others(path):
    """Bit for bit on a CPU, whatever the batch and the other prompts are."""
    run = load(path)
    settings = run.settings(guidance=2.0)
    one = run.sample(70, prompt="red", sampling=settings)
    texts = ["red", "a green tile", "", "something of many words beside it"]
    for batch in (None, 3):
        several = run.sample(70, prompt=texts, sampling=settings, batch=batch)
        assert torch.equal(several[::4], one[::4])
    assert torch.equal(run.sample(8, prompt="red", sampling=settings, start=41), one[41:49])
    assert not torch.equal(several[1::4], one[1::4])


def test_a_resumed_run_is_the_run_that_never_stopped(data, tmp_path):
    words = (data, *TOLD, *SHORT, "train.flip=true", "train.drop_part=0.4")
    assert cli("train", *words, "--out", tmp_path / "whole").code == 0
    recipe = composed([*map(str, words)])[0]
    examples = recipe.data.load()
    for report in Trainer(begin(tmp_path / "run", recipe, examples), examples):
        if report.step == 5:
            break
    assert cli("train", *words, "--out", tmp_path / "run").code == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert sum("validation_loss" in line for line in metrics(tmp_path / "run")) == 3


@pytest.mark.parametrize("words", [["text.words=300"], ["captions=false"], ["attributes=[]"], ["text.kind=minilm"]])
def test_other_conditions_are_another_run(data, path, words):
    settings = (*NET, *LEARNT, 'data.attributes=["light", "shade"]', *([] if "minilm" in words[0] else READ))
    assert "another recipe" in cli("train", data, *settings, *words, "--out", path).sentence


@pytest.mark.parametrize("words", [(), ("captions=false", "text.kind=minilm"), ("attributes=[]", *READ)])
def test_the_same_command_goes_on_with_the_run(data, tmp_path, words):
    settings = (data, *NET, *SHORT, *words, "train.steps=1", 'data.attributes=["light"]', "--out", tmp_path / "run")
    assert [cli("train", *settings).code for _ in range(2)] == [0, 0]
    run = load(tmp_path / "run")
    assert run.vocabulary.parts == {0: ("light", "text"), 2: ("light",)}.get(len(words), ("text",))


def test_what_an_attribute_is_called_does_not_matter(tmp_path):
    """A lone one called label is told, though a class is too."""
    made = tiles(40)
    lone = replace(made, texts=(), attributes=(replace(made.attributes[1], name="label"),))
    recipe = composed([str(written(tmp_path / "a.npz", made)), *NET, *SHORT])[0]
    trainer = Trainer(begin(tmp_path / "run", recipe, lone), lone)
    next(iter(trainer))
    assert trainer.batches.step(0)[0].cond.vector is not None
    assert {p.attributes["label"] for p in load(tmp_path / "run").facts.prompts} == {0, 1}


def test_where_a_run_cannot_begin_nothing_is_left(data, tmp_path):
    words = ("text.kind=pretrained", f"text.model={tmp_path / 'nowhere'}")
    there = tmp_path / "there"
    there.mkdir()
    for out in (tmp_path / "a" / "b" / "run", there):
        assert "nowhere" in cli("train", data, *NET, *SHORT, *words, "--out", out).sentence
    assert not (tmp_path / "a").exists()
    assert list(there.iterdir()) == []
    assert cli("train", data, *TOLD, *SHORT, "train.width=3", "--out", there).code == 1
    assert cli("train", data, *NET, *SHORT, *READ[:-1], "text.length=0", "--out", there).code == 1
    assert list(there.iterdir()) == []


def test_a_run_from_before_conditions_is_read(data, tmp_path):
    """Without the fields that came since, and of data whose captions were not read then."""
    bare = replace(tiles(), texts=(), attributes=())
    recipe = composed([str(data), *NET, *SHORT, "captions=false", "attributes=[]"])[0]
    begin(tmp_path / "run", recipe, bare)
    file = tmp_path / "run" / "config.json"
    held = json.loads(file.read_text())
    for name in ("captions", "troubles", "attributes", "text", "prompts"):
        del held["facts"][name]
    for name in ("kind", "attributes", "captions", "text", "image_condition"):
        del held["recipe"][name]
    file.write_text(json.dumps(held))
    run = load(tmp_path / "run")
    assert (run.vocabulary.parts, run.recipe.kind) == ((), "denoiser")
    check_data(run, tiles())
    with pytest.raises(ValueError, match="data have changed"):
        check_data(run, tiles(seed=1))


def test_an_image_condition(data, tmp_path):
    words = (*NET, *SHORT, "captions=false", "image_condition.kind=low_resolution", "image_condition.factor=2")
    assert cli("train", data, *words, "--out", tmp_path / "run").code == 0
    run = load(tmp_path / "run")
    picture = run.recipe.image_condition.given(run.space.encode(torch.from_numpy(tiles(4).items))).image
    assert run.sample(4, image=picture).shape == (4, 3, 4, 4)
    assert not torch.equal(run.sample(4, image=picture), run.sample(4))
    assert torch.equal(run.sample(4, image=picture)[:1], run.sample(1, image=picture[:1]))
    with pytest.raises(ValueError, match="reads no text"):
        run.sample(1, prompt="red")


# ---------------------------------------------------------------------------------- what is written


def test_a_sheet_has_a_row_for_every_prompt(path, tmp_path):
    words = ("--prompt", "the red one", "--prompt", "a blue tile", "-n", 10, "--guidance", 2)
    assert cli("sample", path, *words, "--out", tmp_path / "a.png").code == 0
    run = load(path)
    samples = run.sample(10, prompt=["the red one", "a blue tile"], sampling=run.settings(guidance=2.0)).numpy()
    wanted = sheet([samples[::2], samples[1::2]], row_labels=["the red one", "a blue tile"])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(wanted))
    assert read_metadata(tmp_path / "a.png")["texts"] == ["the red one", "a blue tile"] * 5


def test_a_file_of_prompts(path, tmp_path):
    wishes = tmp_path / "wishes.txt"
    wishes.write_bytes(b"\xef\xbb\xbfa red tile\r\n\n  green \n" + "猫\n\n".encode())
    words = ("--prompt", "blue", "--prompts", wishes, "--with", "shade=left")
    assert cli("sample", path, *words, "-n", 6, "--out", tmp_path / "a.npz").code == 0
    with np.load(tmp_path / "a.npz") as found:
        assert sorted(found) == ["arr_0", "attribute_shade", "texts"]
        assert found["attribute_shade"].tolist() == ["left"] * 6
        assert found["texts"].tolist() == ["blue", "a red tile", "green", "猫", "blue", "a red tile"]
    shown = cli("sample", path, *words, "-n", 2, "--out", tmp_path / "folder")
    assert "of the first 2 of 4 prompts" in shown.err
    assert [read_metadata(p)["texts"] for p in sorted((tmp_path / "folder").iterdir())] == [["blue"], ["a red tile"]]
    wishes.write_text("\n \n")
    assert "holds no prompt" in cli("sample", path, "--prompts", wishes).sentence
    assert "cannot be read" in cli("sample", path, "--prompts", tmp_path / "none").sentence
    assert "unknown shade 'right'" in cli("sample", path, "--with", "shade=right").sentence


def test_samples_are_data_with_the_attributes_they_were_asked_for(path, tmp_path):
    wishes = ("--prompt", "a red tile", "--with", "shade=left", "--with", "shade=none", "--with", "light=0.75")
    assert cli("sample", path, *wishes, "-n", 4, "--out", tmp_path / "a.npz").code == 0
    read = Arrays(str(tmp_path / "a.npz")).load()
    assert set(read.texts) == {"a red tile"}
    light, shade = read.attributes
    assert [(light.name, light.values[:, 0].tolist())] == [("light", [0.75] * 4)]
    assert [(shade.name, shade.classes, shade.values.tolist())] == [("shade", ("left", "none"), [0, 1, 0, 1])]


def test_what_is_not_read_and_what_is_far_away_is_said_once(path, tmp_path):
    long = "a red tile " * 30
    shown = cli("sample", path, "--prompt", long, "--with", "light=40", "-n", 5, "--out", tmp_path / "a.npy")
    assert shown.err.count("the end of the prompt is not read: 'a red tile a red") == 1
    assert shown.err.count("the model was trained to read 24 (text.length)") == 1
    assert shown.err.count("note: light 40 is far from the 0.7") == 1
    with pytest.warns(UserWarning, match="the end of 1 of 2 prompts is not read"):
        load(path).sample(1, negative=long, prompt="red")
    assert load(path).ask(1, prompt="red", attributes={"light": 0.6}).remarks == ()
    assert load(path).ask(64).remarks == ()


def test_more_names_than_rows_stand_under_the_pictures():
    samples = np.zeros((40, 3, 4, 4), np.uint8)
    names = [f"tile {i}" for i in range(40)]
    captioned, plain = (drawn_sheet(samples, [None] * 40, (), given) for given in (names, ["same"] * 40))
    assert captioned.size[1] > plain.size[1]
    assert (
        drawn_sheet(samples.repeat(7, 0), [None] * 280, (), names * 7).size
        == drawn_sheet(samples.repeat(7, 0), [None] * 280, ()).size
    )


def test_prompts_of_any_length_make_a_name_of_a_file(path):
    assert slug(["red heart", "style=noto"]) == "-red_heart-style_noto"
    long = [slug(["猫の顔" * 99 + end]) for end in "ab"]
    assert long[0] != long[1]
    assert all(len(name.encode()) <= 60 for name in long)
    assert cli("sample", path, "-n", 1, "--steps", 1, "--prompt", "猫の顔" * 99 + "\udcff/").code == 0


def test_info_says_what_the_model_is_told(path):
    told = json.loads(cli("info", path, "--json").out)
    run = load(path)
    assert told["kind"].startswith("denoiser")
    assert told["text encoder"].startswith("transformer (words=256")
    assert run.facts.text.digest in told["text encoder"]
    assert told["attributes"].endswith("shade (left, none)")
    assert told["captions"] == "210 of 240 examples; 30 troubles, see `reverie data`"


def test_an_unknown_value_stays_unknown(tmp_path):
    """NaN of numbers, -1 of kinds, in training as when sampling; none of it reaches the network."""
    made = tiles(40)
    light = np.full((40, 1), np.nan, np.float32)
    light[:20] = made.attributes[0].values[:20]
    held = replace(made, texts=(), attributes=(Attribute("light", light),))
    recipe = composed([str(written(tmp_path / "a.npz", made)), *NET, *SHORT, "train.steps=2"])[0]
    run = begin(tmp_path / "run", recipe, held)
    assert all(np.isfinite(report.loss or 0) for report in Trainer(run, held))
    assert all(prompt.attributes for prompt in run.facts.prompts)


def test_a_negative_text_beside_an_image_for_each(tmp_path):
    """What is led away from keeps the image of its own sample, whatever the batch."""
    made = tiles(40)
    words = (*NET, *SHORT, *READ, "image_condition.kind=grey", "attributes=[]", "sample.guidance=3.0", "train.steps=2")
    recipe = composed([str(written(tmp_path / "a.npz", made)), *words])[0]
    for _ in Trainer(begin(tmp_path / "run", recipe, made), made):
        pass
    run = load(tmp_path / "run")
    picture = run.recipe.image_condition.given(run.space.encode(torch.from_numpy(made.items[:35]))).image
    asked = {"prompt": "red", "negative": "blue"}
    whole = run.sample(35, image=picture, **asked)
    assert torch.equal(run.sample(35, image=picture, batch=3, **asked), whole)
    for i in (0, 34):
        assert torch.equal(run.sample(1, image=picture[i : i + 1], start=i, **asked), whole[i : i + 1])
