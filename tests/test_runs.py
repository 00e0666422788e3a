"""The run folder: what is written comes back, and what is damaged is named, harms nothing and runs nothing."""

import contextlib
import fcntl
import json
import os
import pickle
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import TOY, begun, cli, copied, hashes, outcome, process, toy, trained, wait_for

import reverie
from reverie import config
from reverie.data import Arrays, Examples
from reverie.locking import locked
from reverie.nets import MLPConfig
from reverie.recipe import Recipe
from reverie.runs import begin, changes, create, digest, fingerprint, load
from reverie.tensor_files import read_tensors, write_tensors
from reverie.training import Trainer
from reverie.training.state import read, states

# ---------------------------------------------------------------------------------- round trips


def test_a_run_comes_back_as_it_was_written(tmp_path):
    run, _ = begun(tmp_path / "run", "train.steps=3", "data.kind=digits")
    again = load(run.path)
    assert (again.recipe, again.facts, again.about) == (run.recipe, run.facts, run.about)
    assert config.from_data(Recipe, config.to_data(run.recipe)) == run.recipe


def test_a_run_moves_with_its_folder(tmp_path):
    run = copied(tmp_path / "elsewhere" / "run")
    assert torch.equal(load(run).sample(3), load(trained()).sample(3))


def test_weights_come_back_bit_for_bit_with_their_digest(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b": torch.tensor(7), "c": torch.randn(5).bfloat16(), "none": torch.empty(0, 2)}
    write_tensors(tmp_path / "t.safetensors", tensors, {"sha256": digest(tensors)})
    again = read_tensors(tmp_path / "t.safetensors")
    assert digest(again) == digest(tensors)
    assert all(torch.equal(again[k], v) and again[k].dtype == v.dtype for k, v in tensors.items())
    write_tensors(tmp_path / "nothing.safetensors", {})
    assert read_tensors(tmp_path / "nothing.safetensors") == {}


@pytest.mark.parametrize("change", ["name", "shape", "dtype", "value"])
def test_the_digest_sees_every_change(change):
    t = torch.arange(6, dtype=torch.int32)
    other = {"shape": t.reshape(2, 3), "dtype": t.view(torch.float32), "value": t + (t == 5)}.get(change, t)
    assert digest({"t": t}) != digest({"u" if change == "name" else "t": other})


def test_the_statistics_of_a_space_come_from_the_training_rows_alone(tmp_path):
    items = np.stack([np.linspace(-3, 5, 40), np.full(40, 2.0)], 1).astype(np.float32)
    np.save(tmp_path / "x.npy", items)
    recipe = toy(f"data={{kind = 'arrays', path = '{tmp_path / 'x.npy'}'}}", "train.validation=0.25")
    examples = recipe.data.load()
    run = begin(tmp_path / "run", recipe, examples)
    train = items[recipe.data.split(examples, 0.25, 0).train]
    assert len(train) == 30
    assert run.space.mean == pytest.approx(train.mean(0), rel=1e-6)
    assert run.space.std == pytest.approx((train[:, 0].std(), 1.0), rel=1e-6)


def test_labels_by_name_number_and_in_turn():
    run = load(trained())
    assert run.labels_for(12, None) == (*range(10), 0, 1)
    assert run.labels_for(3, "7") == (7, 7, 7)
    assert run.labels_for(3, [1, "2", None]) == (1, 2, None)


@pytest.mark.parametrize("label", [10, -1, "12", "x", "", "-1", "1.0"])
def test_a_label_out_of_range_is_refused(label):
    with pytest.raises(ValueError, match=r"unknown label .*must be 0 to 9"):
        load(trained()).sample(1, label=label)


# -------------------------------------------------------------------------- damaged config.json


def edited(tmp_path, change):
    run = copied(tmp_path / "run")
    data = json.loads((run / "config.json").read_text())
    change(data)
    (run / "config.json").write_text(json.dumps(data))
    return run


def setting(key, value):
    def change(data):
        *path, last = key.split(".")
        for name in path:
            data = data[name]
        data[last] = value

    return change


def removed(key):
    def change(data):
        *path, last = key.split(".")
        for name in path:
            data = data[name]
        del data[last]

    return change


DAMAGE = {
    "unknown_key": (setting("recipe.train.stepps", 3), r"unknown setting train\.stepps.*did you mean 'steps'"),
    "unknown_top_key": (setting("extra", 3), "unknown setting extra"),
    "unknown_kind": (setting("recipe.schedule.kind", "cosinus"), r"schedule\.kind.*did you mean 'cosine'"),
    "dotted_class": (setting("recipe.net.kind", "torch.nn.Linear"), r"net\.kind: unknown net 'torch\.nn\.Linear'"),
    "function": (setting("recipe.schedule", {"kind": "os.system"}), r"unknown schedule 'os\.system'"),
    "function_with_argument": (setting("recipe.data", {"kind": "os.system", "path": "true"}), "unknown data"),
    "newer": (setting("format", 99), r"format 99.*Upgrade"),
    "no_format": (removed("format"), "no format number"),
    "format_of_text": (setting("format", "1"), "no format number"),
    "format_zero": (setting("format", 0), "no format number"),
    "nan": (setting("recipe.train.lr", float("nan")), r"lr must be"),
    "infinite": (setting("recipe.train.weight_decay", float("inf")), r"train\.weight_decay must be a finite number"),
    "infinite_part": (
        setting("recipe.sample.grid.start", float("-inf")),
        r"start (must be a finite|in \(0)",
    ),
    "huge": (setting("recipe.sample.guidance", 1e999), r"guidance must be a finite number"),
    "wrong_type": (setting("recipe.train.steps", "many"), r"train\.steps must be int; given 'many'"),
    "fraction": (setting("recipe.train.steps", 1.5), r"train\.steps must be int; given 1\.5"),
    "boolean": (setting("recipe.train.batch", True), r"train\.batch must be int"),
    "list_for_table": (setting("recipe.train", []), "train must be a table"),
    "null": (setting("recipe", None), "must be a table"),
    "no_facts": (removed("facts"), "facts must be a table"),
    "no_shape": (removed("facts.shape"), r"facts\.shape is missing"),
    "negative_shape": (setting("facts.shape", [-1, -8, 8]), "incomplete"),
    "empty_shape": (setting("facts.shape", []), "incomplete"),
    "no_net": (setting("recipe.net", None), "incomplete"),
    "about": (setting("about", 5), "about must be a table"),
    "out_of_range": (setting("recipe.train.batch", 0), "batch must be at least 1"),
    "misfit": (setting("recipe.net", {"kind": "dit", "heads": 3}), "multiple of 4 and of heads"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_config_is_refused_in_one_sentence(tmp_path, change, message):
    run = edited(tmp_path, change)
    before = hashes(run)
    with pytest.raises(ValueError, match=message):
        load(run)
    assert cli("info", run).sentence
    assert cli("sample", run, "-n", 1).sentence
    assert cli("train", *TOY, "--out", run).sentence
    assert hashes(run) == before


@pytest.mark.parametrize("kind", ["dit", "unet"])
def test_weights_of_an_earlier_network_are_refused(tmp_path, kind):
    """Those of a transformer of width 256 have the names and shapes of now, and would give other samples."""

    def change(data):
        data["format"], data["recipe"]["net"] = 1, {"kind": kind, "width": 256}

    run = edited(tmp_path, change)
    before = hashes(run)
    with pytest.raises(ValueError, match=f"an earlier {kind} .*another --out.*git checkout"):
        load(run)
    for words in (["info", run], ["sample", run, "-n", 1], ["ema", run], ["train", *TOY, "--out", run]):
        assert f"an earlier {kind}" in cli(*words).sentence
    assert hashes(run) == before


def test_an_earlier_network_that_is_the_same_is_read(tmp_path):
    run = edited(tmp_path, lambda data: data.update(format=1, recipe={**data["recipe"], "net": {"kind": "mlp"}}))
    assert load(run).recipe.net == MLPConfig()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format": 1', "null", "\x00", "nonsense", '{"format": NaN}'])
def test_a_config_that_is_no_json_is_refused(tmp_path, text):
    run = copied(tmp_path / "run")
    (run / "config.json").write_text(text)
    before = hashes(run)
    assert "config.json" in cli("info", run).sentence
    assert cli("train", *TOY, "--out", run).sentence
    assert hashes(run) == before


def test_bytes_that_are_no_text_too(tmp_path):
    run = copied(tmp_path / "run")
    (run / "config.json").write_bytes(b"\xff\xfe\x00{")
    assert cli("info", run).sentence


@pytest.mark.parametrize(
    "path", ["../../../../etc/passwd", "/dev/zero", "$(touch hacked)", "http://localhost/x.npz", "a\0b", "", "~root"]
)
def test_no_path_in_a_config_is_opened_but_by_training(tmp_path, path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = edited(tmp_path, setting("recipe.data", {"kind": "folder", "path": path}))
    assert cli("sample", run, "-n", 1, "--out", tmp_path / "a.png").code == 0
    assert cli("info", run).code == 0
    with pytest.raises((ValueError, OSError)):
        Trainer(load(run))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "run"]


# ------------------------------------------------------------------------------ damaged weights


class Bomb:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (os.mkdir, (self.target,))


def test_the_bomb_is_one(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("file", ["network", "average", "optimizer", "state.json"])
@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_in_a_state_is_never_unpickled(tmp_path, file, legacy):
    run = copied(tmp_path / "run")
    goal, name = outcome(run), file if "." in file else f"{file}.safetensors"
    state = run / "state" / "00000012"
    if legacy:
        (state / name).write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    else:
        torch.save(Bomb(tmp_path / "exploded"), state / name)
    resumed = cli("train", *TOY, "--out", run)
    assert resumed.code == 0
    assert f"{name} is damaged" in resumed.out
    assert not (tmp_path / "exploded").exists()
    assert outcome(run) == goal


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_for_a_model_is_never_unpickled(tmp_path, legacy):
    run = copied(tmp_path / "run")
    goal = outcome(run)
    if legacy:
        (run / "model.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    else:
        torch.save(Bomb(tmp_path / "exploded"), run / "model.safetensors")
    assert "model.safetensors is damaged" in cli("sample", run, "-n", 1).sentence
    assert "restored" in cli("train", *TOY, "--out", run).out
    assert not (tmp_path / "exploded").exists()
    assert outcome(run) == goal


def flipped(path, place):
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


SPOIL = {
    "first_byte": lambda p: flipped(p, 0),
    "header": lambda p: flipped(p, 0.05),
    "middle": lambda p: flipped(p, 0.5),
    "last_byte": lambda p: flipped(p, 1),
    "half": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "empty": lambda p: p.write_bytes(b""),
    "missing": lambda p: p.unlink(),
    "folder": lambda p: (p.unlink(), p.mkdir()),
}
spoil = pytest.mark.parametrize("spoil", SPOIL.values(), ids=SPOIL)


@spoil
@pytest.mark.parametrize("file", ["network.safetensors", "average.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_state_is_named_and_the_one_before_it_used(tmp_path, file, spoil):
    run = copied(tmp_path / "run")
    goal = outcome(run)
    spoil(run / "state" / "00000012" / file)
    resumed = cli("train", *TOY, "--out", run)
    assert resumed.code == 0
    assert f"00000012/{file} is" in resumed.out
    assert "trying the state before it" in resumed.out
    assert "resuming at step 8 of 12" in resumed.out
    assert outcome(run) == goal


def test_a_damaged_state_is_not_counted_among_those_kept(tmp_path):
    run = copied(tmp_path / "run")
    SPOIL["middle"](run / "state" / "00000012" / "network.safetensors")
    assert cli("train", *TOY, "train.keep=1", "train.save_every=1", "train.steps=9", "--out", run).code == 0
    assert [p.name for p in (run / "state").iterdir()] == ["00000009"]


def test_when_all_states_are_damaged_nothing_is_touched(tmp_path):
    run = copied(tmp_path / "run")
    for state in (run / "state").iterdir():
        SPOIL["middle"](state / "network.safetensors")
    before = hashes(run)
    assert "no saved state" in cli("train", *TOY, "--out", run).sentence
    assert hashes(run) == before
    assert cli("sample", run, "-n", 1, "--out", tmp_path / "a.png").code == 0


@spoil
def test_a_damaged_model_is_refused_and_restored_by_training(tmp_path, spoil):
    run = copied(tmp_path / "run")
    goal = outcome(run)
    model = run / "model.safetensors"
    spoil(model)
    said = cli("sample", run, "-n", 1, "--out", tmp_path / "a.png").sentence
    assert "model.safetensors" in said
    assert "Run its train command again" in said
    assert not (tmp_path / "a.png").exists()
    if model.is_dir():
        model.rmdir()
    assert "restored" in cli("train", *TOY, "--out", run).out
    assert outcome(run) == goal


def test_weights_of_another_shape_are_refused_by_name(tmp_path):
    run = copied(tmp_path / "run")
    shutil.copy(trained("net.width=32") / "model.safetensors", run / "model.safetensors")
    said = cli("sample", run, "-n", 1).sentence
    assert "weights of another network" in said
    assert re.search(r"has shape \(32.*\) and should have \(16", said)
    assert "restored" in cli("train", *TOY, "--out", run).out
    assert outcome(run) == outcome(trained())


def test_metrics_cut_short_or_damaged_are_mended(tmp_path):
    run = copied(tmp_path / "run")
    goal = outcome(run)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": "x"}\n[]\n{"step": 99, "loss": 1}\n\xff\xfe\n{"step": 12, "los')
    assert cli("info", run).code == 0
    assert cli("train", *TOY, "--out", run).code == 0
    assert outcome(run) == goal


def test_info_does_without_losses_that_were_not_finite(tmp_path):
    run = copied(tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": null}\n{"step": 1, "validation_loss": null}\n')
    assert json.loads(cli("info", run, "--json").out)["loss"] == "-"


# ------------------------------------------------------------------------------- the wrong place


def test_a_file_is_no_place_for_a_run(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    assert "already exists" in cli("train", *TOY, "--out", file).sentence
    assert file.read_text() == "mine"
    assert "is not a run folder" in cli("sample", file).sentence


def test_a_folder_of_other_things_is_none_either(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    assert "already exists" in cli("train", *TOY, "--out", tmp_path).sentence
    assert "is not a run folder" in cli("info", tmp_path).sentence
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_kill_at_the_first_write_leaves_behind_is(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".config.0123456789ab.tmp.json").write_text("{")
    assert cli("train", *TOY, "--out", run).code == 0
    assert not list(run.glob(".config*"))


def test_there_is_no_run_there(tmp_path):
    assert "is not a run folder" in cli("sample", tmp_path / "nothing").sentence
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    "change",
    ["train.seed=1", "train.batch=9", "net.width=32", "schedule.kind=cosine", "labels=false", "train.precision=bf16"],
)
def test_another_recipe_in_the_same_folder_is_refused_by_what_differs(tmp_path, change):
    run = copied(tmp_path / "run")
    before = hashes(run)
    said = cli("train", *TOY, change, "--out", run).sentence
    assert change.partition("=")[0] in said
    assert "another recipe" in said
    assert hashes(run) == before


def test_a_run_may_be_resumed_with_and_without_strict():
    plain, other = (Recipe(data=Arrays(name)) for name in ("a.npz", "b.npz"))
    strict = replace(plain, data=replace(plain.data, strict=True))
    assert not list(changes(plain, strict))
    assert not list(changes(strict, plain))
    assert [key for key, *_ in changes(strict, other)] == ["data.path"]


def test_create_never_takes_a_folder_that_holds_a_run(tmp_path):
    run = copied(tmp_path / "run")
    recipe = toy()
    examples = recipe.data.load()
    with pytest.raises(ValueError, match="already exists"):
        create(run, recipe, examples, np.arange(100))


def test_changed_data_are_noticed(tmp_path):
    rng = np.random.default_rng(0)
    items, labels = rng.integers(0, 256, (60, 8, 8), np.uint8), rng.integers(0, 3, 60)
    file, run = tmp_path / "x.npz", tmp_path / "run"
    words = (file, *TOY[1:], "--out", run)
    np.savez(file, x=items, y=labels)
    assert cli("train", *words).code == 0
    before = hashes(run)
    for changed, relabelled in (
        (items + (items == items[3, 0, 0]), labels),
        (items, labels[::-1]),
        (items[:50], labels[:50]),
    ):
        np.savez(file, x=changed, y=relabelled)
        assert "data have changed" in cli("train", *words).sentence
    file.unlink()
    assert "there is no data" in cli("train", *words).sentence
    assert hashes(run) == before
    assert cli("sample", run, "-n", 1, "--out", tmp_path / "a.png").code == 0


def test_the_fingerprint_sees_labels_shape_and_every_one_of_a_thousand_items():
    items = np.arange(1000 * 4, dtype=np.float32).reshape(1000, 4)
    labels = np.arange(1000) % 2
    one = Examples(items, labels, ("a", "b"))
    assert fingerprint(one) == fingerprint(Examples(items.copy(), labels.copy(), ("a", "b")))
    changed = items.copy()
    changed[517, 2] += 1
    others = [
        Examples(changed, labels, ("a", "b")),
        Examples(items, labels[::-1].copy(), ("a", "b")),
        Examples(items, labels, ("a", "c")),
        Examples(items.reshape(1000, 2, 2), labels, ("a", "b")),
        Examples(items),
    ]
    assert len({fingerprint(e) for e in [one, *others]}) == 6


def test_one_writer_a_folder(tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    words = (*TOY, "train.steps=100000", "--out", run)
    with process("train", *words, log=log) as child:
        wait_for(lambda: log.exists() and b"step 3/" in log.read_bytes())
        config = (run / "config.json").read_bytes()
        assert "another process is training" in cli("train", *words).sentence
        assert "another process is training" in cli("train", *words, "train.steps=5").sentence
        assert (run / "config.json").read_bytes() == config
        assert cli("sample", run, "-n", 1, "--out", tmp_path / "a.png").code == 0
        child.kill()
        child.join()
    assert cli("train", *words, "train.steps=3").code == 0  # the system lets go of a dead process's lock


def test_the_lock_is_the_systems(tmp_path):
    run = copied(tmp_path / "run")
    with (run / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another process" in cli("train", *TOY, "--out", run).sentence
    assert cli("train", *TOY, "--out", run).code == 0


# ------------------------------------------------------------------------------------ full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small disk")
    path = tmp_path / "small"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small disk: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def filled(disk, free=0):
    """Leave `free` bytes."""
    ballast = os.open(disk / "ballast", os.O_CREAT | os.O_WRONLY)
    with contextlib.suppress(OSError):
        while True:
            os.write(ballast, b"\0" * 1024)
    os.ftruncate(ballast, max(os.fstat(ballast).st_size - free, 0))
    os.close(ballast)


@pytest.mark.parametrize("free", [0, 4096, 24_000, 64_000])
def test_a_full_disk_harms_no_state(small_disk, tmp_path, free):
    run = copied(small_disk / "run")
    filled(small_disk, free)
    said = cli("train", *TOY, "train.steps=30", "train.save_every=1", "--out", run).sentence
    assert "No space left on device" in said
    kept = [int(p.name) for p in states(load(run))]
    assert kept[0] >= 12
    assert len(kept) >= 2
    assert all(read(p) for p in states(load(run)))
    assert load(run).sample(1).shape == (1, 1, 8, 8)
    (small_disk / "ballast").unlink()
    resumed = cli("train", *TOY, "train.steps=30", "--out", run)
    assert resumed.code == 0, resumed
    assert f"resuming at step {kept[0]} of 30" in resumed.out
    assert outcome(run)["model"] == outcome(trained("train.steps=30"))["model"]
    assert not list(run.rglob("*.tmp*"))
    assert not list(run.rglob(".partial*"))


def test_a_new_run_on_a_full_disk(small_disk):
    filled(small_disk)
    assert "No space left" in cli("train", *TOY, "--out", small_disk / "run").sentence


@pytest.mark.parametrize("name", ["a.png", "a.npz", "a.npy", "a.gif", "a.webp", "folder"])
def test_samples_on_a_full_disk(small_disk, name):
    (small_disk / name).write_bytes(b"old") if "." in name else None
    filled(small_disk)
    said = cli("sample", trained(), "-n", 100, "--out", small_disk / name).sentence
    assert "No space left on device" in said
    assert name in said
    if "." in name:
        assert (small_disk / name).read_bytes() == b"old"
    assert not list(small_disk.glob(".*"))


# ------------------------------------------------------------------------------ version and API


def test_the_package_opens_what_it_wrote():
    assert reverie.load(trained()).about["reverie"] == reverie.__version__


def test_a_lock_that_is_a_link_is_refused_and_its_target_left_alone(tmp_path):
    (tmp_path / "precious").write_text("words")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "words"


def test_class_names_are_shown_as_they_are(tmp_path):
    run = copied(tmp_path / "run")
    data = json.loads((run / "config.json").read_text())
    data["facts"]["classes"][:2] = ["[/x]", "[bold]"]
    (run / "config.json").write_text(json.dumps(data))
    told = cli("info", run)
    assert told.code == 0
    assert "[/x], [bold]" in told.out
