"""Scores to where they are wanted: put in order within bounded memory, summed up, written as a whole or not at all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxml.errors import ConfigError
from cxml.files import write_aside
from cxml.times import format_instant

if TYPE_CHECKING:
    import pyarrow

#: Rows written at a time: a row group of the Parquet file, so that equal scores are equal bytes.
GROUP_ROWS = 65_536
#: Rows of each sorted file that are in memory at a time.
_BATCH_ROWS = 4_096
_ORDER = ("low", "medium", "high", "ok", "thin", "stale", "unseen")
_TO_SUM = ("expected_nps", "expected_score")
#: What a spreadsheet takes for the beginning of a formula.
_FORMULA = r"^([=+\-@\t\r])"


class Sorted:
    """A Parquet file ordered by ``customer_id``, read from its beginning to its end.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(path)
        self.schema: pyarrow.Schema = self._file.schema_arrow.remove_metadata()
        self._batches = self._file.iter_batches(_BATCH_ROWS)
        self._held: pyarrow.Table = self.schema.empty_table()
        self._ids = _ids(self._held)
        self._fill()

    def _fill(self) -> None:
        """Read on where nothing is held."""
        import pyarrow as pa

        while not len(self._held):
            batch = next(self._batches, None)
            if batch is None:
                return
            self._held = pa.Table.from_batches([batch]).replace_schema_metadata(None)
            self._ids = _ids(self._held)

    @property
    def last(self) -> Any:
        """The largest id in memory; None when all is read."""
        return self._ids[-1] if len(self._held) else None

    def upto(self, bound: Any) -> Iterator[pyarrow.Table]:
        """Take the rows whose id is at most ``bound`` (None: all that are left)."""
        while len(self._held):
            n = len(self._held) if bound is None else int(np.searchsorted(self._ids, bound, side="right"))
            if n:
                yield self._held.slice(0, n)
            self._held, self._ids = self._held.slice(n), self._ids[n:]
            if len(self._held):
                return
            self._fill()


def _ids(table: pyarrow.Table) -> Any:
    return table.column("customer_id").to_numpy()


def merged(paths: Sequence[str | os.PathLike[str]]) -> tuple[pyarrow.Schema, Iterator[pyarrow.Table]]:
    """Put the rows of files in one order, a few thousand of each in memory at a time.

    Parameters
    ----------
    paths : sequence of path
        Parquet files with the same columns, each ordered by ``customer_id``; no customer in two of them.

    Returns
    -------
    schema : pyarrow.Schema
    tables : iterator of pyarrow.Table
        Of `GROUP_ROWS` rows, the last of fewer.
    """
    files = [Sorted(path) for path in paths]
    schema = files[0].schema
    for path, file in zip(paths, files, strict=True):
        if not file.schema.equals(schema):
            raise ConfigError(f"'{path}' and '{paths[0]}' have different columns; they are not of one run")
    return schema, regrouped(_in_order(files), schema)


def _in_order(files: list[Sorted]) -> Iterator[pyarrow.Table]:
    import pyarrow as pa

    while left := [file.last for file in files if file.last is not None]:
        bound = min(left)
        taken = [table for file in files for table in file.upto(bound)]
        yield taken[0] if len(taken) == 1 else pa.concat_tables(taken).sort_by("customer_id")


def regrouped(tables: Iterable[pyarrow.Table], schema: pyarrow.Schema) -> Iterator[pyarrow.Table]:
    """Give the same rows in tables of `GROUP_ROWS`, the last of fewer; at least one table.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
    schema : pyarrow.Schema

    Yields
    ------
    pyarrow.Table
    """
    import pyarrow as pa

    waiting: list[pyarrow.Table] = []
    n, told = 0, False
    for table in tables:
        waiting.append(table)
        n += len(table)
        while n >= GROUP_ROWS:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, GROUP_ROWS).combine_chunks()
            waiting, n, told = [whole.slice(GROUP_ROWS)], n - GROUP_ROWS, True
    if n or not told:
        yield pa.concat_tables([schema.empty_table(), *waiting]).combine_chunks()


@dataclass
class Summary:
    """What scores are like, summed up as they pass by.

    Parameters
    ----------
    n : int
        How many rows.
    first, last : int
        UTC microseconds of the earliest and the latest cutoff.
    counts : dict of str to Counter
        Values of text columns.
    sums : dict of str to float
    model_version : str or None
    """

    n: int = 0
    first: int = 2**62
    last: int = -(2**62)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    model_version: str | None = None

    def watch(self, tables: Iterable[pyarrow.Table]) -> Iterator[pyarrow.Table]:
        """Hand tables on and sum them up."""
        for table in tables:
            self.add(table)
            yield table

    def add(self, table: pyarrow.Table) -> Summary:
        """Sum up a table."""
        import pyarrow.compute as pc

        names = set(table.column_names)
        for name in names & {"risk_band", "status", "change"}:
            found = pc.value_counts(table.column(name)).to_pylist()
            counts = self.counts.setdefault(name, Counter())
            counts.update({one["values"]: one["counts"] for one in found if one["values"] is not None})
        if not len(table) or "change" in names:
            return self
        self.n += len(table)
        moments = table.column("cutoff").cast("int64").to_numpy()
        self.first, self.last = min(self.first, int(moments.min())), max(self.last, int(moments.max()))
        for name in names & set(_TO_SUM):
            self.sums[name] = self.sums.get(name, 0.0) + float(np.nansum(table.column(name).to_numpy()))
        self.model_version = self.model_version or table.column("model_version")[0].as_py()
        return self

    def with_changes(self, written: Summary) -> Summary:
        """Add how many rows were written, and why."""
        return replace(self, counts={**self.counts, "change": written.counts["change"]})

    def when(self) -> str:
        """Say the cutoff, or from when to when cutoffs lie."""
        first, last = format_instant(self.first), format_instant(self.last)
        return first if first == last else f"{first} to {last}"

    def ordered(self, column: str) -> dict[str, int]:
        """Give the counts of a text column, in the order low, medium, high where it has one."""
        place = {name: i for i, name in enumerate(_ORDER)}
        counts = self.counts[column]
        return {name: counts[name] for name in sorted(counts, key=lambda value: (place.get(value, len(place)), value))}

    def lines(self) -> list[str]:
        """Say what the scores are like."""
        lines = []
        for column in ("risk_band", "status"):
            if self.counts.get(column):
                counts = ", ".join(f"{name} {n:,}" for name, n in self.ordered(column).items())
                lines.append(f"{column.replace('_', ' ')}: {counts}")
        if "expected_nps" in self.sums:
            lines.append(f"expected NPS of all of them: {self.sums['expected_nps'] / self.n:+.1f}")
        elif "expected_score" in self.sums:
            lines.append(f"expected score of all of them: {self.sums['expected_score'] / self.n:.2f}")
        if "change" in self.counts:
            changed = self.counts["change"]
            lines.append(
                f"written: {changed['changed']:,} changed, {changed['new']:,} new, {changed['gone']:,} gone; "
                f"{self.n - changed['changed'] - changed['new']:,} are as they were"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the summary for machines."""
        summary: dict[str, Any] = {
            "cutoff": self.when() if self.n else None,
            "customers": self.n,
            "model_version": self.model_version,
        }
        summary |= {name: self.ordered(name) for name in ("risk_band", "status") if name in self.counts}
        if "change" in self.counts:
            summary["change"] = {name: self.counts["change"][name] for name in ("changed", "new", "gone")}
        return summary | {f"mean_{name}": self.sums[name] / self.n for name in _TO_SUM if name in self.sums}


def write_tables(
    tables: Iterable[pyarrow.Table],
    schema: pyarrow.Schema,
    out: str | os.PathLike[str],
    *,
    within: Path | None = None,
) -> None:
    """Write tables as one file, whole or not at all: Parquet or, where the name ends so, CSV.

    In CSV a text that a spreadsheet would take for a formula gets a ``'`` before it.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
    schema : pyarrow.Schema
        Of the tables; its metadata go into a Parquet file.
    out : path
    within : Path, optional
        As in `cxml.files.write_aside`.

    Raises
    ------
    ConfigError
        If it cannot be written there.
    """
    with write_aside(out, within=within) as aside:
        if os.fspath(out).lower().endswith(".csv"):
            _write_csv(tables, schema, aside)
        else:
            _write_parquet(tables, schema, aside)


def _write_parquet(tables: Iterable[pyarrow.Table], schema: pyarrow.Schema, path: Path) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table.replace_schema_metadata(schema.metadata))


def _write_csv(tables: Iterable[pyarrow.Table], schema: pyarrow.Schema, path: Path) -> None:
    import pyarrow.csv

    with pyarrow.csv.CSVWriter(path, schema.remove_metadata()) as writer:
        for table in tables:
            writer.write_table(harmless(table.replace_schema_metadata(None)))


def harmless(table: pyarrow.Table) -> pyarrow.Table:
    """Put a ``'`` before every text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return.

    A spreadsheet that opens a CSV file runs such cells as formulas, and ids are what others type in
    (https://owasp.org/www-community/attacks/CSV_Injection).

    Parameters
    ----------
    table : pyarrow.Table

    Returns
    -------
    pyarrow.Table

    Examples
    --------
    >>> import pyarrow as pa
    >>> harmless(pa.table({"customer_id": ["=1+1", "a=b", None], "value": [-1, 2, 3]})).to_pydict()
    {'customer_id': ["'=1+1", 'a=b', None], 'value': [-1, 2, 3]}
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for i, column in enumerate(table.schema):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            texts = pc.replace_substring_regex(table.column(i), _FORMULA, r"'\1")
            table = table.set_column(i, column, texts)
    return table
