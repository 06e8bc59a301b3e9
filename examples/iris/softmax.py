"""Softmax regression in plain Python: one weight vector per class, fitted by full-batch gradient descent.

A row is a list of numbers; a label is the index of its class. Nothing here is random and nothing is read or written, so
the same rows give the same model on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable

Row = list[float]


@dataclass
class Scaling:
    """Brings every feature to mean 0 and standard deviation 1, as seen in the training rows."""

    mean: Row
    deviation: Row

    @staticmethod
    def of(rows: list[Row]) -> Scaling:
        columns = list(zip(*rows))
        mean = [sum(column) / len(column) for column in columns]
        spread = [sum((x - m) ** 2 for x in column) / len(column) for column, m in zip(columns, mean)]
        # A feature that never changes would divide by zero; it carries no information, so any scale does.
        return Scaling(mean, [math.sqrt(variance) or 1.0 for variance in spread])

    def apply(self, row: Row) -> Row:
        return [(x - m) / d for x, m, d in zip(row, self.mean, self.deviation)]


@dataclass
class Model:
    """The weights of each class; the last one is the bias."""

    scaling: Scaling
    weights: list[Row]

    def probabilities(self, row: Row) -> list[float]:
        return _softmax(self.weights, self.scaling.apply(row) + [1.0])

    def predict(self, row: Row) -> int:
        chances = self.probabilities(row)
        return chances.index(max(chances))

    def loss(self, rows: list[Row], labels: list[int]) -> float:
        """Mean of -log(probability of the true class): lower is better, and it also rewards being sure."""
        return -sum(math.log(max(self.probabilities(row)[label], 1e-300)) for row, label in zip(rows, labels)) / len(rows)


def fit(
    rows: list[Row],
    labels: list[int],
    classes: int,
    learning_rate: float,
    l2: float,
    epochs: int,
    report: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Model:
    """Walks down the gradient of loss + l2/2 * |weights|^2 for `epochs` steps; calls `report` with each step's loss."""
    scaling = Scaling.of(rows)
    inputs = [scaling.apply(row) + [1.0] for row in rows]
    weights = [[0.0] * len(inputs[0]) for _ in range(classes)]
    for epoch in range(1, epochs + 1):
        loss, gradient = _loss_and_gradient(weights, inputs, labels)
        for weight, slope in zip(weights, gradient):
            for i in range(len(weight)):
                # The bias, last, is not pulled towards zero.
                decay = l2 * weight[i] if i < len(weight) - 1 else 0.0
                weight[i] -= learning_rate * (slope[i] + decay)
        report(epoch, loss)
    return Model(scaling, weights)


def _loss_and_gradient(weights: list[Row], inputs: list[Row], labels: list[int]) -> tuple[float, list[Row]]:
    loss, gradient = 0.0, [[0.0] * len(weights[0]) for _ in weights]
    for x, label in zip(inputs, labels):
        chances = _softmax(weights, x)
        loss -= math.log(max(chances[label], 1e-300))
        for cls, slope in enumerate(gradient):
            error = (chances[cls] - (cls == label)) / len(inputs)
            for i, value in enumerate(x):
                slope[i] += error * value
    return loss / len(inputs), gradient


def _softmax(weights: list[Row], x: Row) -> list[float]:
    scores = [sum(w * value for w, value in zip(weight, x)) for weight in weights]
    # Subtracting the largest score changes no probability and keeps exp() in range.
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    total = sum(powers)
    return [power / total for power in powers]
