"""A first project file for data nobody has described yet: columns and touchpoints guessed, to be read through."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cxml.config import SourceConfig
from cxml.errors import DataError
from cxml.journeys.canonical import quote
from cxml.journeys.formats import Relation
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

#: Longer lists are left to their reader.
MOST_LISTED = 12

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL", "UBIGINT", "HUGEINT")
_MOMENTS = ("TIMESTAMP", "DATE")


@dataclass(frozen=True, slots=True)
class Profile:
    """One column as found: its type, distinct values (about) and range."""

    kind: str
    distinct: int
    low: str
    high: str


def propose_project(data: str | os.PathLike[str]) -> tuple[str, str]:
    """Read a data file and propose a project file.

    Parameters
    ----------
    data : path
        A Parquet, CSV or JSON Lines file of events.

    Returns
    -------
    name : str
        A name for the project, from the file's.
    text : str
        YAML with comments; what was guessed is marked so.

    Raises
    ------
    ConfigError, DataError
        If the file cannot be read, or no column looks like customer, moment or touchpoint.
    """
    path = Path(data)
    with open_source(SourceConfig(path=str(path)), ".", where="true") as (con, relations):
        relation = next(relations)
        profiles = _profiles(con, relation)
        columns = guess_columns(profiles)
        missing = [name for name in ("customer_id", "timestamp", "touchpoint") if name not in columns]
        if missing:
            raise DataError(
                f"'{path}': no column looks like {' or '.join(missing)}. It has: {', '.join(profiles)}. Rename one, "
                "or write the project file by hand (cxml schema describes it)."
            )
        column = quote(columns["touchpoint"])
        counted = con.sql(
            f"select {column}::varchar, count(*) from {relation.sql} as t where {column} is not null group by 1 "
            "order by 2 desc, 1 limit 60"
        ).fetchall()
    name = re.sub(r"\W+", "_", path.name.split(".")[0]).strip("_") or "project"
    return name, _write(name, path, columns, profiles, dict(counted))


def _profiles(con: object, relation: Relation) -> dict[str, Profile]:
    rows = con.sql(f"summarize select * from {relation.sql} as t").fetchall()  # type: ignore[attr-defined]
    return {row[0]: Profile(str(row[1]), int(row[4] or 0), str(row[2]), str(row[3])) for row in rows}


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
    return found


def _type_fits(canonical: str, profile: Profile) -> bool:
    kind = profile.kind.upper()
    if canonical in ("timestamp", "available_at"):
        return kind.startswith(_MOMENTS) or (kind == "VARCHAR" and bool(re.match(r"\d{4}-\d\d-\d\d", profile.low)))
    if canonical in ("value", "duration", "score"):
        return kind.startswith(_NUMBERS)
    if canonical == "touchpoint":
        return kind in ("VARCHAR", "ENUM") and profile.distinct <= 5_000
    return not kind.startswith(_MOMENTS)


def _write(
    name: str, path: Path, columns: Mapping[str, str], profiles: Mapping[str, Profile], touchpoints: Mapping[str, int]
) -> str:
    leaving, answers = _matching(touchpoints, LEAVING), _matching(touchpoints, ANSWER)
    asked = _matching(touchpoints, ASKED)
    contacts = [t for t in _matching(touchpoints, CONTACT) if t not in (*answers, *asked, *leaving)]
    active = [t for t in touchpoints if t not in (*leaving, *answers, *asked, *contacts)]
    mapped = {canonical: own for canonical, own in columns.items() if canonical != own}
    naive = not profiles[columns["timestamp"]].kind.upper().endswith("WITH TIME ZONE")
    listed = ", ".join(f"{_quoted(t)} {n:,}" for t, n in list(touchpoints.items())[:20])
    lines = [
        "# Proposed by `cxml init`: read it through, correct what was guessed wrong, then run `cxml check`.",
        f"# Touchpoints found: {listed}{' ...' if len(touchpoints) > 20 else ''}",
        f"name: {name}",
        "journeys:",
        "  sources:",
        f"    - path: {_quoted(str(path.resolve()))}",
    ]
    if mapped:
        lines.append("      columns: {" + ", ".join(f"{k}: {_quoted(v)}" for k, v in mapped.items()) + "}")
    if naive:
        lines.append("  timezone: UTC                # the stamps carry no zone: is it UTC, or e.g. Europe/Berlin?")
    if len(active) <= MOST_LISTED:
        lines.append(f"  activity: {_listed(active)}   # what counts as the customer being active")
    else:
        lines.append("  # activity: [...]           # what counts as the customer being active; default: everything")
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
