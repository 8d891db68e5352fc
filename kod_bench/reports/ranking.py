"""Which cell is best at its number of evaluations, and which others the seeds do not exclude."""

import pandas as pd

from kod_bench.reports.evidence import Evidence, leaders


def rank(cells: pd.DataFrame, metrics: tuple[str, ...], evidence: Evidence) -> pd.DataFrame:
    """Add is_best and indistinguishable of each metric to the cells; see `content.Score`.

    Args:
        cells: `cells.cells_of` a group.
        metrics: that they have.
        evidence: what their seeds tell apart.
    """
    for metric in metrics:
        ranked = cells[cells["is_ranked"] & cells[f"{metric}_mean"].notna()]
        marked = metric in evidence.metrics
        better = evidence.better(metric) if marked else pd.DataFrame(columns=["lower", "higher"])
        best = _best(ranked, metric, better)
        open_ = pd.Series(pd.NA, index=cells.index, dtype="boolean")
        at = ranked["network_evaluations"]
        if marked and len(ranked):
            left = ~ranked.index.isin(better["higher"])
            several = pd.Series(left, index=ranked.index).groupby(at).transform("sum") > 1
            rivals = at.groupby(at).transform("size") > 1
            still_open = left & (several | ~ranked.index.isin(best))
            open_[ranked.index] = pd.Series(still_open).astype("boolean").where(rivals)
        marks = {f"{metric}_is_best": cells.index.isin(best), f"{metric}_indistinguishable": open_}
        cells = cells.join(pd.DataFrame(marks, index=cells.index))
    return cells


def _best(ranked: pd.DataFrame, metric: str, better: pd.DataFrame) -> list[int]:
    """The best cell of each number of evaluations.

    The lowest mean of those that have most seeds and of those that are told to be better than
    that. A mean of fewer seeds is low more often by chance, and often because the others failed.
    """
    full = ranked["network_evaluations"].map(leaders(ranked, metric)["full"])
    told = pd.MultiIndex.from_frame(better[["lower", "higher"]])
    pairs = pd.MultiIndex.from_arrays([ranked.index, full])
    allowed = ranked[(ranked.index == full) | pairs.isin(told)]
    # Paired on shared seeds, the order of two cells need not be that of their means.
    unbeaten = allowed[~allowed.index.isin(better["higher"])]
    lowest = [
        each.groupby("network_evaluations")[f"{metric}_mean"].idxmin()
        for each in (allowed, unbeaten)
    ]
    return [int(cell) for cell in lowest[1].combine_first(lowest[0])]
