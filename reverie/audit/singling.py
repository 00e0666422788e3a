r"""Singling out: do samples of a table lead to guesses that fit exactly one record?

A guess is a condition on some columns, made from one sample: a number is to be at least as large as the sample's where
that is above the samples' median, else at most as large; a column of few values is to be equal (Giomi et al., 2023, "A
unified framework for quantifying privacy risk in synthetic data", section 5.1, the multivariate attack). It succeeds
where exactly one record fits. Three rates are told, of as many records each:

    train    of records trained on
    control  of held-out records, on which the same guesses can only succeed by luck or by knowledge of the law
    naive    of records trained on, by guesses made from no sample but from the range of each column

    risk = (train - control) / (1 - control)

Letters in shapes: A attacks, P records of the pool, C columns.
"""

from __future__ import annotations

import numpy as np

from reverie.audit.closer import Pool, dealt
from reverie.audit.findings import Finding
from reverie.audit.material import ATTACKS, Material, generator
from reverie.audit.settings import Settings
from reverie.audit.statistics import permutation_p, wilson

FEW = 20
"""A column of at most so many different values is told by equality."""
COLUMNS = 4
"""Columns of a guess at the most."""


def singling_out(material: Material, pool: Pool, settings: Settings) -> Finding:
    """How often guesses from samples single out a training record, and whether more often than a held-out one."""
    records = pool.examples.items.astype(np.float64)
    made = material.made.items.astype(np.float64)
    few = np.array([len(np.unique(column)) <= FEW for column in records.T])
    random = generator(settings.seed, ATTACKS)
    guesses = made[random.integers(0, len(made), settings.attacks)]
    middle = np.median(made, axis=0)
    fits = _fits(guesses, middle, records, few, _columns(random, settings.attacks, records.shape[1]))
    rows, swapped = pool.trained, ~pool.trained
    train, control = (float(_singled(fits, half[None])[0]) for half in (rows, swapped))
    drawn = np.concatenate([_singled(fits, d) - _singled(fits, ~d) for d in dealt(settings, len(rows), 2)])
    p = permutation_p(train - control - settings.tolerance, drawn)
    naive = _naive(records, rows, few, settings)
    low, high = wilson(round(train * settings.attacks), settings.attacks)
    risk = max(0.0, (train - control) / (1 - control)) if control < 1 else 0.0
    note = f"of held-out records {100 * control:.2g} %, by naive guesses {100 * naive:.2g} %; risk {100 * risk:.2g} %"
    return Finding(
        "singling_out", "guesses that single out a training record", train, settings.attacks, "values", control, low,
        high, p, tolerance=settings.tolerance, unit="%", note=note,
    )  # fmt: skip


def _columns(random: np.random.Generator, number: int, width: int) -> np.ndarray:
    """(A, C) which columns each guess is about: 1 to `COLUMNS` of them."""
    size = random.integers(1, min(COLUMNS, width) + 1, number)
    order = random.random((number, width)).argsort(1).argsort(1)
    found: np.ndarray = order < size[:, None]
    return found


def _fits(
    guesses: np.ndarray, middle: np.ndarray, records: np.ndarray, few: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """(A, P) which records each guess fits."""
    fits = np.ones((len(guesses), len(records)), bool)
    for c in range(records.shape[1]):
        value, record = guesses[:, c, None], records[None, :, c]
        if few[c]:
            fit = record == np.rint(value) if (records[:, c] == np.rint(records[:, c])).all() else record == value
        else:
            fit = np.where(value > middle[c], record >= value, record <= value)
        fits &= fit | ~columns[:, c, None]
    return fits


def _singled(fits: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """(B,) the share of guesses that fit exactly one record of each half, of fits (A, P) and halves (B, P)."""
    once = fits[fits.sum(1) > 0].astype(np.float32)
    found: np.ndarray = (halves.astype(np.float32) @ once.T == 1).sum(1) / len(fits)
    return found


def _naive(records: np.ndarray, trained: np.ndarray, few: np.ndarray, settings: Settings) -> float:
    """The share of guesses by range alone that single out a training record."""
    random = generator(settings.seed, ATTACKS, 1)
    own = records[trained]
    low, high = own.min(0), own.max(0)
    guesses = low + (high - low) * random.random((settings.attacks, records.shape[1]))
    for c in np.flatnonzero(few):
        guesses[:, c] = random.choice(np.unique(own[:, c]), settings.attacks)
    columns = _columns(random, settings.attacks, records.shape[1])
    return float(_singled(_fits(guesses, np.median(own, axis=0), records, few, columns), trained[None])[0])
