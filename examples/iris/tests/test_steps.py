"""The three steps run by hand, as Flowyard would run them: only the variables of the contract tell them where to look."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def step(script: str, *arguments: str, **variables: object) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    environment.update({f"FLOWYARD_{name}": str(value) for name, value in variables.items()})
    command = [sys.executable, script, *arguments]
    return subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True)


class Steps(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_step(self, script: str, *arguments: str, **variables: object) -> str:
        done = step(script, *arguments, **variables)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def split(self, folds: int) -> list[dict]:
        data, grid = HERE / "iris.csv", self.folder / "grid.json"
        variables = {"INPUT_DATA": data, "OUTPUT_FOLDS": self.folder / "folds", "OUTPUT_GRID": grid}
        self.run_step("split.py", "--folds", str(folds), **variables)
        return json.loads(grid.read_text())

    def train(self, item: dict, model: Path) -> str:
        variables = {"INPUT_FOLDS": self.folder / "folds", "OUTPUT_MODEL": model}
        return self.run_step("train.py", ITEM=json.dumps(item), **variables)

    def test_the_folds_hold_every_row_once_and_every_species_evenly(self) -> None:
        self.split(5)
        rows = []
        for path in (self.folder / "folds").iterdir():
            with open(path, newline="") as file:
                fold = list(csv.reader(file))[1:]
            for species in ("setosa", "versicolor", "virginica"):
                self.assertEqual(sum(row[-1] == species for row in fold), 10)
            rows += fold
        with open(HERE / "iris.csv", newline="") as file:
            self.assertEqual(sorted(rows), sorted(list(csv.reader(file))[1:]))

    def test_the_flow_finds_a_good_model_and_says_which(self) -> None:
        grid = self.split(3)
        self.assertEqual(len(grid), 12)
        models = self.folder / "models"
        models.mkdir()
        # The weakest and a good setting, and a gap between their numbers as a failed task would leave it.
        said = self.train(grid[3], models / "3")
        self.assertIn("epoch 100", said)
        self.train(grid[9], models / "9")
        best = self.folder / "best.json"
        said = self.run_step("pick.py", INPUT_MODELS=models, OUTPUT_BEST=best)
        chosen = json.loads(best.read_text())
        self.assertEqual(chosen["setting"], grid[9])
        self.assertGreater(chosen["accuracy"], 0.93)
        self.assertEqual(sum(map(sum, chosen["confusion"])), 150)
        self.assertIn("<- best", said)
        self.assertIn("true \\ predicted", said)

    def test_training_twice_gives_the_same_bytes(self) -> None:
        grid = self.split(2)
        first, second = self.folder / "first", self.folder / "second"
        self.train(grid[5], first)
        self.train(grid[5], second)
        self.assertEqual(first.read_bytes(), second.read_bytes())

    def test_too_few_folds_are_refused_with_what_is_allowed(self) -> None:
        variables = {"INPUT_DATA": HERE / "iris.csv", "OUTPUT_FOLDS": self.folder, "OUTPUT_GRID": self.folder / "grid"}
        done = step("split.py", "--folds", "1", **variables)
        self.assertEqual(done.returncode, 2)
        self.assertIn("from 2 to 150", done.stderr)


if __name__ == "__main__":
    unittest.main()
