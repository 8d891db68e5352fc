"""A report's tables for programs: CSV and Parquet, all cells and differences, nothing left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from kod_bench.atomic import atomic_write
from kod_bench.reports.content import ReportContent

#: How a cell begins that spreadsheets compute (OWASP, CSV injection), or strip until it does.
_FORMULA = r"^[=+\-@\t\r\n\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}]"


def write_tables(content: ReportContent, folder: Path) -> None:
    """Write ``cells``, ``differences``, ``published``, ``trials``, each ``.csv`` and ``.parquet``.

    Raises:
        OSError: if they cannot be written.
    """
    for name, frame in tables(content).items():
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
        with atomic_write(folder / f"{name}.parquet") as file:
            pq.write_table(table, file)
        with atomic_write(folder / f"{name}.csv") as file:
            pyarrow.csv.write_csv(_no_formulas(_flat(table)), file)


def tables(content: ReportContent) -> dict[str, pd.DataFrame]:
    """By name; every line of cells and differences says which comparable set it belongs to."""
    found = {
        "cells": _joined(content, "cell_table"),
        "differences": _joined(content, "difference_table"),
        "trials": content.provenance.trials,
    }
    if content.published:
        found["published"] = pd.DataFrame([vars(number) for number in content.published])
    return {name: frame for name, frame in found.items() if len(frame)}


def _joined(content: ReportContent, attribute: str) -> pd.DataFrame:
    parts = []
    for group in content.groups:
        part: pd.DataFrame = getattr(group, attribute)
        if len(part):
            # The key first, so that nobody takes lines of two sets for one ranking.
            codes = np.zeros(len(part), dtype=np.int8)
            key = pd.DataFrame(
                {
                    name: pd.Categorical.from_codes(codes, pd.Index([value]))
                    if value is not None
                    else None
                    for name, value in group.key.items()
                },
                index=range(len(part)),
            )
            # Labels do not say what a title does.
            title = pd.Categorical.from_codes(codes, pd.Index([group.title]))
            key.insert(0, "title", pd.Series(title))
            parts.append(pd.concat([key, part.reset_index(drop=True)], axis=1))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _flat(table: pa.Table) -> pa.Table:
    """Dictionaries as texts, which CSV has no other way to write."""
    for place, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            plain = table[column.name].cast(column.type.value_type)
            table = table.set_column(place, column.name, plain)
    return table


def _no_formulas(table: pa.Table) -> pa.Table:
    """Texts that a spreadsheet would compute, which may fetch or send something, as texts.

    An apostrophe before them says so to a spreadsheet, which does not show it. Numbers are no texts
    and stay as they are, negative ones too.
    """
    for place, column in enumerate(table.schema):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            texts = table[column.name]
            mark, nothing = pa.scalar("'", column.type), pa.scalar("", column.type)
            marked = pc.binary_join_element_wise(mark, texts, nothing)
            acts = pc.match_substring_regex(texts, _FORMULA)
            table = table.set_column(place, column.name, pc.if_else(acts, marked, texts))
    return table
