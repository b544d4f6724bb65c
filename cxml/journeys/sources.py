"""Where rows come from: files, SQL over named files, PostgreSQL, data frames; each becomes a few relations."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from cxml.config import SourceConfig, expand
from cxml.errors import ConfigError, DataError, require
from cxml.journeys.canonical import quote
from cxml.journeys.formats import Relation, describe, file_relation, find_files, refusing

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

_REGISTERED = "cxml_rows"


def is_table(source: object) -> bool:
    """Tell whether a source is rows in memory: a pandas or other frame, or an Arrow table."""
    return hasattr(source, "__arrow_c_stream__") or type(source).__module__.startswith("pandas")


@contextmanager
def open_source(
    source: SourceConfig | Any,
    folder: str | os.PathLike[str],
    where: str | None = None,
    columns: Mapping[str, str] | None = None,
    as_text: Collection[str] = (),
    label: str = "",
) -> Iterator[tuple[DuckDBPyConnection, Iterator[Relation]]]:
    """Open one source.

    Parameters
    ----------
    source : SourceConfig, data frame or Arrow table
    folder : path
        Where relative paths start.
    where : str, optional
        SQL predicate over the source's own columns. PostgreSQL applies it itself; for text files it decides that
        columns get types, so that it can compare numbers.
    columns : mapping of str to str, optional
        Canonical name -> source column.
    as_text : collection of str, optional
        Canonical names whose columns stay text in text files, so that no leading zero is lost.
    label : str, optional
        Name of a frame, for messages.

    Yields
    ------
    connection : DuckDB connection
        With its session in UTC, and blind to Python variables.
    relations : iterator of Relation
        One for each file, or a single one.
    """
    with ExitStack() as stack:
        con = stack.enter_context(_connection())
        if not isinstance(source, SourceConfig):
            yield con, iter([_frame_relation(con, source, label or "frame")])
        elif source.url is not None:
            yield con, iter([_postgres_relation(con, stack, source, where)])
        elif source.tables is not None:
            yield con, iter([_query_relation(con, source, folder, stack)])
        else:
            texts = None if where is None else _source_names(columns or {}, as_text)
            yield con, _file_relations(con, source, folder, texts, stack)


def _source_names(columns: Mapping[str, str], canonical: Collection[str]) -> set[str]:
    return {columns.get(name, name) for name in canonical}


@contextmanager
def _connection() -> Iterator[DuckDBPyConnection]:
    import duckdb

    with duckdb.connect(":memory:") as con:
        con.execute("set TimeZone = 'UTC'")
        con.execute("set python_enable_replacements = false")
        yield con


def _file_relations(
    con: DuckDBPyConnection,
    source: SourceConfig,
    folder: str | os.PathLike[str],
    as_text: Collection[str] | None,
    stack: ExitStack,
) -> Iterator[Relation]:
    kind, files = find_files(source.path or "", folder, source.format)
    for file in files:
        yield file_relation(con, file, kind, source.label, as_text, source.encoding, stack)


def _query_relation(
    con: DuckDBPyConnection, source: SourceConfig, folder: str | os.PathLike[str], stack: ExitStack
) -> Relation:
    rejects: dict[str, str] = {}
    for name, path in (source.tables or {}).items():
        label = f"table '{name}' ({path})"
        kind, files = find_files(path, folder)
        parts = [file_relation(con, file, kind, label, (), source.encoding, stack) for file in files]
        with refusing(label):
            rows = " union all by name ".join(_checked(con, part) for part in parts)
            con.execute(f"create temp view {quote(name)} as {rows}")
        rejects |= {table: file for part in parts for table, file in part.rejects.items()}
    sql = f"({(source.query or '').strip().rstrip(';')}\n)"
    with refusing(source.label, sql_is=ConfigError):
        return Relation(source.label, "", sql, describe(con, sql), rejects=rejects)


def _checked(con: DuckDBPyConnection, part: Relation) -> str:
    """Select all of a file for a query to speak of; a query cannot quarantine, so malformed lines are refused."""
    if not part.malformed:
        return f"select * from {part.sql}"
    bad = con.sql(f"select count(*) from {part.sql} where {part.malformed}").fetchall()[0][0]
    if bad:
        raise DataError(
            f"{part.label}: {bad} lines of '{part.file}' are no JSON objects. Mend them, or read it under 'path', "
            "which sets them aside."
        )
    return f'select * exclude ("cxml:line") from {part.sql}'


def _frame_relation(con: DuckDBPyConnection, rows: Any, label: str) -> Relation:
    table = to_arrow(rows, label)
    with refusing(label):
        con.register(_REGISTERED, table)
        return Relation(label, "", _REGISTERED, describe(con, _REGISTERED))


def to_arrow(rows: Any, label: str) -> pa.Table:
    """Turn a data frame into an Arrow table; columns of mixed Python objects become text.

    Raises
    ------
    DataError
        If two columns have one name.
    """
    import pyarrow as pa

    if not type(rows).__module__.startswith("pandas"):
        table = rows if isinstance(rows, pa.Table) else pa.table(rows)
        names = table.column_names
        columns = dict(zip(names, table.columns, strict=True))
    else:
        names = [str(name) for name in rows.columns]
        columns = {name: _series_to_arrow(rows.iloc[:, i]) for i, name in enumerate(names)}
    lowered = [name.lower() for name in names]
    twice = next((name for name in names if lowered.count(name.lower()) > 1), None)
    if twice is not None:
        raise DataError(f"{label}: has two columns '{twice}' (upper and lower case are the same). Rename one.")
    return pa.table(columns)


def _series_to_arrow(series: Any) -> pa.Array:
    import pyarrow as pa

    if getattr(series.dtype, "tz", None) is not None:
        return pa.array(series.dt.tz_convert(None)).cast(pa.timestamp(series.dt.unit, "UTC"))
    if series.dtype != object:
        return pa.array(series, from_pandas=True)
    try:
        array = pa.array(series, from_pandas=True)
        if not pa.types.is_timestamp(array.type):
            return array
    except (pa.ArrowException, OverflowError):
        pass  # mixed types; text holds them all, and each row is then checked by itself
    return pa.array(series.map(str, na_action="ignore"), pa.string(), from_pandas=True)


def _postgres_relation(con: DuckDBPyConnection, stack: ExitStack, source: SourceConfig, where: str | None) -> Relation:
    url = expand(source.url or "")
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError("'url': only PostgreSQL is read by URL (postgresql://user@host/database). Correct 'url'.")
    driver = require("adbc_driver_postgresql.dbapi", "postgres")
    rows = quoted_table(source.table) if source.table else f"({(source.query or '').strip().rstrip(';')}\n)"
    condition = f" where ({where}\n)" if where else ""
    try:
        connection = stack.enter_context(driver.connect(url))
    except driver.Error as error:
        raise DataError(
            f"{source.label}: the database at {_place(url)} cannot be reached: {hide_secrets(error, url)}. "
            "Check 'url', and that the server runs and lets this user in."
        ) from None
    try:
        cursor = stack.enter_context(connection.cursor())
        cursor.execute(f"select * from {rows} as t{condition}")
        reader = cursor.fetch_record_batch()
    except driver.Error as error:
        raise ConfigError(
            f"{source.label}: PostgreSQL refuses the query: {hide_secrets(error, url)}. "
            "Correct 'table', 'query' or 'where'."
        ) from None
    con.register("cxml_shape", reader.schema.empty_table())
    con.register(_REGISTERED, reader)
    return Relation(source.label, "", _REGISTERED, describe(con, "cxml_shape"))


def quoted_table(name: str) -> str:
    """Quote a table's name, with its schema where it has one.

    Examples
    --------
    >>> print(quoted_table("shop.Events"), quoted_table("events"))
    "shop"."Events" "events"
    """
    return ".".join(quote(part) for part in name.split("."))


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}{parts.path}"


def hide_secrets(error: Exception, url: str) -> str:
    """Return a driver's message on one line, without what is secret in the URL."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    password = urlsplit(url).password or ""
    for secret in filter(None, (url, password, unquote(password))):
        text = text.replace(secret, "***")
    return text[:300].rstrip(".")
