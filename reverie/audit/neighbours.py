r"""Near-copies: samples that are nearer to a training example than held-out examples ever are.

How near is told beside the neighbourhood, for samples from where examples are dense are near to all of them:

    r(x) = d_1(x) / median(d_2(x), ..., d_{K+1}(x)),    d_i(x) the distance to the i-th nearest training example

(in the manner of Carlini et al., 2023, "Extracting training data from diffusion models", section 4.2). Given the
training examples, the r of samples of an honest model that has learned the law and those of held-out examples are
independent draws of one law, so that the number of samples below the k-th smallest r of M held-out examples is
beta-binomial whatever that law is: see `reverie.audit.statistics.exceedance`.

Where too few examples were held out, training examples beside the others of them stand in. They are draws of the same
law, but come close to each other in pairs and threes, so they count a third: k / 3 of M / 3. In features that were
learned from them they stand in for nothing.

Data may repeat: blank pictures, records of a few categories. Then an honest model makes what it was trained on. Samples
and controls whose nearest training example occurs more than once are left aside; and of the controls, which a split
that keeps identical examples together never lets coincide with a training example, as many more are given r = 0
as draws of the law would have: `reverie.audit.material.Material.hits`.

Letters in shapes: S samples, M held-out examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reverie.audit.findings import Finding, Histogram
from reverie.audit.material import LOOKED_AT, Material, shuffled
from reverie.audit.settings import Settings
from reverie.audit.space import Near, Space
from reverie.audit.statistics import area, clopper_pearson, exceedance, least_significant
from reverie.evaluation.evaluate import Told, quiet

BINS = 40
LOOKED = 500
"""Training examples that are looked at for twins, and stand in for held-out ones where there are none."""


@dataclass(frozen=True, eq=False)
class Nearness:
    """How near samples are to training examples, beside others that are known not to be copied.

    Attributes:
        space: where distances are measured.
        made: the samples' neighbours.
        ratio: (S,) r of the samples.
        aside: (S,) samples whose nearest training example occurs more than once.
        control: (M,) r of the held-out examples; of training examples to the others where there are none.
        control_neighbours: (M, K) their distances to the nearest training examples.
        threshold: below it is a near-copy.
        k: how many of the controls are below or at the threshold.
        honest: whether the controls are held-out examples.
        ranks: k and the number of controls as the test counts them; None where there is no test.
    """

    space: Space
    made: Near
    ratio: np.ndarray
    aside: np.ndarray
    control: np.ndarray
    control_neighbours: np.ndarray
    threshold: float
    k: int
    honest: bool
    ranks: tuple[int, int] | None

    @property
    def copies(self) -> np.ndarray:
        """Samples that are near-copies, nearest first."""
        order = np.argsort(self.ratio, kind="stable")
        return order[self.ratio[order] < self.threshold]

    @property
    def expected(self) -> float:
        """The share of near-copies of an honest model."""
        return self.k / (len(self.control) + 1)


def ratios(near: Near) -> np.ndarray:
    """r of each query, in [0, 1]; 1 where all neighbours are at distance 0."""
    scale = np.median(near.distance[:, 1:], axis=1)
    return np.where(scale > 0, near.distance[:, 0] / np.where(scale > 0, scale, 1.0), 1.0)


def measure(
    space: Space, material: Material, settings: Settings, told: Told = quiet
) -> Nearness:  # fmt: skip
    """How near the samples are to the training examples in one space."""
    k, training = settings.neighbours + 1, material.training

    def done(what: str) -> Callable[[float], object]:
        return lambda share: told(f"{space.name}: {what}", share)

    made = space.near(space.points(material.made), training, k, done=done("samples"))
    rows: np.ndarray | None = None
    honest = material.held_out is not None and material.controls >= settings.least
    if material.held_out is not None and honest:
        control = space.near(space.points(material.held_out), training, k, done=done("held-out examples"))
    else:
        rows = np.sort(shuffled(len(training), settings.seed, LOOKED_AT)[:LOOKED])
        control = space.near(space.points(training.take(rows)), training, k, rows, done("training examples"))
    ratio = _controls(control, rows, material)
    at, ranks = _threshold(len(ratio), settings.chance, honest)
    found = None if space.taught and not honest else ranks
    aside = material.copies[made.index[:, 0]] > 1
    limit = float(np.sort(ratio)[at - 1]) if len(ratio) >= at else 0.0
    return Nearness(space, made, ratios(made), aside, ratio, control.distance, limit, at, honest, found)


def _controls(near: Near, rows: np.ndarray | None, material: Material) -> np.ndarray:
    """r of the controls: of held-out examples, or of training examples `rows` beside the others."""
    ratio = ratios(near)
    if rows is None:
        kept = ratio[material.copies[near.index[:, 0]] == 1]
        return np.concatenate([kept, np.zeros(round(len(kept) * material.hits))])
    times = material.copies[rows]  # one that occurs twice is beside its copy, which then occurs once
    once = (times == 1) & (material.copies[near.index[:, 0]] == 1)
    return np.concatenate([ratio[once], np.zeros(2 * int((times == 2).sum()))])


def _threshold(m: int, chance: float, honest: bool) -> tuple[int, tuple[int, int] | None]:
    """Which of the sorted ratios of m controls is the threshold, and the ranks of the test: threes count once."""
    if honest:
        at = max(1, int(chance * (m + 1)))
        return at, (at, m) if m else None
    at = 3 * max(1, int(chance * (m + 1) / 3))
    return at, (at // 3, m // 3) if m >= at else None


def near_copies(found: Nearness, share_of_level: float) -> Finding:
    """The share of near-copies, with its exact test where there are held-out examples.

    Args:
        found: what was measured.
        share_of_level: the level of this test alone, for the note on what it could have seen.
    """
    ratio = found.ratio[~found.aside]
    n, count = len(ratio), int((ratio < found.threshold).sum())
    low, high = clopper_pearson(count, n) if n else (0.0, 1.0)
    p = None if found.ranks is None or not n else exceedance(count, n, *found.ranks)
    note = f"nearer than {found.threshold:.3g} of the median distance to the next {found.made.index.shape[1] - 1}"
    if found.ranks is not None and n:
        least = least_significant(share_of_level, n, *found.ranks)
        seen = "not even all of the samples" if least is None else f"{100 * least / n:.2g} % of the samples"
        note += f"; {seen} would have been enough for this test alone"
    if found.aside.any():
        note += f"; {int(found.aside.sum())} samples are left aside, nearest to examples that occur more than once"
    if not found.honest:
        note += "; for want of held-out examples the threshold is that of training examples beside each other"
    if found.ranks is None:
        note += ", which these features know: no test"
    return Finding(
        "near_copies", "near-copies of training examples", count / max(n, 1), n, found.space.name, found.expected, low,
        high, p, unit="%", note=note,
    )  # fmt: skip


def detectable(found: Nearness, level: float) -> float:
    """The least share of near-copies that would be significant at a level; above 1 where none is."""
    n = int((~found.aside).sum())
    least = None if found.ranks is None or not n else least_significant(level, n, *found.ranks)
    return 2.0 if least is None else least / n


def nearer(found: Nearness) -> Finding:
    """How often a sample is nearer to training than a held-out example is: the rank statistic of Meehan et al.

    They call -z of it C_T (Meehan, Chaudhuri and Dasgupta, 2020, "A three-sample hypothesis test for evaluating
    generative models", section 3). It decides nothing here: a model of smooth or typical samples, none of them
    copied, is nearer too.
    """
    made, control = found.made.distance[:, 0], found.control_neighbours[:, 0]
    seen = area(-made, -control)
    note = (
        f"median distance {np.median(made):.3g}, of held-out examples {np.median(control):.3g} ({found.space.unit}); "
        f"C_T {-(seen.value - 0.5) / seen.error:.2f}"
    )
    title = "nearer to training than held-out examples are"
    return Finding(
        "nearer", title, seen.value, len(made), found.space.name, 0.5, seen.low, seen.high, unit="%", note=note
    )


def histogram(found: Nearness) -> Histogram:
    """r of samples and of held-out examples, in bins from 0 to 1."""
    edges = np.linspace(0, 1, BINS + 1)
    counts = [np.histogram(np.minimum(r, 1.0), edges)[0].tolist() for r in (found.ratio, found.control)]
    return Histogram(found.space.name, tuple(edges.tolist()), tuple(counts[0]), tuple(counts[1]), found.threshold)
