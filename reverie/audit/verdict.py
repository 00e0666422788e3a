"""From findings to a verdict, with one level for all tests together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reverie.audit.findings import CANNOT_TELL, MEMORISES, NO_SIGN, Finding, Verdict
from reverie.audit.material import Material
from reverie.audit.settings import Settings
from reverie.audit.statistics import holm

DECIDE = ("near_copies", "closer", "membership", "singling_out")
"""Findings that decide; the others explain."""
UNALIKE = 0.001
"""The level at which held-out examples are taken to be of another law."""
COMMON = 0.1
"""The share of distinct training examples that occur more than once from which on identical ones mean little."""
VISIBLE = 0.5
"""The share of near-copies that must be seen at the least, or their absence means nothing."""


def adjusted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings with p-values adjusted for the number of those that decide (Holm, 1979)."""
    deciding = [f for f in findings if f.name in DECIDE and f.p is not None]
    by = dict(zip(map(id, deciding), holm([f.p for f in deciding if f.p is not None]), strict=True))
    return tuple(replace(f, adjusted=by[id(f)]) if id(f) in by else f for f in findings)


def verdict(findings: Sequence[Finding], material: Material, detectable: float, settings: Settings) -> Verdict:
    """What the findings say together.

    Args:
        findings: with adjusted p-values.
        material: what was looked at.
        detectable: the least share of near-copies that would have been significant.
        settings: of the audit.
    """
    found = [f for f in findings if f.adjusted is not None and f.adjusted <= settings.level]
    against = _against(findings, material, settings)
    if found and not against and {f.name for f in found} == {"near_copies"}:
        against = _commonplace(material)
    near = [f for f in found if f.name == "near_copies"]
    if material.controls < settings.least and near and not _commonplace(material):
        share = max(near, key=lambda f: f.value)
        return Verdict(
            MEMORISES,
            f"at a level of {settings.level:g} for all tests together: {100 * share.value:.2g} % of the samples are "
            f"near-copies of training examples ({share.space}); no held-out examples are needed to see that",
        )
    if against:
        return Verdict(CANNOT_TELL, against)
    if found:
        said = "; ".join(dict.fromkeys(f.title + (f" ({f.space})" if f.space else "") for f in found))
        return Verdict(MEMORISES, f"at a level of {settings.level:g} for all tests together: {said}")
    if detectable > VISIBLE:
        least = "not even copies alone" if detectable > 1 else f"only {100 * detectable:.0f} % of copies or more"
        return Verdict(
            CANNOT_TELL,
            f"{least} would have been seen with {len(material.made)} samples and {material.controls} held-out examples",
        )
    tests = sum(f.adjusted is not None for f in findings)
    power = f"had {100 * detectable:.2g} % of the samples been near-copies, it would have been seen"
    why = f"none of {tests} tests at a level of {settings.level:g} together; {power}{_overfitted(findings)}"
    return Verdict(NO_SIGN, why)


def _overfitted(findings: Sequence[Finding]) -> str:
    """That losses are lower on training examples, where they are."""
    seen = next((f for f in findings if f.name == "membership" and f.low is not None and f.low > 0.5), None)
    if seen is None:
        return ""
    return f"; yet its losses are lower on training examples (AUC {seen.value:.2f}): the model has begun to overfit"


def _against(findings: Sequence[Finding], material: Material, settings: Settings) -> str:
    """Why nothing can be told, if so."""
    if material.held_out is None:
        copied = next((f for f in findings if f.name == "near_copies"), None)
        seen = "" if copied is None else (
            f"; {100 * copied.value:.2g} % of the samples are nearer to a training example than "
            f"{100 * (1 - settings.chance):.3g} % of these are to each other"
        )  # fmt: skip
        return f"no held-out examples were given to compare with: give at least {settings.least} of the same kind{seen}"
    if material.controls < settings.least:
        left_out = f" ({material.overlap} are also in the training set)" if material.overlap else ""
        return f"only {material.controls} held-out examples{left_out}: give at least {settings.least}"
    if any(f.name == "alike" and f.p is not None and f.p <= UNALIKE for f in findings):
        return (
            "the held-out examples are of another law than the training examples: their neighbours are of their own "
            "half too often; give examples split off at random"
        )
    return ""


def _commonplace(material: Material) -> str:
    """Why near-copies alone do not tell, if so."""
    repeated = float((material.copies > 1).mean())
    if repeated <= COMMON:
        return ""
    return (
        f"{100 * repeated:.0f} % of the distinct training examples occur more than once: in such data identical "
        "examples are common, and near-copies, the only sign found, are no sign"
    )
