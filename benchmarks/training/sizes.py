"""The table of named sizes in docs/backbones.md: `python -m benchmarks.training.sizes [PAGE]`.

Nothing is computed or allocated: operations and memory are counted by `reverie.nets.cost`. Without a PAGE
it is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.publishing import filled
from reverie import config
from reverie.files import write_text
from reverie.nets import NetConfig
from reverie.nets.cost import Cost, cost

IMAGES = ((3, 32, 32), (3, 64, 64))
WAVE = (1, 16_000)


def row(name: str, net: NetConfig, costs: Sequence[Cost]) -> str:
    """Parameters, then operations, then memory, each by shape."""
    counts = dict.fromkeys(f"{c.parameters / 1e6:.1f} M" for c in costs)  # levels with attention depend on the size
    cells = [f"`{name}`", net.kind, ", ".join(counts)]
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
    nets = config.named(NetConfig)
    images = {name: net for name, net in nets.items() if all(net.fits(shape) for shape in IMAGES)}
    waves = {name: net for name, net in nets.items() if name not in images and net.fits(WAVE)}
    return "\n\n".join(table(of, at) for of, at in ((images, IMAGES), (waves, (WAVE,))) if of)


def main() -> None:
    made = tables()
    if len(sys.argv) < 2:
        print(made)
        return
    page = Path(sys.argv[1])
    try:
        write_text(page, filled(page.read_text(encoding="utf-8"), {"sizes": made}))
    except (OSError, ValueError) as error:
        sys.exit(f"{page}: {error}")


if __name__ == "__main__":
    main()
