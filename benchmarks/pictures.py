"""The pictures of the documentation, drawn anew: `docs/pictures/schedules.png`, `forward.png`, `swissroll.png`.

schedules.png: DDPM's linear chain, the cosine chain of Nichol & Dhariwal (2021), their continuous forms, and
straight paths. forward.png: a garment of Fashion-MNIST, or a digit where the set is not on the machine, going to
noise under the two chains (figure 3 there). swissroll.png: the recipe `swissroll`, trained for about a minute, drawn
as figure 1 of Sohl-Dickstein et al. (2015). Each is what `reverie plot` draws and carries the command that does.

    python benchmarks/pictures.py                      # about a minute and a half on one core
    python benchmarks/pictures.py --only schedules
    python benchmarks/pictures.py --steps 20 --out /tmp/pictures
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
LINEAR, COSINE = ["table", "betas.kind=linear"], ["table", "betas.kind=cosine"]


def reverie(*words: object) -> bool:
    """Run a command of the library, and say which; whether it went well."""
    shown = [str(word) for word in words]
    print("reverie", *shown, flush=True)
    return subprocess.run([sys.executable, "-m", "reverie", *shown], check=False).returncode == 0


def draw_schedules(out: Path, steps: int) -> bool:
    return reverie("plot", "schedule", *LINEAR, *COSINE, "linear_vp", "cosine", "flow", "--out", out)


def draw_forward(out: Path, steps: int) -> bool:
    return any(reverie("plot", "forward", source, "--index", 7, "--out", out) for source in ("fashion", "digits"))


def draw_swissroll(out: Path, steps: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "swissroll"
        trained = reverie("train", "swissroll", f"train.steps={steps}", "--out", run)
        return trained and reverie("plot", "process", run, "--out", out)


DRAW = {"schedules": draw_schedules, "forward": draw_forward, "swissroll": draw_swissroll}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=DRAW, help="draw this one alone")
    parser.add_argument("--steps", type=int, default=4000, help="training steps of the swiss roll")
    parser.add_argument("--out", type=Path, default=PICTURES, help="the folder")
    told = parser.parse_args()
    for name in [told.only] if told.only else DRAW:
        path = told.out / f"{name}.png"
        if not DRAW[name](path, told.steps):
            sys.exit(f"{path} could not be drawn")
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
