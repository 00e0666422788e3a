"""A module imports only from its own layer or a lower one, and `import reverie` stays cheap."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A row holds for the module and all below it, unless a longer row fits. `reverie` is `__init__.py` alone.
LAYERS = {
    "reverie.config": 0,
    "reverie.tensors": 0,
    "reverie.brownian": 0,
    "reverie.devices": 0,
    "reverie.files": 0,
    "reverie.memory": 0,
    "reverie.version": 0,
    "reverie.digests": 0,
    "reverie.locking": 0,
    "reverie.schedules": 1,
    "reverie.noise_levels": 1,
    "reverie.sde": 1,
    "reverie.bound": 2,
    "reverie.prediction": 1,
    "reverie.conditioning": 1,
    "reverie.parameterizations": 1,
    "reverie.time_labels": 1,
    "reverie.grids": 1,
    "reverie.nets": 1,
    "reverie.autoencoders": 1,
    "reverie.pictures": 1,
    "reverie.denoiser": 2,
    "reverie.exact": 2,
    "reverie.faster": 2,
    "reverie.guidance": 2,
    "reverie.models": 2,
    "reverie.spaces": 2,
    "reverie.samplers": 2,
    "reverie.tensor_files": 2,
    "reverie.sampling": 3,
    "reverie.fitting": 3,
    "reverie.weighing": 3,
    "reverie.likelihood": 3,
    "reverie.losses": 3,
    "reverie.data": 3,
    "reverie.prompts": 3,
    "reverie.request": 3,
    "reverie.text": 3,
    "reverie.editing": 3,
    "reverie.image_conditions": 3,
    "reverie.training": 4,
    "reverie.runs": 4,
    "reverie.tuning": 4,
    "reverie.distilling": 4,
    "reverie.interop": 4,
    "reverie.synthesis": 4,
    "reverie.guiding": 4,
    "reverie.cascade": 4,
    "reverie.data.embeddings": 4,
    "reverie.joint": 4,
    "reverie.unclip": 4,
    "reverie.kept": 1,
    "reverie.latents": 4,
    "reverie.plan": 4,
    "reverie.stages": 4,
    "reverie.edits": 4,
    "reverie.outputs": 4,
    "reverie.plots": 4,
    "reverie.diagnosis": 4,
    "reverie.doctor": 4,
    "reverie.evaluation": 4,
    "reverie.audit": 4,
    "reverie.report": 4,
    "reverie.recipe": 4,
    "reverie.recipes": 4,
    "reverie.cli": 5,
    "reverie.__main__": 5,
    "reverie": 5,
}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "reverie").rglob("*.py"))
}


def layer(module: str) -> int | None:
    """That of the longest row that fits; None where there is none."""
    row = module
    while row not in LAYERS and "." in row:
        row = row.rpartition(".")[0]
    return LAYERS[row] if row in LAYERS and (row != "reverie" or module == row) else None


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import at any depth, less those that only a type checker runs."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    skip = node.body if isinstance(node, ast.If) and _is_type_checking(node.test) else []
    for child in ast.iter_child_nodes(node):
        if child not in skip:
            yield from _imports(child)


def imported(source: str, module: str, is_package: bool, known: set[str]) -> set[str]:
    """The modules of Reverie that the source of `module` imports."""
    found: set[str] = set()
    for node in _imports(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
            continue
        base = node.module or ""
        if node.level:
            up = module.split(".")[: None if is_package and node.level == 1 else is_package - node.level]
            base = ".".join([*up, base] if base else up)
        names = (f"{base}.{alias.name}" for alias in node.names)
        found.update(name if name in known else base for name in names)
    return {name for name in found if name.split(".")[0] == "reverie"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    own = layer(module)
    assert own is not None, (
        f"{module} has no layer: add it to LAYERS in tests/test_layers.py, "
        "and to the table in CONTRIBUTING.md if it opens a new kind of thing"
    )
    path = MODULES[module]
    for other in sorted(imported(path.read_text(), module, path.name == "__init__.py", set(MODULES))):
        theirs = layer(other)
        assert theirs is not None, f"{module} imports {other}, which has no layer in tests/test_layers.py"
        assert theirs <= own, f"{module} (layer {own}) imports {other} (layer {theirs}): imports point down"


@pytest.mark.parametrize(
    ("source", "module", "expected"),
    [
        ("import reverie.runs", "reverie.grids", {"reverie.runs"}),
        ("from reverie import runs, grids", "reverie.nets", {"reverie.runs", "reverie.grids"}),
        ("from reverie import Cosine", "reverie.nets", {"reverie"}),
        ("def f():\n    if x:\n        from reverie.runs import open", "reverie.nets", {"reverie.runs"}),
        ("from .runs import Run", "reverie.nets", {"reverie.runs"}),
        ("from . import runs", "reverie.grids", {"reverie.runs"}),
        ("from .unet import UNet", "reverie.nets", {"reverie.nets.unet"}),
        ("from . import unet", "reverie.nets", {"reverie.nets.unet"}),
        ("from .. import runs", "reverie.nets", {"reverie.runs"}),
        ("from ..runs import Run", "reverie.nets.unet", {"reverie.runs"}),
        (
            "if TYPE_CHECKING:\n    import reverie.runs\nelse:\n    import reverie.grids",
            "reverie",
            {"reverie.grids"},
        ),
        ("import torch\nimport reveries", "reverie.nets", set()),
    ],
)
def test_the_reader_of_imports(source, module, expected):
    known = {"reverie", "reverie.runs", "reverie.grids", "reverie.nets", "reverie.nets.unet"}
    is_package = module in ("reverie", "reverie.nets") and source != "from .runs import Run"
    assert imported(source, module, is_package, known) == expected


def test_the_longest_row_counts():
    assert layer("reverie.nets.unet") == LAYERS["reverie.nets"]
    assert layer("reverie") == 5
    assert layer("reverie.netsuke") is None


def test_import_is_cheap():
    """`import reverie` adds to torch and numpy nothing but the standard library."""
    script = (
        "import json, sys, torch, numpy.random; before = set(sys.modules); import reverie; "
        "print(json.dumps(sorted({m.split('.')[0] for m in set(sys.modules) - before})))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    brought = {name for name in json.loads(done.stdout) if name[0] != "_"}  # helpers of some other module
    brought -= {"reverie", "torch", "numpy", *sys.stdlib_module_names}
    assert not brought, f"import reverie also imports {', '.join(sorted(brought))}; import them where used"
