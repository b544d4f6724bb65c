"""One gap for all, or each customer by their own rhythm? Both rules chosen early in the log, compared later in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxml.errors import DataError
from cxml.evaluate.bootstrap import Interval, paired_difference
from cxml.evaluate.metrics import auroc, rank_groups
from cxml.snapshots.definition import TOLERATED, candidate_gaps, choose_gap, default_within, return_rates
from cxml.snapshots.silences import Moments, find_silences, inspect, inspection_days
from cxml.times import DAY_US, format_instant

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

_CHOSEN_ON = 0.6  # share of the log on which both rules are chosen
_INSPECTIONS = 8
_CUSTOMERS = 10_000  # of more, every second, third, ... takes part: the bootstrap would take minutes
_REPLICATES = 200


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How long customers usually stay away, and how far one customer's own intervals are to be believed.

    Parameters
    ----------
    typical_days : float
        The interval of a customer of whom nothing is known: the geometric mean over customers.
    prior_intervals : float
        How many intervals of a customer's own weigh as much as everybody else's; inf where customers do not differ.
    """

    typical_days: float
    prior_intervals: float


@dataclass(frozen=True, slots=True)
class RuleComparison:
    """One gap for all against personal rhythm, on days that neither rule was chosen on.

    Parameters
    ----------
    chosen_until, tested_from, tested_until : str
        Dates. Both rules were chosen on what had happened by the first; the days of the test lie between the others.
    window_days : int
        Customers silent for less than this take part.
    gap_days : int
        The gap for all, chosen early.
    factor : float
        The personal rule calls a customer gone after so many of their own intervals; chosen early, at as many false
        alarms as the gap for all.
    rhythm : Rhythm
    rows, customers : int
        Of the test.
    gone : float
        Share of the test rows that did not come back.
    false_alarms_global, false_alarms_personal : float
        Of those who came back, the share called gone, by the rules as chosen.
    found_global, found_personal : float
        Of those who did not, the share called gone, by the rules as chosen.
    found_equal : float
        The same of the personal rule at as many false alarms on the test as the gap for all.
    gain : Interval
        ``found_equal`` less ``found_global``, customers resampled.
    auroc_global, auroc_personal : float
        Chance that of two customers the one who does not come back has been silent longer, by the day or by their
        own intervals.
    auroc_gain : Interval
    """

    chosen_until: str
    tested_from: str
    tested_until: str
    window_days: int
    gap_days: int
    factor: float
    rhythm: Rhythm
    rows: int
    customers: int
    gone: float
    false_alarms_global: float
    false_alarms_personal: float
    found_global: float
    found_personal: float
    found_equal: float
    gain: Interval
    auroc_global: float
    auroc_personal: float
    auroc_gain: Interval

    def to_dict(self) -> dict[str, Any]:
        """Return it for machines; intervals as value, low, high."""
        content = asdict(self)
        return content | {name: getattr(self, name)._asdict() for name in ("gain", "auroc_gain")}


def fit_rhythm(moments: Moments) -> Rhythm:
    """Learn the usual interval between active moments, and how much customers differ in it.

    The logarithm of an interval varies within a customer (variance s2) and between customers (t2, by the method of
    moments). A customer with n intervals then has the interval ``exp((sum of logs + k log typical) / (n + k))`` with
    k = s2 / t2: the empirical Bayes estimate (Efron and Morris 1975). Intervals shorter than a day do not count.

    Parameters
    ----------
    moments : Moments

    Returns
    -------
    Rhythm

    Raises
    ------
    DataError
        If nobody came back after a day or more.

    Examples
    --------
    >>> from cxml.snapshots.silences import NEVER
    >>> day = 86_400_000_000
    >>> weekly, monthly = np.arange(5) * 7 * day, np.arange(5) * 28 * day
    >>> moments = Moments(np.array([0, 5, 10]), np.concatenate([weekly, monthly]), np.full(10, NEVER), 0, 200 * day)
    >>> fit_rhythm(moments)
    Rhythm(typical_days=14.0, prior_intervals=0.0)
    """
    log_days, counts = _intervals(moments)
    n = np.bincount(moments.customer, weights=counts, minlength=moments.n_customers)
    has = n > 0
    if not has.any():
        raise DataError("nobody came back after a day or more, so there is no rhythm to learn")
    n, own = n[has], np.bincount(moments.customer, weights=log_days, minlength=moments.n_customers)[has] / n[has]
    squares = np.bincount(moments.customer, weights=log_days**2, minlength=moments.n_customers)[has]
    freedom = float((n - 1).sum())
    within = max(float((squares - n * own**2).sum()), 0.0) / freedom if freedom else 0.0
    spread = float(own.var(ddof=1)) if len(own) > 1 else 0.0
    between = spread - within * float((1 / n).mean())
    typical = round(float(np.exp(own.mean())), 9)
    return Rhythm(typical, round(within / between, 9) if between > 0 else np.inf)


def _intervals(moments: Moments) -> tuple[Float64, Float64]:
    """Log of the days before each moment since the one before, and whether that counts: a day or more."""
    gap = np.diff(moments.time, prepend=moments.time[:1])
    gap[moments.starts[:-1]] = 0
    counts = gap >= DAY_US
    return np.log(np.where(counts, gap, DAY_US) / DAY_US), counts.astype(np.float64)


def personal_days(moments: Moments, rhythm: Rhythm) -> Float64:
    """Return each customer's own interval as it was known at each of their moments, in days.

    Parameters
    ----------
    moments : Moments
    rhythm : Rhythm

    Returns
    -------
    float64 array of shape (n_moments,)
        From the intervals that end with the moment or earlier.
    """
    log_days, counts = _intervals(moments)
    if np.isinf(rhythm.prior_intervals):
        return np.full(len(counts), rhythm.typical_days)
    first = np.repeat(moments.starts[:-1], np.diff(moments.starts))
    total, n = (np.concatenate([[0.0], np.cumsum(column)]) for column in (log_days, counts))
    total, n = total[1:] - total[first], n[1:] - n[first]
    prior = max(rhythm.prior_intervals, 1e-9)  # who has no interval of their own still gets the typical one
    own: Float64 = np.exp((total + prior * np.log(rhythm.typical_days)) / (n + prior))
    return own


def compare_rules(
    moments: Moments, *, gaps: Sequence[int] = (), within: int | None = None, tolerated: float = TOLERATED,
    random_state: int = 0,
) -> RuleComparison:  # fmt: skip
    """Choose both rules on the first part of the log and compare them on days of the rest.

    The first six tenths choose the gap for all (as `choose_gap` does) and the rhythm, and then the factor that gives
    the personal rule as many false alarms. Of the test, a customer's own intervals are those before the day.

    Parameters
    ----------
    moments : Moments
    gaps, within, tolerated
        As in `cxml.snapshots.definition.measure_definition`.
    random_state : int
        Of the bootstrap.

    Returns
    -------
    RuleComparison

    Raises
    ------
    DataError
        If the log is too short for two spans, or one of them shows nobody who comes back or nobody who does not.
    """
    within = default_within(moments) if within is None else within
    border = (moments.first + int(_CHOSEN_ON * moments.span_days) * DAY_US) // DAY_US * DAY_US
    early = moments.before(border)
    rates = return_rates(find_silences(early), candidate_gaps(early, within, gaps), within)
    rates = rates.where(~np.isnan(rates.rate))
    if not len(rates.gap_days):
        raise DataError("the first six tenths of the log are too short, or hold too few customers, to choose a gap")
    gap = choose_gap(rates, tolerated).gap_days or int(rates.gap_days[rates.rate.argmin()])
    window = max(gap, moments.span_days // 4)
    rhythm = fit_rhythm(early)
    chosen = _looked_at(early, rhythm, early.first + window * DAY_US, within, window)
    tested = _looked_at(moments, rhythm, border, within, window)
    for span, rows in (("first six tenths", chosen), ("last four tenths", tested)):
        if not 0 < rows.gone.sum() < len(rows.gone):
            raise DataError(f"the {span} of the log show nobody who comes back, or nobody who does not")
    alarms = float((chosen.silent[~chosen.gone] >= gap).mean())
    factor = _threshold(chosen.own[~chosen.gone], alarms)
    return _compare(tested, gap, factor, rhythm, border, window, random_state)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Customers on inspection days: days of silence, own intervals of silence, and whether they stay away."""

    customer: Int64
    silent: Float64
    own: Float64
    gone: Bool
    days: list[int]


def _looked_at(moments: Moments, rhythm: Rhythm, start: int, within: int, window: int) -> _Rows:
    days = inspection_days(start, moments.until - within * DAY_US, _INSPECTIONS)
    every = -(-moments.n_customers // _CUSTOMERS)
    personal = personal_days(moments, rhythm)
    columns: list[tuple[Any, ...]] = []
    for one in inspect(moments, days):
        taken = (one.silent_us < window * DAY_US) & (one.customer % every == 0)
        taken &= moments.closed[one.moment] - one.day >= within * DAY_US
        silent = one.silent_us[taken] / DAY_US
        gone = one.back_us[taken] >= within * DAY_US
        columns.append((one.customer[taken], silent, silent / personal[one.moment[taken]], gone))
    if not columns:
        raise DataError(
            f"the log has {moments.span_days} days: too few to choose a rule on its first six tenths and to test it on "
            f"the rest, each with {within} days of waiting for a return"
        )
    customer, silent, own, gone = (np.concatenate(column) for column in zip(*columns, strict=True))
    return _Rows(customer, silent, own, gone, days)


def _threshold(score: Float64, alarms: float) -> float:
    """Return a threshold that the share ``alarms`` of the scores reaches, as nearly as can be."""
    ranked = np.concatenate([[np.inf], np.sort(score)[::-1], [0.0]])
    reached = round(alarms * len(score))
    return float(min(ranked[reached], 2 * ranked[1]) + ranked[reached + 1]) / 2


def found_at(gone: ArrayLike, score: ArrayLike, *, false_alarms: float, weight: ArrayLike | None = None) -> Any:
    """Share of those gone that a threshold finds which calls ``false_alarms`` of the others gone.

    Parameters
    ----------
    gone : array of shape (n,)
        0 or 1.
    score : array of shape (n,)
        Who has more is called first.
    false_alarms : float
        Between 0 and 1.
    weight : array of shape (n,) or (n_replicates, n), optional

    Returns
    -------
    float, or array of shape (n_replicates,)
        Ties at the threshold enter in equal parts.

    Examples
    --------
    >>> found_at([1, 1, 0, 0], [9.0, 3.0, 5.0, 1.0], false_alarms=0.25)
    0.5
    """
    y, s = np.asarray(gone, dtype=np.float64), np.asarray(score, dtype=np.float64)
    w = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
    happened, others = rank_groups(y, s, np.atleast_2d(w))
    zero = np.zeros((len(happened), 1))
    found, alarmed = (np.concatenate([zero, np.cumsum(part, axis=1)], axis=1) for part in (happened, others))
    with np.errstate(invalid="ignore"):
        values = np.array([np.interp(false_alarms, a / a[-1], f / f[-1]) for a, f in zip(alarmed, found, strict=True)])
    return values if w.ndim == 2 else float(values[0])


def _compare(
    rows: _Rows, gap: int, factor: float, rhythm: Rhythm, border: int, window: int, random_state: int
) -> RuleComparison:
    gone, called, called_own = rows.gone, rows.silent >= gap, rows.own >= factor
    alarms = float(called[~gone].mean())
    metric = partial(found_at, false_alarms=alarms)
    y = gone.astype(np.float64)
    sure = {"n": _REPLICATES, "random_state": random_state}
    gain = paired_difference(metric, (y, rows.own), (y, rows.silent), rows.customer, **sure)
    own, silent = rows.own / (1 + rows.own), rows.silent / (1 + rows.silent)  # auroc takes what lies between 0 and 1
    auroc_gain = paired_difference(auroc, (y, own), (y, silent), rows.customer, **sure)
    return RuleComparison(
        chosen_until=format_instant(border),
        tested_from=format_instant(rows.days[0] // DAY_US * DAY_US),
        tested_until=format_instant(rows.days[-1] // DAY_US * DAY_US),
        window_days=window,
        gap_days=gap,
        factor=factor,
        rhythm=rhythm,
        rows=len(gone),
        customers=len(np.unique(rows.customer)),
        gone=float(gone.mean()),
        false_alarms_global=alarms,
        false_alarms_personal=float(called_own[~gone].mean()),
        found_global=float(called[gone].mean()),
        found_personal=float(called_own[gone].mean()),
        found_equal=metric(y, rows.own),
        gain=gain,
        auroc_global=float(auroc(y, silent)),
        auroc_personal=float(auroc(y, own)),
        auroc_gain=auroc_gain,
    )
