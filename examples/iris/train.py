"""Second step, once per grid item: measure one setting by cross-validation, then fit it on all rows.

In:   FLOWYARD_ITEM           this task's setting, such as {"learning_rate": 0.1, "l2": 0.01}
      FLOWYARD_INPUT_FOLDS    the directory that split.py wrote
Out:  FLOWYARD_OUTPUT_MODEL   the weights, and how well the setting did on rows it had not seen
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

from softmax import Row, fit

EPOCHS = 300
REPORT_EVERY = 100


def read_fold(path: Path) -> tuple[list[Row], list[str]]:
    with open(path, newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [[float(value) for value in row[:-1]] for row in rows], [row[-1] for row in rows]


def main() -> None:
    setting = json.loads(os.environ["FLOWYARD_ITEM"])
    rate, l2 = float(setting["learning_rate"]), float(setting["l2"])
    print(f"learning rate {rate:g}, l2 {l2:g}", flush=True)

    paths = Path(os.environ["FLOWYARD_INPUT_FOLDS"]).glob("fold-*.csv")
    folds = [read_fold(path) for path in sorted(paths, key=lambda path: int(path.stem.split("-")[1]))]
    species = sorted({name for _, names in folds for name in names})

    def gather(chosen: list[int]) -> tuple[list[Row], list[int]]:
        rows = [row for number in chosen for row in folds[number][0]]
        return rows, [species.index(name) for number in chosen for name in folds[number][1]]

    # confusion[true][predicted], counted over the rows held out of each fit.
    confusion = [[0] * len(species) for _ in species]
    accuracies: list[float] = []
    losses: list[float] = []
    for held in range(len(folds)):

        def report(epoch: int, loss: float) -> None:
            if epoch % REPORT_EVERY == 0:
                print(f"fold {held}  epoch {epoch:3}  loss {loss:.4f}", flush=True)

        rows, labels = gather([number for number in range(len(folds)) if number != held])
        model = fit(rows, labels, len(species), rate, l2, EPOCHS, report)
        rows, labels = gather([held])
        guesses = [model.predict(row) for row in rows]
        for label, guess in zip(labels, guesses):
            confusion[label][guess] += 1
        accuracies.append(sum(label == guess for label, guess in zip(labels, guesses)) / len(rows))
        losses.append(model.loss(rows, labels))
        print(f"fold {held}  held out: accuracy {accuracies[-1]:.3f}, loss {losses[-1]:.4f}", flush=True)

    rows, labels = gather(list(range(len(folds))))
    model = fit(rows, labels, len(species), rate, l2, EPOCHS)
    result = {
        "setting": setting,
        "fold_accuracy": accuracies,
        "accuracy": sum(accuracies) / len(accuracies),
        "loss": sum(losses) / len(losses),
        "species": species,
        "confusion": confusion,
        "weights": model.weights,
        "mean": model.scaling.mean,
        "deviation": model.scaling.deviation,
    }
    Path(os.environ["FLOWYARD_OUTPUT_MODEL"]).write_text(json.dumps(result, indent=1) + "\n")
    print(f"mean accuracy {result['accuracy']:.4f}", flush=True)


if __name__ == "__main__":
    main()
