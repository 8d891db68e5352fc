"""Works out what a report says from its rows."""

from collections.abc import Mapping, Sequence

import pandas as pd

from kod_bench.reports.content import ReportContent, SweepOrigin
from kod_bench.reports.groups import make_groups
from kod_bench.reports.provenance import make_provenance, split_excluded
from kod_bench.reports.published import published_for


def make_content(
    rows: pd.DataFrame,
    *,
    title: str,
    sweeps: Sequence[SweepOrigin] = (),
    configurations: Mapping[str, str] | None = None,
) -> ReportContent:
    """Work out what rows say.

    Args:
        rows: as `kod_bench.reports.frame` makes them.
        title: of the report.
        sweeps: that the rows come from, with what they have that is not in rows.
        configurations: resolved configurations by `configuration`, as far as they are kept.
    """
    kept, excluded = split_excluded(rows)
    groups = make_groups(kept)
    planned = sum(sweep.planned for sweep in sweeps)
    done = len(rows[["space", "sweep", "trial"]].drop_duplicates())
    failed = sum(len(sweep.failures) for sweep in sweeps)
    summary = (
        f"{done} of {planned} trials done" if sweeps else f"{done} trial{'' if done == 1 else 's'}"
    )
    return ReportContent(
        title=title,
        summary=summary + (f", {failed} failed" if failed else ""),
        groups=groups,
        published=published_for(sorted({str(group.key["dataset"]) for group in groups})),
        provenance=make_provenance(rows, kept, excluded, sweeps, configurations or {}, groups),
        rows=kept,
    )
