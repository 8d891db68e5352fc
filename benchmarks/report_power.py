"""What a report tells apart: false alarms among equal models, and the power to find a better one.

Draws tables of scores that scatter normally over seeds, and compares their models as a report does
(`kod_bench.reports.evidence`). Prints a line per size of table: of tables of equal models, those
that deny one of them to be the best, with equal standard deviations and with some that differ up to
three times; how often a model that is worse than the best by two standard deviations of a seed is
told to be; and how many it takes to be told in 80 % of tables.

    python benchmarks/report_power.py

About a minute.
"""

import itertools

import numpy as np
import pandas as pd

from kod_bench.reports.evidence import adjust, gather
from kod_bench.reports.statistics import ALPHA, estimates

TABLES = 2_000

#: Models, numbers of evaluations, seeds. Seeds are shared and do not move the models alike.
SIZES = ((2, 1), (4, 2), (8, 1), (16, 1))
SEEDS = (3, 5, 8)


def denied(scores: np.ndarray) -> np.ndarray:
    """Which models are told not to be the best.

    Args:
        scores: (tables, numbers of evaluations, models, seeds).

    Returns:
        Booleans, (tables, numbers of evaluations, models).
    """
    tables, numbers, models, seeds = scores.shape
    rows = pd.DataFrame(
        {
            "cell": np.repeat(np.arange(tables * numbers * models), seeds),
            "seed": np.tile(np.arange(seeds), tables * numbers * models),
            "kid": scores.ravel(),
        }
    )
    cells = estimates(rows["kid"], rows["cell"]).add_prefix("kid_")
    cells = cells.assign(is_ranked=True, network_evaluations=cells.index // models)
    none = pd.DataFrame({"first": [], "second": []}, dtype=np.int64)
    pairs = gather(cells, rows, ("kid",), none).pairs
    hypotheses = numbers * models * (models - 1) // 2
    table = pairs["first"] // (models * numbers)
    told = pd.concat([adjust(each, hypotheses) for _, each in pairs.groupby(table)])
    told = told[told["adjusted"] <= ALPHA]
    found = np.zeros(tables * numbers * models, dtype=bool)
    found[told["second"].where(told["mean"] < 0, told["first"])] = True
    return found.reshape(tables, numbers, models)


def false_alarms(noise: np.ndarray, ratio: float) -> float:
    """Share of tables of equal models in which one is denied, with deviations of 1 to `ratio`."""
    deviation = np.geomspace(1.0, ratio, noise.shape[2])[:, None]
    return float(denied(deviation * noise).any(axis=(1, 2)).mean())


def power(noise: np.ndarray, shift: float) -> float:
    """How often a model is told to be worse than one that is better than all by `shift`."""
    scores = noise.copy()
    scores[:, :, 0] -= shift
    return float(denied(scores)[:, :, 1:].mean())


def needed(noise: np.ndarray) -> float:
    """The shift with a power of 80 %, to 2 %."""
    low, high = 0.5, 200.0
    while high / low > 1.02:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if power(noise, middle) >= 0.8 else (middle, high)
    return high


def main() -> None:
    """Print the table."""
    print("| models | NFEs | seeds | false alarms | unequal | power at 2 SD | 80 % at |")
    print("| -----: | ---: | ----: | -----------: | ------: | ------------: | ------: |")
    for (models, numbers), seeds in itertools.product(SIZES, SEEDS):
        noise = np.random.default_rng(0).normal(size=(TABLES, numbers, models, seeds))
        few = noise[:400]
        print(
            f"| {models:6} | {numbers:4} | {seeds:5} | {false_alarms(noise, 1.0):10.1%} "
            f"| {false_alarms(noise, 3.0):7.1%} | {power(noise, 2.0):13.0%} "
            f"| {needed(few):4.1f} SD |".replace("%", " %"),
            flush=True,
        )


if __name__ == "__main__":
    main()
