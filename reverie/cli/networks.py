"""Networks by name, for `reverie info`: parameters, operations and memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reverie import config
from reverie.config import Plain

if TYPE_CHECKING:
    from reverie.nets import NetConfig

ALL = "networks"
"""The word for all of them."""
IMAGE, WAVE = (3, 32, 32), (1, 16_000)
"""Examples, where no shape is asked for: of networks for images, and of those for series alone."""


def shape_of(text: str) -> tuple[int, ...]:
    """`3x64x64` or `3,64,64` as a tuple.

    Raises:
        ValueError: it is anything else.
    """
    words = re.split("[x,]", text.replace(" ", "").lower())
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(f"--shape must be the sizes of an example, channels first, such as 3x64x64; given {text!r}")
    return tuple(int(word) for word in words)


def default_shape(net: NetConfig) -> tuple[int, ...]:
    """The example that is told of where none is asked for."""
    return IMAGE if net.fits(IMAGE) else WAVE


def told(name: str, shape: tuple[int, ...] | None) -> dict[str, str]:
    """What there is to know of one network, in words.

    Raises:
        ValueError: there is no such network, or it has no use for the shape.
    """
    from reverie.nets import NetConfig
    from reverie.nets.cost import cost
    from reverie.training.needs import operations, size

    net = config.from_data(NetConfig, name, "net")
    shape = shape or default_shape(net)
    found = cost(net, shape)
    return {
        "network": config.in_words(net),
        "example": "x".join(map(str, shape)),
        "parameters": f"{found.parameters:,}",
        "operations": f"{operations(found.flops)} forward for one example, three times as many in training",
        "memory": (
            f"training with AdamW holds about {size(found.training(0))}, and {size(found.kept)} for each example "
            f"of the batch ({size(found.checkpointed)} with train.checkpointing=true)"
        ),
    }


def every(shape: tuple[int, ...] | None) -> list[dict[str, Plain]]:
    """A row for each name, the smallest first; those that have no use for `shape` are left out."""
    from reverie.nets import NetConfig
    from reverie.nets.cost import cost

    rows: list[dict[str, Plain]] = []
    for name, net in config.named(NetConfig).items():
        at = shape or default_shape(net)
        if type(net).fits(at):
            found = cost(net, at)
            rows.append({"name": name, "kind": net.kind, "example": list(at), "parameters": found.parameters,
                         "flops": found.flops, "kept": found.kept, "checkpointed": found.checkpointed})  # fmt: skip
    return sorted(rows, key=lambda row: row["parameters"])


def print_rows(rows: list[dict[str, Plain]]) -> None:
    """As a table."""
    from rich.console import Console
    from rich.table import Table

    from reverie.training.needs import counted, size

    shown = Table(box=None, pad_edge=False)
    for title in ("name", "kind", "example"):
        shown.add_column(title, no_wrap=True)
    for title in ("parameters", "GFLOP", "memory", "checkpointed"):
        shown.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(
            row["name"], row["kind"], "x".join(map(str, row["example"])), counted(row["parameters"]),
            f"{row['flops'] / 1e9:.3g}", size(row["kept"]), size(row["checkpointed"]),
        )  # fmt: skip
    Console(highlight=False).print(shown)
    print("\nGFLOP of a forward pass, and memory kept for the backward one, are for one example. A training")
    print("step computes three times as much, and training holds 20 bytes a parameter besides.")
