"""The verbs, in one process: what they print, what they refuse, and that their help is true."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer.main
from PIL import Image
from told import untrained
from toys import DIT, MLP, SHORT, TOY, cli, copied, hashes, toy, trained

import reverie
from reverie import config
from reverie.cli import app
from reverie.cli.compose import composed, planned_by
from reverie.config import aliases, from_data
from reverie.data import built_in
from reverie.nets import NetConfig
from reverie.nets.cost import cost
from reverie.plan import planned
from reverie.recipe import library
from reverie.runs import METRICS, load
from reverie.training.log import lines

COMMANDS = typer.main.get_command(app).commands
VERBS = sorted(COMMANDS)


def examples(verb):
    """The lines of a verb's help that show a command."""
    return re.findall(r"^  (reverie .*)$", COMMANDS[verb].help, re.MULTILINE)


def photos(folder, count=6, size=12, classes=("a", "b"), seed=0):
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(folder / name / f"{i}.png")
    return folder


def staged(folder, line):
    """What the examples speak of besides my-photos."""
    copied(folder / "runs" / "digits")
    if "runs/digits-classifier" in line:
        copied(folder / "runs" / "digits-classifier", "kind=classifier")
    if "runs/emoji" in line:
        untrained(folder / "runs" / "emoji", ("noto", "twemoji"))
        (folder / "wishes.txt").write_text("red heart\n\nsleeping cat\n")
    copied(folder / "runs" / "digits-long", "train.lr=0.01")
    if "runs/cascade" in line:
        short = [f"stages.base.{word}" for word in (*MLP, *SHORT)]
        words = ['image_condition={kind="low_resolution",factor=2,noise=0.5}', *short]
        words += ["stages.base.data.kind=smaller", "stages.base.data.factor=2", "train.steps=2"]
        assert cli("train", *TOY, *words, "--out", folder / "runs" / "cascade").code == 0
    photos(folder / "samples", 12, 70, seed=1)
    photos(folder / "photos", 12, 70, ("train", "test"))
    random = np.random.default_rng(1)
    for name, size in (("digit", 8), ("mask", 8), ("small", 4)):
        Image.fromarray(255 * random.integers(0, 2, (size, size), np.uint8)).save(folder / f"{name}.png")
    for name in ("samples", "training", "held_out"):
        np.savez(folder / f"{name}.npz", random.standard_normal((80, 3)).astype(np.float32))


@pytest.fixture
def few_networks(monkeypatch):
    """One for images and series, and one for series alone, are listed instead of all that have a name."""
    named = config.named

    def few(family):
        found = named(family)
        return {name: found[name] for name in ("unet-s", "diffwave")} if family is NetConfig else found

    monkeypatch.setattr(config, "named", few)


# ------------------------------------------------------------------------------------ the help


def test_the_command_alone_shows_its_verbs_and_a_start():
    shown = cli("--help")
    assert shown.code == 0
    assert all(verb in shown.out for verb in VERBS)
    assert "reverie train digits" in shown.out
    assert cli().code == 2
    assert cli("--version").out.strip() == f"reverie {reverie.__version__}"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example(verb):
    shown = cli(verb, "--help")
    assert shown.code == 0
    assert f"reverie {verb}" in shown.out
    assert examples(verb)
    assert all(line.startswith(f"reverie {verb}") for line in examples(verb))
    for parameter in COMMANDS[verb].params:
        assert getattr(parameter, "help", ""), f"{verb}: {parameter.name} has no help"


@pytest.mark.parametrize("verb", VERBS)
def test_paragraphs_of_the_help_are_wrapped_by_the_terminal_alone(verb):
    paragraphs = COMMANDS[verb].help.strip().split("\n\n")
    assert len(paragraphs) > 1
    assert all("\n" not in text for text in paragraphs)


@pytest.mark.parametrize("line", [line for verb in VERBS for line in examples(verb)])
def test_the_examples_do_what_they_say(line, tmp_path, monkeypatch, few_networks):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    photos(tmp_path / "my-photos", size=70)
    if "my-captioned-photos" in line:
        for path in photos(tmp_path / "my-captioned-photos").rglob("*.png"):
            path.with_suffix(".txt").write_text(f"a photo of {path.parent.name}")
    if not line.startswith("reverie train"):
        staged(tmp_path, line)
    command, _, target = line.partition(" > ")
    words = shlex.split(command)[1:]
    parsed = COMMANDS[words[0]].make_context(words[0], words[1:])
    if "fashion" in words and cli("data", "fashion").code:  # the set is not on this machine
        assert composed(parsed.params["words"])[0].data.kind == "fashion"
        return
    cheap = {"train": [*MLP, *SHORT, "train.steps=2"], "sample": ["-n", "12", "--steps", "2"]}
    cheap |= {"edit": ["-n", "3", "--steps", "2"]}
    cheap |= {"doctor": ["--only", "notations"], "likelihood": ["-n", "8"]}
    cheap |= {"evaluate": ["-n", "30"]} if "runs/digits" in words else {}
    cheap |= {"tune": ["-n", "4", "--reference", "12", "--seconds", "1"]}
    result = cli(*words, *cheap.get(words[0], []))
    assert result.code == 0, result
    if words[0] == "train":
        assert load(parsed.params["out"]).recipe.train.steps == 2
    if words[0] == "sample" or "--out" in words:
        assert (
            any(Path("runs/digits/samples").iterdir())
            if parsed.params["out"] is None
            else parsed.params["out"].exists()
        )
    if target:
        (tmp_path / target).write_text(result.out)
        assert composed([target])[0] == composed(parsed.params["words"])[0]


def test_python_m_reverie():
    done = subprocess.run(
        [sys.executable, "-m", "reverie", "train", "digits", "train.steps=abc"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "error: train.steps must be int; given 'abc'\n"


def test_an_unknown_verb_or_option_is_a_fault_of_usage():
    assert cli("trian").code == 2
    assert cli("train", "digits", "--ouut", "x").code == 2


def test_a_fault_of_ours_is_shown_whole(monkeypatch):
    monkeypatch.setattr("reverie.runs.load", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli("info", trained())


# --------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("words", "kind", "name", "schedule"),
    [
        (["digits"], "digits", "digits", "flow"),
        (["ddpm", "digits"], "digits", "digits", "table"),
        (["digits", "ddpm"], "digits", "digits", "table"),
        (["fashion", "digits"], "digits", "digits", "flow"),
        (["digits", "fashion"], "fashion", "fashion", "flow"),
        (["edm", "fashion"], "fashion", "fashion", "ve"),
        (["digits", "digits"], "digits", "digits", "flow"),
        (["v_prediction", "digits", "train.steps=3"], "digits", "digits", "cosine"),
    ],
)
def test_a_recipe_and_data_in_two_words(words, kind, name, schedule):
    recipe, said = composed(words)
    assert (recipe.data.kind, said, recipe.schedule.kind) == (kind, name, schedule)


def test_words_come_in_any_order_and_the_option_is_the_word():
    one = composed(["edm", "digits", "train.steps=3", "train.batch=2"])[0]
    assert composed(["train.batch=2", "edm", "train.steps=3", "digits"])[0] == one
    assert composed(["digits", "train.batch=2", "train.steps=3"], "edm")[0] == one
    assert composed(["digits"], "digits")[0].train.steps == 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digitz"], r"there is no data 'digitz'.*did you mean 'digits'"),
        (["digits", "nowhere/"], r"there is no data 'nowhere/'"),
        (["digits", "train.stpes=3"], r"unknown setting train\.stpes.*did you mean 'steps'"),
        (["digits", "train.steps=abc"], r"train\.steps must be int; given 'abc'"),
        (["digits", "train.steps=1.5"], r"train\.steps must be int; given 1\.5"),
        (["digits", "train.flip=1"], r"train\.flip must be bool; given 1"),
        (["digits", "train.lr=nan"], r"lr must"),
        (["digits", "train.clip=inf"], r"train\.clip must be a finite number"),
        (["digits", "train.betas=0.9"], r"train\.betas must be list of float"),
        (["digits", "schedule.kind=nope"], r"unknown schedule 'nope'; known: cosine, flow"),
        (["digits", "schedule.kind=cosin"], r"did you mean 'cosine'"),
        (["digits", "text.kind=t5"], r"unknown text 't5'; known: pretrained, transformer; other names: minilm"),
        (["digits", "text.kind=minilm"], r"draws by a text \(text\.kind=pretrained\), and these data have no captions"),
        (["digits", "net.kind=torch.nn.Linear"], r"unknown net 'torch\.nn\.Linear'"),
        (["digits", "=3"], r"'=3' is not a setting"),
        (["digits", "train..steps=3"], r"is not a setting"),
        (["digits", "train=3"], r"train must be a table of settings"),
        (["ddpm"], r"no data: name a built-in set"),
        (["ddpm", "edm", "digits"], r"two recipes, ddpm and edm"),
        (["digits", "digits", "digits"], r"two sources of data"),
        (["digits", "ddpm.toml"], r"there is no recipe file ddpm\.toml"),
        (["missing.toml", "digits"], r"there is no recipe file missing\.toml"),
        (["digits", "--recipe", "ddmp"], r"unknown recipe 'ddmp'; known: cascade, ddpm"),
        (["digits", "space.kind=standardized", "net.kind=dit", "net.heads=3"], r"multiple of 4 and of heads=3"),
        (["digits", "--report-to", "nonsense"], r"nonsense"),
        (["digits", "--report-to", "comet_ml"], r"comet_ml.*not installed|comet_ml"),
    ],
)
def test_words_that_mean_nothing_are_refused_in_one_sentence(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(message, cli("train", *words, "--out", tmp_path / "run").sentence)
    assert not (tmp_path / "run" / "state").exists()


def test_a_recipe_file_that_is_damaged_is_named(tmp_path):
    file = tmp_path / "mine.toml"
    for text in ("[train\n", "train = 3\n", "[train]\nstepz = 3\n", 'data = "digits"\nextra = 1\n'):
        file.write_text(text)
        assert "mine.toml" in cli("train", file, "--out", tmp_path / "run").sentence
    file.write_bytes(b"\xff\xfe")
    assert cli("train", file).sentence
    assert not (tmp_path / "run").exists()


# -------------------------------------------------------------------------------------- config


def test_config_lists_every_setting_kind_and_recipe():
    shown = cli("config").out
    for entry in config.settings(reverie.recipe.Recipe):
        assert re.search(rf"^{re.escape(entry.key)} +{re.escape(entry.type)} ", shown, re.MULTILINE), entry
    for family in config.families(reverie.recipe.Recipe):
        assert f"# {family.family}: " in shown
        for kind, cls in config.registered(family).items():
            assert re.search(rf"^{kind}  # \S", shown, re.MULTILINE)
            assert all(f"\n    {name}  " in shown for name in config.hints(cls))
    assert all(name in shown.splitlines()[0] for name in library())


@pytest.mark.parametrize(
    "words",
    [
        *([name, "digits"] for name in library()),
        ["digits", *DIT, "train.report_to=['tensorboard']", "train.betas=[0.5, 0.6]"],
    ],
)
def test_what_config_prints_is_the_recipe(words, tmp_path):
    shown = cli("config", *words)
    assert shown.code == 0
    made = planned_by(words)[0]
    assert planned([tomllib.loads(shown.out)]) == made
    file = tmp_path / "mine.toml"
    file.write_text(shown.out)
    assert planned_by([str(file)])[0] == made
    assert cli("config", file).out == shown.out


def test_train_from_what_config_printed(tmp_path):
    (tmp_path / "mine.toml").write_text(cli("config", *TOY).out)
    assert cli("train", tmp_path / "mine.toml", "--out", tmp_path / "run").code == 0
    assert load(tmp_path / "run").recipe == load(trained()).recipe
    assert hashes(tmp_path / "run" / "state") == hashes(trained() / "state")


# ---------------------------------------------------------------------------------------- info


def test_info_in_words_and_for_programs():
    told = json.loads(cli("info", trained(), "--json").out)
    assert told["steps"] == "12 saved of 12, batch 8"
    assert "digits" in told["data"]
    assert "1617 to train on, 180 held out" in told["data"]
    assert told["classes"].startswith("10: 0, 1")
    assert re.match(r"mlp .*; [\d,]+ parameters", told["network"])
    assert re.fullmatch(r"[\d.e-]+ MFLOP forward for one example; [\d.]+ MFLOP for a training step", told["operations"])
    assert re.match(r"training needs about [\d.]+ [MG]B on this cpu", told["memory"])
    assert re.search(r"[\d.]+ at step 12", told["loss"])
    text = cli("info", trained()).out
    assert all(key in text for key in told)


def test_info_of_a_network_counts_what_is_built():
    (row,) = json.loads(cli("info", "dit-s", "--shape", "4x16,16", "--json").out)
    net = from_data(NetConfig, "dit-s", "net")
    assert row["parameters"] == sum(p.numel() for p in net.build((4, 16, 16)).parameters())
    assert row["flops"] == cost(net, (4, 16, 16)).flops
    assert row["example"] == [4, 16, 16]
    assert from_data(NetConfig, row["net"], "net") == net
    assert "3.23 GFLOP" in cli("info", "unet_s").out


def test_info_lists_every_name_the_smallest_first():
    rows = json.loads(cli("info", "networks", "--json").out)
    assert {row["name"] for row in rows} == set(aliases(NetConfig))
    assert [row["parameters"] for row in rows] == sorted(row["parameters"] for row in rows)
    assert json.loads(cli("info", rows[0]["name"], "--json").out) == rows[:1]
    assert all(net.fits((1, 64)) for net in config.named(NetConfig).values())  # and so all are listed for series


def test_info_lists_the_names_that_fit_the_shape(few_networks):
    rows = json.loads(cli("info", "networks", "--shape", "1x64", "--json").out)
    assert [row["name"] for row in rows] == ["diffwave", "unet-s"]
    assert json.loads(cli("info", "diffwave", "--shape", "1x64", "--json").out) == rows[:1]
    shown = cli("info", "networks", "--shape", "3x8x8").out
    assert "unet-s" in shown
    assert "diffwave" not in shown  # takes series alone


def test_info_takes_an_image_unless_told_otherwise_or_a_wave():
    for name, shape in (("unet-s", [3, 32, 32]), ("diffwave", [1, 16000]), ("MLP", [3, 32, 32])):
        assert json.loads(cli("info", name, "--json").out)[0]["example"] == shape


def test_a_folder_hides_no_network(tmp_path, monkeypatch, few_networks):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "networks").mkdir()
    assert "unet-s" in cli("info", "networks", "--shape", "1x8").out
    (tmp_path / "unet-s").mkdir()
    assert "unet-s is not a run folder" in cli("info", "unet-s").sentence  # which of the two is meant, nobody knows


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["unet-z"], "nor one of `reverie info networks`: net.kind: unknown net 'unet-z'"),
        (["unet-ss"], "did you mean 'unet-s'?"),
        (["networks", "--shape", "5"], "no network that has a name takes examples of 5; the net for those is mlp"),
        (["unet-s", "--shape", "3x0x8"], "such as 3x64x64; given '3x0x8'"),
        (["unet-s", "--shape", "3xx8"], "such as 3x64x64; given '3xx8'"),
        (["unet-s", "--shape", "3"], "kinds that fit: mlp"),
    ],
)
def test_info_refuses(words, sentence):
    assert sentence in cli("info", *words).sentence


def test_info_refuses_a_shape_for_a_run():
    assert "has examples of 1x8x8" in cli("info", trained(), "--shape", "3x8x8").sentence


def test_info_before_the_first_save(tmp_path):
    run = copied(tmp_path / "run")
    (run / "model.safetensors").unlink()
    (run / "metrics.jsonl").unlink()
    for state in (run / "state").iterdir():
        for file in state.iterdir():
            file.unlink()
        state.rmdir()
    told = json.loads(cli("info", run, "--json").out)
    assert told["model file"] == "not saved yet"
    assert told["loss"] == "-"
    assert "has not saved yet" in cli("sample", run).sentence


# ---------------------------------------------------------------------------------------- data


def test_data_says_what_there_is_and_draws_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = cli("data", "digits")
    assert shown.code == 0
    assert "1797" in shown.out.replace(",", "")
    with Image.open(tmp_path / "digits-contact.png") as picture:
        assert min(picture.size) > 100
    assert ".png" in cli("data", "digits", "--out", tmp_path / "a.jpg").sentence
    assert "unknown setting" in cli("data", "digits", "size=8").sentence


def test_a_damaged_image_is_counted_and_skipped_and_training_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    folder = photos(tmp_path / "photos")
    whole = (folder / "a" / "0.png").read_bytes()
    (folder / "a" / "0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "extra.png").write_bytes(b"no picture")
    words = (folder, *MLP, *SHORT, "train.validation=0.2", "--out", tmp_path / "run")
    trained_on = cli("train", *words)
    assert trained_on.code == 0
    assert "skipped 2 of 13 images" in caplog.text
    assert "a/0.png" in caplog.text
    assert load(tmp_path / "run").facts.skipped == 2
    assert "2 damaged files left out" in " ".join(cli("info", tmp_path / "run").out.split())
    shown = cli("data", folder, "--out", tmp_path / "sheet.png")
    assert "a/0.png" in shown.out + shown.err


def test_data_that_cannot_be_used(tmp_path):
    empty, out = tmp_path / "empty", tmp_path / "run"
    empty.mkdir()
    assert "without images" in cli("train", empty, "--out", out).sentence
    items = np.zeros((20, 8, 8), np.uint8)
    cases = {
        "labels of another length": ({"x": items, "y": np.zeros(19, int)}, r"expected \(20,\)"),
        "a negative label": ({"x": items, "y": np.arange(20) - 1}, "class numbers from 0 up"),
        "a label far too large": ({"x": items, "y": np.arange(20) + 10**9}, "class numbers from 0 up"),
        "half a label": ({"x": items, "y": np.arange(20) / 2}, "not whole numbers"),
        "nan": ({"x": np.full((20, 3), np.nan)}, "not finite"),
        "objects": ({"x": np.array([{}] * 20, object)}, "pickled objects"),
        "nothing": ({"x": items[:0]}, "empty"),
        "one example over and over": ({"x": items}, "two distinct examples"),
    }
    for arrays, message in cases.values():
        np.savez(tmp_path / "x.npz", **arrays)
        assert re.search(message, cli("train", tmp_path / "x.npz", *MLP, "--out", out).sentence)
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:100])
    assert "cannot be read" in cli("train", tmp_path / "x.npz", "--out", out).sentence
    assert not out.exists()


# ----------------------------------------------------------------------------- train and sample


def test_a_new_folder_for_every_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert cli("train", *TOY, "train.steps=1").code == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["digits", "digits-2"]


def test_a_folder_of_images_named_by_a_dot(tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(photos(tmp_path / "photos") / "a")
    assert composed(["."])[1] == "a"
    assert composed([".."])[1] == "photos"


def test_the_command_says_how_to_go_on(tmp_path):
    shown = cli("train", *TOY, "--out", tmp_path / "a run")
    again = re.search(r"to resume, run again: (.*)", shown.out).group(1)
    assert shlex.split(again) == ["reverie", "train", *TOY, "--out", str(tmp_path / "a run")]
    assert "Next: reverie sample" in shown.out


def test_a_precision_that_is_refused_leaves_no_run_behind(tmp_path, monkeypatch):
    """Which would refuse the same command with a precision that works."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused = cli("train", *TOY, "train.precision=fp16", "--out", tmp_path / "run")
    assert "train.precision=fp16 needs a CUDA device" in refused.err
    assert not (tmp_path / "run").exists()


def test_the_log_is_one_line_a_report(tmp_path):
    out = cli("train", *TOY, "--out", tmp_path / "run").out
    steps = [line for line in out.splitlines() if line.startswith("step ")]
    assert [line.split(":")[0] for line in steps] == [f"step {s}/12" for s in (0, 3, 4, 6, 8, 9, 12)]
    assert all("\n\n" not in text for text in (out, cli("train", *TOY, "--out", tmp_path / "run").out))


def test_the_progress_bar_on_a_terminal(tmp_path, capsys):
    from toys import begun

    from reverie.cli.train import _bar
    from reverie.training import Trainer

    run, examples_ = begun(tmp_path / "run")
    assert len(list(_bar(Trainer(run, examples_)))) == 13
    shown = capsys.readouterr().out
    assert "12/12" in shown
    assert "step 12/12: " in shown


def test_the_bar_counts_steps_whose_loss_is_not_told(monkeypatch, capsys):
    """A report every tenth of a second, of which one in ten has a loss, as from a GPU: ten steps a second."""
    from types import SimpleNamespace

    from reverie.cli import train
    from reverie.training import Report

    steps, clock = range(100, 201), SimpleNamespace(now=0.0)
    monkeypatch.setattr(train, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def reports():
        for step in steps:
            clock.now += 0.1
            told = step % 10 == 0 and step > 100
            yield Report(step, 200, 5.0 if told else None, {"loss": 2.0 if step < 120 else 1.0} if told else {})

    assert [report.step for report in train._bar(reports())] == [*steps]
    shown = capsys.readouterr().out
    assert "10.0 steps/s" in shown
    assert f"loss {1 + 0.95**90:.4f}" in shown  # 2, then 1 for 90 steps, each a twentieth


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--label", "12"], "unknown label '12'; it must be 0 to 9"),
        (["--label", "3,x"], "unknown label 'x'"),
        (["--sampler", "hein"], "did you mean 'heun'"),
        (["--sampler", "os.system"], "unknown sampler 'os.system'"),
        (["sampler.eta=0.5"], "unknown setting sampler.eta; adams has: order, std"),
        (["--sampler", "ddim", "sampler.eta=2"], "eta in"),
        (["eta"], "is not a setting"),
        (["--steps", "0"], "at least 1 step"),
        (["--guidance", "nan"], "guidance must be a finite number"),
        (["--guidance=-1"], "guidance must be at least 0"),
        (["--device", "gpu7"], "device 'gpu7' cannot be used here"),
        (["-n", "0"], "at least 1 sample"),
        (["--batch", "0"], "batch of at least 1"),
        (["--seed=-1"], "at least 0"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_before_anything_is_written(words, message, tmp_path):
    said = cli("sample", trained(), *words, "--out", tmp_path / "a.png").sentence
    assert message in said
    assert not list(tmp_path.iterdir())


def test_labels_of_a_run_without_them(tmp_path):
    assert "without labels" in cli("sample", trained("labels=false"), "--label", 1).sentence
    assert cli("sample", trained("labels=false"), "-n", 2, "--out", tmp_path / "a.png").code == 0


def test_a_tracker_writes_what_the_metrics_say(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert cli("train", *TOY, "--report-to", "tensorboard", "--out", tmp_path / "run").code == 0
    folder = next((tmp_path / "run").rglob("events.out.*")).parent
    told = EventAccumulator(str(folder)).Reload()
    logged = {line["step"]: line["loss"] for line in lines(tmp_path / "run" / METRICS) if "loss" in line}
    assert logged
    assert {event.step: event.value for event in told.Scalars("loss")} == pytest.approx(logged, rel=1e-6)


@pytest.mark.parametrize(
    ("tracker", "message"),
    [("nothing", "names the tracker 'nothing'; there are: all, "), ("wandb", "the tracker wandb is not installed")],
)
def test_a_tracker_that_is_refused_leaves_no_run_behind(tracker, message, tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    assert message in cli("train", *TOY, "--report-to", tracker, "--out", tmp_path / "run").sentence
    assert not (tmp_path / "run").exists()


def test_every_built_in_set_is_known():
    assert {"digits", "fashion"} <= set(built_in())
    assert toy().data.kind == "digits"
