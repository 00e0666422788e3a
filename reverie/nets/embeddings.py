"""Numbers and classes as vectors.

Letters in shapes: B batch, E width of an embedding, `...` any axes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.conditioning import Cond


def sinusoidal(label: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """Sines and cosines of a number at geometrically spaced frequencies.

        out_i = sin(label * w_i),  out_{width/2 + i} = cos(label * w_i),  w_i = max_period^(-2 i / width)

    (Vaswani et al., 2017, section 3.5, with sines and cosines in two halves as in Ho et al., 2020.)

    Args:
        label: (...), any numbers; float64 stays so, everything else is computed in float32.
        width: even, the length of the new last axis.
        max_period: the longest period is this times 2 pi, approached but not reached.

    Returns:
        (..., width).

    Raises:
        ValueError: `width` is odd or below 2.
    """
    if width < 2 or width % 2:
        raise ValueError(f"sines and cosines come in pairs: width must be even and at least 2, given {width}")
    half = width // 2
    dtype = torch.float64 if label.dtype == torch.float64 else torch.float32
    index = torch.arange(half, device=label.device, dtype=dtype)
    angle = label.to(dtype)[..., None] * torch.exp(index * (-math.log(max_period) / half))
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def grid_positions(rows: int, columns: int, width: int) -> Tensor:
    """Fixed positions of the cells of a grid, (rows * columns, width), row by row.

    The first half of the width embeds the row, the second the column (as in Peebles & Xie, 2023).

    Raises:
        ValueError: `width` is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"two axes of sines and cosines: width must be a multiple of 4, given {width}")
    down = sinusoidal(torch.arange(rows), width // 2)[:, None].expand(rows, columns, -1)
    across = sinusoidal(torch.arange(columns), width // 2)[None].expand(rows, columns, -1)
    return torch.cat([down, across], dim=-1).flatten(0, 1)


def check_labels(label: Tensor, classes: int) -> None:
    """Refuse labels that a network of so many classes does not know.

    For the entry on the host: it reads the values, which inside a network would stall the device.

    Args:
        label: (B,), integers in 0..classes - 1.
        classes: as the network was built; 0 for none.

    Raises:
        ValueError: a label is out of range or no integer, or the network knows no labels at all.
    """
    if classes == 0:
        raise ValueError("this network was built without labels; give none, or build it with classes")
    if label.dtype.is_floating_point or label.dtype.is_complex or label.dtype == torch.bool:
        raise ValueError(f"labels must be integers in 0..{classes - 1}, given {label.dtype}")
    outside = sorted({int(v) for v in label.flatten().tolist() if not 0 <= v < classes})
    if outside:
        shown = ", ".join(map(str, outside[:5])) + (", ..." if len(outside) > 5 else "")
        raise ValueError(f"labels must be in 0..{classes - 1} for {classes} classes, given {shown}")


class Conditioning(nn.Module):
    """The vector that modulates every block of a backbone.

        e = SiLU(Linear(SiLU(Linear(sinusoidal(label)))) + table[class]),  (B, E)

    The table has a row for each class and a last one for "none", used where `cond` or its label is
    None and where `cond.drop` is True. Without classes there is no table, and labels are not read.
    """

    def __init__(self, width: int, classes: int = 0) -> None:
        """`width` is E, even; `classes` the number of labels, 0 for none."""
        super().__init__()
        if classes < 0:
            raise ValueError(f"the number of classes cannot be negative, given {classes}")
        self.width = width
        self.classes = classes
        self.time_in = nn.Linear(width, width)
        self.time_out = nn.Linear(width, width)
        self.table = nn.Embedding(classes + 1, width) if classes else None

    def forward(self, label: Tensor, cond: Cond | None) -> Tensor:
        """`label` is (B,), the time label; the result is (B, E) in the dtype of the weights."""
        e = sinusoidal(label, self.width).to(self.time_in.weight.dtype)
        e = self.time_out(F.silu(self.time_in(e)))
        if self.table is not None:
            e = e + self.table(self._rows(label, cond))
        return F.silu(e)

    def _rows(self, label: Tensor, cond: Cond | None) -> Tensor:
        """(B,) int64, the row of the table for each example."""
        none = torch.full(label.shape, self.classes, dtype=torch.int64, device=label.device)
        if cond is None or cond.label is None:
            return none
        rows = cond.label.to(torch.int64)
        return rows if cond.drop is None else torch.where(cond.drop, none, rows)
