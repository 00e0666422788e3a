"""Recipes of several stages, at toy size: each trains them all by one command, samples, and knows that it is done."""

import json

import numpy as np
import pytest
from PIL import Image
from toys import cli, hashes

from reverie import config
from reverie.recipe import compose, library
from reverie.runs import check_data, load

NET = {"kind": "unet", "width": 4, "multipliers": [1, 2], "blocks": 1, "group_width": 2, "attention": 0}
TRAIN = {
    "steps": 2, "batch": 8, "warmup": 1, "precision": "no", "ema_lengths": [], "log_every": 2, "validate_every": 100,
    "sample_every": 100, "save_every": 2,
}  # fmt: skip
GRID = {"kind": "uniform", "steps": 2}
SYSTEMS = sorted(name for name, path in library().items() if "stages" in config.read_file(path))
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 80, 220)}


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    """Pictures of 8x8 with captions."""
    folder, draw, rows = tmp_path_factory.mktemp("captioned"), np.random.default_rng(0), []
    for i in range(40):
        colour = list(COLOURS)[i % 3]
        picture = np.full((8, 8, 3), 255, np.uint8)
        y, x = draw.integers(0, 4, 2)
        picture[y : y + 4, x : x + 4] = COLOURS[colour]
        Image.fromarray(picture).save(folder / f"{i:02d}.png")
        rows.append({"file_name": f"{i:02d}.png", "text": f"a {colour} square"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def small(layer, stage=""):
    """A recipe's own tables with everything made small."""
    kind = {"autoencoder": "autoencoder", "pair": "pair"}.get(stage, "denoiser")
    made = {"train": TRAIN, "sample": {"grid": GRID}}
    if kind == "autoencoder":
        made["autoencoder"] = {
            "kind": "kl",
            "width": 4,
            "multipliers": [1, 2],
            "groups": 2,
            "group_width": 2,
            "attention": False,
        }
    elif layer.get("net", {}).get("kind") == "dit":
        made["net"] = {"kind": "dit", "width": 8, "depth": 1, "heads": 2, "patch": 1}
    elif stage == "prior":
        made["net"] = {"kind": "transformer", "width": 8, "depth": 1, "heads": 2, "parts": 2}
    else:
        made["net"] = NET
    if "text" in layer:
        made["text"] = {"kind": "transformer", "width": 8, "depth": 1, "heads": 2}
    stages = {
        name: small(each, name) if isinstance(each, dict) else each for name, each in layer.get("stages", {}).items()
    }
    return {**made, "stages": stages} if stages else made


def toml(path, data):
    import tomli_w

    path.write_text(tomli_w.dumps(data))
    return path


@pytest.mark.parametrize("name", [name for name in SYSTEMS if "text" in config.read_file(library()[name])])
def test_a_recipe_that_draws_by_a_text_says_that_it_needs_captions(name, tmp_path):
    said = cli("train", name, "digits", "--out", tmp_path / "run").sentence
    assert "the recipe draws by a text" in said
    assert "have no captions: bring some, as metadata.jsonl" in said
    assert not (tmp_path / "run").exists()


def test_an_embedding_of_a_picture_is_not_told_of_a_mirrored_one():
    plain = {"data": "digits", "embedding": "image", "attributes": []}
    assert compose([plain]).completed((1, 8, 8), image=True).embedding == "image"
    with pytest.raises(ValueError, match=r"train\.flip=true mirrors it: set train\.flip=false"):
        compose([plain, {"train": {"flip": True}}]).completed((1, 8, 8), image=True)


def test_a_size_that_a_cascade_cannot_halve(captioned, tmp_path):
    """The size to be given is that of the run, though its base says so."""
    said = cli("train", "cascade", captioned, "data.size=9", "--out", tmp_path / "run").sentence
    assert "such as 10x10; given 9x9; of the larger ones set data.size=10" in said


def unclip(captioned, folder):
    """A trained run, and the words of its command."""
    layer = config.read_file(library()["unclip"])
    recipe = toml(folder / "unclip.toml", config.merged(layer, small(layer)))
    words = ("train", recipe, captioned)
    done = cli(*words, "--out", folder / "run")
    assert done.code == 0, done
    return words, folder / "run"


def test_a_prior_is_gone_on_with_by_any_name_of_its_folder_and_wherever_it_lies(captioned, tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "first").mkdir()
    words, run = unclip(captioned, tmp_path / "first")
    monkeypatch.chdir(run.parent)
    moved = tmp_path / "moved"
    for out in ("run", "../first/run", moved):
        if out == moved:
            run.rename(moved)
        again = cli(*words, "--out", out)
        assert again.code == 0, again
        assert again.out.count("finished at step 2 already") == 3  # the pair is not trained at all
    prior = load(moved / "base" / "prior")
    assert prior.recipe.data.pair == str(prior.path / "pair")
    check_data(prior, prior.recipe.data.load())


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_trains_all_its_stages_samples_and_is_finished(name, captioned, tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    layer = config.read_file(library()[name])
    recipe = toml(tmp_path / f"{name}.toml", config.merged(layer, small(layer)))
    words, run = ("train", recipe, captioned), tmp_path / "run"
    trained = cli(*words, "--out", run)
    assert trained.code == 0, trained
    prompt = ("--prompt", "a red square") if "text" in layer else ()
    made = cli("sample", run, "-n", 3, *prompt, "--out", tmp_path / "a.npz")
    assert made.code == 0, made
    samples = np.load(tmp_path / "a.npz")["arr_0"]
    assert samples.shape == (3, 8, 8, 3)
    assert samples.dtype == np.uint8
    whole = load(run)
    assert {each.name for each in whole.facts.stages} == set(layer["stages"])
    before = hashes(run)
    again = cli(*words, "--out", run)
    assert again.code == 0, again
    assert "finished at step 2" in again.out
    assert {k: v for k, v in hashes(run).items() if "model" in k} == {k: v for k, v in before.items() if "model" in k}
    assert cli("sample", run, "-n", 1, "--seed", 0, *prompt, "--out", tmp_path / "b.npz").code == 0
    assert np.array_equal(np.load(tmp_path / "b.npz")["arr_0"], samples[:1])
