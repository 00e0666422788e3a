"""The denoising of a few samples: x and what the network takes the data to be, from noise to the end.

Letters in shapes: N samples, C channels, H height, W width, ... one example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from reverie import pictures
from reverie.denoiser import FixedRows
from reverie.plots import COLOURS, INK
from reverie.recipe import Sampling
from reverie.report.charts import spread
from reverie.request import Request, condition
from reverie.runs import Facts, Run
from reverie.synthesis import denoise, guided, rows_at_once, times_of
from reverie.training.sheets import PREVIEW_STEPS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image as Picture

FRAMES, PLOTS = 20, 14
"""The most frames, of images and of plots."""
IMAGES, POINTS, LINES = 8, 500, 4
"""Samples that are shown: of images, of a cloud of points, of series."""
LEAST = 80
"""Pixels of the longer side of an image, at the least."""
FEW = 16
"""An example of one axis is a vector when it has at most so many numbers, else a series."""
SEED = 0


@dataclass(frozen=True)
class Denoising:
    """What is seen on the way from noise to samples, a frame each."""

    labels: tuple[str, ...]
    x: tuple[Picture, ...]
    x0: tuple[Picture, ...]
    scaled: bool
    """Whether x outgrew its range and is shown divided by sqrt(alpha^2 + sigma^2)."""
    steps: int


def draw(run: Run) -> Denoising:
    """The denoising of the run's first samples, with its own sampler, on the device its network is on.

    Raises:
        ValueError: the run has no weights yet, or times that cannot be followed.
        OutOfMemory: a single sample does not fit.
    """
    sampling, shape = _sampling(run), run.shape
    f, device = run.denoiser, next(run.denoiser.parameters()).device
    n = IMAGES if run.facts.image else POINTS if len(shape) == 1 and shape[0] <= FEW else LINES
    labels = run.labels_for(n, None)
    times = times_of(sampling, f.schedule)
    shown = spread(range(len(times)), FRAMES if run.facts.image else PLOTS)
    states = _states(run, sampling, labels, set(shown))
    rows = rows_at_once(shape, n, device)
    seen = guided(FixedRows(f, rows), sampling)
    cond = condition(labels, device)
    x0 = []
    for step in shown:
        with torch.no_grad():
            x0.append(states[step] if times[step] == 0 else seen(states[step].to(device), times[step], cond).x0.cpu())
    scales = [_outgrown(run, times[step]) for step in shown]
    x = [states[step] / scale for step, scale in zip(shown, scales, strict=True)]
    known = labels if run.classes else None
    decoded, predicted = ([run.space.decode(v).numpy() for v in part] for part in (x, x0))
    ends = decoded[0], decoded[-1]
    return Denoising(
        tuple(_label(run, step, times) for step in shown),
        pictures_of(decoded, ends, run.facts, known),
        pictures_of(predicted, ends, run.facts, known),
        max(scales) > 1.01,
        len(times) - 1,
    )


def _sampling(run: Run) -> Sampling:
    """The run's own settings, with no more steps than a preview has."""
    sampling = run.recipe.sample
    many = len(sampling.grid(run.schedule)) - 1 > PREVIEW_STEPS
    return replace(sampling, grid=sampling.grid.with_steps(PREVIEW_STEPS)) if many else sampling


def _states(run: Run, sampling: Sampling, labels: Sequence[int | None], wanted: set[int]) -> dict[int, Tensor]:
    """x (N, ...) after each wanted step, on the host."""
    device = next(run.denoiser.parameters()).device
    parts: dict[int, dict[int, Tensor]] = {step: {} for step in wanted}
    request = Request(tuple(labels), SEED, batch=len(labels))
    for drawn in denoise(run.denoiser, run.shape, sampling, request, device, lambda text: None):
        if drawn.step in wanted:
            parts[drawn.step][drawn.first] = drawn.x.cpu()
    return {step: _joined(found) for step, found in parts.items()}


def _joined(parts: dict[int, Tensor]) -> Tensor:
    """Batches in order; one that was begun again with fewer samples stands in the place of the larger one."""
    firsts = sorted(parts)
    ends = [*firsts[1:], None]
    return torch.cat([parts[a][: None if b is None else b - a] for a, b in zip(firsts, ends, strict=True)])


def _outgrown(run: Run, t: Tensor) -> float:
    level = run.schedule.at(t, like=torch.zeros(1, dtype=torch.float64))
    return max(1.0, math.hypot(float(level.alpha), float(level.sigma)))


def _label(run: Run, step: int, times: Tensor) -> str:
    said = f"step {step} of {len(times) - 1}, t = {float(times[step]):.3g}"
    if times[step] == 0:
        return f"{said}: the samples"
    ratio = math.exp(-float(run.schedule.log_snr(times[step])) / 2)
    return f"{said}, σ/α = {'∞' if math.isinf(ratio) or ratio > 1e5 else f'{ratio:.2g}'}"


# --------------------------------------------------------------------------------------- drawing


def pictures_of(
    frames: Sequence[np.ndarray],
    ends: tuple[np.ndarray, np.ndarray],
    facts: Facts,
    labels: Sequence[int | None] | None,
) -> tuple[Picture, ...]:
    """Each frame of data (N, ...) as a picture; axes are those of the two ends, noise and samples."""
    first, last = ends
    if facts.image:
        scale = max(1, math.ceil(LEAST / max(facts.shape[1:])))
        return tuple(pictures.grid(v, columns=4, scale=scale) for v in frames)
    if facts.shape == (2,):
        box = _box(first, last)
        return tuple(_cloud(v, box, labels) for v in frames)
    if len(facts.shape) == 1 and facts.shape[0] <= FEW:
        return tuple(_histograms(v, first, last) for v in frames)
    low, high = np.quantile(np.stack(ends), [0.001, 0.999])
    return tuple(_lines(v, (float(low), float(high))) for v in frames)


def _box(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of a square that shows all but a few of the points of both."""
    both = np.concatenate([first, last])
    low, high = np.quantile(both, 0.005, axis=0), np.quantile(both, 0.995, axis=0)
    middle, half = (low + high) / 2, 0.6 * (high - low).max()
    return middle - half, middle + half


def _blank() -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0, 4.0), dpi=120, facecolor="white")
    figure.subplots_adjust(0.1, 0.08, 0.97, 0.94, 0.25, 0.4)  # the same in every frame, and at no cost
    return figure


def _painted(figure: Figure) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _cloud(x: np.ndarray, box: tuple[np.ndarray, np.ndarray], labels: Sequence[int | None] | None) -> Picture:
    """Points (N, 2), coloured by class where there are few."""
    figure = _blank()
    axes = figure.subplots()
    kinds = [0] * len(x) if labels is None or len(set(labels)) > len(COLOURS) else [label or 0 for label in labels]
    axes.scatter(x[:, 0], x[:, 1], s=9, c=[COLOURS[k % len(COLOURS)] for k in kinds], alpha=0.6, linewidths=0)
    (left, bottom), (right, top) = box
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.tick_params(labelsize=9, colors=INK)
    return _painted(figure)


def _histograms(x: np.ndarray, first: np.ndarray, last: np.ndarray) -> Picture:
    """Each number of vectors (N, D)."""
    figure, size = _blank(), x.shape[1]
    columns = math.ceil(math.sqrt(size))
    for i in range(size):
        both = np.concatenate([first[:, i], last[:, i]])
        low, high = float(np.quantile(both, 0.005)), float(np.quantile(both, 0.995))
        bins = np.linspace(low, max(high, low + 1e-9), 30)
        axes = figure.add_subplot(math.ceil(size / columns), columns, i + 1)
        counts, settled = (np.histogram(np.clip(v[:, i], bins[0], bins[-1]), bins)[0] for v in (x, last))
        axes.stairs(counts, bins, fill=True, color=COLOURS[0])
        highest = max(settled.max(), 1)
        axes.set_ylim(0, 1.3 * highest)
        axes.set_yticks([])
        axes.tick_params(labelsize=8, colors=INK)
        axes.set_title(f"number {i}", fontsize=9, color=INK)
    return _painted(figure)


def _lines(x: np.ndarray, reach: tuple[float, float]) -> Picture:
    """Series (N, ..., length), a row each, of the first four channels."""
    figure = _blank()
    room = 0.08 * (reach[1] - reach[0] or 1)
    for i, one in enumerate(x):
        axes = figure.add_subplot(len(x), 1, i + 1)
        axes.plot(one.reshape(-1, one.shape[-1])[:4].T, linewidth=1.2)
        axes.set(ylim=(reach[0] - room, reach[1] + room))
        axes.margins(x=0)
        axes.tick_params(labelsize=8, colors=INK, labelbottom=i == len(x) - 1)
    return _painted(figure)
