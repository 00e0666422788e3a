"""What a path ends in is what is written, with all that is needed to make it again."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from toys import MLP, SHORT, cli, trained

from reverie.outputs import Output, array, check_output
from reverie.pictures import read_metadata, sheet
from reverie.request import Request
from reverie.runs import load
from reverie.synthesis import Drawn


def drawn(out, *words):
    result = cli("sample", trained(), *words, "--out", out)
    assert result.code == 0, result
    assert f"wrote {out}" in result.out
    return out


def again(path, metadata, run):
    """The command that a picture's metadata stand for."""
    words = [f"{k}={toml(v)}" for k, v in metadata["sampling"].items()]
    labels = ",".join("none" if v is None else str(v) for v in metadata["labels"])
    numbers = ["--seed", metadata["seed"], "--start", metadata["start"], "-n", metadata["n"]]
    return cli("sample", run, *words, *numbers, "--label", labels, "--out", path)


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items() if v is not None) + "}"
    return json.dumps(value)


@pytest.mark.parametrize("name", ["a.png", "b.gif", "c.webp"])
def test_a_picture_carries_what_makes_it_again(tmp_path, name):
    words = ["-n", 7, "--label", "3,none,1", "--sampler", "ddim", "sampler.eta=0.5", "--steps", 4, "--guidance", 2.5]
    first = drawn(tmp_path / name, *words, "--seed", 9, "--start", 11, "clip=true")
    told = read_metadata(first)
    assert (told["seed"], told["start"], told["n"]) == (9, 11, 7)
    assert told["labels"] == [3, None, 1, 3, None, 1, 3]
    assert told["sampling"]["sampler"] == {"kind": "ddim", "eta": 0.5}
    assert told["sampling"]["guidance"] == 2.5
    assert told["sampling"]["clip"] is True
    second = tmp_path / f"again{first.suffix}"
    assert again(second, told, trained()).code == 0
    assert second.read_bytes() == first.read_bytes()


def test_a_setting_on_the_command_line_counts(tmp_path):
    drawn(tmp_path / "plain.npy", "-n", 20, "--steps", 2, "--guidance", 7)
    drawn(tmp_path / "clipped.npy", "-n", 20, "--steps", 2, "--guidance", 7, "clip=true")
    drawn(tmp_path / "unguided.npy", "-n", 20, "--steps", 2)
    arrays = [np.load(tmp_path / f"{n}.npy") for n in ("plain", "clipped", "unguided")]
    assert not np.array_equal(arrays[0], arrays[1])
    assert not np.array_equal(arrays[0], arrays[2])


def test_a_sheet_has_a_row_for_every_class(tmp_path):
    samples = load(trained()).sample(40)
    path = drawn(tmp_path / "a.png", "-n", 40)
    rows = [samples[k::10].numpy() for k in range(10)]
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(sheet(rows, row_labels=[str(k) for k in range(10)])))


@pytest.mark.parametrize("name", ["folder", "folder/"])
def test_a_folder_of_single_pictures(tmp_path, name):
    cli("sample", trained(), "-n", 5, "--start", 3, "--seed", 2, "--out", f"{tmp_path}/{name}")
    files = sorted((tmp_path / "folder").iterdir())
    assert [f.name for f in files] == [f"{i:06d}.png" for i in range(3, 8)]
    samples = load(trained()).sample(5, start=3, seed=2)
    for i, file in enumerate(files):
        assert np.array_equal(np.asarray(Image.open(file)), samples[i, 0].numpy())
        told = read_metadata(file)
        assert (told["seed"], told["start"], told["n"], told["labels"]) == (2, 3 + i, 1, [i])
        assert again(tmp_path / "one", told, trained()).code == 0
        assert (tmp_path / "one" / file.name).read_bytes() == file.read_bytes()


def test_arrays_are_as_they_are_exchanged(tmp_path):
    samples = load(trained()).sample(12)
    with np.load(drawn(tmp_path / "a.npz", "-n", 12)) as found:
        assert sorted(found) == ["arr_0", "arr_1"]
        assert found["arr_0"].dtype == np.uint8
        assert found["arr_0"].shape == (12, 8, 8, 1)
        assert np.array_equal(found["arr_0"][..., 0], samples[:, 0])
        assert found["arr_1"].tolist() == [*range(10), 0, 1]
    alone = np.load(drawn(tmp_path / "a.npy", "-n", 12))
    assert np.array_equal(alone[..., 0], samples[:, 0])
    with np.load(drawn(tmp_path / "b.npz", "-n", 3, "--label", "none,1")) as found:
        assert sorted(found) == ["arr_0"]


def test_samples_can_be_trained_on(tmp_path):
    path = drawn(tmp_path / "a.npz", "-n", 60)
    result = cli("train", path, *MLP, *SHORT, "train.steps=2", "--out", tmp_path / "run")
    assert result.code == 0
    assert load(tmp_path / "run").classes == tuple("0123456789")


def test_an_array_has_its_channels_last():
    x = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).to(torch.uint8)
    assert np.array_equal(array(x, True), x.permute(0, 2, 3, 1))
    assert array(x, True).flags.c_contiguous
    assert np.array_equal(array(x, False), x)


@pytest.mark.parametrize(("suffix", "needed"), [(".npy", 1), (".gif", 3)])
def test_samples_are_decoded_on_the_host(tmp_path, suffix, needed):
    """A batch may have left no memory for it on its device."""
    copies = []

    class Far:
        """x on a device where nothing can be computed any more."""

        def cpu(self):
            copies.append(torch.full((2, 1, 8, 8), 1.0))
            return copies[-1]

    run = load(trained())
    output = Output(tmp_path / f"a{suffix}", run.space, run.facts, Request((None, None)), {})
    for step in range(3):
        output.take(Drawn(0, step, 2, Far()))
    assert len(copies) == needed
    output.write()
    assert output.path.is_file()


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_runs_from_noise_to_the_samples(tmp_path, suffix):
    words = ("-n", 20, "--sampler", "ddim", "--steps", 6, "--batch", 7)
    path = drawn(tmp_path / f"a{suffix}", *words)
    still = np.asarray(Image.open(drawn(tmp_path / "a.png", *words)).convert("RGB"))
    with Image.open(path) as moving:
        assert moving.n_frames == 7
        assert moving.info["loop"] == 0
        frames = []
        for i in range(7):
            moving.seek(i)
            frames.append(np.asarray(moving.convert("RGB")).astype(int))
    assert np.abs(frames[-1] - still).max() <= (0 if suffix == ".webp" else 1)
    distances = [np.abs(frame - still).mean() for frame in frames]
    assert distances == sorted(distances, reverse=True)


def test_more_samples_than_a_picture_can_hold(tmp_path):
    said = cli("sample", trained(), "-n", 3000, "--steps", 1, "--out", tmp_path / "a.webp").sentence
    assert "16383" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.jpg", "a.txt", "a.mp4", "a.b/c.zip", "v1.0"])
def test_an_ending_that_stands_for_nothing(tmp_path, name):
    said = cli("sample", trained(), "-n", 1, "--out", tmp_path / name).sentence
    assert all(ending in said for ending in (".png", ".npz", ".npy", ".gif", ".webp", "folder"))
    assert not list(tmp_path.iterdir())


def test_without_out_samples_go_into_the_run(tmp_path):
    from toys import copied

    run = copied(tmp_path / "run")
    assert cli("sample", run, "-n", 4, "--seed", 2).code == 0
    assert (run / "samples" / "adams-uniform3-guidance1.5-seed2-from0-n4.png").exists()


def test_numbers_that_are_no_pictures(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.standard_normal((80, 3)) * 2 + 5, y=rng.integers(0, 2, 80))
    run = tmp_path / "run"
    assert cli("train", tmp_path / "x.npz", *MLP, *SHORT, "--out", run).code == 0
    assert (run / "samples" / "00000012.png").exists()
    assert cli("sample", run, "-n", 9, "--out", tmp_path / "a.npz").code == 0
    with np.load(tmp_path / "a.npz") as found:
        assert found["arr_0"].shape == (9, 3)
        assert found["arr_0"].dtype == np.float32
        assert found["arr_0"].mean() == pytest.approx(5, abs=3)
    assert cli("sample", run, "-n", 9, "--out", tmp_path / "a.png").code == 0
    assert read_metadata(tmp_path / "a.png")["n"] == 9
    for name in ("a.gif", "folder"):
        assert "not images" in cli("sample", run, "-n", 2, "--out", tmp_path / name).sentence
    with pytest.raises(ValueError, match="not images"):
        check_output(tmp_path / "a.webp", image=False)
