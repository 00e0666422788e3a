"""Puts a trained run into the package, so that its name alone opens it.

    python -m benchmarks.ship runs/emoji emoji

Weights are halved to float16, which keeps 11 of 24 bits of each number: 0.05 % at the most.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from reverie.digests import digest
from reverie.runs import CONFIG, MODEL, SHIPPED, load
from reverie.tensor_files import read_with_metadata, write_tensors

MOST = 20 * 2**20
"""Bytes that a model in the package may have."""


def ship(source: Path, name: str) -> Path:
    """Copy what samples are drawn from, and nothing else.

    Raises:
        ValueError: it is no run, or is too large.
    """
    run, target = load(source), SHIPPED / name
    tensors, about = read_with_metadata(run.file)
    halved = {key: t.half() if t.is_floating_point() else t for key, t in tensors.items()}
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    write_tensors(target / MODEL, halved, {**about, "sha256": digest(halved)})
    for file in (CONFIG, "tokenizer.json"):
        if (source / file).is_file():
            shutil.copyfile(source / file, target / file)
    if (source / "tokenizer").is_dir():
        shutil.copytree(source / "tokenizer", target / "tokenizer")
    size = sum(path.stat().st_size for path in target.rglob("*"))
    if size > MOST:
        shutil.rmtree(target)
        raise ValueError(f"{source} takes {size / 2**20:.1f} MB, more than {MOST / 2**20:.0f}")
    return target


if __name__ == "__main__":
    made = ship(Path(sys.argv[1]), sys.argv[2])
    for path in sorted(made.rglob("*")):
        print(f"{path.stat().st_size:>10,}  {path.relative_to(made)}")
