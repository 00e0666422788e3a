"""The page of the documentation, its tables filled in, and all tables in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.publishing import about, filled
from benchmarks.training import report
from reverie.files import write_text

TITLES = {
    "targets": "Targets",
    "dit": "Training step, DiT",
    "unet": "Training step, U-Net",
    "curves": "Loss curves of the paths",
    "precision": "bf16 against float32",
    "systems": "Time to quality: what was trained",
    "quality": "Time to quality: distances",
    "gpu": "On a GPU",
}


def tables(parts: dict[str, dict[str, Any]]) -> dict[str, str]:
    """By the names of their places in the page."""
    made = {}
    if "steps" in parts:
        found = parts["steps"]
        rows, where = found["rows"], f"{about(found)} Batch {found['batch']}, {found['rounds']} rounds."
        made["targets"] = report.targets(rows)
        for family in report.WORDS:
            if any(r["network"].endswith(f"-{family}") for r in rows):
                made[family] = f"{where}\n\n{report.steps(rows, family)}"
    if "curves" in parts:
        found = parts["curves"]
        made["curves"] = f"{about(found)} {found['steps']} steps of the recipe `fashion`.\n\n{report.paths(found)}"
    if "precision" in parts:
        made["precision"] = f"{about(parts['precision'])}\n\n{report.precision(parts['precision']['rows'])}"
    if "quality" in parts:
        found = parts["quality"]
        floor, net = found["floor"], found["classifier"]
        made["systems"] = f"{about(found)}\n\n{report.systems(found['rows'])}"
        made["quality"] = (
            f"Fréchet distance, and in brackets a thousand times the kernel distance, of {found['n']:,} samples; "
            f"{found['evaluations']} evaluations for a peer's sample. As many real garments are at "
            f"{floor['frechet']:.2f} ({1000 * floor['kernel']:.3g}). The classifier knows {net['accuracy']:.1%} of the "
            f"test images; its weights are {net['digest']}.\n\n{report.quality(found['rows'])}\n\n"
            f"{report.verdict(found['rows'])}"
        )
    if "gpu" in parts:
        found = parts["gpu"]
        stated = "unknown" if found["stated"] is None else f"{found['stated']} TFLOP/s"
        made["gpu"] = (
            f"{found['device']}, bf16 peak {stated} as stated, {found['measured']:.0f} TFLOP/s in a product of two "
            f"matrices. {about(found)} The target is {report.ON_GPU:g} times diffusers.\n\n{report.gpu(found)}"
        )
    return made


def write(parts: dict[str, dict[str, Any]], full: Path, page: Path, template: Path) -> None:
    """All tables to `full`, and `template` with them to `page`, with pictures beside it."""
    made = tables(parts)
    text = ["# Training: all tables", "", "`python -m benchmarks.training`; the method stands in "
            "[the page](../../docs/training-benchmark.md).", ""]  # fmt: skip
    for name, title in TITLES.items():
        if name in made:
            text += [f"## {title}", "", made[name], ""]
    if made:
        write_text(full, "\n".join(text))
    pictures = page.parent / "pictures"
    if "curves" in parts:
        report.plot_curves(parts["curves"], pictures / "training-curves.png")
        made["curves"] += "\n\n![Loss against step, and the differences](pictures/training-curves.png)"
    if "quality" in parts:
        found = parts["quality"]
        report.plot_quality(found["rows"], found["floor"]["frechet"], pictures / "training-quality.png")
        made["quality"] += "\n\n![Distance against minutes of training](pictures/training-quality.png)"
    write_text(page, filled(template.read_text(encoding="utf-8"), made))
