"""Figures: schedules, data turning to noise, a model in the plane, the terms of the bound.

Each function takes parts and tensors and returns a matplotlib `Figure` that belongs to nobody but the
caller; `save` writes it. Colours are those of Okabe and Ito (2008), told apart by colour-blind people, and
lines differ in dash too.

Letters in shapes: N points, K times, T steps, C channels, H height, W width.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reverie import pictures
from reverie.denoiser import Denoises
from reverie.files import atomic
from reverie.prediction import posterior
from reverie.request import condition
from reverie.samplers import Sampler
from reverie.sampling import prior, trajectory
from reverie.schedules import Schedule
from reverie.sde import sde
from reverie.spaces import Space
from reverie.tensors import Noise, host

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from PIL.Image import Image as Picture

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (1, 3)))
BLUE, RED, INK, FAINT = COLOURS[0], COLOURS[1], "#333333", "#666666"

ENDINGS = (".png", ".svg", ".pdf")
DOTS = 150
"""Pixels an inch of a PNG."""

ARROWS = 21
"""Arrows a side of a field."""


# --------------------------------------------------------------------------------------- files


def check_output(path: Path) -> None:
    """Refuse a path whose ending stands for nothing, before any work is done.

    Raises:
        ValueError: the ending is none of `ENDINGS`.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"a plot is written to a path ending in .png, .svg or .pdf; given {str(path)!r}")


def save(figure: Figure, path: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write a figure, whole or not at all, with `about` as JSON inside and no date.

    The JSON stands in the PNG's text chunk `reverie`, where `reverie.pictures.read_metadata` finds it, in the
    description of an SVG, or in the keywords of a PDF.

    Raises:
        ValueError: the ending is none of `ENDINGS`.
        TypeError: `about` has no JSON form.
        OSError: the file cannot be written.
    """
    check_output(path)
    if path.suffix.lower() == ".png":
        pictures.save_png(_painted(figure), path, dict(about or {}))
        return
    svg, note = path.suffix.lower() == ".svg", json.dumps(dict(about or {}))
    metadata = {"Date": None, "Description": note} if svg else {"CreationDate": None, "Keywords": note}
    with atomic(path) as temp:
        figure.savefig(temp, format=path.suffix[1:].lower(), dpi=DOTS, metadata=metadata)


def _painted(figure: Figure) -> Picture:
    """The figure as pixels: in 256 colours, which make a third of the bytes, unless there are pictures in it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(DOTS)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if any(axes.images for axes in figure.axes):
        return picture
    return picture.quantize(256, dither=Image.Dither.NONE)


# ------------------------------------------------------------------------------------- drawing


def page(rows: int, columns: int, width: float, height: float, top: float = 0.0) -> tuple[Figure, np.ndarray]:
    """A figure and its axes (rows, columns), each panel of this size in inches, with room for titles on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, rows * height + top), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, np.asarray(axes)


def lined(axes: Axes, title: str, x: str, y: str = "") -> None:
    """Dress axes that show lines."""
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.grid(True, color="#E6E6E6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _heights(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_ydata(), np.float64)


def _wide(axes: Axes) -> None:
    """A y axis that is linear about 0 and logarithmic far from it, with ticks at 0 and at powers of ten.

    A power above 1 that the values come near, to a third of it, has its tick too: 100 for values up to 80.
    """
    values = np.concatenate([_heights(line) for line in axes.lines])
    near = {sign * 10.0**k: sign * 10.0**k * (0.3 if k else 1) for sign in (-1, 1) for k in range(9)}
    ticks = sorted([0.0, *(v for v, least in near.items() if values.min() <= least <= values.max())])
    axes.set_yscale("asinh", linear_width=1.0)
    sign = {False: "", True: "-"}
    large = {v: f"${sign[v < 0]}10^{{{round(math.log10(abs(v)))}}}$" for v in ticks if abs(v) >= 1e4}
    axes.set_yticks(ticks, [large.get(v, f"{v:g}") for v in ticks])
    axes.minorticks_off()


def _plane(axes: Axes, reach: float) -> None:
    """Dress axes that show the square [-reach, reach]^2."""
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=7, colors=FAINT)
    for spine in axes.spines.values():
        spine.set_color("#CCCCCC")


def _cloud(axes: Axes, x: Tensor, colour: str, opacity: float = 0.5) -> None:
    """Points (N, 2); as pixels where the rest is drawn as lines."""
    axes.scatter(x[:, 0], x[:, 1], s=2.5, color=colour, alpha=opacity, linewidths=0, rasterized=True)


def _count_outside(axes: Axes, x: Tensor, reach: float) -> None:
    """Say in small print how many of the points (N, 2) a panel of [-reach, reach]^2 leaves out, if above 5 %."""
    outside = len(x) - int((x.abs() <= reach).all(1).sum())
    if outside > 0.05 * len(x):
        told = f"{outside:,} of {len(x):,} outside"
        axes.text(0.03, 0.03, told, transform=axes.transAxes, fontsize=7, color=INK)


def _arrows(axes: Axes, at: Tensor, vectors: Tensor) -> None:
    """Vectors (A, 2) at points (A, 2) of a square lattice: lengths in one proportion, the longest tenth overlapping."""
    lengths = vectors.norm(dim=1)
    spacing = float(at[:, 0].max() - at[:, 0].min()) / (math.isqrt(len(at)) - 1)
    scale = max(float(lengths.quantile(0.9)) / (1.6 * spacing), 1e-12)
    axes.quiver(
        *at.T, *vectors.T, angles="xy", scale_units="xy", scale=scale, color=INK,
        width=0.0042, headwidth=3.6, headlength=4.2, headaxislength=3.8, minlength=0.3,
    )  # fmt: skip


def _lattice(reach: float, like: Tensor) -> Tensor:
    """(ARROWS^2, 2) points of [-reach, reach]^2, a little inside, of the dtype of `like`."""
    side = torch.linspace(-0.94 * reach, 0.94 * reach, ARROWS, dtype=like.dtype)
    return torch.cartesian_prod(side, side)


def _reach(x: Tensor) -> float:
    """Half the side of a square around 0 that shows all but a few of the points (N, 2)."""
    return 1.15 * float(x.abs().flatten().quantile(0.995))


def _noised(schedule: Schedule, t: float | Tensor, x0: Tensor, eps: Tensor) -> Tensor:
    """x_t = alpha x0 + sigma eps."""
    level = schedule.at(host(t), like=x0)
    return level.alpha * x0 + level.sigma * eps


def _ratio(schedule: Schedule, t: float | Tensor) -> float:
    """sigma / alpha."""
    return math.exp(-float(schedule.log_snr(host(t))) / 2)


def _written(value: float) -> str:
    """Two digits: 0.43, 160, ∞."""
    return "∞" if math.isinf(value) else f"{float(f'{value:.2g}'):g}"


# --------------------------------------------------------------------------------------- plots


def _coefficients(schedule: Schedule, t: Tensor) -> dict[str, Tensor]:
    """What `schedules` draws, (K,) each, by its title."""
    equation = sde(schedule)
    return {
        "signal α(t)": schedule.alpha(t),
        "noise σ(t)": schedule.sigma(t),
        "log-SNR: log α² / σ²": schedule.log_snr(t),
        "drift f(t) of dx = f x dt + g dw": equation.drift(torch.ones_like(t), t),
        "diffusion g²(t)": equation.diffusion(t) ** 2,
    }


def schedules(named: Mapping[str, Schedule], points: int = 501) -> Figure:
    """alpha, sigma, log-SNR, and f and g^2 of the SDE of the same marginals, over t, a line a schedule.

    For f and g see `reverie.sde`. Values that are not finite are left out, such as log-SNR at t = 0.

    Args:
        named: schedules by the name that the legend gives them.
        points: evenly spaced times from 0 to 1.

    Raises:
        ValueError: there is no schedule.
    """
    if not named:
        raise ValueError("no schedule to draw; name at least one, such as cosine")
    figure, axes = page(2, 3, 3.7, 2.9)
    panels = list(axes.flat)
    t = torch.linspace(0, 1, points, dtype=torch.float64)
    for (name, schedule), colour, dash in zip(named.items(), itertools.cycle(COLOURS), itertools.cycle(DASHES)):
        for panel, (title, values) in zip(panels, _coefficients(schedule, t).items(), strict=False):
            known = values.isfinite()
            panel.plot(t[known], values[known], color=colour, linestyle=dash, linewidth=1.8, label=name)
            lined(panel, title, "t")
    highest = max(_heights(line).max() for line in panels[1].lines)
    for panel in [*panels[3:5], *([panels[1]] if highest > 2 else [])]:
        _wide(panel)
    panels[5].axis("off")
    panels[5].legend(*panels[0].get_legend_handles_labels(), loc="center", frameon=False, fontsize=9, handlelength=3.5)
    return figure


def forward(
    x0: Tensor, named: Mapping[str, Schedule], times: Sequence[float], noise: Noise, space: Space | None = None
) -> Figure:
    """Data turning to noise, a row a schedule and a column a time: x_t = alpha x0 + sigma eps, one eps for all.

    For images, figure 3 of Nichol & Dhariwal (2021). Where x_t has outgrown its range, as under VE, it is
    shown divided by sqrt(alpha^2 + sigma^2).

    Args:
        x0: one image (1, C, H, W), or points (N, 2), as the model sees them.
        named: schedules by the name that stands beside their row.
        times: K times in [0, 1].
        noise: draws eps.
        space: decodes images.

    Raises:
        ValueError: x0 is neither, there is no schedule, or a time is out of range.
    """
    image = x0.ndim == 4 and len(x0) == 1 and space is not None
    if not image and (x0.ndim != 2 or x0.shape[1] != 2):
        raise ValueError(f"an image (1, C, H, W) and its space, or points (N, 2), go to noise; given {tuple(x0.shape)}")
    if not named:
        raise ValueError("no schedule to draw; name at least one, such as cosine")
    if not times or not all(0 <= t <= 1 for t in times):
        raise ValueError(f"data go to noise at times in [0, 1], at least one; given {list(times)}")
    eps = noise(x0)
    tall = min(max(x0.shape[-2] / x0.shape[-1], 0.25), 4.0) if image else 1.0
    figure, axes = page(len(named), len(times), 1.35, 1.25 * tall + 0.3, top=0.3)
    for row, (name, schedule) in zip(axes, named.items(), strict=True):
        for panel, t in zip(row, times, strict=True):
            level = schedule.at(host(t), like=x0)
            x = _noised(schedule, t, x0, eps) / (level.alpha**2 + level.sigma**2).sqrt().clamp_min(1)
            if image:
                assert space is not None
                panel.imshow(pictures.rgb(space.decode(x)[0].numpy()), interpolation="nearest")
            else:
                _cloud(panel, x, BLUE)
                _plane(panel, _reach(torch.cat([x0, eps])))
            panel.set(xticks=[], yticks=[])
            panel.set_xlabel(f"σ/α = {_written(_ratio(schedule, t))}", fontsize=7, color=FAINT)
        lines = name.split(" ")
        size = min(9.0, 9 * 16 / max(len(line) for line in lines))  # as high as the row at the most
        row[0].set_ylabel("\n".join(lines), fontsize=size, color=INK)
    for panel, t in zip(axes[0], times, strict=True):
        panel.set_title(f"t = {t:.3g}", fontsize=9, color=INK)
    return figure


def noise_levels(schedule: Schedule, ratios: Sequence[float] = (2.0, 0.7, 0.25, 0.08)) -> list[float]:
    """The times at which sigma / alpha has these values: what `field` shows unless told otherwise."""
    return [float(schedule.time(host(-2 * math.log(ratio)))) for ratio in ratios]


def field(
    f: Denoises, x0: Tensor, noise: Noise, times: Sequence[float] | None = None, label: int | None = None
) -> Figure:
    """The score grad log p_t(x) = -eps / sigma that a denoiser knows in the plane, over points x_t, a panel a time.

    Args:
        f: a denoiser of points (N, 2).
        x0: data (N, 2), as the model sees them.
        noise: draws the noise of x_t.
        times: K of them in (0, 1]; those of `noise_levels` unless given.
        label: the class that f is told; None for no class.

    Raises:
        ValueError: x0 is not of the plane, or a time is out of range.
    """
    _check_plane(x0)
    times = noise_levels(f.schedule) if times is None else times
    if not times or not all(0 < t <= 1 for t in times):
        raise ValueError(f"a field is drawn at times in (0, 1], at least one; given {list(times)}")
    eps = noise(x0)
    figure, axes = page(1, len(times), 3.2, 3.5)
    for panel, t in zip(axes[0], times, strict=True):
        x = _noised(f.schedule, t, x0, eps)
        at = _lattice(_reach(x), x)
        _cloud(panel, x, BLUE, 0.35)
        with torch.no_grad():
            _arrows(panel, at, f(at, host(t), condition([label] * len(at), "cpu")).score)
        _plane(panel, _reach(x))
        panel.set_title(f"t = {t:.3g},  σ/α = {_written(_ratio(f.schedule, t))}", fontsize=9, color=INK)
    figure.suptitle("score field ∇ log p(x) over the noised data", fontsize=11, color=INK)
    return figure


def process(
    f: Denoises, sampler: Sampler, times: Tensor, x0: Tensor, noise: Noise,
    shown: Sequence[float] = (0.0, 0.125, 0.5, 1.0), label: int | None = None,
) -> Figure:  # fmt: skip
    """Data to noise, noise to data, and the drift between: three rows, a column a time.

    After figure 1 of Sohl-Dickstein et al. (2015), with a time more. Top: x_t = alpha x0 + sigma eps. Middle: the
    sampler's x at the same times. Bottom: E[x_s | x_t] - x_t, whither the step of the grid that starts at t
    leads on average (Ho et al., 2020, eq. 7); at t = 0 that of the last step.

    Args:
        f: a denoiser of points (N, 2).
        sampler: how to step.
        times: (T + 1,), decreasing to 0.
        x0: data (N, 2), as the model sees them; as many samples are drawn.
        noise: draws all noise.
        shown: K times in [0, 1]; for each, the time of the grid that is nearest is shown.
        label: the class that f is told; None for no class.

    Raises:
        ValueError: x0 is not of the plane, or a time is out of range.
    """
    _check_plane(x0)
    if not shown or not all(0 <= t <= 1 for t in shown):
        raise ValueError(f"a process is drawn at times in [0, 1], at least one; given {list(shown)}")
    x = prior(f.schedule, times[0], x0, noise)
    states = [x, *(step.x for step in trajectory(f, sampler, times, x, condition([label] * len(x), "cpu"), noise))]
    eps = noise(x0)
    figure, axes = page(3, len(shown), 2.3, 2.35)
    for (top, middle, bottom), wanted in zip(axes.T, shown, strict=True):
        at = int((times - wanted).abs().argmin())
        noised = _noised(f.schedule, times[at], x0, eps)
        reach = _reach(noised)
        _cloud(top, noised, BLUE)
        _cloud(middle, states[at], RED)
        _count_outside(middle, states[at], reach)
        lattice, start = _lattice(reach, noised), min(at, len(times) - 2)
        with torch.no_grad():
            q = f(lattice, times[start], condition([label] * len(lattice), "cpu"))
        mean, _ = posterior(q, f.schedule.at(times[start + 1], like=lattice))
        _cloud(bottom, noised, BLUE, 0.35)
        _arrows(bottom, lattice, mean - lattice)
        for panel in (top, middle, bottom):
            _plane(panel, reach)
        top.set_title(f"t = {float(times[at]):.3g}", fontsize=10, color=INK)
        step = f"{float(times[start]):.3g} to {float(times[start + 1]):.3g}"
        bottom.set_xlabel(f"step from t = {step}", fontsize=8, color=FAINT)
    for panel, name in zip(axes[:, 0], ("forward: data to noise", "reverse: as learned", "drift"), strict=True):
        panel.set_ylabel(name, fontsize=10, color=INK)
    return figure


def _check_plane(x0: Tensor) -> None:
    if x0.ndim != 2 or x0.shape[1] != 2:
        raise ValueError(f"only points in the plane (N, 2) can be drawn so; given shape {tuple(x0.shape)}")


def bound(t: Sequence[float], terms: Sequence[float], prior: float, decoder: float) -> Figure:
    """The terms of the variational bound over t, in bits a dimension, on a logarithmic axis.

    Figure 2 of Nichol & Dhariwal (2021). Terms of 0 and below have no place on the axis and are left out.

    Args:
        t: (T,), the times at which the steps start.
        terms: (T,) KL(q(x_s | x_t, x0) | p(x_s | x_t)) of every step, in nats a dimension.
        prior: KL(q(x_1 | x0) | p(x_1)), in nats a dimension.
        decoder: -log p(x0 | x_s) of the last step, in nats a dimension.

    Raises:
        ValueError: `t` and `terms` differ in length, or are empty.
    """
    if len(t) != len(terms) or not len(t):
        raise ValueError(f"one term a time, and at least one; given {len(terms)} terms and {len(t)} times")
    bits = 1 / math.log(2)
    order = np.argsort(np.asarray(t, float))
    at, values = np.asarray(t, float)[order], np.asarray(terms, float)[order] * bits
    total = values.sum() + (prior + decoder) * bits
    figure, axes = page(1, 1, 6.4, 4.2)
    panel = axes[0, 0]
    panel.plot(at[values > 0], values[values > 0], color=BLUE, linewidth=1.8, label="steps")
    ends = ((0.0, decoder * bits, "decoder", RED, "o"), (1.0, prior * bits, "prior", COLOURS[2], "s"))
    for place, value, name, colour, marker in ends:
        here = ([place], [value]) if value > 0 else ([], [])
        panel.plot(*here, marker, color=colour, markersize=6, label=f"{name}: {value:.3g}", clip_on=False)
    panel.set_yscale("log")
    lined(panel, f"variational bound: {total:.4g} bits a dimension", "t", "bits a dimension, each step")
    panel.legend(frameon=False, fontsize=9)
    return figure
