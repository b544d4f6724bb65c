"""Files as relations DuckDB can select from: Parquet, CSV, JSON Lines, plain or compressed."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cxml.config import resolve_path
from cxml.errors import ConfigError, CxmlError, DataError, nearest
from cxml.journeys.canonical import literal, quote
from cxml.journeys.encodings import as_utf8, looks_foreign
from cxml.journeys.schema import NUMBER_PATTERN, STAMP_PATTERN

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SUFFIXES = {
    ".parquet": "parquet", ".pq": "parquet",
    ".csv": "csv", ".tsv": "csv", ".txt": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
}  # fmt: skip
_PACKED = {".gz", ".zst"}


@dataclass(frozen=True, slots=True)
class Relation:
    """Something to select from.

    Parameters
    ----------
    label : str
        How messages and reports name the source.
    file : str
        The file the rows stand in; empty for a query or a frame.
    sql : str
        What follows FROM; called ``t`` in the other expressions.
    types : dict of str to str
        Column -> DuckDB's type.
    raw : str
        SQL of the whole row as JSON text.
    costly_raw : bool
        The raw row is better fetched in a second reading, because columns lie apart from each other.
    malformed : str
        SQL condition under which a row could not be taken apart; empty where that cannot be.
    rejects : dict of str to str
        DuckDB's tables of lines it could not take apart -> the file they stand in.
    text : str
        Where its lines can be read as UTF-8: the file, or a copy.
    """

    label: str
    file: str
    sql: str
    types: dict[str, str]
    raw: str = "cast(to_json(t) as varchar)"
    costly_raw: bool = False
    malformed: str = ""
    rejects: dict[str, str] = field(default_factory=dict)
    text: str = ""


@contextmanager
def refusing(label: str, sql_is: type[CxmlError] = DataError) -> Iterator[None]:
    """Turn what DuckDB, Arrow or the system say into one paragraph; ``sql_is`` is for faults of SQL itself."""
    import duckdb
    import pyarrow as pa

    try:
        yield
    except CxmlError:
        raise
    except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
        raise ConfigError(
            f"{label}: the SQL does not hold: {_first_line(error)}. Correct 'where' or 'query'."
        ) from None
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise sql_is(f"{label}: cannot be read: {_first_line(error)}.{_mend(error, sql_is)}") from None


def _mend(error: Exception, sql_is: type[CxmlError]) -> str:
    import duckdb

    if isinstance(error, duckdb.ConversionException):
        return " Correct 'where' or 'query'; try_cast gives null where a value does not fit."
    if sql_is is ConfigError:
        return " Correct 'query'."
    return " The file is damaged or not what its name says: replace it, say its 'format', or take it out of 'sources'."


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    hint = next((f" ({line})" for line in lines[1:] if line.startswith(("Candidate", "Did you mean"))), "")
    return lines[0].rstrip(".") + hint


def find_files(path: str, folder: str | os.PathLike[str], wanted: str | None = None) -> tuple[str, list[Path]]:
    """Find the files a path means, and their format.

    Parameters
    ----------
    path : str
        A file, a glob or a folder, as the project file has it.
    folder : path
        Where relative paths start.
    wanted : str, optional
        The format, where file names do not tell.

    Returns
    -------
    format : str
        ``"parquet"``, ``"csv"`` or ``"jsonl"``.
    files : list of Path
        In alphabetical order.

    Raises
    ------
    ConfigError
        If there is nothing, or formats are mixed or unknown.
    """
    target = resolve_path(path, folder)
    if target.is_dir():
        files = sorted(f for f in target.rglob("*") if f.is_file() and not _is_hidden(f.relative_to(target)))
        if not files:
            raise ConfigError(f"'{path}': the folder '{target}' holds no files. Name another under 'path'.")
    elif target.exists():
        files = [target]
    else:
        found = glob.glob(str(target), recursive=True)  # noqa: PTH207 - Path.glob knows no absolute patterns
        files = sorted(Path(file) for file in found if Path(file).is_file())
        if not files:
            raise _nothing_there(path, target)
    formats = {wanted or _format_of(file) for file in files}
    if len(formats) > 1:
        counts = ", ".join(sorted(formats))
        raise ConfigError(f"'{path}': mixes formats ({counts}). Name one kind with a glob, such as {path}/*.parquet.")
    return formats.pop(), files


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _nothing_there(path: str, target: Path) -> ConfigError:
    if glob.has_magic(str(target)):
        return ConfigError(f"'{path}': no file matches '{target}'. Correct the pattern under 'path'.")
    parent = target.parent
    if not parent.is_dir():
        return ConfigError(f"'{path}': there is no folder '{parent}'. Correct 'path'; it starts at the project file.")
    hint = nearest(target.name, (f.name for f in parent.iterdir() if not f.name.startswith(".")))
    stop = "" if hint.endswith("?") else "."
    return ConfigError(f"'{path}': there is no file '{target}'{hint}{stop} Correct 'path'.")


def _format_of(file: Path) -> str:
    suffixes = [s.lower() for s in file.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    found = _SUFFIXES.get(suffixes[-1] if suffixes else "")
    if found is None:
        known = ", ".join(s for s in _SUFFIXES)
        raise ConfigError(f"'{file}': the name does not tell the format (known: {known}). Say it with 'format: csv'.")
    return found


def file_relation(
    con: DuckDBPyConnection,
    file: Path,
    kind: str,
    label: str,
    as_text: Collection[str] | None,
    encoding: str | None,
    stack: ExitStack,
) -> Relation:
    """Make a file selectable.

    Parameters
    ----------
    con : DuckDB connection
    file : Path
    kind : str
        ``"parquet"``, ``"csv"`` or ``"jsonl"``.
    label : str
        The source, for messages.
    as_text : collection of str, optional
        None: columns of text files stay text, which is the quick way. Else columns are given the type that all
        their values bear, so that SQL can compare them, but for these.
    encoding : str, optional
        Of a text file; default: UTF-8, or what a byte order mark says.
    stack : ExitStack
        Ends with the connection.

    Returns
    -------
    Relation

    Raises
    ------
    DataError
        If the file is empty, unreadable or not what its name says.
    """
    name = f"{label} ({file.name})" if file.name not in label else label
    with refusing(name):
        with file.open("rb") as opened:
            if not opened.read(1):
                raise DataError(f"{name}: the file '{file}' is empty. Replace it, or take it out of 'sources'.")
        if kind == "parquet":
            sql = f"read_parquet({literal(_plain(file))})"
            return Relation(label, str(file), sql, describe(con, sql), costly_raw=True)
        text = as_utf8(file, encoding, stack)
        if kind == "csv":
            relation = _csv_relation(con, file, text, label, as_text)
        else:
            relation = _jsonl_relation(con, file, text, name, label, as_text)
        return replace(relation, text=str(text))


def _plain(file: Path) -> str:
    """Return the path as DuckDB should take it: letter by letter, no character meaning a pattern."""
    return glob.escape(str(file))


def describe(con: DuckDBPyConnection, sql: str) -> dict[str, str]:
    """Columns of a relation and DuckDB's types, without reading it."""
    shape = con.sql(f"select * from {sql} as t limit 0")
    return {column: str(kind) for column, kind in zip(shape.columns, shape.types, strict=True)}


def _csv_relation(
    con: DuckDBPyConnection, file: Path, text: Path, label: str, as_text: Collection[str] | None
) -> Relation:
    names, delimiter = _csv_header(file, text, label)
    rejects = f"rejects_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
    columns = "{" + ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names) + "}"
    scan = (
        f"read_csv({literal(_plain(text))}, auto_detect=false, columns={columns}, delim={literal(delimiter)}, "
        f"header=true, quote='\"', escape='\"'{_unpacking(text)}, "
    )
    sql = (
        f"{scan}store_rejects=true, rejects_limit=0, rejects_table={literal(rejects)}, "
        f"rejects_scan={literal(rejects + '_scans')})"
    )
    types = dict.fromkeys(names, "VARCHAR")
    if as_text is not None:
        types = narrow_types(con, f"{scan}ignore_errors=true)", names, as_text)
        sql = typed(sql, types)
    return Relation(label, str(file), sql, types, rejects={rejects: str(file)})


def _unpacking(file: Path) -> str:
    kind = {".gz": "gzip", ".zst": "zstd"}.get(file.suffix.lower())
    return f", compression='{kind}'" if kind else ""


@contextmanager
def open_text(file: Path) -> Iterator[TextIO]:
    """Open a text file, unpacked, whatever bytes it holds."""
    import pyarrow as pa

    with pa.input_stream(str(file), compression="detect") as stream:
        yield io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")


def _csv_header(file: Path, text: Path, label: str) -> tuple[list[str], str]:
    """Column names and delimiter, from the first line alone: what ragged lines below cannot confuse."""
    with open_text(text) as lines:
        line = lines.readline().rstrip("\r\n")
    if not line.strip():
        raise DataError(f"{label}: '{file}' has no header line. Its first line must name the columns.")
    delimiter = max(",;\t|", key=lambda d: len(next(csv.reader([line], delimiter=d))))
    names = next(csv.reader([line], delimiter=delimiter))
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise DataError(f"{label}: '{file}' has two columns '{name}'. Rename one in the header line.")
        seen.add(name.lower())
    return [name or f"column{i}" for i, name in enumerate(names)], delimiter


def _jsonl_relation(
    con: DuckDBPyConnection, file: Path, text: Path, name: str, label: str, as_text: Collection[str] | None
) -> Relation:
    with open_text(text) as opened:
        if opened.read(4096).lstrip().startswith("["):
            raise DataError(f"{name}: '{file}' is one JSON array. Write one object a line (JSON Lines).")
    lines = f"read_ndjson_objects({literal(_plain(text))}, ignore_errors=true{_unpacking(text)})"
    objects = f"(select json from {lines} where json_type(json) = 'OBJECT')"
    structure = con.sql(f"select cast(json_group_structure(json) as varchar) from {objects}").fetchall()[0][0]
    found = json.loads(structure) if structure else {}
    if not isinstance(found, dict) or not found:
        if looks_foreign(text):
            raise DataError(f"{name}: '{file}' is not UTF-8. Say what it is, e.g. 'encoding: latin-1'.")
        raise DataError(f"{name}: '{file}' has no line that is a JSON object. Write one object a line (JSON Lines).")
    keys = _once(found)
    spec = literal(json.dumps(dict.fromkeys(keys, "VARCHAR"), ensure_ascii=False))
    fields = ", ".join(f"s.{quote(key)} as {quote(key)}" for key in keys)
    sql = (
        f'(select {fields}, "cxml:line" from (select '
        f"case when json_type(json) = 'OBJECT' then from_json(json, {spec}) end as s, "
        f'cast(json as varchar) as "cxml:line" from {lines}))'
    )
    types = dict.fromkeys(keys, "VARCHAR")
    if as_text is not None:
        types = narrow_types(con, sql, keys, as_text)
        sql = typed(sql, types, keep='"cxml:line"')
    types |= {key: kind for key in keys if (kind := _nested(found[key])) and types[key] == "VARCHAR"}
    malformed = '"cxml:line" is null or "cxml:line" not like \'{%\''
    return Relation(label, str(file), sql, types, raw='"cxml:line"', malformed=malformed)


def _nested(structure: Any) -> str:
    """Return the type of a key whose values are objects, lists or a mixture; empty for plain ones."""
    if isinstance(structure, dict):
        return "STRUCT"
    if isinstance(structure, list):
        return "JSON[]"
    return "JSON" if structure == "JSON" else ""


def _once(keys: dict[str, Any]) -> list[str]:
    """Keys without those that differ from an earlier one in upper and lower case only, which DuckDB holds equal."""
    first: dict[str, str] = {}
    for key in keys:
        first.setdefault(key.lower(), key)
    return list(first.values())


def narrow_types(con: DuckDBPyConnection, sql: str, columns: Sequence[str], as_text: Collection[str]) -> dict[str, str]:
    """Find the narrowest type that every value of a text column bears; ``as_text`` columns stay text.

    Digits behind a leading zero are a code, not a number: such a column stays text.
    """
    candidates = {
        "BIGINT": "regexp_full_match({c}, '0|[+-]?[1-9][0-9]{{0,17}}')",
        "DOUBLE": f"regexp_full_match({{c}}, '{_braces(NUMBER_PATTERN)}') "
        "and not regexp_matches({c}, '^[+-]?0[0-9]')",
        "BOOLEAN": "lower({c}) in ('true', 'false')",
        "DATE": "regexp_full_match({c}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}') and try_cast({c} as date) is not null",
        "TIMESTAMP": f"regexp_full_match({{c}}, '{_braces(STAMP_PATTERN)}') and not regexp_matches(substr({{c}}, 11), "
        "'[Z+-]') and try_cast({c} as timestamp) is not null",
        "TIMESTAMP WITH TIME ZONE": f"regexp_full_match({{c}}, '{_braces(STAMP_PATTERN)}') "
        "and try_cast({c} as timestamptz) is not null",
    }
    open_columns = [column for column in columns if column not in as_text]
    tests = [
        f"coalesce(bool_and({quote(column)} is null or {test.format(c=quote(column))}), false)"
        for column in open_columns
        for test in candidates.values()
    ]
    types = dict.fromkeys(columns, "VARCHAR")
    if not tests:
        return types
    answers = con.sql(f"select {', '.join(tests)} from {sql}").fetchall()[0]
    names = list(candidates)
    for i, column in enumerate(open_columns):
        fits = [name for name, fit in zip(names, answers[i * len(names) :], strict=False) if fit]
        types[column] = fits[0] if fits else "VARCHAR"
    return types


def _braces(pattern: str) -> str:
    return pattern.replace("{", "{{").replace("}", "}}")


def typed(sql: str, types: dict[str, str], keep: str = "") -> str:
    """Wrap a relation of texts so that its columns are of these types."""
    casts = [
        f"cast({quote(c)} as {kind}) as {quote(c)}" if kind != "VARCHAR" else quote(c) for c, kind in types.items()
    ]
    return f"(select {', '.join([*casts, *([keep] if keep else [])])} from {sql})"


def malformed_lines(file: Path, rows: Collection[int]) -> dict[int, str]:
    """Texts of some lines of a JSON Lines file; blank lines do not count, the first is 1."""
    found = {}
    with open_text(file) as text:
        for number, line in enumerate((line for line in text if line.strip()), start=1):
            if number in rows:
                found[number] = line.rstrip("\r\n")
    return found
