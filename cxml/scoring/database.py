"""Scores into a table of PostgreSQL: all rows of a run or none, each customer and cutoff once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cxml.config import expand
from cxml.errors import ConfigError, DataError, require
from cxml.journeys.canonical import quote
from cxml.journeys.sources import hide_secrets, quoted_table

if TYPE_CHECKING:
    import pyarrow

_SCHEMES = ("postgresql://", "postgres://")
_KEY = ("customer_id", "cutoff")
_STAGE = "cxml_scores_of_this_run"


def is_database(out: object) -> bool:
    """Tell whether an output is the URL of a PostgreSQL database.

    Examples
    --------
    >>> is_database("postgresql://ann@host/crm"), is_database("scores.parquet")
    (True, False)
    """
    return str(out).startswith(_SCHEMES)


def check_table(table: str | None) -> str:
    """Refuse a table that is not named as ``table`` or ``schema.table``.

    Raises
    ------
    ConfigError
    """
    if not table or not all(table.split(".")) or table.count(".") > 1 or "\0" in table:
        raise ConfigError(f"--table {table or 'is missing'}: name the table to write to, such as crm.scores")
    return table


def upsert(tables: Iterable[pyarrow.Table], schema: pyarrow.Schema, url: str, table: str) -> None:
    """Write rows into a table in one transaction; a row of the same customer and cutoff gives way.

    The rows are copied into a temporary table first. The table is made where there is none, with the primary key
    ``(customer_id, cutoff)``; one that is there needs the same columns and a unique key on these two.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
    schema : pyarrow.Schema
        Of the tables.
    url : str
        ``postgresql://user@host/database``; ``${NAME}`` is taken from the environment.
    table : str
        ``table`` or ``schema.table``; a schema must be there.

    Raises
    ------
    ConfigError
        If the extra ``postgres`` is not installed, or the database refuses the table.
    DataError
        If the database cannot be reached.
    """
    import pyarrow as pa

    driver = require("adbc_driver_postgresql.dbapi", "postgres")
    address = expand(url)
    batches = (batch for one in tables for batch in one.replace_schema_metadata(None).to_batches())
    reader = pa.RecordBatchReader.from_batches(schema.remove_metadata(), batches)
    try:
        connection = driver.connect(address)
    except driver.Error as error:
        raise DataError(
            f"the database at {shown(url)} cannot be reached: {hide_secrets(error, address)}. Check --out, and that "
            "the server runs and lets this user in."
        ) from None
    with connection, connection.cursor() as cursor:
        try:
            cursor.adbc_ingest(_STAGE, reader, mode="create", temporary=True)
            for statement in _statements(schema, quoted_table(table)):
                cursor.execute(statement)
            connection.commit()
        except driver.Error as error:
            raise ConfigError(
                f"PostgreSQL refuses to write {table}: {hide_secrets(error, address)}. Nothing was changed. The table "
                f"needs the columns of the scores and a unique key on ({', '.join(_KEY)}); where there is no table, "
                "one is made."
            ) from None


def _statements(schema: pyarrow.Schema, table: str) -> list[str]:
    names = [quote(name) for name in schema.names]
    columns = ", ".join(f"{quote(field.name)} {_type(field)}" for field in schema)
    key = ", ".join(map(quote, _KEY))
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in map(quote, _KEY))
    return [
        # two runs that find no table must not both make it
        f"select pg_advisory_xact_lock({_LOCK})",
        f"create table if not exists {table} ({columns}, primary key ({key}))",
        f"insert into {table} ({', '.join(names)}) select {', '.join(names)} from pg_temp.{quote(_STAGE)} "
        f"on conflict ({key}) do update set {updates}",
    ]


#: Any number that others are unlikely to lock: the letters of cxml.
_LOCK = int.from_bytes(b"cxml")


def _type(field: Any) -> str:
    import pyarrow as pa

    if pa.types.is_timestamp(field.type):
        return "timestamptz"
    if pa.types.is_integer(field.type):
        return "bigint"
    return "double precision" if pa.types.is_floating(field.type) else "text"


def shown(url: str) -> str:
    """Give a URL without what is secret in it.

    Examples
    --------
    >>> shown("postgresql://ann:geheim@host/crm?sslmode=require")
    'postgresql://ann:***@host/crm'
    """
    bare = url.partition("?")[0]
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", bare)
