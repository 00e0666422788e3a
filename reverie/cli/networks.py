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
"""Examples where no shape is asked for: of networks for images, and of those for series alone."""


def shape_of(text: str) -> tuple[int, ...]:
    """`3x64x64` or `3,64,64` as a tuple.

    Raises:
        ValueError: it is anything else.
    """
    words = re.split("[x,]", text.replace(" ", "").lower())
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(f"--shape must be the sizes of an example, channels first, such as 3x64x64; given {text!r}")
    return tuple(int(word) for word in words)


def one(name: str, shape: tuple[int, ...] | None) -> dict[str, Plain]:
    """What a network costs that has no conditions, trained on what there is here; memory is of tensors.

    Raises:
        ValueError: there is no such network, or it has no use for the shape.
    """
    from reverie.nets import NetConfig

    try:
        net = config.from_data(NetConfig, name, "net")
    except ValueError as error:
        raise ValueError(
            f"{name} is neither a run folder, such as runs/digits, nor one of `reverie info networks`: {error}"
        ) from None
    return _row(name, net, shape or _usual(net))


def every(shape: tuple[int, ...] | None) -> list[dict[str, Plain]]:
    """A row for each name, the smallest first; those that have no use for `shape` are left out.

    Raises:
        ValueError: none has.
    """
    from reverie.nets import NetConfig

    nets = {name: net for name, net in config.named(NetConfig).items() if type(net).fits(shape or _usual(net))}
    if not nets and shape is not None:
        given = "x".join(map(str, shape))
        raise ValueError(f"no network that has a name takes examples of {given}; the net for those is mlp")
    rows = [_row(name, net, shape or _usual(net)) for name, net in nets.items()]
    return sorted(rows, key=lambda row: row["parameters"])


def _usual(net: NetConfig) -> tuple[int, ...]:
    """The example where no shape is asked for."""
    return IMAGE if net.fits(IMAGE) else WAVE


def _row(name: str, net: NetConfig, shape: tuple[int, ...]) -> dict[str, Plain]:
    from reverie.nets.cost import cost
    from reverie.training.accelerator import device_here

    found = cost(net, shape, device=device_here())
    return {
        "name": name,
        "net": config.to_data(net),
        "example": list(shape),
        "parameters": found.parameters,
        "flops": found.flops,
        "training": found.training(0),
        "kept": found.kept,
        "checkpointed": found.checkpointed,
    }


def in_words(row: dict[str, Plain]) -> dict[str, str]:
    """A row for readers."""
    from reverie.training.needs import operations, size

    return {
        "network": config.in_words(row["net"]),
        "example": "x".join(map(str, row["example"])),
        "parameters": f"{row['parameters']:,}, without conditions",
        "operations": f"{operations(row['flops'])} forward for one example, three times as many in training",
        "memory": (
            f"tensors of training with AdamW take about {size(row['training'])}, and {size(row['kept'])} for each "
            f"example of the batch ({size(row['checkpointed'])} with train.checkpointing=true)"
        ),
    }


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
            row["name"], row["net"]["kind"], "x".join(map(str, row["example"])), counted(row["parameters"]),
            f"{row['flops'] / 1e9:.3g}", size(row["kept"]), size(row["checkpointed"]),
        )  # fmt: skip
    Console(highlight=False).print(shown)
    print("\nGFLOP of a forward pass, and memory kept for the backward one, are for one example. A training")
    print("step computes three times as much, and training holds 20 bytes a parameter besides.")
