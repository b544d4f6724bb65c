"""From a source's own columns to canonical ones: one SELECT casts, checks every row and gives bad ones a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cxml.errors import ConfigError, DataError, ended, nearest
from cxml.journeys.schema import (
    FIRST_US,
    LAST_US,
    NO,
    NUMBER_COLUMNS,
    NUMBER_PATTERN,
    STAMP_COLUMNS,
    STAMP_PATTERN,
    WHOLE_PATTERN,
    YES,
)

_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_WIDE = {"UBIGINT", "HUGEINT", "UHUGEINT", "BIGNUM", "VARINT"}
_REAL = {"FLOAT", "DOUBLE", "DECIMAL"}
_TEXT = {"VARCHAR", "ENUM", "JSON", "NULL", '"NULL"'}
_NAIVE = {"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "DATE"}
_AWARE = {"TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS"}
_NESTED = ("STRUCT", "MAP", "UNION", "BLOB", "INTERVAL", "BIT")

#: Reason of a line that has too few or too many fields, or is no JSON object.
MALFORMED = "malformed line"
#: Reason of a line whose bytes are no text; often all of the file has another encoding.
FOREIGN = "line is not UTF-8 (say the source's encoding, e.g. encoding: latin-1)"
#: Reason of an answer that cannot be one.
OFF_SCALE = "score off the scale"


@dataclass(frozen=True, slots=True)
class Expression:
    """A canonical column in SQL.

    Parameters
    ----------
    value : str
        The value, NULL where it is missing or bad.
    faults : tuple of (str, str)
        Conditions under which the row is bad, each with its reason.
    naive : str
        Condition under which a stamp carries no zone; empty for other columns.
    """

    value: str
    faults: tuple[tuple[str, str], ...] = ()
    naive: str = ""


@dataclass(frozen=True, slots=True)
class RowRules:
    """What a good row is, beyond readable values.

    Parameters
    ----------
    survey : str, optional
        Touchpoint whose ``score`` must be a whole number on the scale.
    scale : tuple of (int, int), optional
        Lowest and highest score.
    as_of : int, optional
        UTC microseconds; later stamps lie in the future.
    as_of_local : int, optional
        The same moment on the wall clock of the source, for stamps without a zone.
    """

    survey: str | None = None
    scale: tuple[int, int] | None = None
    as_of: int | None = None
    as_of_local: int | None = None


@dataclass(frozen=True, slots=True)
class CanonicalSelect:
    """The SELECT for one relation, and how to read what it returns.

    Parameters
    ----------
    sql : str
        The statement. Every column it returns is called ``cxml:`` and something, which no source column is.
    columns : tuple of str
        Canonical columns it returns, in fixed order; beside them ``cxml:reason`` and where asked for ``cxml:wanted``
        and ``cxml:raw``, and for stamps written as text ``cxml:naive timestamp`` and so on.
    reasons : tuple of str
        ``cxml:reason`` is 0 for a good row, else 1 + the index of its reason here.
    naive : dict of str to str
        Stamp column -> ``"all"``, ``"some"`` (see the flag column) or ``"none"`` of its values lack a zone.
    """

    sql: str
    columns: tuple[str, ...]
    reasons: tuple[str, ...]
    naive: dict[str, str] = field(default_factory=dict)


def quote(name: str) -> str:
    """Quote a column or table name for SQL.

    Examples
    --------
    >>> print(quote('we"ird:*name'))
    "we""ird:*name"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text for SQL.

    Examples
    --------
    >>> print(literal("it's"))
    'it''s'
    """
    return "'" + text.replace("'", "''") + "'"


def map_columns(
    wanted: Sequence[str], required: Sequence[str], mapping: Mapping[str, str], present: Sequence[str], where: str
) -> dict[str, str]:
    """Find the source's column for each canonical name.

    Parameters
    ----------
    wanted : sequence of str
        Canonical names, in their fixed order.
    required : sequence of str
        Those without which there is nothing to read.
    mapping : mapping of str to str
        Canonical name -> the source's own name, as the user wrote it.
    present : sequence of str
        Columns the source has.
    where : str
        The source, for messages.

    Returns
    -------
    dict of str to str
        In the order of ``wanted``, without the optional ones that the source lacks.

    Raises
    ------
    ConfigError
        If a mapped column or a required one is not there; says what is, and how to map it.

    Examples
    --------
    >>> map_columns(["customer_id", "channel"], ["customer_id"], {"customer_id": "user"}, ["user", "x"], "a.csv")
    {'customer_id': 'user'}
    """
    found = {}
    for name in wanted:
        source = mapping.get(name, name)
        if source in present:
            found[name] = source
        elif name in mapping:
            raise ConfigError(
                f"{where}: has no column '{source}', which 'columns' maps to {name}"
                f"{ended(nearest(source, present))} It has: {_listing(present)}. Correct the name under 'columns'."
            )
        elif name in required:
            raise ConfigError(
                f"{where}: has no column '{name}'{ended(nearest(name, present))} It has: {_listing(present)}. "
                f"Say under 'columns' which of them it is, e.g. columns: {{{name}: ...}}."
            )
    return found


def canonical_select(
    relation: str,
    columns: Mapping[str, str],
    types: Mapping[str, str],
    measures: Sequence[str],
    rules: RowRules,
    where: str,
    malformed: str = "",
    wanted: str = "",
    raw: str = "",
) -> CanonicalSelect:
    """Write the SELECT that turns a relation into canonical columns.

    Parameters
    ----------
    relation : str
        What to select from: a table function or a name; it is called ``t`` inside.
    columns : mapping of str to str
        Canonical name -> source column, from `map_columns`.
    types : mapping of str to str
        Source column -> DuckDB's type.
    measures : sequence of str
        Which further columns are numbers; the others are categories.
    rules : RowRules
        Checks beyond readable values.
    where : str
        The source, for messages.
    malformed : str, optional
        SQL condition under which the row could not be taken apart at all.
    wanted : str, optional
        SQL predicate over the source's own columns; returned as ``cxml:wanted``.
    raw : str, optional
        SQL of the whole row as JSON text; returned as ``cxml:raw`` for bad rows.

    Returns
    -------
    CanonicalSelect

    Raises
    ------
    DataError
        If a column's type cannot hold what it should.
    """
    parts = {
        name: _expression(name, quote(source), types[source], measures, f"{where}: column '{source}'")
        for name, source in columns.items()
    }
    aliases = {name: _alias(name) for name in parts}
    selected = [f"{part.value} as {aliases[name]}" for name, part in parts.items()]
    naive: dict[str, str] = {}
    for name in STAMP_COLUMNS:
        if name in parts:
            naive[name] = {"true": "all", "false": "none"}.get(parts[name].naive, "some")
            if naive[name] == "some":
                selected.append(f"{parts[name].naive} as {quote('cxml:naive ' + name)}")
    faults = [(malformed, MALFORMED)] if malformed else []
    faults += [fault for part in parts.values() for fault in part.faults]
    faults += _rule_faults(parts, aliases, rules)
    cases = " ".join(f"when {condition} then {i}" for i, (condition, _) in enumerate(faults, start=1))
    selected.append(
        f'(case {cases} else 0 end)::utinyint as "cxml:reason"' if cases else '0::utinyint as "cxml:reason"'
    )
    if wanted:
        selected.append(f'coalesce(({wanted}\n), false) as "cxml:wanted"')
    if raw:
        selected.append(f'case when "cxml:reason" <> 0 then {raw} end as "cxml:raw"')
    return CanonicalSelect(
        sql=f"select {', '.join(selected)} from {relation} as t",
        columns=tuple(parts),
        reasons=tuple(reason for _, reason in faults),
        naive=naive,
    )


def _rule_faults(parts: Mapping[str, Expression], aliases: Mapping[str, str], rules: RowRules) -> list[tuple[str, str]]:
    faults = []
    if "timestamp" in parts:
        time = aliases["timestamp"]
        faults.append((f"{time} < {FIRST_US} or {time} >= {LAST_US}", "timestamp outside 1900 to 2200"))
        if rules.as_of is not None:
            latest = f"case when {parts['timestamp'].naive} then {rules.as_of_local} else {rules.as_of} end"
            faults.append((f"{time} > {latest}", "timestamp in the future"))  # no moment: the same every night
    if "score" in parts and "touchpoint" in parts and rules.survey is not None and rules.scale is not None:
        score, (low, high) = aliases["score"], rules.scale
        is_answer = f"{aliases['touchpoint']} = {literal(rules.survey)} and not isnan({score})"
        faults.append(
            (
                f"{is_answer} and ({score} not between {low} and {high} or {score} <> trunc({score}))",
                OFF_SCALE,
            )
        )
    return faults


def _expression(name: str, column: str, type_name: str, measures: Sequence[str], where: str) -> Expression:
    kind = type_name.upper().split("(")[0].strip()
    if type_name.endswith("]") or kind in _NESTED:
        raise DataError(f"{where}: is of type {type_name}, which cannot be {name}. Take it apart in a 'query'.")
    if name == "customer_id":
        return _customer(column, kind)
    if name in STAMP_COLUMNS:
        return _stamp(name, column, kind, type_name, where)
    if name == "sequence":
        return _whole(name, column, kind)
    if name == "resolved":
        return _yes_no(name, column, kind)
    if name in NUMBER_COLUMNS or name in measures:
        return _number(name, column, kind, type_name, where)
    faults = []
    if name == "touchpoint":
        faults.append((f"coalesce(trim({_text(column, kind)}), '') = ''", "touchpoint missing"))
    if kind == "JSON":
        faults.append((f"{column}[1] in ('{{', '[') and json_valid({column})", f"{name} is an object or a list"))
    return Expression(_text(column, kind), tuple(faults))


def _alias(name: str) -> str:
    """Return the name under which a value is selected; conditions use it, so that it is computed once."""
    return quote(f"cxml:{name}")


def _customer(column: str, kind: str) -> Expression:
    missing = "customer_id missing"
    if kind in _WHOLE:
        return Expression(f"cast({column} as bigint)", ((f"{column} is null", missing),))
    if kind in _REAL:
        whole = f"{column} = trunc({column}) and abs({column}) < 1e18"
        return Expression(
            f"case when {whole} then cast({column} as bigint) end",
            (
                (f"{column} is null or isnan(cast({column} as double))", missing),
                (f"not ({whole})", "customer_id not a whole number"),
            ),
        )
    text = f"cast({column} as varchar)"
    return Expression(text, ((f"coalesce(trim({text}), '') = ''", missing),))


def _stamp(name: str, column: str, kind: str, type_name: str, where: str) -> Expression:
    missing = ((f"{column} is null", "timestamp missing"),) if name == "timestamp" else ()
    unreadable = f"{name} not readable"
    if kind in _TEXT:
        text = f"trim(cast({column} as varchar))"
        if name == "timestamp":
            missing = ((f"coalesce({text}, '') = ''", "timestamp missing"),)
        value = _parsed_stamp(text)
        naive = f"coalesce(not regexp_matches(substr({text}, 11), '[Z+-]'), false)"
        return Expression(value, (*missing, (f"{text} <> '' and {_alias(name)} is null", unreadable)), naive)
    if kind in _AWARE or kind in _NAIVE:
        value = f"epoch_us({column})"
        if kind in ("TIMESTAMP_NS", "TIMESTAMPTZ_NS"):
            value = f"((epoch_ns({column}) - (epoch_ns({column}) % 1000 + 1000) % 1000) // 1000)"
        elif kind in _NAIVE and kind != "TIMESTAMP":
            value = f"epoch_us(cast({column} as timestamp))"
        naive = "false" if kind in _AWARE else "true"
        return Expression(value, (*missing, (f"{column} is not null and {_alias(name)} is null", unreadable)), naive)
    mend = "Say what its numbers count in a 'query', e.g. select to_timestamp(seconds) as timestamp"
    raise DataError(f"{where}: is of type {type_name}, which is no moment in time. {mend}.")


def _parsed_stamp(text: str) -> str:
    """Read a stamp that follows the grammar; one without an offset as if it were UTC."""
    has_no_seconds = f"length({text}) > 10 and substr({text}, 17, 1) <> ':'"  # which DuckDB 1 does not read
    whole = f"case when {has_no_seconds} then substr({text}, 1, 16) || ':00' || substr({text}, 17) else {text} end"
    return f"case when regexp_full_match({text}, '{STAMP_PATTERN}') then epoch_us(try_cast({whole} as timestamptz)) end"


def _number(name: str, column: str, kind: str, type_name: str, where: str) -> Expression:
    if kind == "BOOLEAN":
        return Expression(f"cast(cast({column} as integer) as double)")
    if kind in _WHOLE or kind in _WIDE:
        return Expression(f"cast({column} as double)")
    if kind in _REAL:
        value = f"cast({column} as double) + 0.0"  # and -0.0 becomes 0.0
        return Expression(value, ((f"isinf({_alias(name)})", f"{name} not finite"),))
    if kind not in _TEXT:
        raise DataError(f"{where}: is of type {type_name}, which is no number. Turn it into one in a 'query'.")
    text = f"trim(cast({column} as varchar))"
    value = f"case when regexp_full_match({text}, '{NUMBER_PATTERN}') then try_cast({text} as double) + 0.0 end"
    return Expression(
        value,
        (
            (f"{text} <> '' and {_alias(name)} is null", f"{name} not a number"),
            (f"isinf({_alias(name)})", f"{name} not finite"),
        ),
    )


def _whole(name: str, column: str, kind: str) -> Expression:
    fault = f"{name} not a whole number"
    if kind in _WHOLE:
        return Expression(f"cast({column} as bigint)")
    if kind in _TEXT:
        text = f"trim(cast({column} as varchar))"
        value = f"case when regexp_full_match({text}, '{WHOLE_PATTERN}') then try_cast({text} as bigint) end"
        return Expression(value, ((f"{text} <> '' and {_alias(name)} is null", fault),))
    value = f"case when {column} = trunc({column}) then try_cast({column} as bigint) end"
    present = f"{column} is not null" + (f" and not isnan(cast({column} as double))" if kind in _REAL else "")
    return Expression(value, ((f"{present} and {_alias(name)} is null", fault),))


def _yes_no(name: str, column: str, kind: str) -> Expression:
    if kind == "BOOLEAN":
        return Expression(f"cast(cast({column} as integer) as double)")
    text = f"lower(trim({_text(column, kind)}))"
    value = f"cast(case when {text} in {YES} then 1 when {text} in {NO} then 0 end as double)"
    return Expression(value, ((f"{text} <> '' and {_alias(name)} is null", "resolved not yes or no"),))


def _text(column: str, kind: str) -> str:
    """Text of a category; a whole number reads the same however its column is typed."""
    if kind not in _REAL:
        return f"cast({column} as varchar)"
    whole = f"{column} = trunc({column}) and abs({column}) < 1e15"
    number = f"cast(cast({column} as double) as varchar)"
    return f"case when {whole} then cast(cast({column} as bigint) as varchar) else nullif({number}, 'nan') end"


def is_whole_number(type_name: str) -> bool:
    """Tell whether DuckDB's type gives customer ids that are integers already."""
    kind = type_name.upper().split("(")[0].strip()
    return kind in _WHOLE or kind in _REAL


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:15])
    return shown + (f", ... ({len(names)} in all)" if len(names) > 15 else "")
