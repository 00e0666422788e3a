"""The pages say what is so: their code runs, their commands parse, their links and names exist."""

import functools
import importlib
import json
import operator
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from reverie import config
from reverie.cli import app
from reverie.nets import NetConfig
from reverie.plan import planned
from reverie.recipe import Sampling, compose, library
from reverie.runs import begin
from reverie.training import Trainer

ROOT = Path(__file__).parent.parent
DOCS = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
PAGES = [*DOCS, "CONTRIBUTING.md"]
UsageError = typer.BadParameter.__mro__[1]  # click's, whether typer uses click or a copy of it
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> list[str]:
    return [found[2] for found in FENCE.finditer(text) if found[1] in languages]


def script(text: str) -> str:
    """The Python blocks of a page as one file in which every line keeps its number."""
    lines, kept = text.splitlines(), set()
    for found in FENCE.finditer(text):
        if found[1] == "python":
            first = text.count("\n", 0, found.start(2))
            kept |= set(range(first, first + found[2].count("\n")))
    return "\n".join(line if i in kept else "" for i, line in enumerate(lines)) + "\n"


def with_block(language: str) -> list[str]:
    return [page for page in DOCS if blocks(read(page), language)]


# -------------------------------------------------------------------------------------- Python


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run of the digits recipe, of two steps."""
    tiny = {"net": {"kind": "dit", "width": 16, "depth": 1}, "train": {"steps": 2, "batch": 8}}
    short = {"sample": {"grid": {"kind": "uniform", "steps": 2}}}
    recipe = compose([config.read_file(library()["digits"]), tiny, short])
    examples = recipe.data.load()
    path = tmp_path_factory.mktemp("run") / "digits"
    for _ in Trainer(begin(path, recipe, examples), examples):
        pass
    return path


@pytest.mark.parametrize("page", with_block("python"))
def test_code_runs(page, digits, tmp_path):
    """In a process of its own: the parts that a page defines are not registered for the other tests."""
    shutil.copytree(digits, tmp_path / "runs" / "digits")
    path = tmp_path / Path(page).with_suffix(".py").name
    path.write_text(script(read(page)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{page}, lines as in the page:\n{done.stderr}"


def test_a_script_keeps_line_numbers():
    assert script("a\n```python\nb\n\nc\n```\nd\n```sh\ne\n```\n") == "\n\nb\n\nc\n\n\n\n\n\n"


# ------------------------------------------------------------------------------------ commands


def commands(text: str) -> list[list[str]]:
    """The arguments of every `reverie` in the shell blocks of a page, also behind a launcher."""
    found = []
    for block in blocks(text, "sh", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            words = words[: words.index(">")] if ">" in words else words
            if words[:1] == ["reverie"]:
                found.append(words[1:])
            elif "-m" in words and words[words.index("-m") + 1 :][:1] == ["reverie"]:
                found.append(words[words.index("-m") + 2 :])
    return found


def source(word: str) -> dict:
    """The data that a word of an example stands for, whether it is there or not."""
    if word in ("digits", "fashion"):
        return {"kind": word}
    return {"kind": "arrays" if word.endswith((".npz", ".npy")) else "folder", "path": word}


def check(arguments: list[str]) -> None:
    """Parse the options of a command, and its words as far as that needs no file.

    Raises:
        click.UsageError: an unknown verb or option.
        ValueError: an unknown setting, kind or value.
    """
    group = typer.main.get_command(app)
    if arguments == ["--version"]:
        return
    name, command, rest = group.resolve_command(group.make_context("reverie", list(arguments)), list(arguments))
    given = command.make_context(name, rest).params
    words = given.get("words") or []
    layers = [config.parse_override(word) for word in words if "=" in word]
    plain = [word for word in words if "=" not in word]
    if name in ("train", "config") and words:
        named = [word for word in [given.get("recipe"), *plain] if word in library()]
        recipe = named[:1]
        data = [word for word in plain if word not in recipe and not word.endswith(".toml")]
        if len(data) > 1:
            raise ValueError(f"several sources of data: {data}")
        below = [config.read_file(library()[word]) for word in recipe]
        below += [{"data": source(data[0])}] if data else []
        below += [] if any("data" in layer for layer in below) else [{"data": source("digits")}]
        planned([*below, *layers])
    if name == "data":
        data = functools.reduce(config.merged, layers, source(given["name"]))
        config.from_data(importlib.import_module("reverie.data").Data, data, "data")
    if name == "sample":
        layers = [layer.get("base", layer) for layer in layers]  # what the base of a cascade is sampled with
        layers = [{key: {"kind": given[key]}} for key in ("sampler", "grid") if given[key]] + layers
        config.from_data(Sampling, functools.reduce(config.merged, layers, config.to_data(Sampling())))


COMMANDS = {f"{page}: {shlex.join(words)}": words for page in DOCS for words in commands(read(page))}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_parses(words):
    check(words)


@pytest.mark.parametrize(
    "line",
    [
        "reverie tran digits",
        "reverie train digits --outt runs/a",
        "reverie train digits train.stps=3",
        "reverie train digits schedule.kind=cosin",
        "reverie train ddpm digits fashion",
        "torchrun -m reverie train digits train.steps=many",
        "reverie data photos/ sise=64",
        "reverie sample runs/digits --sampler hein",
        "reverie sample runs/digits sampler.eta=0.5",
        "$ reverie sample runs/digits -n few  # too few",
    ],
)
def test_a_wrong_command_is_seen(line):
    (words,) = commands(f"```sh\n{line}\n```\n")
    with pytest.raises((ValueError, UsageError)):
        check(words)


@pytest.mark.parametrize("page", with_block("toml"))
def test_a_recipe_composes(page, tmp_path):
    for text in blocks(read(page), "toml"):
        path = tmp_path / "recipe.toml"
        path.write_text(text)
        compose([config.read_file(path)])


# --------------------------------------------------------------------------------------- links

LINK = re.compile(r"\[([^\]\[]*)\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link."""
    plain = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: str) -> list[tuple[str, str]]:
    """Text and target of the links of a page to files of the project."""
    return [(text, target) for text, target in LINK.findall(FENCE.sub("", read(page))) if "://" not in target]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for _, target in links(page):
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page} links to {target}"
        assert not anchor or anchor in anchors(path), f"{page} links to {target}, and there is no such heading"


@pytest.mark.parametrize("page", PAGES)
def test_names_exist(page):
    """[`Prediction.from_v`](../reverie/prediction.py): the file defines or imports that name."""
    for text, target in links(page):
        if not (text.startswith("`") and target.endswith(".py") and "reverie/" in target):
            continue
        relative = ((ROOT / page).parent / target).resolve().relative_to(ROOT).with_suffix("")
        module = importlib.import_module(".".join(relative.parts).removesuffix(".__init__"))
        assert operator.attrgetter(text.strip("`"))(module) is not None


NETS = {kind: cls for kind, cls in config.registered(NetConfig).items() if cls.__module__.startswith("reverie.")}


@pytest.mark.parametrize("kind", NETS)
def test_every_setting_of_a_network_is_named(kind):
    """Behind the link to the settings of the kind, before those of the next or the next heading."""
    page, link = read("docs/backbones.md"), f"[`{NETS[kind].__name__}`]("
    assert page.count(link) == 1
    part = re.split(r"^#|\[`\w+Config`\]\(", page.partition(link)[2], maxsplit=1, flags=re.MULTILINE)[0]
    assert [f.name for f in fields(NETS[kind]) if f"`{f.name}`" not in part] == []


def test_every_equation_has_a_function():
    """A table with a column `function` has a link to code, or nothing, in each cell of it."""
    rows, columns = 0, []
    for line in read("docs/mathematics.md").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            columns = []
        elif not columns:
            columns = [i for i, cell in enumerate(cells) if cell == "function"] or [-1]
        elif columns != [-1] and not set(line) <= set("|-: "):
            rows += 1
            assert any(LINK.fullmatch(cells[i]) for i in columns), line
            assert all(not cells[i] or LINK.fullmatch(cells[i]) for i in columns), line
    assert rows > 40


def test_quoted_figures_are_those_measured():
    measured = set(read("benchmarks/results/order.md").splitlines())
    quoted = [line for line in read("docs/mathematics.md").splitlines() if re.match(r"\| (heun|ddim|sampler) ", line)]
    assert quoted
    assert set(quoted) <= measured


def test_tables_of_choosing_are_those_measured():
    from benchmarks.publishing import filled
    from benchmarks.samplers.page import choices

    parts = {
        part: json.loads(read(f"benchmarks/results/samplers-{part}.json")) for part in ("errors", "networks", "special")
    }
    assert filled(read("docs/choosing.md"), choices(parts)) == read("docs/choosing.md")
