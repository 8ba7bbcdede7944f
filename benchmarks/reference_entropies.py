"""Our block entropies beside another program's float64 figures, for the checkpoints both have.

    python benchmarks/reference_entropies.py [--blocks training_data/blocks.csv] [--shared ../shared]

`SHARED/sources.toml` names the checkpoints and their SHA-256, `SHARED/reference_entropies.json` has the figures. Ours
are the rows of the blocks table with the same SHA-256, which `fastewq dataset build` writes. Exits with 1 if a relative
difference reaches LIMIT or a stack is missing.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tomllib
from pathlib import Path

LIMIT = 1e-11
ROOT = Path(__file__).resolve().parent.parent


def checkpoint_hashes(sources: Path) -> dict[str, str]:
    """Reference name -> SHA-256. An entry with several files is named after the entry and each file's folder."""
    hashes = {}
    for entry in tomllib.loads(sources.read_text(encoding="utf-8"))["source"]:
        if "files" in entry:
            for file, sha256 in zip(entry["files"], entry["sha256s"], strict=True):
                hashes[f"{entry['name']} {Path(file).parent.name}"] = sha256
        else:
            hashes[entry["name"]] = entry["sha256"]
    return hashes


def compare(blocks: Path, shared: Path) -> dict[str, list[tuple[str, int, float, float]]]:
    """Stack -> (eps, block, ours, reference) of every figure; an empty list where the table lacks the stack."""
    with blocks.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    ours = {(row["sha256"], row["stack"], int(row["exec_index"])): row for row in rows}
    reference = json.loads((shared / "reference_entropies.json").read_text(encoding="utf-8"))
    hashes = checkpoint_hashes(shared / "sources.toml")
    compared = {}
    for stack_name, figures in reference["stacks"].items():
        model, stack = stack_name.split("/")
        found = [ours.get((hashes[model], stack, index)) for index in range(len(figures))]
        compared[stack_name] = [
            (f"{eps:g}", index, float(row[f"entropy_{eps:g}"]), value)
            for index, (row, values) in enumerate(zip(found, figures, strict=True))
            if row is not None
            for eps, value in zip(reference["eps"], values, strict=True)
        ]
    return compared


def relative_difference(ours: float, reference: float) -> float:
    return abs(ours - reference) / abs(reference)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=Path, default=ROOT / "training_data" / "blocks.csv")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--all", action="store_true", help="print every block, not only the worst of each stack")
    arguments = parser.parse_args()
    worst, missing = 0.0, 0
    for stack, figures in compare(arguments.blocks, arguments.shared).items():
        if not figures:
            print(f"{stack:36} missing from {arguments.blocks}")
            missing += 1
            continue
        figures.sort(key=lambda figure: relative_difference(*figure[2:]), reverse=True)
        for eps, block, ours, reference in figures if arguments.all else figures[:1]:
            difference = relative_difference(ours, reference)
            print(f"{stack:36} block {block:2}  eps {eps:5}  {ours:.15f}  {reference:.15f}  {difference:.1e}")
        worst = max(worst, relative_difference(*figures[0][2:]))
    print(f"worst relative difference {worst:.2e} (limit {LIMIT:.0e}), {missing} stacks missing")
    return int(worst >= LIMIT or missing > 0)


if __name__ == "__main__":
    sys.exit(main())
