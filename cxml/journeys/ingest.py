"""One source, read to its end: good rows handed on batch by batch, bad rows with their reasons."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxml.config import SourceConfig
from cxml.errors import ConfigError
from cxml.journeys.batches import BadRows, Keep, add_batch
from cxml.journeys.canonical import FOREIGN, MALFORMED, CanonicalSelect, RowRules, canonical_select, map_columns
from cxml.journeys.clean import CleanFile, column_names, read_clean_parquet
from cxml.journeys.formats import Relation, find_files, malformed_lines, refusing
from cxml.journeys.quality import SourceReport
from cxml.journeys.schema import NUMBER_COLUMNS, STAMP_COLUMNS, TEXT_COLUMNS
from cxml.journeys.shuffle import Shuffle
from cxml.journeys.sources import open_source
from cxml.journeys.stamps import check_zone, utc_to_local
from cxml.progress import Advance

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_BATCH_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns rows should have.

    Parameters
    ----------
    columns : tuple of str
        Canonical names, in their fixed order.
    required : tuple of str
        Those no source may lack.
    measures : tuple of str
        Those that are numbers, beside the canonical ones.
    mapping : mapping of str to str
        Canonical name -> source column, where a source does not say otherwise itself.
    """

    columns: tuple[str, ...]
    required: tuple[str, ...]
    measures: tuple[str, ...] = ()
    mapping: Mapping[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> set[str]:
        """Columns that text files must not turn into numbers."""
        return set(self.columns) - {*NUMBER_COLUMNS, *self.measures, "sequence", "resolved"}


@dataclass(frozen=True, slots=True)
class Ingested:
    """What one source gave, beside its good rows."""

    report: SourceReport
    bad: BadRows


def ingest(
    source: SourceConfig | Any,
    layout: Layout,
    keep: Keep | Shuffle,
    folder: str | os.PathLike[str] = ".",
    where: str | None = None,
    timezone: str | None = None,
    rules: RowRules | None = None,
    label: str = "",
    advance: Advance = lambda _n: None,
    pool: Executor | None = None,
) -> Ingested:
    """Read one source.

    Parameters
    ----------
    source : SourceConfig, data frame or Arrow table
    layout : Layout
    keep : callable or Shuffle
        Gets the good rows, batch by batch.
    folder : path
        Where relative paths start.
    where : str, optional
        SQL predicate, beside the source's own.
    timezone : str, optional
        Zone of stamps that carry none, where the source does not say otherwise.
    rules : RowRules, optional
    label : str, optional
        Name of a frame, for messages.
    advance : callable
        Told the number of rows of every batch.
    pool : Executor, optional
        Reads clean files into a shuffle; without one, these are read the thorough way too.

    Returns
    -------
    Ingested

    Raises
    ------
    ConfigError, DataError
        If the source as a whole cannot be read.
    """
    own = source if isinstance(source, SourceConfig) else SourceConfig(path=label or "frame")
    condition = " and ".join(f"({part}\n)" for part in (where, own.where) if part) or None
    zone = own.timezone or timezone
    zone = None if zone is None else check_zone(zone)
    mapping = {**layout.mapping, **own.columns}
    rules = _on_the_clock(rules or RowRules(), zone)
    bad, n_read = BadRows(), 0
    clean: dict[str, int] = {}
    if (
        pool is not None
        and isinstance(keep, Shuffle)
        and isinstance(source, SourceConfig)
        and source.path is not None
        and not condition
    ):
        clean = _read_clean_files(own, layout, mapping, folder, rules, zone, keep, advance, pool)
        n_read = sum(clean.values())
        if len(clean) == len(find_files(source.path, folder, source.format)[1]):
            return Ingested(SourceReport(own.label, n_read, {}), bad)
    with open_source(source, folder, condition, mapping, layout.texts, label) as (con, relations):
        predicate = "" if own.url is not None else condition or ""
        for relation in relations:
            if relation.file in clean:
                continue
            found = map_columns(layout.columns, layout.required, mapping, list(relation.types), _name(relation))
            with refusing(_name(relation)):
                refused, n = _read_relation(con, relation, found, layout, rules, predicate, zone, keep, advance)
            _extend(bad, refused)
            n_read += n
    return Ingested(SourceReport(own.label, n_read, dict(Counter(bad.reason))), bad)


def _read_clean_files(
    source: SourceConfig,
    layout: Layout,
    mapping: Mapping[str, str],
    folder: str | os.PathLike[str],
    rules: RowRules,
    zone: str | None,
    shuffle: Shuffle,
    advance: Advance,
    pool: Executor,
) -> dict[str, int]:
    """Read those Parquet files of a source in which every row is good; give their rows."""
    kind, files = find_files(source.path or "", folder, source.format)
    attributes = tuple(layout.texts - {"customer_id", *STAMP_COLUMNS, *TEXT_COLUMNS})
    read: dict[str, int] = {}
    for file in files if kind == "parquet" else []:
        names = column_names(file)
        if names is not None:
            found = map_columns(layout.columns, layout.required, mapping, names, _in(source.label, file.name))
            clean = CleanFile(str(file), found, layout.measures, attributes, rules, zone)
            n_rows = read_clean_parquet(clean, shuffle, advance, pool)
            if n_rows is not None:
                read[str(file)] = n_rows
    return read


def _on_the_clock(rules: RowRules, zone: str | None) -> RowRules:
    if rules.as_of is None:
        return rules
    return replace(rules, as_of_local=utc_to_local(rules.as_of, zone or "UTC"))


def _name(relation: Relation) -> str:
    return _in(relation.label, Path(relation.file).name)


def _in(label: str, file: str) -> str:
    return label if file in label else f"{label} ({file})"


def _read_relation(
    con: DuckDBPyConnection,
    relation: Relation,
    found: Mapping[str, str],
    layout: Layout,
    rules: RowRules,
    predicate: str,
    zone: str | None,
    keep: Keep | Shuffle,
    advance: Advance,
) -> tuple[BadRows, int]:
    def select(raw: str) -> CanonicalSelect:
        return canonical_select(
            relation.sql,
            found,
            relation.types,
            layout.measures,
            rules,
            _name(relation),
            relation.malformed,
            predicate,
            raw,
        )

    first = select("" if relation.costly_raw else relation.raw)
    _need_zone(first, zone, found, _name(relation))
    bad, n_read, position = BadRows(), 0, 1
    take = (lambda columns: keep.add(keep.split(columns))) if isinstance(keep, Shuffle) else keep
    for batch in batches_of(con.sql(first.sql), _BATCH_ROWS):
        n_read += add_batch(batch, first, zone, position, relation.file, take, bad)
        position += batch.num_rows
        advance(batch.num_rows)
    if len(bad) and relation.costly_raw:
        bad.raw[:] = _raw_rows(con, select(relation.raw), bool(predicate))
    n_read += _add_rejects(con, relation, bad)
    if relation.malformed:
        _add_malformed(relation, bad)
    return bad, n_read


def batches_of(relation: Any, n_rows: int) -> Any:
    """Give the rows of a DuckDB relation as Arrow batches of at most so many."""
    if hasattr(relation, "to_arrow_reader"):
        return relation.to_arrow_reader(n_rows)
    return relation.fetch_record_batch(n_rows)  # its name before DuckDB 1.5


def _need_zone(select: CanonicalSelect, zone: str | None, found: Mapping[str, str], where: str) -> None:
    for name, naive in select.naive.items():
        if naive == "all" and zone is None:
            raise ConfigError(
                f"{where}: the stamps of column '{found[name]}' carry no time zone, so they could mean any hour of a "
                "day. Say which clock wrote them: timezone: UTC, or e.g. timezone: Europe/Berlin."
            )


def _raw_rows(con: DuckDBPyConnection, select: CanonicalSelect, has_predicate: bool) -> list[str | None]:
    """Raw text of the bad rows, in order: only they are read in full, and only when there are any."""
    condition = '"cxml:reason" <> 0' + (' and "cxml:wanted"' if has_predicate else "")
    return [row[0] for row in con.sql(f'select "cxml:raw" from ({select.sql}) where {condition}').fetchall()]


def _add_rejects(con: DuckDBPyConnection, relation: Relation, bad: BadRows) -> int:
    """Add the lines DuckDB could not take apart, and count them among the rows of their file."""
    n = 0
    for table, file in relation.rejects.items():
        found = con.sql(
            "select line - 1, first(csv_line order by column_idx), bool_or(error_type = 'INVALID ENCODING') "
            f'from "{table}" group by line order by line'
        ).fetchall()
        found = [piece for one in found for piece in _lines_of(*one)]
        lines = np.array([row for row, _, _ in found], dtype=np.int64)
        if relation.file:
            bad.row[:] = _shifted(np.array(bad.row, dtype=np.int64), lines).tolist()
        _extend(
            bad,
            BadRows(
                [file] * len(found),
                lines.tolist(),
                [FOREIGN if foreign else MALFORMED for _, _, foreign in found],
                [_json_text(line) for _, line, _ in found],
            ),
        )
        n += len(found)
    return n


def _lines_of(row: int, record: str | None, foreign: bool) -> list[tuple[int, str | None, bool]]:
    """Take a record apart into its lines: after a quote that is never closed, it is all that follows in the file."""
    lines = [None] if record is None else record.rstrip("\r\n").split("\n")
    return [(row + i, line if line is None else line.rstrip("\r"), foreign) for i, line in enumerate(lines)]


def _shifted(rows: Any, rejected: Any) -> Any:
    """Numbers of rows in a file, from their numbers among the lines that could be read."""
    return rows + np.searchsorted(rejected - np.arange(len(rejected)), rows, side="right")


def _add_malformed(relation: Relation, bad: BadRows) -> None:
    wanted = {row for row, reason in zip(bad.row, bad.reason, strict=True) if reason == MALFORMED}
    if wanted:
        texts = malformed_lines(Path(relation.text), wanted)
        bad.raw[:] = [
            _json_text(texts[row]) if row in texts else raw for row, raw in zip(bad.row, bad.raw, strict=True)
        ]


def _json_text(line: str | None) -> str:
    import json

    return json.dumps((line or "").rstrip("\r\n"), ensure_ascii=False)


def _extend(bad: BadRows, more: BadRows) -> None:
    bad.file += more.file
    bad.row += more.row
    bad.reason += more.reason
    bad.raw += more.raw


def refuse_bad_rows(side: str, ingested: Sequence[Ingested], names: Collection[str]) -> None:
    """Refuse a side table with bad rows: it is small, and nobody would look for its quarantine."""
    from cxml.errors import DataError

    for one in ingested:
        if len(one.bad):
            reasons = "; ".join(f"{reason}: {n:,}" for reason, n in one.report.quarantined.items())
            rows = ", ".join(f"{row:,}" for row in one.bad.row[:3])
            raise DataError(
                f"{side} ({one.report.source}): {len(one.bad):,} of {one.report.rows_read:,} rows are bad. {reasons} "
                f"(rows {rows}). Mend them, or leave them out with 'where'; {', '.join(names)} must be readable."
            )
