"""What churn should mean in a log without a cancellation: the measurement put into tables, sentences and YAML."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cxml.config import ChurnConfig, SnapshotsConfig
from cxml.errors import DataError
from cxml.evaluate.rhythm import RuleComparison, compare_rules
from cxml.files import write_aside
from cxml.progress import SILENT, Progress
from cxml.snapshots.cutoffs import cutoff_grid
from cxml.snapshots.definition import (
    TOLERATED,
    Choice,
    Cohort,
    CountedErrors,
    Definition,
    ReturnRates,
    measure_definition,
)
from cxml.snapshots.silences import Moments, read_moments
from cxml.snapshots.splits import split_cutoffs
from cxml.times import DAY_US, format_instant

if TYPE_CHECKING:
    import pyarrow

    from cxml.journeys.log import JourneyLog

Table = tuple[str, list[str], list[list[str]]]

#: Below this share of false alarms what a rule finds hangs on a handful of customers.
_RARE = 0.002

_COUNTED = ("hidden", "hidden_low", "hidden_high", "label_rate", "label_returned")


@dataclass(frozen=True)
class DefinitionReport:
    """What was measured, and what follows from it.

    Parameters
    ----------
    definition : Definition
    rules : RuleComparison or None
        One gap for all against personal rhythm; None where the log cannot tell.
    rules_refused : str
        Why not.
    horizon_days : int or None
        The longest candidate up to the recommended gap that leaves the log room for training, calibration and test.
    notes : tuple of str
        What to bear in mind.
    """

    definition: Definition
    rules: RuleComparison | None
    rules_refused: str
    horizon_days: int | None
    notes: tuple[str, ...]

    def tables(self) -> list[Table]:
        """Return the candidates, the rules and the cohorts as tables for people."""
        tables = [_gaps_table(self.definition), _cohorts_table(self.definition)]
        return tables if self.rules is None else [tables[0], _rules_table(self.rules), tables[1]]

    def reason(self) -> str:
        """Say in a sentence or two which gap is recommended, and why."""
        return _reason(self.definition)

    def lines(self) -> list[str]:
        """Return the recommendation, what to bear in mind, and the lines for the project file."""
        rules = f"personal rhythm was not compared: {self.rules_refused}" if self.rules is None else _rules(self.rules)
        lines = [self.reason(), _stability(self.definition), rules, *self.notes]
        if self.yaml():
            lines += ["For the project file (snapshots keeps its other keys):", *self.yaml().splitlines()]
        return lines

    def yaml(self) -> str:
        """Return the lines for the project file; empty where no gap is recommended or the log bears no horizon."""
        gap = self.definition.choice.gap_days
        if gap is None or self.horizon_days is None:
            return ""
        return f"snapshots: {{lookback: {gap}d}}\nchurn: {{kind: inactivity, horizons: [{self.horizon_days}d]}}\n"

    def table(self) -> pyarrow.Table:
        """Return one row for each group (``all`` and every cohort) and candidate gap; shares between 0 and 1.

        Returns
        -------
        pyarrow.Table
            ``group, gap_days, within_days, silences, customers, returned, returned_low, returned_high``, then for the
            group ``all`` ``hidden, hidden_low, hidden_high, label_rate, label_returned``, and ``recommended``.
        """
        import pyarrow as pa

        found = self.definition
        rows = _rows("all", found.rates, found.choice, found.errors)
        for cohort in found.cohorts:
            rows += _rows(cohort.name, cohort.rates, cohort.choice)
        return pa.Table.from_pylist(rows, schema=_schema())

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write `table` whole or not at all, as Parquet or, where the name ends so, CSV."""
        import pyarrow.csv
        import pyarrow.parquet

        with write_aside(path) as aside:
            if str(path).lower().endswith(".csv"):
                pyarrow.csv.write_csv(self.table(), aside)
            else:
                pyarrow.parquet.write_table(self.table(), aside, compression="zstd")

    def to_dict(self) -> dict[str, Any]:
        """Return everything for machines; what is not known is None."""
        found = self.definition
        return {
            "from": format_instant(found.first),
            "until": format_instant(found.until),
            "customers": found.n_customers,
            "silences": found.n_silences,
            "within_days": found.rates.within_days,
            "tolerated": found.tolerated,
            "recommended": {
                "gap_days": found.choice.gap_days,
                "keeps_to": found.choice.tolerance,
                "low_days": found.choice.low_days,
                "high_days": found.choice.high_days,
                "horizon_days": self.horizon_days,
                "reason": self.reason(),
                "stability": _stability(found),
                "yaml": self.yaml(),
            },
            "gaps": _rows("all", found.rates, found.choice, found.errors),
            "cohorts": [
                {"name": c.name, "customers": c.n_customers, "recommended_days": c.choice.gap_days,
                 "low_days": c.choice.low_days, "high_days": c.choice.high_days, "longest_days": c.longest_days,
                 "gaps": _rows(c.name, c.rates, c.choice)}
                for c in found.cohorts
            ],
            "rules": None if self.rules is None else _plain(self.rules.to_dict()),
            "rules_refused": self.rules_refused or None,
            "notes": list(self.notes),
        }  # fmt: skip


def define_churn(
    log: JourneyLog, churn: ChurnConfig | None = None, snapshots: SnapshotsConfig | None = None, *,
    gaps: Sequence[int] = (), within: int | None = None, tolerated: float = TOLERATED, until: Any = None,
    random_state: int = 0, progress: Progress = SILENT,
) -> DefinitionReport:  # fmt: skip
    """Measure how long a customer must be silent to be called gone.

    Parameters
    ----------
    log : JourneyLog
    churn : ChurnConfig, optional
        The present meaning of churn: its ``starts``, ``ends`` and ``touchpoints`` are taken into account.
    snapshots : SnapshotsConfig, optional
        To see which horizons leave room for training, calibration and test.
    gaps : sequence of int, optional
        Days of silence to try; default: round numbers that the log can judge.
    within : int, optional
        Days in which a customer has to be back after having been called gone; default: the longest round time in a
        quarter of the log, at most a year.
    tolerated : float
        Largest share of those called gone that may come back.
    until : date, optional
        Read the log as if it ended here.
    random_state : int
        Of the bootstrap.
    progress : Progress

    Returns
    -------
    DefinitionReport

    Raises
    ------
    ConfigError, DataError
        See `read_moments` and `measure_definition`.

    Examples
    --------
    >>> import cxml, pandas as pd
    >>> weekly = [(i, pd.Timestamp("2024-01-01") + pd.Timedelta(days=int(d)))
    ...           for i in range(80) for d in range(i % 7, 100 if i % 2 else 300, 7)]
    >>> events = pd.DataFrame(weekly, columns=["customer_id", "timestamp"]).assign(touchpoint="visit")
    >>> log = cxml.read_journeys(events, timezone="UTC")
    >>> print(define_churn(log).yaml())
    snapshots: {lookback: 10d}
    churn: {kind: inactivity, horizons: [10d]}
    <BLANKLINE>
    """
    with progress.step("find silences") as _:
        moments = read_moments(log, churn, until)
    with progress.step("measure returns") as _:
        found = measure_definition(moments, gaps=gaps, within=within, tolerated=tolerated)
    rules, refused = None, ""
    with progress.step("compare with personal rhythm") as _:
        try:
            rules = compare_rules(
                moments, gaps=gaps, within=found.rates.within_days, tolerated=tolerated, random_state=random_state
            )
        except DataError as error:
            refused = str(error)
    horizon = _horizon(moments, found, snapshots or SnapshotsConfig())
    return DefinitionReport(found, rules, refused, horizon, tuple(_notes(log, churn, found, horizon)))


def _horizon(moments: Moments, found: Definition, snapshots: SnapshotsConfig) -> int | None:
    """Return the longest candidate up to the recommended gap that three parts of the log have room for."""
    gap = found.choice.gap_days
    fitting: list[int] = [days for days in found.rates.gap_days.tolist() if gap is not None and days <= gap]
    for days in reversed(fitting):
        span = {"shortest": days * DAY_US, "longest": days * DAY_US}
        try:
            cutoffs = cutoff_grid(snapshots, first=moments.first, observed_until=moments.until, **span)
            split = split_cutoffs(cutoffs, snapshots, observed_until=moments.until, **span)
        except DataError:
            continue
        if all(start + days * DAY_US <= end for part, (start, end) in split.parts.items() if part != "train"):
            return days  # moments named in the config may leave no whole horizon after them
    return None


# ---------------------------------------------------------------- sentences


def _reason(found: Definition) -> str:
    rates, choice, within = found.rates, found.choice, found.rates.within_days
    if choice.gap_days is None:
        return (
            f"No gap is recommended: even of the customers silent for {rates.gap_days[-1]} days {_share(rates, -1)} "
            f"come back within {within} days. In this log silence does not tell who is gone; predict the lapse itself, "
            "over a horizon in which you can act, or look for a touchpoint that says good-bye."
        )
    k = int(np.flatnonzero(rates.gap_days == choice.gap_days)[0])
    kept = choice.tolerance == found.tolerated
    said = (
        f"Recommended gap: {choice.gap_days} days. Of the customers silent for that long, {_share(rates, k)} come back "
    )
    said += f"within {within} days"
    said += f", no more than the {found.tolerated:.0%} put up with" if kept else ", fewer than stay away"
    said += f"; of those silent for {rates.gap_days[k - 1]} days it is still {rates.rate[k - 1]:.0%}." if k else "."
    hidden = found.errors.hidden[k]
    said += "" if np.isnan(hidden) else f" Of the customers not called gone by then, {hidden:.0%} stay away as well."
    if not kept:
        said += (
            f" No gap keeps to the {found.tolerated:.0%} put up with: at {rates.gap_days[-1]} days it is still "
            f"{_share(rates, -1)}. Read churn here as a lapse that many recover from, not as good-bye."
        )
    return said


def _share(rates: ReturnRates, k: int) -> str:
    return f"{rates.rate[k]:.0%} ({rates.low[k]:.0%} to {rates.high[k]:.0%})"


def _stability(found: Definition) -> str:
    gap = found.choice.gap_days
    if gap is None:
        return "Stability: nothing to compare."
    judged = [c for c in found.cohorts if c.choice.gap_days is not None or (c.longest_days or 0) >= gap]
    if not judged:
        return f"Stability: no cohort was followed long enough to judge {gap} days by itself."
    moved = [c for c in judged if not _close(found, c)]
    if not moved:
        return f"Stability: all {len(judged)} cohorts that can judge lead to {gap} days or its neighbours."
    named = "; ".join(f"{_cohort_gap(c)} for {c.name}" for c in moved)
    return f"Stability: the gap moves in {len(moved)} of the {len(judged)} cohorts that can judge: {named}."


def _close(found: Definition, cohort: Cohort) -> bool:
    """Whether a cohort leads to the same gap or a neighbour, or one that its interval cannot tell from it."""
    gaps, gap = found.rates.gap_days.tolist(), found.choice.gap_days
    if cohort.choice.gap_days is None:
        return False
    low, high = cohort.choice.low_days, cohort.choice.high_days
    within = low is not None and gap is not None and low <= gap and (high is None or gap <= high)
    return within or abs(gaps.index(cohort.choice.gap_days) - gaps.index(gap)) <= 1


def _rules(rules: RuleComparison) -> str:
    low, high = 100 * rules.gain.low, 100 * rules.gain.high
    between = f"({low:+.1f} to {high:+.1f})"
    factor = f"a gap of {rules.factor:.1f} times a customer's own interval"
    alarms = f"at the {rules.false_alarms_global:.1%} of false alarms of {rules.gap_days} days for all"
    if rules.false_alarms_global < _RARE:
        gain = rules.auroc_gain
        return (
            f"Personal rhythm was not compared at equal false alarms: {rules.gap_days} days for all give next to none "
            f"({rules.false_alarms_global:.2%}) on the later days. Its AUROC differs by {gain.value:+.3f} "
            f"({gain.low:+.3f} to {gain.high:+.3f})."
        )
    if rules.gain.low > 0:
        said = f"{factor} finds {100 * rules.gain.value:+.1f} points {between} more of those who stay away"
        return f"Personal rhythm is better: {alarms}, {said}."
    if rules.gain.high < 0:
        said = f"{factor} finds {-100 * rules.gain.value:.1f} points fewer {between} of those who stay away"
        return f"One gap for all is better: {alarms}, {said}."
    return (
        f"One gap for all will do: {alarms}, {factor} finds {100 * rules.gain.value:+.1f} points {between} of those "
        "who stay away."
    )


def _notes(log: JourneyLog, churn: ChurnConfig | None, found: Definition, horizon: int | None) -> list[str]:
    notes, gap, within = [], found.choice.gap_days, found.rates.within_days
    if not log.config.activity:
        notes.append(
            "Note: every touchpoint counts as activity, the company's own mailings too. Name what customers do "
            "themselves under journeys.activity."
        )
    if churn is not None and churn.kind != "inactivity":
        notes.append(
            f"Note: the project file says who left (churn.kind {churn.kind}). That is better than any gap; a gap is "
            "for logs where nobody says good-bye."
        )
    if gap is not None and horizon is None:
        notes.append("Note: the log is too short to train and test on any of these horizons; see cxml check.")
    elif gap is not None and horizon != gap:
        k = int(np.flatnonzero(found.rates.gap_days == horizon)[0])
        returned = found.errors.label_returned[k]
        back = "" if np.isnan(returned) else f"; {returned:.0%} of those labelled so come back within {within} days"
        notes.append(
            f"Note: a horizon of {gap} days leaves no room for training, calibration and test as snapshots lays them "
            f"out. The longest that does is {horizon} days, which asks for a lapse{back}."
        )
    if (found.until - found.first) // DAY_US < 365:
        notes.append("Note: the log holds less than a year, so seasons cannot be told from leaving.")
    return notes


# ---------------------------------------------------------------- tables


def _gaps_table(found: Definition) -> Table:
    rates, errors, within = found.rates, found.errors, found.rates.within_days
    title = (
        f"Called gone after so many days of silence, and back within {within} days of it ({found.n_customers:,} "
        f"customers, {found.n_silences:,} silences, {_day(found.first)} to {_day(found.until)})"
    )
    head = [
        "days",
        "silences",
        "customers",
        "called gone, came back",
        "not called, gone",
        "churn rate",
        "labelled, back",
        "",
    ]
    rows = [
        [
            f"{gap}", f"{rates.silences[k]:,}", f"{rates.customers[k]:,}",
            _interval(rates.rate, rates.low, rates.high, k),
            _interval(errors.hidden, errors.hidden_low, errors.hidden_high, k), _percent(errors.label_rate[k]),
            _percent(errors.label_returned[k]), "recommended" if gap == found.choice.gap_days else "",
        ]
        for k, gap in enumerate(rates.gap_days)
    ]  # fmt: skip
    return title, head, rows


def _rules_table(rules: RuleComparison) -> Table:
    title = (
        f"One gap for all or personal rhythm: chosen until {rules.chosen_until}, tested from {rules.tested_from} to "
        f"{rules.tested_until} on {rules.customers:,} customers silent for less than {rules.window_days} days, of whom "
        f"{rules.gone:.0%} stay away"
    )
    head = ["rule", "calls gone after", "false alarms", "leavers found", "at equal alarms", "AUROC"]
    one = [
        "one gap for all", f"{rules.gap_days} days", _percent(rules.false_alarms_global), _percent(rules.found_global),
        _percent(rules.found_global), f"{rules.auroc_global:.3f}",
    ]  # fmt: skip
    own = [
        "personal rhythm", f"{rules.factor:.1f} x own interval", _percent(rules.false_alarms_personal),
        _percent(rules.found_personal), _percent(rules.found_equal), f"{rules.auroc_personal:.3f}",
    ]  # fmt: skip
    return title, head, [one, own]


def _cohorts_table(found: Definition) -> Table:
    gap = found.choice.gap_days
    shown = int(found.rates.gap_days[-1]) if gap is None else gap
    k = int(np.flatnonzero(found.rates.gap_days == shown)[0])
    title = f"Does the gap move? The same tolerance ({found.choice.tolerance:.0%}) asked of parts of the log"
    head = ["cohort", "customers", f"back after {shown} days", "its gap", "may be"]
    rows = [
        [
            cohort.name, f"{cohort.n_customers:,}",
            _interval(cohort.rates.rate, cohort.rates.low, cohort.rates.high, k), _cohort_gap(cohort),
            _range(cohort.choice),
        ]
        for cohort in found.cohorts
    ]  # fmt: skip
    return title, head, rows


def _cohort_gap(cohort: Cohort) -> str:
    if cohort.choice.gap_days is not None:
        return f"{cohort.choice.gap_days} days"
    return "too few followed" if cohort.longest_days is None else f"over {cohort.longest_days} days"


def _range(choice: Choice) -> str:
    if choice.gap_days is None:
        return ""
    end = "?" if choice.high_days is None else f"{choice.high_days}"
    return f"{choice.low_days} to {end}"


def _percent(share: float) -> str:
    return "?" if np.isnan(share) else f"{share:.1%}"


def _interval(value: Any, low: Any, high: Any, k: int) -> str:
    return "?" if np.isnan(value[k]) else f"{value[k]:.1%} ({low[k]:.1%} to {high[k]:.1%})"


def _day(moment: int) -> str:
    return format_instant(moment // DAY_US * DAY_US)


def _rows(group: str, rates: ReturnRates, choice: Choice, errors: CountedErrors | None = None) -> list[dict[str, Any]]:
    """One row a gap, for machines."""
    return [
        _plain({
            "group": group,
            "gap_days": int(gap),
            "within_days": rates.within_days,
            "silences": int(rates.silences[k]),
            "customers": int(rates.customers[k]),
            "returned": float(rates.rate[k]),
            "returned_low": float(rates.low[k]),
            "returned_high": float(rates.high[k]),
            **{name: None if errors is None else float(getattr(errors, name)[k]) for name in _COUNTED},
            "recommended": bool(gap == choice.gap_days),
        })
        for k, gap in enumerate(rates.gap_days)
    ]  # fmt: skip


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    counts = [(name, pa.int64()) for name in ("gap_days", "within_days", "silences", "customers")]
    shares = [(name, pa.float64()) for name in ("returned", "returned_low", "returned_high", *_COUNTED)]
    return pa.schema([("group", pa.string()), *counts, *shares, ("recommended", pa.bool_())])


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Write what is not a number as None, and what is without end as None too: JSON knows neither."""
    return {name: _plain(v) if isinstance(v, dict) else None if _odd(v) else v for name, v in values.items()}


def _odd(value: Any) -> bool:
    return isinstance(value, float) and not np.isfinite(value)
