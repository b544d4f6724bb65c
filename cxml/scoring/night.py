"""One batch from end to end: parts, order, summary, and where the scores go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from cxml.errors import ConfigError, DataError
from cxml.files import refuse_unknown_ending
from cxml.progress import SILENT, Progress
from cxml.scoring.batch import Question, write_parts
from cxml.scoring.changes import changes_since, check_run
from cxml.scoring.database import check_table, is_database, shown, upsert
from cxml.scoring.output import Summary, merged, write_tables
from cxml.scoring.parts import part_folder
from cxml.scoring.shards import check_shards, n_rows, noted, shard_note

if TYPE_CHECKING:
    import pyarrow

    from cxml.journeys.log import JourneyLog
    from cxml.scoring.shards import Shard


@dataclass(frozen=True, slots=True)
class Destination:
    """Where scores go.

    Parameters
    ----------
    out : str
        Parquet or CSV file, or the URL of a PostgreSQL database.
    table : str, optional
        Of the database, ``table`` or ``schema.table``.
    """

    out: str
    table: str | None = None

    @classmethod
    def of(cls, out: str | os.PathLike[str], table: str | None = None) -> Destination:
        """Check what was asked for, before long work.

        Raises
        ------
        ConfigError
            If the format is unknown, or file and table do not go together.
        """
        text = os.fspath(out)
        if is_database(text):
            check_table(table)
        elif table is not None:
            raise ConfigError(f"--table is for a database; --out '{text}' is a file. Leave one of them out.")
        else:
            refuse_unknown_ending(text)
        return cls(text, table)

    @property
    def is_database(self) -> bool:
        """Whether it is a table of a database."""
        return self.table is not None

    def parts_beside(self, home: Path) -> Path:
        """Say beside which file finished parts lie: those for a database in ``home``, by the name of the table."""
        return Path(self.out) if self.table is None else home / f"{quote(self.table, safe='')}.postgresql"

    def write(self, tables: Iterable[pyarrow.Table], schema: pyarrow.Schema, within: Path | None = None) -> None:
        """Write all rows or none."""
        if self.table is not None:
            upsert(tables, schema, self.out, self.table)
        else:
            write_tables(tables, schema, self.out, within=within)

    def __str__(self) -> str:
        return f"{self.table} at {shown(self.out)}" if self.is_database else self.out


def refuse_together(destination: Destination, shard: Shard | None, since: Path | None) -> None:
    """Refuse what does not go together, before long work.

    Raises
    ------
    ConfigError
        If a shard is to be compared with a whole run, or is to become a file that cannot be merged; if the earlier run
        cannot be read.
    """
    if since is not None:
        if shard is not None:
            raise ConfigError("--only-changed needs all customers; merge the shards, then compare without --shard")
        check_run(since)
    if shard is not None and not destination.is_database and not destination.out.lower().endswith(".parquet"):
        raise ConfigError(f"--out '{destination.out}': a shard is a Parquet file; cxml merge writes the CSV")


def score_to(
    question: Question,
    log: JourneyLog,
    destination: Destination,
    *,
    home: Path = Path(),
    since: Path | None = None,
    fresh: bool = False,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Summary:
    """Score everyone and write the scores, within bounded memory; a job that was killed goes on where it was.

    Parameters
    ----------
    question : Question
    log : JourneyLog
    destination : Destination
    home : Path
        Folder for the finished parts of what goes to a database.
    since : Path, optional
        Parquet file of an earlier run: write only what is different.
    fresh : bool
        Take over no parts of an earlier run.
    threads : int, optional
        Default: all cores.
    progress : Progress

    Returns
    -------
    Summary
        Of all scores; with ``since``, ``counts["change"]`` says how many rows were written and why.

    Raises
    ------
    ConfigError
        If it cannot be written there.
    DataError
        If nobody can be scored at the cutoff.
    """
    key, summary, changes = question.key(log), Summary(), Summary()
    name = key if question.shard is None else f"{key}-{question.shard.i}-{question.shard.n}"
    with part_folder(destination.parts_beside(home), name, fresh=fresh) as folder:
        parts = write_parts(question, log, folder, threads=threads, progress=progress)
        schema, tables = merged(parts)
        tables = summary.watch(tables)
        with progress.step("put in order and write") as _:
            if since is not None:
                cutoff = question.cutoff if isinstance(question.cutoff, int) else None
                schema, tables = changes_since(tables, schema, since, cutoff)
                tables = changes.watch(tables)
            note = None if question.shard is None else shard_note(key, log, question.shard)
            schema = noted(schema, note) if since is None else schema
            destination.write(tables, schema, within=folder.folder)
    return summary.with_changes(changes) if since is not None else summary


def merge_shards(
    destination: Destination, paths: Sequence[str | os.PathLike[str]], progress: Progress = SILENT
) -> Summary:
    """Put the shards of a run together: in every bit what the run without shards writes.

    Parameters
    ----------
    destination : Destination
    paths : sequence of path
        All shards, in any order.
    progress : Progress

    Returns
    -------
    Summary

    Raises
    ------
    ConfigError, DataError
        If they are not all the shards of one run, each once; or if nobody is in any.
    """
    shards = [Path(path) for path in paths]
    check_shards(shards)
    if not sum(n_rows(shard) for shard in shards):
        raise DataError("nobody is in any of the shards. Score them at another --cutoff.")
    summary = Summary()
    schema, tables = merged(shards)
    with progress.step("merge") as _:
        destination.write(summary.watch(tables), schema)
    return summary
