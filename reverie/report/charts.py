"""Curves as SVG that stands inside a page: small panels whose text stays readable on a phone.

Panels are drawn as wide as a phone and enlarged elsewhere; legends are the page's, so that no name of a user goes
into a drawing. Nothing in the drawing depends on the clock.

Letters in shapes: none.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.plots import COLOURS, INK
from reverie.report.history import History, Judged, Levels, Series

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (5.0, 3.4)
"""Of a panel, in inches of 72 units."""
TEXT = 12.8
"""Height of its text, in units: about so many pixels on a phone."""
SMOOTH = 60
"""Points from which a noisy curve gets a smooth one on top."""
SHOWN = 5
"""Validations whose loss by noise level is drawn."""
SHADES = ("#A9CCE3", "#6FA8CE", "#3B83B5", "#14609A", "#08306B")


@dataclass(frozen=True)
class Swatch:
    """An entry of a legend."""

    label: str
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Curve:
    """A line of a panel."""

    label: str
    series: Series
    colour: str = COLOURS[0]
    dashed: bool = False
    noisy: bool = False
    """Drawn faint, with its running mean on top, where it has many points."""


@dataclass(frozen=True)
class Panel:
    """A drawing with its title, legend and a remark."""

    title: str
    svg: Markup
    legend: tuple[Swatch, ...] = ()
    note: str = ""


class Drawer:
    """Draws the panels of one page; each gets ids of its own."""

    def __init__(self) -> None:
        self.drawn = 0

    def lines(self, title: str, curves: Sequence[Curve], *, zero: bool = False, note: str = "") -> Panel | None:
        """Curves over the steps, on a logarithmic axis where they span much; None where there is nothing to draw.

        Args:
            title: of the panel.
            curves: those without points are left out.
            zero: let the axis begin at 0.
            note: a remark below.
        """
        curves = [curve for curve in curves if len(curve.series)]
        if not curves:
            return None
        figure, axes = _axes("step")
        for curve in curves:
            _draw(axes, curve)
        values = [v for curve in curves for v in curve.series.values]
        if zero:
            axes.set_ylim(bottom=0, top=max(values) * 1.08 or 1)
        elif min(values) > 0 and max(values) / min(values) > 20:
            _logarithmic(axes)
        legend = tuple(Swatch(c.label, c.colour, c.dashed) for c in curves) if len(curves) > 1 else ()
        return Panel(title, self._svg(figure, title), legend, note)

    def levels(self, title: str, found: Sequence[Levels]) -> Panel | None:
        """The held-out loss over t, a line a validation; the untrained network only where there is nothing else."""
        trained = [one for one in found if one.step > 0] or list(found)
        if not trained:
            return None
        shown = spread(trained, SHOWN)
        figure, axes = _axes("t: data at 0, noise at 1")
        colours = SHADES[-len(shown) :]
        for one, colour in zip(shown, colours, strict=True):
            middle = [(a + b) / 2 for a, b in zip(one.bounds, one.bounds[1:], strict=False)]
            last = one is shown[-1]
            axes.plot(
                middle, one.values, "o-" if last else "-", color=colour, linewidth=2.2 if last else 1.6, markersize=4
            )
        values = [v for one in shown for v in one.values]
        if min(values) > 0 and max(values) / min(values) > 20:
            _logarithmic(axes)
        legend = tuple(Swatch(f"step {one.step:,}", colour) for one, colour in zip(shown, colours, strict=True))
        return Panel(title, self._svg(figure, title), legend, "Held-out examples, averaged weights.")

    def training(self, history: History) -> list[Panel]:
        """All panels of a run's training that its history has numbers for."""
        told = history.series
        one = (
            ("Learning rate", "lr", True, "", False),
            ("Decay of the averaged weights", "ema_decay", False, "", False),
            ("Norm of the gradient", "grad_norm", True, "Before clipping.", True),
            ("Speed: steps a second", "steps_per_second", True, "", False),
        )
        waiting = told("waiting")
        share = Series(waiting.steps, tuple(100 * v for v in waiting.values))
        panels = [
            self.lines(
                "Loss",
                [
                    Curve("training", told("loss"), noisy=True),
                    Curve("held out, averaged weights", told("validation_loss"), COLOURS[1], dashed=True),
                ],
            ),
            self.levels("Loss by noise level", history.levels),
            *(self.lines(t, [Curve(t, told(key), noisy=noisy)], zero=z, note=note) for t, key, z, note, noisy in one),
            self.lines("Waiting for data, % of the time", [Curve("", share)], zero=True),
        ]
        return [panel for panel in panels if panel is not None]

    def judged(self, history: History) -> list[Panel]:
        """The evaluations during training."""
        return [self._judged(one) for one in history.evaluations if len(one.series)]

    def _judged(self, one: Judged) -> Panel:
        """Values with their errors, a line for real examples, a ring on the best."""
        name, better, unit = _known(one.metric)
        title = name + (f" in {one.extractor}" if one.extractor else "") + (", %" if unit == "%" else "")
        title += f", {better} is better" if better in ("lower", "higher") else ""
        scale = 100.0 if unit == "%" else 1.0
        values, errors = ([scale * v for v in part] for part in (one.series.values, one.errors))
        figure, axes = _axes("step")
        axes.errorbar(
            one.series.steps, values, errors or None, color=COLOURS[0], fmt="o-", linewidth=2.0, markersize=4,
            elinewidth=1.2, capsize=2.5,
        )  # fmt: skip
        legend = []
        if one.floor is not None:
            axes.axhline(scale * one.floor, color=COLOURS[1], linestyle="--", linewidth=1.4)
            legend = [Swatch("samples", COLOURS[0]), Swatch("real examples", COLOURS[1], dashed=True)]
        if one.best in one.series.steps:
            at = one.series.steps.index(one.best)
            axes.plot([one.best], [values[at]], "o", markersize=12, markerfacecolor="none", markeredgecolor=INK)
        known = [*values, *([] if one.floor is None else [scale * one.floor])]
        if min(known) > 0 and max(known) / min(known) > 20:
            _logarithmic(axes)
        note = [f"{one.n:,} samples each"] if one.n else []
        note += ["bars are standard errors"] * bool(errors) + ["the ring is the best"] * (one.best is not None)
        note += [f"protocol {one.protocol}"] * bool(one.protocol)
        text = "; ".join(note)
        said = f"{text[:1].upper()}{text[1:]}." if note else ""
        return Panel(title, self._svg(figure, title), tuple(legend), said)

    def _svg(self, figure: Figure, title: str) -> Markup:
        self.drawn += 1
        return inline(figure, f"p{self.drawn}", title)


def _known(metric: str) -> tuple[str, str, str]:
    """Title, which values are better, and the unit of a metric; its own name where it is unknown."""
    from reverie.config import registered
    from reverie.evaluation.metrics import Metric

    kind = registered(Metric).get(metric)
    found = tuple(str(getattr(kind, key, "")) for key in ("title", "better", "unit"))
    return found[0] or metric, found[1], found[2]


def spread(values: Sequence, most: int) -> list:  # type: ignore[type-arg]  # of anything
    """At most `most` of the values, evenly spaced, the first and the last among them.

    >>> spread([0, 1, 2, 3, 4, 5, 6], 3), spread([1, 2], 5)
    ([0, 3, 6], [1, 2])
    """
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


# --------------------------------------------------------------------------------------- drawing


def _axes(x: str) -> tuple[Figure, Axes]:
    """An empty panel over steps or times."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=SIZE, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.set_xlabel(x, fontsize=TEXT, color=INK)
    axes.grid(True, color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=TEXT, colors=INK, length=3)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=x == "step", steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_tick))
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#999999")
    return figure, axes


def _tick(value: float, _: object = None) -> str:
    """A number beside an axis, without mathematics that a browser could not write."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000 and value % 1000 == 0:
        return f"{value / 1e6:g}M" if value % 100_000 == 0 and abs(value) >= 1e6 else f"{value / 1000:g}k"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw(axes: Axes, curve: Curve) -> None:
    thin = curve.series.thinned()
    dots = "o" if len(thin) <= 12 else ""
    dash = "--" if curve.dashed else "-"
    smooth = curve.noisy and len(thin) > SMOOTH
    axes.plot(
        thin.steps, thin.values, dots + dash, color=curve.colour, markersize=4,
        linewidth=1.0 if smooth else 2.0, alpha=0.35 if smooth else 1.0,
    )  # fmt: skip
    if smooth:
        axes.plot(thin.steps, _running(thin.values, len(thin) // 20), color=curve.colour, linewidth=2.0)


def _running(values: Sequence[float], reach: int) -> list[float]:
    """The mean over `reach` neighbours on either side, over fewer near the ends."""
    parts = [values[max(0, i - min(i, len(values) - 1 - i, reach)) : i + min(i, len(values) - 1 - i, reach) + 1]
             for i in range(len(values))]  # fmt: skip
    return [sum(part) / len(part) for part in parts]


def inline(figure: Figure, name: str, title: str) -> Markup:
    """A figure as an `<svg>` element: text as text in the page's own font, no date, ids that begin with `name`."""
    from markupsafe import Markup, escape
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "reverie", "path.simplify": True}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<defs>\s*<style[^>]*>", _kept, text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"\bfont: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}", tag[0]), text)
    head = re.search(r'viewBox="([^"]*)"', text)
    assert head is not None
    opening = (
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{head[1]}" role="img" aria-label="{escape(title)}">'
    )
    return Markup(re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1).strip())  # matplotlib's own


def _kept(found: re.Match[str]) -> str:
    """The beginning of styles stays; what is about the file goes."""
    return found[0] if found[0].startswith("<defs>") else ""
