"""What systems of several models bring, beside one model trained for as long: results/systems.json, docs/systems.md.

    python -m benchmarks.systems latent     # pixels and latents of Fashion-MNIST; latent_emoji: of emoji of 32x32
    python -m benchmarks.systems cascade    # emoji of 64x64: one model, a cascade, and one without augmentation
    python -m benchmarks.systems unclip     # the prior's embeddings of unseen captions beside two baselines; variations
    python -m benchmarks.systems guidance   # classifier-free and CLIP guidance of one model
    python -m benchmarks.systems report     # the page, of what the others wrote

Training is measured in seconds of this machine: each model is timed for some steps first, and trained for as many as
fit. Run nothing beside it. Runs stand in --folder and are used again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.publishing import ROOT, about, filled, lines, provenance
from benchmarks.systems import cascade, guidance, latent, unclip
from reverie.files import write_text

RESULTS, DOC = ROOT / "benchmarks" / "results" / "systems.json", ROOT / "docs" / "systems.md"
PARTS = {
    "latent": latent.FASHION,
    "latent_emoji": latent.EMOJI,
    "cascade": cascade,
    "unclip": unclip,
    "guidance": guidance,
}
LIBRARIES = ("torch", "efficientnet-lite-pytorch")


def main() -> None:
    """Measure a part, or write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.systems", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=[*PARTS, "report"])
    parser.add_argument("--minutes", type=float, default=8.0, help="of training, of each side (default: %(default)g)")
    parser.add_argument("-n", type=int, default=1000, help="samples or captions that are judged (default: %(default)d)")
    parser.add_argument("--folder", type=Path, default=Path("runs/systems"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    told = parser.parse_args()
    found = json.loads(told.out.read_text()) if told.out.is_file() else {}
    if told.part == "report":
        made = {
            name: "\n".join([*part.page(found[name]), "", about(found[name])])
            for name, part in PARTS.items()
            if name in found
        }
        write_text(DOC, filled(DOC.read_text(), made))
        return
    measured = PARTS[told.part].measured(told)
    found[told.part] = {"about": provenance(LIBRARIES, 1), **measured}
    write_text(told.out, lines(found))
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
