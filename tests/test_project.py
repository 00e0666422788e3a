"""What every file of the project promises: documented, and no code from files."""

import ast
import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {str(path.relative_to(ROOT)): path for path in sorted((ROOT / "reverie").rglob("*.py"))}

PICKLES = {"cloudpickle", "cPickle", "dill", "joblib", "marshal", "pickle", "shelve"}
GLOBAL_SEEDS = {
    "accelerate.utils.set_seed",
    "numpy.random.seed",
    "random.seed",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.default_generator.manual_seed",
    "torch.manual_seed",
    "torch.random.manual_seed",
    "torch.seed",
}


def _names(tree: ast.AST) -> dict[str, str]:
    """Each name an import binds, and what it stands for: `np` is numpy, `load` may be torch.load."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.split(".")[0]
                names[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def _given(call: ast.Call, keyword: str) -> str | None:
    """The source of an argument."""
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == keyword), None)


def offences(source: str, name: str) -> list[str]:
    """What the source of the file `name` does that no file of the package may do."""
    tree = ast.parse(source)
    names, found = _names(tree), []
    if ast.get_docstring(tree) is None:
        found.append("has no module docstring")
    found += [f"imports {n}" for n in sorted(set(names.values())) if n.split(".")[0] in PICKLES]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        first, dot, rest = ast.unparse(call.func).partition(".")
        called = names.get(first, first) + dot + rest
        if called in ("eval", "exec", "builtins.eval", "builtins.exec"):
            found.append(f"calls {called}")
        if called in ("importlib.import_module", "__import__") and name != "reverie/config.py":
            found.append(f"calls {called}: only config.py finds modules by name, and never by one in a file")
        if called in ("torch.load", "torch.serialization.load") and _given(call, "weights_only") != "True":
            found.append("calls torch.load without weights_only=True")
        if called == "numpy.load" and _given(call, "allow_pickle") not in (None, "False"):
            found.append("calls numpy.load with allow_pickle")
        if called in GLOBAL_SEEDS and name != "reverie/tensors.py":
            found.append(f"calls {called}: randomness is an argument")
    return found


@pytest.mark.parametrize("name", FILES)
def test_file_keeps_the_rules(name):
    assert offences(FILES[name].read_text(), name) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "from torch import load; load(path)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import numpy as np; np.load(path, allow_pickle=flag)",
        "eval(text)",
        "exec(text)",
        "import importlib; importlib.import_module(text)",
        "from importlib import import_module as find; find(text)",
        "__import__(text)",
        "import torch; torch.manual_seed(0)",
        "import torch as T; T.cuda.manual_seed_all(0)",
        "import numpy as np; np.random.seed(0)",
        "from accelerate.utils import set_seed; set_seed(0)",
    ],
)
def test_an_offence_is_seen(line):
    assert len(offences(f'"""Doc."""\n{line}', "reverie/x.py")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "import torch; torch.load(path, weights_only=True)",
        "import torch; torch.Generator().manual_seed(0)",
        "net.eval()",
        "import numpy as np; np.load(path, allow_pickle=False)",
    ],
)
def test_what_is_allowed_is_no_offence(line):
    assert offences(f'"""Doc."""\n{line}', "reverie/x.py") == []


def test_a_missing_docstring_is_seen():
    assert offences("x = 1", "reverie/x.py") == ["has no module docstring"]


# ------------------------------------------------------------------------------------ docstrings


def undocumented(cls: type) -> list[str]:
    """The public methods and properties that `cls` defines and neither it nor a base documents."""
    public = [n for n, v in vars(cls).items() if n[0] != "_" and (callable(v) or hasattr(v, "__get__"))]
    said = {n for base in cls.__mro__ for n in public if getattr(vars(base).get(n), "__doc__", None)}
    return sorted(set(public) - said)


@pytest.mark.parametrize("name", FILES)
def test_public_methods_are_documented(name):
    if name == "reverie/__main__.py":
        pytest.skip("it runs the command line")
    module = importlib.import_module(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    classes = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    missing = [f"{c.__name__}.{n}" for c in classes if c.__name__[0] != "_" for n in undocumented(c)]
    assert not missing, f"{name}: no docstring, not even an inherited one: {', '.join(missing)}"


def test_an_inherited_docstring_counts():
    class Base:
        def told(self):
            """Something."""

        def untold(self): ...

    class Derived(Base):
        def told(self): ...

        @property
        def new(self): ...

    assert undocumented(Base) == ["untold"]
    assert undocumented(Derived) == ["new"]


# ------------------------------------------------------------------------------------- documents


def mentioned(text: str) -> set[str]:
    """The project's own paths that a page names: targets of its links, and paths in backquotes."""
    links = {m.partition("#")[0] for m in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in m}
    quoted = re.findall(r"`((?:reverie|examples|tests|docs|benchmarks)/[\w./-]*)`", text)
    return {path for path in links | set(quoted) if path}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_a_page_names_what_exists(page):
    if not (ROOT / page).exists():
        pytest.skip(f"there is no {page} yet")
    text = (ROOT / page).read_text()
    missing = sorted(path for path in mentioned(text) if not (ROOT / path).exists())
    assert not missing, f"{page} names {', '.join(missing)}"
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = set(re.findall(r"(?:^ *|`|\$ )make ([a-z]+)", text, re.MULTILINE))
    assert commands <= targets, f"{page} names make {', '.join(sorted(commands - targets))}"


def test_the_reader_of_pages():
    text = "See [this](docs/a.md#b), [that](https://x.org/y), ![](c.png), `examples/d.py` and `d.py`."
    assert mentioned(text) == {"docs/a.md", "c.png", "examples/d.py"}


# ---------------------------------------------------------------------------------- dependencies


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_pin_all_that_is_installed():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups() for line in lines)
    assert pins["torch"] == "2.13.0"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {_plain(re.match(r"[\w.-]+", line)[0]) for line in wanted}
    assert names <= {_plain(name) for name in pins}
