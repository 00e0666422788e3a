"""The table of named sizes in docs/backbones.md: `python -m benchmarks.training.sizes [PAGE]`.

Nothing is computed or allocated: operations and memory are counted by `reverie.nets.cost`. Without a PAGE,
or where it has no place for the table, it is printed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from reverie import config
from reverie.files import write_text
from reverie.nets import NetConfig
from reverie.nets.cost import Cost, cost

PLACE = "<!-- table sizes: written by `python -m benchmarks.training.sizes docs/backbones.md` -->"
END = "<!-- end -->"
IMAGES = ((3, 32, 32), (3, 64, 64))
WAVE = (1, 16_000)


def named() -> dict[str, NetConfig]:
    """Every other name of a backbone and its settings."""
    return {name: config.from_data(NetConfig, name, "net") for name in config.aliases(NetConfig)}


def row(name: str, net: NetConfig, costs: Sequence[Cost]) -> str:
    """Parameters, then operations, then memory, each by shape."""
    cells = [f"`{name}`", net.kind, f"{costs[0].parameters / 1e6:.1f} M"]
    cells += [digits(c.flops / 1e9) for c in costs]
    cells += [digits(c.kept / 1e6) for c in costs]
    cells += [digits(c.checkpointed / 1e6) for c in costs]
    return "| " + " | ".join(cells) + " |"


def digits(x: float) -> str:
    """Three, or all before the point."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def table(nets: dict[str, NetConfig], shapes: Sequence[tuple[int, ...]]) -> str:
    """Markdown: one row for each network, smallest first."""
    sizes = ["x".join(map(str, shape)) for shape in shapes]
    head = ["name", "kind", "parameters"]
    for quantity in ("GFLOP", "MB kept", "MB checkpointed"):
        head += [f"{quantity}, {size}" for size in sizes]
    rule = ["---"] * 2 + ["---:"] * (len(head) - 2)
    found = {name: [cost(net, shape) for shape in shapes] for name, net in nets.items()}
    rows = [row(name, nets[name], costs) for name, costs in sorted(found.items(), key=lambda f: f[1][0].parameters)]
    return "\n".join(["| " + " | ".join(head) + " |", "| " + " | ".join(rule) + " |", *rows])


def tables() -> str:
    """Networks for images, then those for waves alone."""
    nets = named()
    images = {name: net for name, net in nets.items() if all(net.fits(shape) for shape in IMAGES)}
    waves = {name: net for name, net in nets.items() if name not in images and net.fits(WAVE)}
    return "\n\n".join(table(of, at) for of, at in ((images, IMAGES), (waves, (WAVE,))) if of)


def placed(text: str, made: str) -> str | None:
    """`text` with what was made between the place and its end; None where there is no such place."""
    found = re.search(re.escape(PLACE) + r"\n.*?" + re.escape(END), text, re.DOTALL)
    return found and text[: found.start()] + f"{PLACE}\n{made}\n{END}" + text[found.end() :]


def main() -> None:
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    made = tables()
    text = placed(page.read_text(encoding="utf-8"), made) if page and page.is_file() else None
    if page is None or text is None:
        if page is not None:
            print(
                f"{page} has no place for the table; put these lines where it belongs:\n{PLACE}\n{END}", file=sys.stderr
            )
        print(made)
        return
    write_text(page, text)


if __name__ == "__main__":
    main()
