"""Tables and pictures from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.samplers.report import table
from benchmarks.training.curves import deviation
from benchmarks.training.networks import NETWORKS
from benchmarks.training.quality import OURS, reached

Rows = Sequence[dict[str, Any]]

TARGETS = {("dit", "float32"): 1.5, ("dit", "bf16"): 2.5, ("unet", "float32"): 1.15, ("unet", "bf16"): 1.7}
"""Ours over the best peer's float32, at equal floating-point operations."""
STRETCH = {("unet", "float32"): 1.35, ("unet", "bf16"): 2.3}
ON_GPU = 1.3
WORDS = {"dit": "DiT", "unet": "U-Net"}


def median_of(row: dict[str, Any]) -> float:
    """Seconds a step."""
    return median(row["seconds"])


def faster(a: dict[str, Any], b: dict[str, Any]) -> float:
    """How many times as many operations a second a does as b: the median of the ratios within rounds."""
    each = [y / x for x, y in zip(a["seconds"], b["seconds"], strict=True)]
    return median(each) * a["gflop"] / b["gflop"]


def sooner(a: dict[str, Any], b: dict[str, Any]) -> float:
    """How many times as many steps a second a makes as b, whatever is in them."""
    return faster(a, b) * b["gflop"] / a["gflop"]


def of(rows: Rows, family: str, **where: object) -> list[dict[str, Any]]:
    """Rows of a family that were measured, with these fields."""
    return [
        r
        for r in rows
        if r["network"].endswith(f"-{family}") and not r.get("failure") and all(r[k] == v for k, v in where.items())
    ]


def ours(
    rows: Rows, family: str, precision: str, plain: bool = False, compiled: str = "", name: str = OURS
) -> dict[str, Any] | None:
    """Our row of that kind."""
    network = f"{name}-{family}"
    found = of(rows, family, network=network, precision=precision, plain=plain, compiled=compiled)
    return found[0] if found else None


def counterpart(rows: Rows, peer: dict[str, Any], precision: str) -> dict[str, Any] | None:
    """Our row that a peer's is compared with: the network that has what it has."""
    network = NETWORKS[peer["network"]]
    return ours(rows, network.family, precision, name=network.like)


def best_peer(rows: Rows, family: str, precision: str = "float32") -> dict[str, Any] | None:
    """The peer that comes closest to ours in operations a second, measured in the same rounds, not compiled."""
    peers = [r for r in of(rows, family, precision=precision, compiled="") if r["library"] != OURS]
    pairs = [(r, counterpart(rows, r, precision)) for r in peers]
    ranked = [(faster(mine, r), i) for i, (r, mine) in enumerate(pairs) if mine is not None]
    return peers[min(ranked)[1]] if ranked else None


def steps(rows: Rows, family: str) -> str:
    """Every case of a family."""
    lines = []
    for r in (r for r in rows if r["network"].endswith(f"-{family}")):
        if r.get("failure"):
            lines.append([f"{r['label']}: {r['failure']}", *["–"] * 7])
            continue
        seconds, references = median_of(r), [counterpart(rows, r, p) for p in ("float32", "bf16")]
        lines.append(
            [
                r["label"],
                f"{r['parameters'] / 1e6:.2f}",
                f"{r['gflop']:.0f}",
                f"{1000 * seconds:.0f}",
                f"{r['gflop'] / seconds:.0f}",
                f"{r['peak'] / 2**20:.0f}",
                *("–" if mine is None else f"{faster(mine, r):.2f}" for mine in references),
            ]
        )
    head = ["case", "parameters, M", "GFLOP a step", "ms a step", "GFLOP/s", "peak, MiB", "float32", "bf16"]
    return table(head, lines)


def targets(rows: Rows) -> str:
    """What was to be reached."""
    lines = []
    for (family, precision), goal in TARGETS.items():
        best = best_peer(rows, family)
        mine = None if best is None else counterpart(rows, best, precision)
        if best is None or mine is None:
            continue
        found, stretch = faster(mine, best), STRETCH.get((family, precision))
        aim = f"{goal:g}" + (f", stretch {stretch:g}" if stretch else "")
        met = "yes" if found >= goal else "no"
        met += ", the stretch too" if stretch and found >= stretch else ""
        what = f"{WORDS[family]}, {precision} over {best['library']}'s float32"
        lines.append([what, aim, f"{found:.2f} ({sooner(mine, best):.2f} by steps)", met])
    for family in WORDS:
        best = best_peer(rows, family, "bf16")
        mine = None if best is None else counterpart(rows, best, "bf16")
        if best is not None and mine is not None:
            what = f"{WORDS[family]}, bf16 over {best['library']}'s bf16"
            lines.append([what, "–", f"{faster(mine, best):.2f} ({sooner(mine, best):.2f} by steps)", "–"])
    for family in WORDS:
        best = best_peer(rows, family)
        peers = [r for r in of(rows, family, precision="float32", compiled="") if r["library"] != OURS]
        if best is None:
            continue
        least = min(peers, key=lambda r: r["peak"])
        for word, peer in (("the fastest peer", best), ("the most frugal peer", least)):
            mine = counterpart(rows, peer, "float32")
            if mine is None:
                continue
            share = mine["peak"] / peer["peak"]
            what = f"{WORDS[family]}, peak of memory in float32 over that of {word}, {peer['library']}"
            lines.append([what, "at most 1", f"{share:.2f}", "yes" if share <= 1 else "no"])
    return table(["what", "target", "found", "met"], lines)


def quality(rows: Rows) -> str:
    """Fréchet distance by minute."""
    count = max(len(r["log"]) for r in rows)
    lines = []
    for i in range(count):
        at = [r["log"][i] if i < len(r["log"]) else {} for r in rows]
        minute = next(a["minute"] for a in at if a)
        cells = [f"{a['frechet']:.2f} ({1000 * a['kernel']:.3g})" if "frechet" in a else "–" for a in at]
        lines.append([f"{minute:.1f}", *cells])
    return table(["minute", *(r["system"] for r in rows)], lines)


def systems(rows: Rows) -> str:
    """What was trained, and how far it came."""
    lines = []
    for r in rows:
        last = r["log"][-1]
        lines.append(
            [
                r["system"],
                r["settings"],
                r["sampler"],
                f"{r['parameters'] / 1e6:.1f}",
                f"{last['steps']:,}",
                f"{last['images']:,}",
            ]
        )
    return table(["system", "settings", "sampled by", "parameters, M", "steps", "images"], lines, left=3)


def verdict(rows: Rows) -> str:
    """When ours reached what the best peer reached at the end, in a sentence; of all peers, and as they ship."""
    mine = [r for r in rows if r["system"].startswith(OURS)]
    others = [r for r in rows if r not in mine and "frechet" in r["log"][-1]]
    said = []
    for word, peers in (
        ("with their own settings", [r for r in others if "small" not in r["system"]]),
        ("of any size", others),
    ):
        if not peers:
            continue
        best = min(peers, key=lambda r: r["log"][-1]["frechet"])
        goal, end = best["log"][-1]["frechet"], best["log"][-1]["minute"]
        said.append(f"Of the peers {word}, {best['system']} was the best after {end:.1f} minutes, at {goal:.2f}.")
        for r in mine:
            at = reached(r["log"], goal)
            share = "not reached" if at is None else f"reached by minute {at:.1f}, {at / end:.0%} of that time"
            said.append(f"By {r['system']}: {share}.")
    return " ".join(said) + " The target is half of the time."


def paths(found: dict[str, Any]) -> str:
    """How far the curves are apart."""
    curves = found["curves"]
    pairs = [
        ("fast", "plain"),
        ("plain, other threads", "plain"),
        ("fast, bf16", "plain"),
        ("plain, bf16", "plain"),
        ("fast, bf16", "plain, bf16"),
    ]
    lines = []
    for a, b in (pair for pair in pairs if set(pair) <= set(curves)):
        most, usual, step = deviation(curves[a]["losses"], curves[b]["losses"])
        lines.append([f"{a} against {b}", f"{most:.1e}", str(step), f"{usual:.1e}"])
    return table(["curves", "largest relative difference", "at step", "mean"], lines)


def precision(rows: Rows) -> str:
    """Validation losses by precision over seeds."""
    lines = []
    for recipe in dict.fromkeys(r["recipe"] for r in rows):
        here = [r for r in rows if r["recipe"] == recipe]
        each = {p: [r["validation"] for r in here if r["precision"] == p] for p in ("no", "bf16")}
        spread = max(max(v) - min(v) for v in each.values())
        off = mean(each["bf16"]) - mean(each["no"])
        paired = [b - a for a, b in zip(each["no"], each["bf16"], strict=True)]
        lines.append(
            [
                f"{recipe}, {here[0]['steps']} steps",
                *(", ".join(f"{v:.4f}" for v in values) for values in each.values()),
                f"{spread:.4f}",
                f"{off:+.4f}",
                ", ".join(f"{v:+.4f}" for v in paired),
                "yes" if abs(off) <= spread else "no",
            ]
        )
    head = ["recipe", "float32", "bf16", "spread over seeds", "difference of means", "by seed", "within the spread"]
    return table(head, lines)


def gpu(found: dict[str, Any]) -> str:
    """Times, ratios, and shares of the peak."""
    lines, rows = [], found["rows"]
    for r in rows:
        if r.get("failure"):
            lines.append([f"{r['network']}, {r['label']}: {r['failure']}", *["–"] * 7])
            continue
        seconds, family = median_of(r), r["network"].rpartition("-")[2]
        speed = r["gflop"] / seconds / 1000
        mine = of(rows, family, library=OURS, compiled=r["compiled"])
        lines.append(
            [
                f"{r['network']}, {r['label']}",
                f"{r['parameters'] / 1e6:.1f}",
                f"{1000 * seconds:.2f}",
                f"{speed:.1f}",
                "–" if found["stated"] is None else f"{speed / found['stated']:.1%}",
                f"{speed / found['measured']:.1%}",
                f"{r['peak'] / 2**20:.0f}",
                f"{faster(mine[0], r):.2f}" if mine else "–",
            ]
        )
    head = ["case", "parameters, M", "ms a step", "TFLOP/s", "of the stated peak", "of a matrix product", "peak, MiB",
            "ours over it"]  # fmt: skip
    return table(head, lines)


def plot_quality(rows: Rows, floor: float, path: Path) -> None:
    """Distance against minutes."""
    figure, axis = _figure(9.2, 4.2)
    colours = iter(("#d55e00", "#cc79a7", "#e69f00", "#009e73", "#56b4e9", "#999999"))
    for r in rows:
        line = [(a["minute"], a["frechet"]) for a in r["log"] if "frechet" in a]
        style = {"lw": 2.4, "color": "#0072b2"} if r["system"] == OURS else {"lw": 1.3, "color": next(colours)}
        axis.plot([m for m, _ in line], [d for _, d in line], "o-", ms=3.5, label=r["system"], **style)
    axis.axhline(floor, color="black", lw=0.8, ls=":", label="real garments")
    axis.set(yscale="log", xlabel="minutes of training on the same cores", ylabel="Fréchet distance to held-out images")
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    _save(figure, path)


def plot_curves(found: dict[str, Any], path: Path) -> None:
    """Loss against step, and the differences."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 5.2), layout="constrained", sharex=True)
    curves = found["curves"]
    for (name, curve), width in zip(curves.items(), (3.2, 1.4, 1.4, 1.0, 0.8), strict=False):
        steps = range(1, len(curve["losses"]) + 1)
        above.plot(steps, curve["losses"], lw=width, label=name)
        if name != "plain":
            off = [abs(a - b) / b for a, b in zip(curve["losses"], curves["plain"]["losses"], strict=True)]
            below.plot(steps, [max(v, 1e-9) for v in off], lw=0.9, label=f"{name} against plain")
    above.set(ylabel="loss", yscale="log")
    below.set(ylabel="relative difference", yscale="log", xlabel="step")
    for axis in (above, below):
        axis.legend(frameon=False, fontsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(width, height), layout="constrained")
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _save(figure: Any, path: Path) -> None:  # noqa: ANN401
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
