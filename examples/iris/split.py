"""First step: cut the rows into folds, and write the grid of settings to try.

In:   FLOWYARD_INPUT_DATA     the measurements, one CSV file
Out:  FLOWYARD_OUTPUT_FOLDS   a directory with fold-0.csv, fold-1.csv, ...
      FLOWYARD_OUTPUT_GRID    a JSON list; the next step runs once for each of its items
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
from pathlib import Path

LEARNING_RATES = [0.1, 0.5, 2.0]
REGULARISATIONS = [0.0, 0.001, 0.01, 0.1]
SEED = 1936


def cut(rows: list[list[str]], folds: int) -> list[list[list[str]]]:
    """Deals the rows of each species in turn, like cards, so that every fold has about as many of each."""
    dealer = random.Random(SEED)
    parts: list[list[list[str]]] = [[] for _ in range(folds)]
    dealt = 0
    for species in sorted({row[-1] for row in rows}):
        same = [row for row in rows if row[-1] == species]
        dealer.shuffle(same)
        for row in same:
            parts[dealt % folds].append(row)
            dealt += 1
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=5, help="how many parts to cut the rows into")
    folds = parser.parse_args().folds

    with open(os.environ["FLOWYARD_INPUT_DATA"], newline="") as file:
        header, *rows = list(csv.reader(file))
    if not 2 <= folds <= len(rows):
        parser.error(f"--folds must be from 2 to {len(rows)}, the number of rows")

    directory = Path(os.environ["FLOWYARD_OUTPUT_FOLDS"])
    directory.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(cut(rows, folds)):
        with open(directory / f"fold-{number}.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *part])
        print(f"fold {number}: {len(part)} rows", flush=True)

    grid = [{"learning_rate": rate, "l2": l2} for rate in LEARNING_RATES for l2 in REGULARISATIONS]
    Path(os.environ["FLOWYARD_OUTPUT_GRID"]).write_text(json.dumps(grid, indent=1) + "\n")
    print(f"{len(rows)} rows in {folds} folds, {len(grid)} settings to try", flush=True)


if __name__ == "__main__":
    main()
