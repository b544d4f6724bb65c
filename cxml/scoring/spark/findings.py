"""What workers found on the way, judged as one machine judges it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cxml.errors import ConfigError, CxmlError, DataError
from cxml.scoring.spark.job import Job, ScoreTask, Task

if TYPE_CHECKING:
    import pyarrow as pa

    from cxml.config import ProjectConfig
    from cxml.journeys.batches import BadRows
    from cxml.journeys.block import EventBlock
    from cxml.journeys.quality import QualityReport, SourceReport
    from cxml.scoring.output import Summary


def plain(payloads: list[bytes]) -> list[dict[str, Any]]:
    """Read what workers told."""
    return [json.loads(payload) for payload in payloads]


def raise_first(errors: list[bytes]) -> None:
    """Raise what a worker refused; what is wrong with the question first."""
    found = sorted((json.loads(error) for error in errors), key=lambda e: (e["type"] != "ConfigError", e["message"]))
    if found:
        kinds: dict[str, type[CxmlError]] = {"ConfigError": ConfigError, "DataError": DataError}
        raise kinds.get(found[0]["type"], CxmlError)(found[0]["message"])


def judge(
    config: ProjectConfig,
    job: Job,
    read: list[dict[str, Any]],
    bad: list[pa.Table],
    facts: list[dict[str, Any]],
    quarantine: str | os.PathLike[str] | None,
) -> QualityReport:
    """Write the quarantine, refuse poor data, and say what reading found."""
    from cxml.journeys.quality import refuse_poor_data, refuse_wrong_scale, write_quarantine

    labels = [source.label for source in job.sources]
    reports = _reports(labels, read)
    rows = [(label, _bad_rows(i, bad)) for i, label in enumerate(labels)]
    written = None if quarantine is None else write_quarantine(quarantine, rows)
    refuse_poor_data(reports, rows, config.journeys.max_quarantined, written)
    touchpoints = _touchpoints(read)
    if job.rules.survey is not None and job.rules.scale is not None:
        refuse_wrong_scale(reports, job.rules.survey, job.rules.scale, touchpoints[job.rules.survey], written)
    _demand_columns(config, {name for one in read for name in one["columns"]})
    return _quality(config, reports, facts, touchpoints, written)


def _touchpoints(read: list[dict[str, Any]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in read:
        found.update(one["touchpoints"])
    return found


def _reports(labels: list[str], read: list[dict[str, Any]]) -> list[SourceReport]:
    from cxml.journeys.quality import SourceReport

    rows, reasons = [0] * len(labels), [Counter[str]() for _ in labels]
    for one in read:
        rows[one["source"]] += one["rows"]
        reasons[one["source"]].update(one["quarantined"])
    return [SourceReport(*each) for each in zip(labels, rows, map(dict, reasons), strict=True)]


def _bad_rows(source: int, tables: list[pa.Table]) -> BadRows:
    """Join the bad rows of a source, in the order of files and rows."""
    from cxml.journeys.batches import BadRows

    found = [row for table in tables for row in table.to_pylist() if row["source"] == source]
    found.sort(key=lambda row: (row["file"], row["row"]))
    return BadRows(*([row[name] for row in found] for name in ("file", "row", "reason", "raw")))


def _demand_columns(config: ProjectConfig, there: set[str]) -> None:
    for key, names in (("measures", config.journeys.measures), ("attributes", config.journeys.attributes)):
        for name in names:
            if name not in there:
                raise ConfigError(
                    f"journeys.{key}: no source has a column '{name}'. Correct it, say which column it is under the "
                    f"source's 'columns' (columns: {{{name}: ...}}), or take it out."
                )


def _quality(
    config: ProjectConfig,
    reports: list[SourceReport],
    facts: list[dict[str, Any]],
    touchpoints: Mapping[str, int],
    written: str | None,
) -> QualityReport:
    from cxml.journeys.quality import QualityReport
    from cxml.journeys.taxonomy import touchpoints_in_no_stage

    per = np.concatenate([np.repeat(np.array(part["sizes"]), part["counts"]) for part in facts])
    sums = {key: sum(part[key] for part in facts) for key in ("duplicates", "duplicates_dropped", "late_events")}
    return QualityReport(
        sources=tuple(reports), rows_kept=int(per.sum()), **sums,
        negative_durations=sum(part["negative_durations"] for part in facts), customers=len(per),
        first=min(part["first"] for part in facts), last=max(part["last"] for part in facts),
        events_per_customer={
            "min": float(per.min()), "median": float(np.median(per)), "mean": float(per.mean()),
            "p99": float(np.quantile(per, 0.99)), "max": float(per.max()),
        },
        touchpoints_in_no_stage=touchpoints_in_no_stage(config.journeys.stages, tuple(touchpoints)),
        quarantine=written,
    )  # fmt: skip


def demand_words(task: Task, config: ProjectConfig, read: list[dict[str, Any]]) -> None:
    """Refuse a question about touchpoints that do not occur: put it to a log in which each that does occurs once."""
    from cxml.journeys.log import JourneyLog, Whole
    from cxml.journeys.quality import QualityReport
    from cxml.snapshots.make import log_timeline
    from cxml.snapshots.surveys import survey_rows

    if not isinstance(task, ScoreTask):
        return
    block = _one_of_each(tuple(sorted(_touchpoints(read))))
    if not isinstance(task.cutoff, int):
        survey_rows(block, task.cutoff)
    elif task.churn is not None:
        log_timeline(JourneyLog(Whole(block), config.journeys, None, QualityReport((), block.n_events)), task.churn)


def _one_of_each(vocabulary: tuple[str, ...]) -> EventBlock:
    from cxml.journeys.block import Coded, EventBlock

    n = len(vocabulary)
    touchpoint = Coded(np.arange(n, dtype=np.int32), vocabulary)
    return EventBlock(np.zeros(1, np.int64), np.array([0, n]), np.arange(n), None, {"touchpoint": touchpoint})


def summary_of(facts: list[dict[str, Any]]) -> Summary:
    """Put the summaries of the parts together."""
    from cxml.scoring.output import Summary

    whole = Summary()
    for part in (one["summary"] for one in facts if one["summary"]):
        whole.n += part["n"]
        whole.first, whole.last = min(whole.first, part["first"]), max(whole.last, part["last"])
        for name, counts in part["counts"].items():
            whole.counts.setdefault(name, Counter()).update(counts)
        for name, value in part["sums"].items():
            whole.sums[name] = whole.sums.get(name, 0.0) + value
        whole.model_version = whole.model_version or part["model_version"]
    return whole
