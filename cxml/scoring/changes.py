"""What is different from an earlier run: the rows to send on, and those to take away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxml.errors import ConfigError, DataError
from cxml.files import sha256_file
from cxml.scoring.output import Sorted, regrouped
from cxml.scoring.shards import note_of, noted

if TYPE_CHECKING:
    import pyarrow

#: The column that says what happened to a row.
CHANGE = "change"
NEW, CHANGED, GONE = "new", "changed", "gone"


def changes_since(
    tables: Iterable[pyarrow.Table], schema: pyarrow.Schema, run: Path, cutoff: int | None
) -> tuple[pyarrow.Schema, Iterator[pyarrow.Table]]:
    """Keep the rows that an earlier run has not, or not so, and add those that only the earlier run has.

    Every customer was scored: windows move with the cutoff, so nobody's score stays what it is for want of new events,
    and only the comparison of whole rows tells whose did.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        The scores of a full run, ordered by ``customer_id``.
    schema : pyarrow.Schema
        Of the tables.
    run : Path
        Parquet file of the earlier scores.
    cutoff : int, optional
        Cutoff of the full run, UTC microseconds: rows that differ only in it are not different. None where each
        customer has one of their own; it then counts as any other column.

    Returns
    -------
    schema : pyarrow.Schema
        With the column ``change``, and a note of the run and the cutoff.
    tables : iterator of pyarrow.Table
        ``new`` and ``changed`` rows as they are now; of those ``gone`` the id and the cutoff, all else missing.

    Raises
    ------
    ConfigError
        If the run has other columns.
    """
    import pyarrow as pa

    old = _open_run(run, schema)
    note = {"kind": "changes", "since": sha256_file(run), "cutoff": cutoff}
    wider = noted(schema.append(pa.field(CHANGE, pa.string())), note)
    return wider, regrouped(_compared(tables, schema, old, cutoff), wider.remove_metadata())


def check_run(run: Path) -> None:
    """Refuse what is no whole run of scores.

    Raises
    ------
    ConfigError, DataError
        If there is no such file, or it holds something else.
    """
    if note_of(run):
        raise ConfigError(f"--since '{run}' is a shard or holds changes; name the whole scores of an earlier run")


def _open_run(run: Path, schema: pyarrow.Schema) -> Sorted:
    check_run(run)
    old = Sorted(run)
    if not old.schema.equals(schema.remove_metadata()):
        theirs, ours = ({(field.name, str(field.type)) for field in one} for one in (old.schema, schema))
        different = sorted({name for name, _ in theirs ^ ours}) or ["their order"]
        raise ConfigError(
            f"--since '{run}' has other columns than this run (different: {', '.join(different[:5])}). Compare with "
            "a run of the same targets, horizons and --reasons."
        )
    return old


def _compared(
    tables: Iterable[pyarrow.Table], schema: pyarrow.Schema, old: Sorted, cutoff: int | None
) -> Iterator[pyarrow.Table]:
    import pyarrow as pa

    def before(bound: Any) -> pyarrow.Table:
        return pa.concat_tables([old.schema.empty_table(), *old.upto(bound)]).combine_chunks()

    for table in tables:
        if len(table):
            yield _compare(table, before(table.column("customer_id")[-1].as_py()), cutoff)
    yield _compare(schema.remove_metadata().empty_table(), before(None), cutoff)


def _compare(new: pyarrow.Table, old: pyarrow.Table, cutoff: int | None) -> pyarrow.Table:
    """Compare the rows of some customers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    new = new.combine_chunks()
    place = pc.index_in(new.column("customer_id"), old.column("customer_id").combine_chunks())
    known = np.flatnonzero(place.is_valid().to_numpy())
    change = np.full(len(new), NEW, dtype=object)
    names = [name for name in new.column_names if name != "cutoff" or cutoff is None]
    differs = np.zeros(len(known), bool)
    if len(known):
        ours, theirs = new.take(pa.array(known)), old.take(place.drop_null())
        for name in names:
            differs |= _differs(ours.column(name), theirs.column(name))
    change[known[differs]] = CHANGED
    change[known[~differs]] = None
    stays = np.array([what is not None for what in change.tolist()], bool)
    kept = _with_change(new, change).filter(pa.array(stays))
    gone = old.filter(pc.invert(pc.is_in(old.column("customer_id"), new.column("customer_id").combine_chunks())))
    blank = {name: pa.nulls(len(gone), gone.schema.field(name).type) for name in gone.column_names}
    blank["customer_id"] = gone.column("customer_id")
    moment = gone.schema.field("cutoff").type
    blank["cutoff"] = gone.column("cutoff") if cutoff is None else pa.array([cutoff] * len(gone), moment)
    removed = _with_change(pa.table(blank, schema=gone.schema), np.full(len(gone), GONE, dtype=object))
    return pa.concat_tables([kept, removed]).sort_by("customer_id")


def _with_change(table: pyarrow.Table, change: Any) -> pyarrow.Table:
    import pyarrow as pa

    return table.append_column(CHANGE, pa.array(change, pa.string()))


def _differs(one: pyarrow.ChunkedArray, other: pyarrow.ChunkedArray) -> Any:
    """Tell which values differ, numbers in any bit."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(one.type):
        numbers = [column.to_numpy().view(np.int64) for column in (one, other)]
        return (numbers[0] != numbers[1]) | (one.is_null().to_numpy() != other.is_null().to_numpy())
    same = pc.fill_null(pc.equal(one, other), False).to_numpy()
    both_missing = one.is_null().to_numpy() & other.is_null().to_numpy()
    return ~(same | both_missing)


def apply_changes(run: pyarrow.Table, changes: pyarrow.Table, *, since: str | None = None) -> pyarrow.Table:
    """Bring the scores of an earlier run up to date.

    Parameters
    ----------
    run : pyarrow.Table
        The scores that the changes were computed against.
    changes : pyarrow.Table
        As read from the file that ``cxml score --only-changed`` wrote, with its metadata.
    since : str, optional
        SHA-256 of the file of the run; where given, it must be the one the changes speak of.

    Returns
    -------
    pyarrow.Table
        What a full run gives, in every bit.

    Raises
    ------
    DataError
        If the changes are of another run.
    """
    import json

    import pyarrow as pa
    import pyarrow.compute as pc

    from cxml.scoring.shards import NOTE

    note = json.loads((changes.schema.metadata or {}).get(NOTE, b"{}"))
    if note.get("kind") != "changes" or since not in (None, note["since"]):
        raise DataError("these are not the changes of this run; compute them anew with --only-changed --since RUN")
    kept = run.filter(pc.invert(pc.is_in(run.column("customer_id"), changes.column("customer_id").combine_chunks())))
    kept = kept.replace_schema_metadata(None)
    if note["cutoff"] is not None:
        i = kept.schema.get_field_index("cutoff")
        kept = kept.set_column(
            i, kept.schema.field(i), pa.array([note["cutoff"]] * len(kept), kept.schema.field(i).type)
        )
    now = changes.filter(pc.not_equal(changes.column(CHANGE), GONE)).drop_columns([CHANGE])
    return pa.concat_tables([kept, now.replace_schema_metadata(None)]).sort_by("customer_id").combine_chunks()
