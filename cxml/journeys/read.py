"""Sources to a `JourneyLog`: read, check, merge, factorise, group, order."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from cxml.config import REQUIRED_COLUMNS, CustomersConfig, JourneysConfig, SourceConfig, check_part
from cxml.errors import ConfigError
from cxml.journeys.block import CustomerTable, Int64
from cxml.journeys.canonical import RowRules
from cxml.journeys.customers import align_customers, read_customers, read_table
from cxml.journeys.ingest import Ingested, Layout, ingest
from cxml.journeys.log import Events, JourneyLog
from cxml.journeys.merge import merge
from cxml.journeys.quality import QualityReport, refuse_poor_data, refuse_wrong_scale, write_quarantine
from cxml.journeys.shuffle import Shuffle
from cxml.journeys.sorting import warm_up
from cxml.journeys.sources import is_table
from cxml.journeys.taxonomy import touchpoints_in_no_stage, words_that_never_occur
from cxml.progress import SILENT, Progress
from cxml.times import parse_instant

__all__ = ["read_journeys", "read_table"]

#: Rows held while reading take up to this part of the memory; as much again goes to the sorted events, some to work.
_SHARE = 3
_TURN_SECONDS = 0.0005


def read_journeys(
    sources: Any,
    *,
    columns: Mapping[str, str] | None = None,
    timezone: str | None = None,
    measures: Sequence[str] = (),
    attributes: Sequence[str] = (),
    where: str | None = None,
    stages: Mapping[str, Sequence[str]] | None = None,
    activity: Sequence[str] = (),
    contacts: Sequence[str] = (),
    interventions: Sequence[str] = (),
    promises: Sequence[str] = (),
    session_gap: str | None = None,
    repeat_within: str | None = None,
    respond_within: str | None = None,
    self_service: Sequence[str] | None = None,
    duplicates: Literal["keep", "drop_exact"] = "keep",
    memory_limit: str | int | None = None,
    customers: CustomersConfig | CustomerTable | Mapping[str, Any] | None = None,
    score_scale: tuple[int, int] | None = None,
    survey: str | None = None,
    as_of: Any = None,
    quarantine: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] = ".",
    meanwhile: Callable[[], object] = warm_up,
    progress: Progress = SILENT,
) -> JourneyLog:
    """Read event logs into one journey log.

    Rows that cannot be used (no customer, no readable stamp, no touchpoint, a measure that is no number, ...) are
    set aside with their reason, never silently dropped; `JourneyLog.quality` counts them. The result does not
    depend on the order of rows, nor on how they are spread over files.

    Parameters
    ----------
    sources : path, data frame, Arrow table, SourceConfig, a list of these, or JourneysConfig
        A path is a file, a glob or a folder: Parquet, CSV, JSON Lines, plain, .gz or .zst. A `JourneysConfig`
        carries the settings from ``columns`` to ``duplicates`` itself; give them there.
    columns : mapping of str to str, optional
        Canonical name (``customer_id``, ``timestamp``, ``touchpoint``, ...) -> the source's own column.
        A column that bears the canonical name already needs no entry.
    timezone : str, optional
        Zone of stamps that carry none, e.g. ``"UTC"`` or ``"Europe/Berlin"``.
    measures, attributes : sequence of str
        Further numbers and further categories.
    where : str, optional
        SQL predicate over the source's own columns.
    stages : mapping of str to sequence of str, optional
        Lifecycle stage -> touchpoints.
    activity, contacts : sequence of str
        Touchpoints that count as being active, and as contacts with service.
    interventions, promises : sequence of str
        Touchpoints that are actions of yours to keep customers, and those by which a promise is kept, such as a
        delivery; the promised time is the column ``promised``.
    session_gap, repeat_within, respond_within : str, optional
        Durations, such as ``"30m"``: after how long a silence a session ends, within how long a contact is a repetition
        of another, and within how long something is a response. Default: 30m, 7d, 14d.
    self_service : sequence of str, optional
        Channels in which customers help themselves. Default: guessed by their names.
    duplicates : {"keep", "drop_exact"}
        What to do with rows that equal another in every canonical column.
    memory_limit : str or int, optional
        About how much memory the journeys may take, such as ``"2GB"``; what is more is sorted on disk, in the folder
        for temporary files. Default: half of the machine's.
    customers : CustomersConfig, mapping of its keys, or CustomerTable, optional
        What is known of customers beside their events: ``{"source": "customers.parquet", "attributes": ["plan"]}``.
    score_scale : tuple of (int, int), optional
        Lowest and highest score of ``survey`` rows; others are set aside.
    survey : str, optional
        The touchpoint that carries the score.
    as_of : moment, optional
        When the data were taken; later stamps are set aside.
    quarantine : path, optional
        Parquet file for the rows set aside.
    folder : path
        Where relative paths start.
    meanwhile : callable
        What to load on another core while files are read. Default: the compiled code that puts events in order.
    progress : Progress
        Told of every million rows.

    Returns
    -------
    JourneyLog

    Raises
    ------
    ConfigError
        If a file or column is not there, stamps need a time zone, or SQL does not hold.
    DataError
        If a source cannot be read, holds nothing, or too large a share of its rows is bad.

    Examples
    --------
    >>> import pandas as pd
    >>> days = ["2024-01-02", "2024-01-01", "2024-01-03"]
    >>> visits = pd.DataFrame({"user": [7, 7, 8], "when": days, "page": ["a", "b", "a"]})
    >>> names = {"customer_id": "user", "timestamp": "when", "touchpoint": "page"}
    >>> read_journeys(visits, columns=names, timezone="UTC")
    JourneyLog(3 events of 2 customers, 2024-01-01 to 2024-01-03, 2 touchpoints)
    """
    settings: dict[str, Any] = {
        "timezone": timezone, "where": where, "duplicates": duplicates, "memory_limit": memory_limit,
        "stages": {stage: _names(f"stages: {stage}", names) for stage, names in (stages or {}).items()},
    }  # fmt: skip
    words = {
        "measures": measures, "attributes": attributes, "activity": activity, "contacts": contacts,
        "interventions": interventions, "promises": promises,
    }  # fmt: skip
    settings |= {name: _names(name, names) for name, names in words.items()}
    durations = {"session_gap": session_gap, "repeat_within": repeat_within, "respond_within": respond_within}
    settings |= {name: duration for name, duration in durations.items() if duration is not None}
    settings["self_service"] = None if self_service is None else _names("self_service", self_service)
    config, inputs = _config_and_inputs(sources, dict(columns or {}), settings)
    if (score_scale is None) != (survey is None):
        raise ConfigError("'score_scale' and 'survey' go together: which rows carry a score, and on which scale")
    rules = RowRules(survey=survey, scale=score_scale, as_of=None if as_of is None else _moment("as_of", as_of))
    layout = Layout(config.columns, REQUIRED_COLUMNS, tuple(config.measures), dict(columns or {}))
    ingested, shuffle = [], Shuffle(budget=_budget(config))
    with _short_turns(), ThreadPoolExecutor(_n_threads()) as pool, progress.step("reading journeys") as advance:
        loaded = pool.submit(meanwhile)  # on one core, nearly all in Python; the others read, mostly outside it
        for i, source in enumerate(inputs, start=1):
            ingested.append(
                ingest(
                    source, layout, shuffle, folder, config.where, config.timezone, rules, f"frame {i}", advance, pool
                )
            )
    loaded.result()
    written = _set_aside(ingested, config, quarantine)
    if survey is not None and score_scale is not None:
        n_kept = shuffle.count("touchpoint", survey)
        refuse_wrong_scale([one.report for one in ingested], survey, score_scale, n_kept, written)
    _demand_columns(shuffle, config)
    events = merge(shuffle, config)
    quality = _quality(ingested, events, config, written)
    if isinstance(customers, Mapping):
        customers = check_part(CustomersConfig, customers, "read_journeys(customers=...)")
    if isinstance(customers, CustomersConfig):
        customers = read_customers(customers, folder, config.timezone)
    if customers is not None:
        customers = align_customers(customers, events.customers)
    return JourneyLog(events, config, customers, quality)


@contextmanager
def _short_turns() -> Iterator[None]:
    """Let threads take turns often: loading compiled code is all Python, reading files asks for it now and then.

    The setting is the process's; it is put back as it was.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _TURN_SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _demand_columns(shuffle: Shuffle, config: JourneysConfig) -> None:
    """Refuse a measure or attribute that no source has."""
    for key, names in (("measures", config.measures), ("attributes", config.attributes)):
        for name in names:
            if name not in shuffle.columns:
                raise ConfigError(
                    f"journeys.{key}: no source has a column '{name}'. Correct it, say which column it is under the "
                    f"source's 'columns' (columns: {{{name}: ...}}), or take it out."
                )


def _n_threads() -> int:
    """One for each core, and one to read beside the one that loads compiled code."""
    return max(2, os.cpu_count() or 1)


def _budget(config: JourneysConfig) -> int | None:
    """Bytes of rows to hold while reading; None where the system does not tell how much memory there is."""
    if config.memory_limit is not None:
        return config.memory_limit // _SHARE
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 // _SHARE


def _config_and_inputs(
    sources: Any, columns: dict[str, str], settings: dict[str, Any]
) -> tuple[JourneysConfig, list[Any]]:
    """Return the settings as one config, and what to read: `SourceConfig`s and frames."""
    if isinstance(sources, JourneysConfig):
        given = [
            name for name, value in ({"columns": columns} | settings).items() if value not in (None, {}, [], "keep")
        ]
        if given:
            raise ConfigError(f"'{given[0]}' stands in the JourneysConfig already; change it there")
        return sources, list(sources.sources)
    listed = list(sources) if isinstance(sources, list | tuple) else [sources]
    if not listed:
        raise ConfigError("'sources' is empty: name at least one file, frame or SourceConfig")
    try:
        known = [_as_source(source, columns, i) for i, source in enumerate(listed, start=1)]
        config = JourneysConfig(sources=known, **settings)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, f['loc']))}: {f['msg']}".removeprefix(": ") for f in error.errors()]
        raise ConfigError("; ".join(fault.replace("Value error, ", "") for fault in faults)) from None
    pairs = zip(listed, config.sources, strict=True)
    return config, [given if is_table(given) else own for given, own in pairs]


def _as_source(source: Any, columns: dict[str, str], number: int) -> SourceConfig:
    if isinstance(source, SourceConfig):
        return source.model_copy(update={"columns": {**columns, **source.columns}})
    if isinstance(source, Mapping):
        return SourceConfig(**{**source, "columns": {**columns, **source.get("columns", {})}})
    if is_table(source):
        return SourceConfig(path=f"frame {number}", columns=columns)
    if isinstance(source, str | os.PathLike):
        return SourceConfig(path=os.fspath(source), columns=columns)
    raise ConfigError(
        f"a source is a path, a data frame, an Arrow table or a SourceConfig, not a {type(source).__name__}"
    )


def _moment(name: str, value: Any) -> int:
    try:
        return parse_instant(value)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def _names(what: str, names: Sequence[str]) -> list[str]:
    """Refuse a text, which would be taken letter by letter."""
    if isinstance(names, str):
        raise ConfigError(f"{what} must be a list, such as [{names!r}]")
    return list(names)


def _set_aside(
    ingested: Sequence[Ingested], config: JourneysConfig, quarantine: str | os.PathLike[str] | None
) -> str | None:
    bad = [(one.report.source, one.bad) for one in ingested]
    written = None if quarantine is None else write_quarantine(quarantine, bad)
    refuse_poor_data([one.report for one in ingested], bad, config.max_quarantined, written)
    return written


def _quality(
    ingested: Sequence[Ingested], events: Events, config: JourneysConfig, written: str | None
) -> QualityReport:
    facts, touchpoints = events.facts, events.touchpoints
    words = {f"stages.{stage}": names for stage, names in config.stages.items()}
    words |= {name: getattr(config, name) for name in ("activity", "contacts", "interventions", "promises")}
    return QualityReport(
        sources=tuple(one.report for one in ingested),
        rows_kept=int(facts.counts.sum()),
        duplicates=facts.duplicates,
        duplicates_dropped=facts.duplicates_dropped,
        late_events=facts.late_events,
        negative_durations=facts.negative_durations,
        customers=len(facts.counts),
        first=facts.first,
        last=facts.last,
        events_per_customer=_spread(facts.counts),
        touchpoints_in_no_stage=touchpoints_in_no_stage(config.stages, touchpoints),
        words_that_never_occur=words_that_never_occur(words, touchpoints),
        quarantine=written,
    )


def _spread(counts: Int64) -> dict[str, float]:
    return {
        "min": float(counts.min()),
        "median": float(np.median(counts)),
        "mean": float(counts.mean()),
        "p99": float(np.quantile(counts, 0.99)),
        "max": float(counts.max()),
    }
