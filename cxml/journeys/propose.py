"""A first project file for data nobody has described yet: columns and touchpoints guessed, to be read through."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxml.config import SourceConfig
from cxml.errors import DataError
from cxml.journeys.canonical import quote
from cxml.journeys.formats import Relation
from cxml.journeys.schema import STAMP_PATTERN
from cxml.journeys.sources import open_source

#: Canonical column -> what its name often is, best guess first.
COLUMN_NAMES = {
    "customer_id": ("^customer_?id$", "customer", "client", "user", "member", "account", "subscriber", "visitor",
                    "person", "^cust", "^id$", "case"),
    "timestamp": ("^timestamp$", "time_?stamp", "event_?time", "date_?time", "^when$", "^at$", "^ts$", "time", "date",
                  "created", "occurred"),
    "touchpoint": ("^touch_?point$", "event_?(type|name)", "^event$", "activity", "action", "concept:name", "touch",
                   "page", "step", "type", "kind"),
    "channel": ("channel", "device", "medium", "platform"),
    "value": ("^value$", "amount", "revenue", "price", "total", "spend", "cost"),
    "duration": ("duration", "seconds", "handle_?time", "elapsed"),
    "score": ("score", "nps", "rating", "csat", "stars"),
    "case_id": ("case", "ticket", "issue_?id", "request_?id"),
    "resolved": ("resolved", "solved"),
    "available_at": ("available_?at", "loaded_?at", "ingested", "received_?at"),
}  # fmt: skip
#: What a touchpoint's name often says of it.
LEAVING = r"cancel|churn|unsubscri|terminat|close_?account|account_?closed|withdraw|resign"
ANSWER = (
    r"(survey|nps|csat|ces|review|feedback|rating).*(answer|respon|submit|complet|score|given)"
    r"|^(nps|csat|ces|review|feedback|survey)$"
)
ASKED = r"(survey|nps|csat|ces|review|feedback).*(sent|ask|request|invit)"
CONTACT = r"call|chat|e?mail|ticket|complain|support|help_?desk|hotline|contact"
#: What the company does or books, which is no sign of life of the customer.
OURS = (
    r"invoice|bill|campaign|offer|price|payment|refund|remind|newsletter|dunn|promo|voucher|chargeback"
    r"|(survey|e?mail|sms|letter|push|message|notification).*(sent|ask|request|invit)"
)

#: Longer lists are left to their reader.
MOST_LISTED = 12

#: How dates are written that are not ISO 8601, the day first before the month first.
DATE_FORMATS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y%m%d")
#: What epoch numbers count, and how many of them make a second.
EPOCHS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL", "UBIGINT", "HUGEINT")
_MOMENTS = ("TIMESTAMP", "DATE")


@dataclass(frozen=True, slots=True)
class Profile:
    """One column as found: its type, distinct values (about) and range."""

    kind: str
    distinct: int
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class Stamps:
    """How the moments are written.

    Parameters
    ----------
    reading : str
        SQL that reads them; empty where they need none.
    note : str
        What the reading took them for.
    naive, aware : bool
        Whether some carry no zone, and some do.
    """

    reading: str = ""
    note: str = ""
    naive: bool = True
    aware: bool = False


def propose_project(data: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> tuple[str, str]:
    """Read a data file and propose a project file.

    Parameters
    ----------
    data : path
        A Parquet, CSV or JSON Lines file of events.
    out : path, optional
        Where the project file will lie; data beside or below it are named from there. Default: the current folder.

    Returns
    -------
    name : str
        A name for the project, from the file's.
    text : str
        YAML with comments; what was guessed is marked so.

    Raises
    ------
    ConfigError, DataError
        If the file cannot be read, holds no rows, or no column looks like customer, moment or touchpoint.
    """
    path = Path(data)
    folder = (Path.cwd() if out is None else Path(out).parent).resolve()
    with open_source(SourceConfig(path=str(path)), ".", where="true") as (con, relations):
        relation = next(relations)
        if not con.sql(f"select 1 from {relation.sql} as t limit 1").fetchall():
            raise DataError(f"'{path}': holds no rows, so there is nothing to propose from. Name a file with events.")
        profiles = _profiles(con, relation)
        columns = guess_columns(profiles)
        missing = [name for name in ("customer_id", "timestamp", "touchpoint") if name not in columns]
        if missing:
            listed = ", ".join(f"{column} ({profile.kind})" for column, profile in profiles.items())
            raise DataError(
                f"'{path}': no column looks like {' or '.join(missing)}. It has: {listed}. Rename one, "
                "or write the project file by hand (cxml schema describes it)."
            )
        column = quote(columns["touchpoint"])
        counted = con.sql(
            f"select {column}::varchar, count(*) from {relation.sql} as t where {column} is not null group by 1 "
            "order by 2 desc, 1 limit 60"
        ).fetchall()
        stamps = _stamps(con, relation, path, columns["timestamp"], profiles[columns["timestamp"]])
    name = re.sub(r"\W+", "_", path.name.split(".")[0]).strip("_") or "project"
    whole = path.resolve()
    shown = whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else str(whole)
    return name, _write(name, _source(shown, columns, stamps), columns, profiles, dict(counted), stamps)


def _profiles(con: object, relation: Relation) -> dict[str, Profile]:
    rows = con.sql(f"summarize select * from {relation.sql} as t").fetchall()  # type: ignore[attr-defined]
    found = {row[0]: Profile(str(row[1]), int(row[4] or 0), str(row[2]), str(row[3])) for row in rows}
    return {column: found[column] for column in relation.types}


def _stamps(con: Any, relation: Relation, path: Path, name: str, profile: Profile) -> Stamps:
    """Find out how a column of moments is written."""
    kind, column = profile.kind.upper(), quote(name)
    if kind.startswith(_MOMENTS) and "ZONE" not in kind:
        return Stamps()
    with open_source(SourceConfig(path=str(path)), ".") as (plain, relations):
        raw = next(relations)  # as it is written: a column of which some have a zone is one of zoned stamps by now
        if raw.types[name] != "VARCHAR":
            iso, zoned, n = (0, 0, 0)
        else:
            text = f"trim({column})"
            iso, zoned, n = plain.sql(
                f"select count_if(regexp_full_match({text}, '{STAMP_PATTERN}')), "
                f"count_if(regexp_matches(substr({text}, 11), '[Z+-]')), count(*) from {raw.sql} as t "
                f"where {text} <> ''"
            ).fetchall()[0]
    if kind.startswith(_MOMENTS) or 2 * iso >= n > 0:
        return Stamps(naive=zoned < n, aware=zoned > 0 or "ZONE" in kind)
    readings = _date_readings(column) + (_epoch_readings(column) if kind.startswith(_NUMBERS) else [])
    counted = ", ".join(f"count_if({holds})" for _, holds in readings)
    n, *fitting = con.sql(f"select count({column}), {counted} from {relation.sql} as t").fetchall()[0]
    best = next((stamps for (stamps, _), fits in zip(readings, fitting, strict=True) if fits == n > 0), None)
    if best is not None:
        return best
    raise DataError(
        f"'{path}': column '{name}' looks like timestamp, but holds '{profile.low}' and the like. Stamps are read as "
        "ISO 8601 (2024-01-31 12:00:00); for others write a query, e.g. strptime(column, '%d/%m/%Y') or "
        "to_timestamp(seconds)."
    )


def _date_readings(column: str) -> list[tuple[Stamps, str]]:
    """Give ways to read dates, each with the SQL condition that a value is of that kind."""
    readings = []
    for date in DATE_FORMATS:
        formats = ", ".join(f"'{date}{time}'" for time in ("", " %H:%M", " %H:%M:%S"))
        sql = f"try_strptime(trim(cast({column} as varchar)), [{formats}])"
        readings.append((Stamps(sql, f"read as {date}"), f"{sql} is not null"))
    return readings


def _epoch_readings(column: str) -> list[tuple[Stamps, str]]:
    """Give ways to read numbers as time since 1970, where that lies in 1990 to 2100."""
    low, high = 631_152_000, 4_102_444_800
    return [
        (
            Stamps(f"to_timestamp({column} / {parts})", f"read as {unit} since 1970", naive=False, aware=True),
            f"{column} / {parts} between {low} and {high}",
        )
        for unit, parts in EPOCHS.items()
    ]


def guess_columns(profiles: Mapping[str, Profile]) -> dict[str, str]:
    """Guess which column is which, from names and types.

    Parameters
    ----------
    profiles : mapping of str to Profile

    Returns
    -------
    dict of str to str
        Canonical name -> column.

    Examples
    --------
    >>> text, moment = Profile("VARCHAR", 5, "a", "b"), Profile("TIMESTAMP", 9, "2024", "2025")
    >>> guess_columns({"user": text, "created": moment, "page": text})
    {'customer_id': 'user', 'timestamp': 'created', 'touchpoint': 'page'}
    """
    found: dict[str, str] = {}
    for canonical, patterns in COLUMN_NAMES.items():
        for pattern in patterns:
            fitting = (
                column
                for column, profile in profiles.items()
                if column not in found.values()
                and re.search(pattern, column, re.IGNORECASE)
                and _type_fits(canonical, profile)
            )
            best = next(fitting, None)
            if best is not None:
                found[canonical] = best
                break
        if canonical == "timestamp" and canonical not in found:
            found |= _named_like_a_moment(profiles, found)
    return found


def _named_like_a_moment(profiles: Mapping[str, Profile], found: Mapping[str, str]) -> dict[str, str]:
    """Find the stamps by name alone, where they are written in a way of their own."""
    for pattern in COLUMN_NAMES["timestamp"]:
        for column, profile in profiles.items():
            is_free = column not in found.values() and profile.kind.upper().startswith((*_NUMBERS, "VARCHAR"))
            if is_free and re.search(pattern, column, re.IGNORECASE):
                return {"timestamp": column}
    return {}


def _type_fits(canonical: str, profile: Profile) -> bool:
    kind = profile.kind.upper()
    if canonical in ("timestamp", "available_at"):
        return kind.startswith(_MOMENTS) or (kind == "VARCHAR" and bool(re.match(r"\d{4}-\d\d-\d\d", profile.low)))
    if canonical in ("value", "duration", "score"):
        return kind.startswith(_NUMBERS)
    if canonical == "touchpoint":
        return kind in ("VARCHAR", "ENUM") and profile.distinct <= 5_000
    return not kind.startswith(_MOMENTS)


def _source(path: str, columns: Mapping[str, str], stamps: Stamps) -> list[str]:
    mapped = {canonical: own for canonical, own in columns.items() if canonical != own}
    if not stamps.reading:
        lines = [f"    - path: {_quoted(path)}"]
    else:
        own = columns["timestamp"]
        query = f"select * replace ({stamps.reading} as {quote(own)}) from events"
        lines = [
            f"    - tables: {{events: {_quoted(path)}}}",
            f"      query: {json.dumps(query, ensure_ascii=False)}   # {stamps.note}: is that right?",
        ]
    if mapped:
        lines.append("      columns: {" + ", ".join(f"{k}: {_quoted(v)}" for k, v in mapped.items()) + "}")
    return lines


def _zone(stamps: Stamps) -> list[str]:
    if not stamps.naive:
        return []
    which = "some stamps carry" if stamps.aware else "the stamps carry"
    return [f"  timezone: UTC                # {which} no zone: is it UTC, or e.g. Europe/Berlin?"]


def _activity(touchpoints: Iterable[str]) -> str:
    """Propose what counts as activity: what customers do themselves."""
    active = [t for t in touchpoints if not re.search(OURS, t, re.IGNORECASE)]
    if 0 < len(active) <= MOST_LISTED:
        return f"  activity: {_listed(active)}   # what counts as the customer being active; not what you do or book"
    return "  # activity: [...]           # what counts as the customer being active; default: everything"


def _write(
    name: str,
    source: list[str],
    columns: Mapping[str, str],
    profiles: Mapping[str, Profile],
    touchpoints: Mapping[str, int],
    stamps: Stamps,
) -> str:
    leaving, answers = _matching(touchpoints, LEAVING), _matching(touchpoints, ANSWER)
    asked = _matching(touchpoints, ASKED)
    contacts = [t for t in _matching(touchpoints, CONTACT) if t not in (*answers, *asked, *leaving)]
    active = [t for t in touchpoints if t not in (*leaving, *answers, *asked, *contacts)]
    listed = ", ".join(f"{_quoted(t)} {n:,}" for t, n in list(touchpoints.items())[:20])
    lines = [
        "# Proposed by `cxml init`: read it through, correct what was guessed wrong, then run `cxml check`.",
        f"# Touchpoints found: {listed}{' ...' if len(touchpoints) > 20 else ''}",
        f"name: {name}",
        "journeys:",
        "  sources:",
        *source,
        *_zone(stamps),
    ]
    if not leaving:  # where leaving is an event of its own, activity after it would bring the customer back
        lines.append(_activity(active))
    if contacts:
        lines.append(f"  contacts: {_listed(contacts)}   # contacts with service")
    lines += ["snapshots: {every: 30d, lookback: 180d}", "churn:"]
    if leaving:
        lines += ["  kind: event", f"  touchpoints: {_listed(leaving)}   # these are the leaving"]
    else:
        lines.append("  kind: inactivity             # no touchpoint looks like leaving: no activity counts as churn")
    lines.append("  horizons: [30d, 60d, 90d]")
    if answers and "score" in columns:
        lines += _satisfaction(answers[0], asked, profiles[columns["score"]])
    return "\n".join(lines) + "\n"


def _satisfaction(answer: str, asked: list[str], score: Profile) -> list[str]:
    low, high = int(float(score.low)), int(float(score.high))
    kind = "csat" if low >= 1 and high <= 5 else "ces" if low >= 1 and high <= 7 else "nps"
    lines = ["satisfaction:"]
    if not 0 <= low <= high <= 10:
        lines += ["  kind: custom", f"  scale: [{low}, {high}]"]
    else:
        lines.append(f"  kind: {kind}                    # nps 0-10, csat 1-5, ces 1-7; scores found: {low} to {high}")
    lines.append(f"  touchpoint: {_quoted(answer)}")
    return [*lines, f"  asked: {_quoted(asked[0])}"] if asked else lines


def _matching(touchpoints: Iterable[str], pattern: str) -> list[str]:
    return [t for t in touchpoints if re.search(pattern, t, re.IGNORECASE)]


def _listed(names: list[str]) -> str:
    return "[" + ", ".join(_quoted(n) for n in names) + "]"


def _quoted(text: str) -> str:
    """Quote a YAML scalar, unless it is a plain word that can only be read as itself."""
    reserved = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
    is_word = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text) and text.lower() not in reserved
    return text if is_word else json.dumps(text, ensure_ascii=False)
