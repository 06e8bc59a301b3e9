"""Last step, a join: compare all models and keep the best.

In:   FLOWYARD_INPUT_MODELS   a directory with one file per task of the step before, named 0, 1, 2, ...
Out:  FLOWYARD_OUTPUT_BEST    the best model, as train.py wrote it
"""

from __future__ import annotations

import json
import os
from pathlib import Path


def rank(model: dict) -> tuple[float, float, float]:
    """Smaller is better: accuracy first, then how sure the model was, then the stronger regularisation."""
    return (-model["accuracy"], model["loss"], -model["setting"]["l2"])


def table(models: dict[int, dict], best: int) -> str:
    lines = ["task  learning rate     l2  accuracy   worst fold    loss"]
    for task, model in sorted(models.items(), key=lambda entry: rank(entry[1])):
        setting = model["setting"]
        line = f"{task:4}  {setting['learning_rate']:13g}  {setting['l2']:5g}  {model['accuracy']:8.4f}"
        line += f"  {min(model['fold_accuracy']):11.4f}  {model['loss']:6.4f}"
        lines.append(line + ("  <- best" if task == best else ""))
    return "\n".join(lines)


def confusion(model: dict) -> str:
    species = model["species"]
    width = max(len(name) for name in species)
    lines = ["true \\ predicted".ljust(width + 8) + "".join(name.rjust(width + 2) for name in species)]
    for name, counts in zip(species, model["confusion"]):
        lines.append(name.ljust(width + 8) + "".join(str(count).rjust(width + 2) for count in counts))
    return "\n".join(lines)


def main() -> None:
    entries = Path(os.environ["FLOWYARD_INPUT_MODELS"]).iterdir()
    models = {int(entry.name): json.loads(entry.read_text()) for entry in entries}
    if not models:
        raise SystemExit("no model to choose from: the grid was empty, or every task failed")
    best = min(models, key=lambda task: rank(models[task]))
    print(table(models, best))
    print()
    print(confusion(models[best]))
    print()
    setting = models[best]["setting"]
    print(
        f"best: learning rate {setting['learning_rate']:g}, l2 {setting['l2']:g}, "
        f"mean accuracy {models[best]['accuracy']:.4f} on rows it had not seen",
        flush=True,
    )
    Path(os.environ["FLOWYARD_OUTPUT_BEST"]).write_text(json.dumps(models[best], indent=1) + "\n")


if __name__ == "__main__":
    main()
