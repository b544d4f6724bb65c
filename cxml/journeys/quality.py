"""What reading found: how many rows, which were set aside and why, what looks odd; and the quarantine file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cxml.errors import DataError
from cxml.files import write_aside
from cxml.journeys.batches import BadRows
from cxml.journeys.canonical import OFF_SCALE
from cxml.times import format_instant


@dataclass(frozen=True, slots=True)
class SourceReport:
    """Rows of one source: those its ``where`` wants, and those set aside by reason."""

    source: str
    rows_read: int
    quarantined: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows_quarantined(self) -> int:
        """How many rows were set aside."""
        return sum(self.quarantined.values())


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What reading a log found. ``rows_read = rows_kept + rows_quarantined + duplicates_dropped``.

    Parameters
    ----------
    sources : tuple of SourceReport
        In the order of the config.
    rows_kept : int
        Events of the log.
    duplicates : int
        Rows that equal an earlier one in every canonical column.
    duplicates_dropped : int
        How many of them were dropped: all, or none when duplicates are kept.
    late_events : int
        Events that became known after they happened.
    negative_durations : int
        Kept, but worth a look.
    customers : int
    first, last : int
        UTC microseconds of the first and the last event.
    events_per_customer : mapping
        ``min``, ``median``, ``mean``, ``p99``, ``max``.
    touchpoints_in_no_stage : tuple of str
        Occur, but no stage names them; empty when the config has no stages.
    words_that_never_occur : mapping of str to str
        Touchpoints the config names and the log lacks -> the nearest that occurs.
    quarantine : str, optional
        Where the rows set aside were written.
    """

    sources: tuple[SourceReport, ...]
    rows_kept: int
    duplicates: int = 0
    duplicates_dropped: int = 0
    late_events: int = 0
    negative_durations: int = 0
    customers: int = 0
    first: int = 0
    last: int = 0
    events_per_customer: Mapping[str, float] = field(default_factory=dict)
    touchpoints_in_no_stage: tuple[str, ...] = ()
    words_that_never_occur: Mapping[str, str] = field(default_factory=dict)
    quarantine: str | None = None

    @property
    def rows_read(self) -> int:
        """Rows that the sources' ``where`` want."""
        return sum(source.rows_read for source in self.sources)

    @property
    def rows_quarantined(self) -> int:
        """Rows set aside because something in them is bad."""
        return sum(source.rows_quarantined for source in self.sources)

    @property
    def share_quarantined(self) -> float:
        """Share of the rows read, 0 to 1."""
        return self.rows_quarantined / self.rows_read if self.rows_read else 0.0

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> rows set aside, most frequent first."""
        return count_reasons(self.sources)

    def set_aside(self) -> str | None:
        """Say in one line how many rows were set aside, and where they lie; None where there are none."""
        if not self.rows_quarantined:
            return None
        where = f": {self.quarantine}" if self.quarantine else ""
        return f"{self.rows_quarantined:,} rows quarantined ({self.share_quarantined:.2%}){where}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data that JSON can hold; moments as ISO text."""
        content = asdict(self) | {
            "rows_read": self.rows_read,
            "rows_quarantined": self.rows_quarantined,
            "share_quarantined": self.share_quarantined,
            "reasons": self.reasons,
            "first": format_instant(self.first),
            "last": format_instant(self.last),
        }
        content["touchpoints_in_no_stage"] = list(self.touchpoints_in_no_stage)
        content["sources"] = [asdict(s) | {"rows_quarantined": s.rows_quarantined} for s in self.sources]
        return content

    def lines(self) -> list[str]:
        """Tell it to people, a sentence a line."""
        lines = [
            f"{self.rows_read:,} rows read, {self.rows_kept:,} kept, {self.rows_quarantined:,} quarantined "
            f"({self.share_quarantined:.2%}), {self.duplicates_dropped:,} duplicates dropped"
        ]
        lines += [f"  {reason}: {n:,} rows" for reason, n in self.reasons.items()]
        if self.quarantine:
            lines.append(f"  they lie in {self.quarantine}")
        if len(self.sources) > 1:
            lines += [f"  {s.source}: {s.rows_read:,} read, {s.rows_quarantined:,} quarantined" for s in self.sources]
        per = self.events_per_customer
        lines.append(
            f"{self.customers:,} customers from {format_instant(self.first)} to {format_instant(self.last)}; events "
            f"per customer: {per['min']:g} to {per['max']:g}, median {per['median']:g}, mean {per['mean']:.1f}"
        )
        kept = self.duplicates - self.duplicates_dropped
        oddities = {
            "fully equal rows were kept (journeys.duplicates: drop_exact drops them)": kept,
            "events became known later than they happened": self.late_events,
            "durations are negative": self.negative_durations,
        }
        lines += [f"{n:,} {what}" for what, n in oddities.items() if n]
        if self.touchpoints_in_no_stage:
            lines.append("in no stage: " + ", ".join(self.touchpoints_in_no_stage))
        lines += [f"{word} never occurs{hint}" for word, hint in self.words_that_never_occur.items()]
        return lines


def count_reasons(sources: Sequence[SourceReport]) -> dict[str, int]:
    """Sum the quarantined rows of several sources by reason, most frequent first."""
    total: Counter[str] = Counter()
    for source in sources:
        total.update(source.quarantined)
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def write_quarantine(path: str | os.PathLike[str], bad: Sequence[tuple[str, BadRows]]) -> str | None:
    """Write the rows set aside as Parquet: ``source``, ``file``, ``row``, ``reason``, ``raw`` (JSON text).

    Nothing is written when there are none; a file of an earlier run then gives way to one without rows.

    Returns
    -------
    str or None
        The path, when there are such rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = sum(len(rows) for _, rows in bad)
    if not n and not Path(path).exists():
        return None
    table = pa.table(
        {
            "source": pa.array([label for label, rows in bad for _ in rows.row], pa.string()),
            "file": pa.array([file for _, rows in bad for file in rows.file], pa.string()),
            "row": pa.array([row for _, rows in bad for row in rows.row], pa.int64()),
            "reason": pa.array([reason for _, rows in bad for reason in rows.reason], pa.string()),
            "raw": pa.array([raw for _, rows in bad for raw in rows.raw], pa.string()),
        }
    )
    with write_aside(path) as aside:
        pq.write_table(table, aside)
    return str(path) if n else None


def refuse_poor_data(
    sources: Sequence[SourceReport], bad: Sequence[tuple[str, BadRows]], limit: float, quarantine: str | None
) -> None:
    """Refuse a log without a good row, or with more bad ones than allowed.

    Raises
    ------
    DataError
        With the count of every reason, the first few rows, and where the rest lies.
    """
    n_read = sum(source.rows_read for source in sources)
    n_bad = sum(source.rows_quarantined for source in sources)
    names = ", ".join(source.source for source in sources)
    if n_read == 0:
        raise DataError(f"{names}: no rows. Check 'sources', and 'where' if there is one.")
    if n_bad < n_read and n_bad <= limit * n_read:
        return
    why = "; ".join(f"{reason}: {n:,}" for reason, n in count_reasons(sources).items())
    first = [
        f"row {row:,} of {file or label} ({reason})"
        for label, rows in bad
        for file, row, reason in zip(rows.file, rows.row, rows.reason, strict=True)
    ][:3]
    allowed = "" if n_bad == n_read else f", more than journeys.max_quarantined ({limit:.2%}) allows"
    lie = f" They lie in {quarantine}." if quarantine else ""
    mend = _mend(count_reasons(sources))
    raise DataError(
        f"{names}: {n_bad:,} of {n_read:,} rows are bad{allowed}. {why}. First: {', '.join(first)}.{lie} {mend}"
    )


def refuse_wrong_scale(
    sources: Sequence[SourceReport], survey: str, scale: tuple[int, int], n_kept: int, quarantine: str | None
) -> None:
    """Refuse a scale that most answers are off: the rest would be taken for what customers said.

    Raises
    ------
    DataError
        With the count.
    """
    n_off = count_reasons(sources).get(OFF_SCALE, 0)
    if n_off <= n_kept:
        return
    lie = f" They lie in {quarantine}." if quarantine else ""
    raise DataError(
        f"{n_off:,} of {n_off + n_kept:,} answers ('{survey}') are off the scale {scale[0]} to {scale[1]}.{lie} Say "
        "the right satisfaction.kind (nps 0-10, csat 1-5, ces 1-7) or, with kind custom, its scale."
    )


def _mend(reasons: Mapping[str, int]) -> str:
    if next(iter(reasons)).endswith("not readable"):
        return (
            "Stamps are read as ISO 8601 (2024-01-31 12:00:00); for others write a query, e.g. "
            "strptime(column, '%d/%m/%Y') or to_timestamp(seconds)."
        )
    return "Mend the source, map other columns under 'columns', or leave the rows out with 'where'."
