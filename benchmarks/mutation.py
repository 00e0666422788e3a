"""How much of the mathematics the tests hold: change one token at a time, and see whether a test fails.

    python benchmarks/mutation.py                         # schedules, prediction, samplers; 120 mutants
    python benchmarks/mutation.py --files grids denoiser --count 60
    python benchmarks/mutation.py --list                  # what would be changed, without running it

A mutant changes one sign, operator, comparison, number or name (alpha for sigma, t for s, a for b)
in an expression; text, messages and annotations stay. Each runs in a copy of the tree, in a fork of
one process that has imported torch, with the tests of its module until one fails. Which mutants are
taken follows from --seed. Writes benchmarks/results/mutation.json and mutation.md.
"""

from __future__ import annotations

import argparse
import ast
import copy
import datetime
import json
import multiprocessing
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"

DEFAULT = ["schedules", "prediction", "samplers"]

TESTS = {
    "schedules": ["tests/test_schedules.py", "tests/test_prediction.py", "tests/test_denoiser.py"],
    "prediction": ["tests/test_prediction.py", "tests/test_denoiser.py"],
    "samplers": [
        "tests/samplers/test_order.py",
        "tests/samplers/test_law.py",
        "tests/samplers",
        "tests/test_sampling.py",
    ],
    "grids": ["tests/test_grids.py"],
    "denoiser": ["tests/test_denoiser.py"],
    "parameterizations": ["tests/test_parameterizations.py"],
    "exact": ["tests/test_exact.py"],
    "sampling": ["tests/test_sampling.py", "tests/samplers/test_order.py"],
    "losses": ["tests/losses"],
    "bound": ["tests/test_bound.py"],
    "likelihood": ["tests/test_likelihood.py"],
    "sde": ["tests/test_sde.py"],
    "noise_levels": ["tests/test_noise_levels.py"],
    "guidance": ["tests/guidance"],
}
"""The tests of each module or package, the sharpest first."""

EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("reverie/schedules/base.py", "for _ in range(64):", "64 -> 65"): (
        "after 53 halvings of [0, 1] the bisection stands still in float64"
    ),
    ("reverie/schedules/base.py", "return (low + high) / 2", "high -> low"): (
        "the bisection has ended on neighbouring float64 numbers"
    ),
    ("reverie/schedules/base.py", "return (low + high) / 2", "low -> high"): (
        "the bisection has ended on neighbouring float64 numbers"
    ),
    (
        "reverie/schedules/exploding.py",
        "return torch.where(sigma < self.low, self.ramp * sigma / self.low, "
        "self.ramp + (1 - self.ramp) * u).clamp(0, 1)",
        "< -> <= in sigma < self.low",
    ): "both branches are the ramp's end where sigma is low",
    **{
        (
            "reverie/samplers/heun.py",
            "keep = torch.where(c.alpha > 0, c.alpha / a.alpha.clamp_min(1e-300), torch.zeros_like(a.alpha))",
            change,
        ): "where alpha is 0 the quotient is 0 too, or, where both are at t = 1, replaced by 1 in the next line"
        for change in ("> -> >= in c.alpha > 0", "c -> a")
    },
}
"""(file, line, change) of mutants that compute the same thing, and why."""

LOCAL = {"t", "s", "a", "b", "c", "da", "db", "q", "r", "x", "x_s"}
"""Names that are swapped as variables only: as attributes, the other of the pair would not exist."""

SWAPS = [
    ("alpha", "sigma"),
    ("x0", "eps"),
    ("t", "s"),
    ("a", "b"),
    ("a", "c"),
    ("da", "db"),
    ("upper", "lower"),
    ("low", "high"),
    ("start", "end"),
    ("first", "last"),
    ("inner", "first"),
    ("x", "x_s"),
    ("q", "r"),
    ("beta_min", "beta_max"),
    ("minimum", "maximum"),
    ("clamp_min", "clamp_max"),
    ("sin", "cos"),
    ("expm1", "exp"),
    ("log1p", "log"),
    ("zeros_like", "ones_like"),
]
OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
SYMBOLS = {
    **{ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.BitAnd: "&", ast.BitOr: "|"},
    **{ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="},
    **{ast.Is: "is", ast.IsNot: "is not", ast.And: "and", ast.Or: "or"},
}


@dataclass(frozen=True)
class Mutant:
    """One change: where (file, line and its text), what, and which of the file's sites it is."""

    file: str
    line: int
    text: str
    change: str
    site: int

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.file, self.text, self.change)


# ---------------------------------------------------------------------------------- mutations


def _expressions(node: ast.AST, bound: frozenset[str] = frozenset()) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """Nodes in which a change changes what is computed, each with the names its function binds."""
    if isinstance(node, ast.Raise | ast.JoinedStr):
        return
    if isinstance(node, ast.FunctionDef):
        names = {a.arg for a in node.args.args + node.args.kwonlyargs}
        names |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        bound = frozenset(names)
    yield node, bound
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "keywords") and not isinstance(node, ast.Call):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _expressions(child, bound)


def _changes(node: ast.AST, bound: frozenset[str]) -> Iterator[tuple[str, ast.AST]]:
    """Descriptions of changes to `node`, and the changed copy."""

    def changed(**fields: object) -> ast.AST:
        new = copy.deepcopy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        return new

    if isinstance(node, ast.BinOp | ast.BoolOp):
        for op in OPERATORS.get(type(node.op), ()):
            yield f"{SYMBOLS[type(node.op)]} -> {SYMBOLS[op]} in {ast.unparse(node)}", changed(op=op())
    elif isinstance(node, ast.Compare):
        for i, old in enumerate(node.ops):
            for op in OPERATORS.get(type(old), ()):
                ops = [*node.ops[:i], op(), *node.ops[i + 1 :]]
                yield f"{SYMBOLS[type(old)]} -> {SYMBOLS[op]} in {ast.unparse(node)}", changed(ops=ops)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield f"{ast.unparse(node)} -> {ast.unparse(node.operand)}", copy.deepcopy(node.operand)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        news = {0: (1,), 1: (0, 2)}.get(node.value, (node.value + 1,)) if type(node.value) is int else ()
        if type(node.value) is float:
            news = (node.value * 1.5 if node.value else 0.5,)
        for new in news:
            yield f"{node.value!r} -> {new!r}", changed(value=new)
    else:
        field = {ast.Name: "id", ast.Attribute: "attr"}.get(type(node))
        if field is None or not isinstance(node.ctx, ast.Load):
            return
        old = getattr(node, field)
        for pair in SWAPS:
            if old in pair:
                new = pair[1 - pair.index(old)]
                if new not in LOCAL if field == "attr" else new in bound:
                    yield f"{ast.unparse(node)} -> {ast.unparse(changed(**{field: new}))}", changed(**{field: new})


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def _sites(source: str) -> Iterator[tuple[int, str, ast.AST, ast.Module, ast.AST]]:
    tree = ast.parse(source)
    for node, bound in _expressions(tree):
        for change, new in _changes(node, bound):
            yield getattr(node, "lineno", 0), change, node, tree, new


def mutants(path: Path) -> list[Mutant]:
    """Every mutant of a file."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    file = str(path.relative_to(ROOT))
    return [
        Mutant(file, line, lines[line - 1].strip(), change, i) for i, (line, change, *_) in enumerate(_sites(source))
    ]


def mutated(source: str, site: int) -> str:
    """The source with the change number `site` made."""
    for i, (_, _, old, tree, new) in enumerate(_sites(source)):
        if i == site:
            return ast.unparse(ast.fix_missing_locations(_Replace(old, new).visit(tree)))
    raise ValueError(f"there is no site {site}")


def chosen(modules: list[str], count: int, seed: int) -> list[tuple[str, Mutant]]:
    """At least `count` mutants if there are as many, drawn by module in proportion to its size."""
    found: dict[str, list[Mutant]] = {}
    for module in modules:
        path = ROOT / "reverie" / module
        files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        found[module] = [m for file in files for m in mutants(file)]
    total = sum(map(len, found.values()))
    picked = []
    for module, all_of_it in found.items():
        number = min(len(all_of_it), max(1, -(-count * len(all_of_it) // total)))
        picked += [(module, m) for m in random.Random(f"{seed} {module}").sample(all_of_it, number)]
    return sorted(picked, key=lambda p: (modules.index(p[0]), p[1].file, p[1].line, p[1].site))


# ------------------------------------------------------------------------------------ running


def copied(where: Path) -> Path:
    """A copy of what the tests need."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "reverie", where / "reverie", ignore=ignore)
    shutil.copytree(ROOT / "tests", where / "tests", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", where)
    return where


def _tested(tree: Path, tests: list[str], output: Path) -> None:
    """In a fork: run tests in `tree` until one fails, and leave with pytest's exit code."""
    import pytest

    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        os.chdir(tree)
        sys.path[:0] = [str(tree)]
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=line"]
        code = int(pytest.main([*options, *tests]))
        sys.stdout.flush()
        os._exit(code)


def _first_failure(output: Path) -> str:
    for line in output.read_text(errors="replace").splitlines():
        if line.startswith(("FAILED", "ERROR")):
            return line.split(" ", 1)[1].split(" - ")[0]
    return "did not import"


def run(picked: list[tuple[str, Mutant]], workers: int, timeout: float) -> list[dict]:
    """Test each mutant; a result says caught, survived or equivalent, by which test, in how many seconds."""
    import pytest  # noqa: F401  (imported once here, for all the forks)
    import torch

    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    assert "reverie" not in sys.modules
    fork = multiprocessing.get_context("fork")
    results: list[dict] = []
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        trees = [copied(Path(folder) / str(i)) for i in range(workers)]
        for module in dict.fromkeys(m for m, _ in picked):
            started = time.monotonic()
            check = fork.Process(target=_tested, args=(trees[0], TESTS[module], Path(folder) / "out"))
            check.start()
            check.join()
            if check.exitcode != 0:
                print((Path(folder) / "out").read_text()[-3000:])
                raise SystemExit(f"the tests of {module} fail without a mutant")
            print(f"{module}: tests pass unchanged in {time.monotonic() - started:.1f} s", flush=True)
        waiting, running = list(picked), {}
        while waiting or running:
            for tree in trees:
                if tree in running or not waiting:
                    continue
                module, mutant = waiting.pop(0)
                target = tree / mutant.file
                original = target.read_text(encoding="utf-8")
                target.write_text(mutated(original, mutant.site), encoding="utf-8")
                output = Path(folder) / f"{tree.name}.out"
                process = fork.Process(target=_tested, args=(tree, TESTS[module], output))
                process.start()
                running[tree] = (mutant, process, time.monotonic(), target, original, output)
            time.sleep(0.05)
            for tree, (mutant, process, started, target, original, output) in list(running.items()):
                seconds = time.monotonic() - started
                if process.is_alive() and seconds < timeout:
                    continue
                late = process.is_alive()
                if late:
                    process.kill()
                process.join()
                target.write_text(original, encoding="utf-8")
                del running[tree]
                caught = late or process.exitcode != 0
                by = "timeout" if late else _first_failure(output) if caught else ""
                reason = EQUIVALENT.get(mutant.key, "")
                verdict = "caught" if caught else "equivalent" if reason else "survived"
                results.append({**asdict(mutant), "verdict": verdict, "by": by, "reason": reason, "seconds": seconds})
                mark = f"{len(results)}/{len(picked)}"
                print(
                    f"{mark:>8} {verdict:10} {seconds:5.1f} s  {mutant.file}:{mutant.line}  {mutant.change}", flush=True
                )
    return results


# ------------------------------------------------------------------------------------- report


def report(results: list[dict], arguments: argparse.Namespace, seconds: float) -> dict:
    """Counts and the rate of caught mutants among those that are not equivalent."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    count = {v: sum(r["verdict"] == v for r in results) for v in ("caught", "survived", "equivalent")}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "files": arguments.files,
        "seed": arguments.seed,
        "seconds": round(seconds, 1),
        "mutants": len(results),
        **count,
        "rate": round(count["caught"] / max(count["caught"] + count["survived"], 1), 4),
        "results": sorted(results, key=lambda r: (r["file"], r["line"], r["site"])),
    }


def markdown(summary: dict) -> str:
    """The report as a page."""
    head = (
        f"# Mutation run\n\nMade by `benchmarks/mutation.py` on {summary['date']}, commit {summary['commit']}, "
        f"{summary['machine']}; seed {summary['seed']}, {summary['seconds']:.0f} s.\n\n"
        f"Of {summary['mutants']} mutants of {', '.join(summary['files'])}, {summary['caught']} were caught, "
        f"{summary['survived']} survived and {summary['equivalent']} are equivalent: "
        f"**{100 * summary['rate']:.1f} % of those that could be caught**.\n\n"
    )
    rows = ["| file | line | change | verdict | first test to fail, or why equivalent |", "|---|---|---|---|---|"]
    for r in summary["results"]:
        change = r["change"].replace("|", "\\|")
        said = f"`{r['by']}`".replace("|", "\\|") if r["by"] else r["reason"]
        rows.append(f"| {r['file'].removeprefix('reverie/')} | {r['line']} | `{change}` | {r['verdict']} | {said} |")
    return head + "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", default=DEFAULT, choices=sorted(TESTS), help="modules and packages")
    parser.add_argument("--count", type=int, default=120, help="how many mutants; all there are if fewer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, choices=(1, 2))
    parser.add_argument("--timeout", type=float, default=90.0, help="seconds after which a mutant counts as caught")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--name", default="mutation", help="the results' file name")
    arguments = parser.parse_args()
    picked = chosen(arguments.files, arguments.count, arguments.seed)
    if arguments.list:
        for _, mutant in picked:
            print(f"{mutant.file}:{mutant.line}  {mutant.change}")
        print(f"{len(picked)} mutants")
        return
    started = time.monotonic()
    results = run(picked, arguments.workers, arguments.timeout)
    summary = report(results, arguments, time.monotonic() - started)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{arguments.name}.md").write_text(markdown(summary), encoding="utf-8")
    print(
        f"{summary['caught']} caught, {summary['survived']} survived, {summary['equivalent']} equivalent: "
        f"{100 * summary['rate']:.1f} %"
    )
    for result in summary["results"]:
        if result["verdict"] == "survived":
            print(f"  survived: {result['file']}:{result['line']}  {result['text']}\n            {result['change']}")


if __name__ == "__main__":
    main()
