"""How long must a customer be silent to be called gone? Measured on the log, for logs without a cancellation.

*Called gone* at a gap of ``g`` days means: no activity for ``g`` days since the last one. *Back* means: activity within
the next ``within`` days. Nobody can wait for ever, so gone for good is read as not back within that time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, DataError
from cxml.snapshots.silences import Inspection, Moments, Silences, find_silences, inspect, inspection_days
from cxml.times import DAY_US, format_instant

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Gaps that are tried unless others are named, in days: round numbers, since people have to live with the choice.
CANDIDATES = (
    1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 75, 90, 120, 150, 180, 240, 300, 365, 450, 540, 730, 1095,
)  # fmt: skip
#: A rate is told where at least so many customers were followed to its end.
FEWEST = 30
#: Share of wrong calls that is put up with: a wrong call then weighs four times a leaver who is not called yet.
TOLERATED = 0.2
#: Where the log never gets so sure, at least more than half of those called gone must stay away.
EVEN = 0.5

_LONGEST_WITHIN = 365
_INSPECTIONS = 24
_CURVE_POINTS = 80
_Z = 1.959963984540054  # of a 95 % interval


@dataclass(frozen=True, slots=True)
class ReturnRates:
    """Share of silences that end within ``within_days`` of having lasted for a gap, with 95 % intervals.

    Parameters
    ----------
    within_days : int
    gap_days : int64 array of shape (n_gaps,)
    silences : int64 array of shape (n_gaps,)
        How many lasted that long.
    customers : int64 array of shape (n_gaps,)
        Of how many customers a silence lasted that long and could be followed to the end of the time.
    rate, low, high : float64 arrays of shape (n_gaps,)
        NaN where fewer than `FEWEST` customers were followed.
    """

    within_days: int
    gap_days: Int64
    silences: Int64
    customers: Int64
    rate: Float64
    low: Float64
    high: Float64

    def where(self, chosen: Bool) -> ReturnRates:
        """Return some of the gaps."""
        columns = (getattr(self, name)[chosen] for name in self.__slots__[1:])
        return ReturnRates(self.within_days, *columns)


@dataclass(frozen=True, slots=True)
class CountedErrors:
    """What a gap costs on the other side: leavers who are not called gone yet; and the labels it would give.

    Parameters
    ----------
    hidden, hidden_low, hidden_high : float64 arrays of shape (n_gaps,)
        Of the customers silent for less than the gap on an inspection day, the share that does not come back.
    label_rate : float64 array of shape (n_gaps,)
        Of the same customers, the share without activity in ``[day, day + gap)``: churn as a model would be taught.
    label_returned : float64 array of shape (n_gaps,)
        Of those, the share that comes back within the time after it; NaN where the log is too short to tell.
    """

    hidden: Float64
    hidden_low: Float64
    hidden_high: Float64
    label_rate: Float64
    label_returned: Float64


@dataclass(frozen=True, slots=True)
class Choice:
    """The gap that is recommended.

    Parameters
    ----------
    gap_days : int or None
        None where not even half of those called gone stay away.
    tolerance : float
        The share of wrong calls it keeps to: the one asked for, or `EVEN`.
    low_days, high_days : int or None
        The gaps that might be the right one, given the intervals: from the first that may keep to the tolerance
        to the first that surely does; None where no candidate does.
    """

    gap_days: int | None
    tolerance: float
    low_days: int | None
    high_days: int | None


@dataclass(frozen=True, slots=True)
class Cohort:
    """The same question asked of a part of the log.

    Parameters
    ----------
    name : str
    n_customers : int
    rates : ReturnRates
        At the candidates that the whole log could judge; NaN where the cohort cannot.
    choice : Choice
        At the tolerance the whole log keeps to.
    """

    name: str
    n_customers: int
    rates: ReturnRates
    choice: Choice

    @property
    def longest_days(self) -> int | None:
        """The longest candidate the cohort was followed for."""
        known = self.rates.gap_days[~np.isnan(self.rates.rate)]
        return int(known[-1]) if len(known) else None


@dataclass(frozen=True, slots=True)
class Definition:
    """Everything that was measured about silence in a log.

    Parameters
    ----------
    first, until : int
        Span of the log, UTC microseconds.
    n_customers, n_silences : int
        Customers who were ever active; silences of a day or more.
    tolerated : float
        Share of wrong calls that was asked for.
    rates : ReturnRates
        At the candidate gaps: the error of the first kind.
    errors : CountedErrors
        At the candidate gaps: the error of the second kind, and the labels.
    curve : ReturnRates
        At many gaps from the first to the last candidate: for the picture.
    cohorts : tuple of Cohort
    choice : Choice
    """

    first: int
    until: int
    n_customers: int
    n_silences: int
    tolerated: float
    rates: ReturnRates
    errors: CountedErrors
    curve: ReturnRates
    cohorts: tuple[Cohort, ...]
    choice: Choice


def measure_definition(
    moments: Moments, *, gaps: Sequence[int] = (), within: int | None = None, tolerated: float = TOLERATED
) -> Definition:
    """Measure, for every gap, who is called gone wrongly and who is not called gone yet, and choose one.

    Parameters
    ----------
    moments : Moments
    gaps : sequence of int, optional
        Candidates, days; default: those of `CANDIDATES` that the log can judge.
    within : int, optional
        Days in which a customer has to be back; default: `default_within`.
    tolerated : float
        Largest share of those called gone that may come back.

    Returns
    -------
    Definition

    Raises
    ------
    ConfigError
        If a number makes no sense.
    DataError
        If the log is too short, or has too few customers, for any candidate.
    """
    within = default_within(moments) if within is None else within
    if within < 1 or any(gap < 1 for gap in gaps):
        raise ConfigError("gaps and the time to return are whole days, at least one")
    if not 0 < tolerated < 1:
        raise ConfigError(f"the tolerated share is {tolerated:g}; it must lie between 0 and 1, e.g. 0.2")
    candidates = candidate_gaps(moments, within, gaps)
    silences = find_silences(moments)
    rates = return_rates(silences, candidates, within)
    rates = rates.where(~np.isnan(rates.rate))
    if not len(rates.gap_days):
        raise DataError(
            f"no silence of {candidates[0]} days or more was followed {within} days further with {FEWEST} customers or "
            f"more: the log runs from {format_instant(moments.first)} to {format_instant(moments.until)} with "
            f"{moments.n_customers:,} customers. Ask for a return within a shorter time, for shorter gaps, or give a "
            "longer log."
        )
    ends = int(rates.gap_days[0]), int(rates.gap_days[-1])
    many = np.unique(np.round(np.geomspace(*ends, _CURVE_POINTS)).astype(np.int64))
    choice = choose_gap(rates, tolerated)
    return Definition(
        first=moments.first,
        until=moments.until,
        n_customers=moments.n_customers,
        n_silences=len(silences.days),
        tolerated=tolerated,
        rates=rates,
        errors=counted_errors(moments, rates.gap_days, within),
        curve=return_rates(silences, many, within),
        cohorts=_cohorts(moments, silences, rates, choice.tolerance),
        choice=choice,
    )


def default_within(moments: Moments) -> int:
    """Return how long to wait for a return unless told: the longest round time in a quarter of the log, at most a year.

    Examples
    --------
    >>> default_within(Moments(np.array([0, 1]), np.zeros(1, int), np.zeros(1, int), 0, 400 * DAY_US))
    90
    """
    fitting = [days for days in CANDIDATES if days <= min(moments.span_days // 4, _LONGEST_WITHIN)]
    return fitting[-1] if fitting else 1


def candidate_gaps(moments: Moments, within: int, gaps: Sequence[int] = ()) -> Int64:
    """Return the gaps, in days, that the log is long enough for.

    Parameters
    ----------
    moments : Moments
    within : int
        Days in which a customer has to be back.
    gaps : sequence of int, optional
        Those to choose from; default: `CANDIDATES` from a 64th of the log on.

    Returns
    -------
    int64 array of shape (n_gaps,), ascending

    Raises
    ------
    DataError
        If it is long enough for none.
    """
    chosen = sorted(set(gaps)) or [gap for gap in CANDIDATES if gap * 64 >= moments.span_days]
    fitting = [gap for gap in chosen if gap + within <= moments.span_days]
    if not fitting:
        shortest = f" for {chosen[0]} days" if chosen else ""
        raise DataError(
            f"the log has {moments.span_days} days: too few to see anybody silent{shortest} and then to wait {within} "
            "days for a return. Ask for a return within a shorter time, or give a longer log."
        )
    return np.array(fitting, dtype=np.int64)


# ---------------------------------------------------------------- called gone, and came back


def return_rates(silences: Silences, gaps: Sequence[int] | Int64, within: int) -> ReturnRates:
    """Estimate P(back within ``within`` days | silent for ``g`` days) from silences of which many are still open.

    With S the survival curve of silences, the rate is ``1 - S(g + within) / S(g)``; S is estimated as a product over
    days (Kaplan and Meier 1958), so open silences count for as long as they were followed. Silences of one customer
    resemble each other: the variance of log S(g + within) / S(g) sums the influence of whole customers (the
    infinitesimal jackknife; Therneau and Grambsch 2000, Modeling Survival Data, section 7.2), and the interval is laid
    on the complementary log-log scale, where it stays between 0 and 1.

    Parameters
    ----------
    silences : Silences
    gaps : sequence of int
        Days, at least 1.
    within : int
        Days.

    Returns
    -------
    ReturnRates

    Examples
    --------
    >>> n = np.arange(100)    # all silent for 10 days; then a quarter comes back on the 12th, the rest stays away
    >>> silences = Silences(n, n * 0, np.where(n < 25, 12, 40), n < 25, np.full(100, 40))
    >>> rates = return_rates(silences, [10, 20], within=20)
    >>> rates.silences, rates.rate.round(3), rates.high.round(2)
    (array([100,  75]), array([0.25, 0.  ]), array([0.35, 0.05]))
    """
    gap_days = np.asarray(gaps, dtype=np.int64)
    last = silences.days - ~silences.returned  # the last day at risk
    n_days = int(max(last.max(initial=0), gap_days.max(initial=0) + within)) + 2
    at_risk = np.bincount(last, minlength=n_days)[::-1].cumsum()[::-1].astype(np.float64)
    back = np.bincount(silences.days[silences.returned], minlength=n_days).astype(np.float64)
    stay = at_risk - back
    with np.errstate(divide="ignore", invalid="ignore"):
        hazard = np.where(at_risk > 0, back / at_risk, 0.0)
        log_stay = np.concatenate([[0.0], np.cumsum(np.log1p(-np.where(stay > 0, hazard, 0.0)))])
        pull = np.where(stay > 0, hazard / stay, 0.0)
        jump = np.where(stay > 0, 1 / stay, 0.0)
    pulled = np.concatenate([[0.0], np.cumsum(pull)])
    everybody_back = np.concatenate([[0], np.cumsum((back > 0) & (stay == 0))])
    rows = [
        _return_rate(silences, last, int(g), int(g) + within, log_stay, pulled, jump, everybody_back) for g in gap_days
    ]
    n, customers, rate, low, high = (np.array(column) for column in zip(*rows, strict=True))
    return ReturnRates(within, gap_days, n, customers, rate, low, high)


def _return_rate(
    silences: Silences, last: Int64, gap: int, end: int, log_stay: Float64, pulled: Float64, jump: Float64,
    everybody_back: Int64,
) -> tuple[int, int, float, float, float]:  # fmt: skip
    reached = last >= gap
    customer, last = silences.customer[reached], last[reached]
    n_followed = _distinct(customer[silences.followed[reached] >= end])
    n = len(last)
    if n_followed < FEWEST:
        return n, n_followed, np.nan, np.nan, np.nan
    if everybody_back[end] > everybody_back[gap]:
        return n, n_followed, 1.0, 0.025 ** (1 / n_followed), 1.0
    lost = log_stay[gap] - log_stay[end]
    if lost <= 0:
        return n, n_followed, 0.0, 0.0, 1 - 0.025 ** (1 / n_followed)
    came_back = silences.returned[reached] & (last < end)
    influence = pulled[np.minimum(last + 1, end)] - pulled[gap] - np.where(came_back, jump[last], 0.0)
    error = float(np.sqrt((np.bincount(customer, weights=influence) ** 2).sum()))
    low, high = (1 - np.exp(-lost * np.exp(sign * _Z * error / lost)) for sign in (-1, 1))
    return n, n_followed, float(1 - np.exp(-lost)), float(low), float(high)


def _distinct(ascending: Int64) -> int:
    return int(np.count_nonzero(np.diff(ascending))) + 1 if len(ascending) else 0


def choose_gap(rates: ReturnRates, tolerated: float) -> Choice:
    """Choose the shortest gap whose return rate keeps to the tolerance and is not proved wrong by a longer one.

    If a wrong call costs ``(1 - r) / r`` times what a leaver costs who is not called, calling is right as soon as the
    return rate falls below ``r``: the tolerance is a statement about costs. Where no gap keeps to it, the shortest one
    after which more than half stay away is chosen.

    Parameters
    ----------
    rates : ReturnRates
    tolerated : float

    Returns
    -------
    Choice

    Examples
    --------
    >>> gaps, rate = np.array([30, 60, 90]), np.array([0.5, 0.22, 0.1])
    >>> choose_gap(ReturnRates(90, gaps, gaps, gaps, rate, rate - 0.04, rate + 0.04), 0.2)
    Choice(gap_days=90, tolerance=0.2, low_days=60, high_days=90)
    """
    known = rates.where(~np.isnan(rates.rate))
    for tolerance in sorted({tolerated, max(tolerated, EVEN)}):
        gap = _first_fit(known, known.rate, tolerance)
        if gap is not None:
            return Choice(
                gap, tolerance, _first_fit(known, known.low, tolerance), _first_fit(known, known.high, tolerance)
            )
    return Choice(None, max(tolerated, EVEN), None, None)


def _first_fit(rates: ReturnRates, bound: Float64, tolerance: float) -> int | None:
    surely_over = np.flatnonzero(rates.low > tolerance)
    after = surely_over[-1] + 1 if len(surely_over) else 0
    fitting = np.flatnonzero(bound[after:] <= tolerance)
    return int(rates.gap_days[after + fitting[0]]) if len(fitting) else None


# ---------------------------------------------------------------- not called gone yet


def counted_errors(moments: Moments, gaps: Sequence[int] | Int64, within: int) -> CountedErrors:
    """Measure what a gap hides: customers still counted who are gone already, and the labels it would give.

    Everybody is looked at on up to 24 days spread over the log, each followed by the whole time to return, so nothing
    is censored. A gap is looked at only from ``gap`` days after the start of the log on: before that, whoever had been
    silent for longer than the log would be missing. Intervals take whole customers.

    Parameters
    ----------
    moments : Moments
    gaps : sequence of int
        Days.
    within : int
        Days.

    Returns
    -------
    CountedErrors
    """
    gaps_us = np.asarray(gaps, dtype=np.int64) * DAY_US
    shape = len(gaps_us), moments.n_customers
    counted, gone = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    labels = np.zeros((len(gaps_us), 3))
    days = inspection_days(moments.first + int(gaps_us.min()), moments.until - within * DAY_US, _INSPECTIONS)
    for one in inspect(moments, days):
        for k, gap in enumerate(gaps_us):
            if one.day >= moments.first + gap:
                _count(one, moments, int(gap), within * DAY_US, counted[k], gone[k], labels[k])
    with np.errstate(invalid="ignore"):
        hidden = np.array([_share(y, n) for y, n in zip(gone, counted, strict=True)])
        rate, returned = labels[:, 1] / labels[:, 0], labels[:, 2] / labels[:, 1]
    return CountedErrors(hidden[:, 0], hidden[:, 1], hidden[:, 2], rate, returned)


def _count(
    one: Inspection, moments: Moments, gap: int, within: int, counted: NDArray[np.int32], gone: NDArray[np.int32],
    labels: Float64,
) -> None:  # fmt: skip
    """Add what one day shows of one gap."""
    ended_us = moments.closed[one.moment] - one.day
    still = one.silent_us < gap
    known = still & (ended_us >= within)  # of a journey that ends without churn nobody knows who would have come back
    counted[one.customer[known]] += 1
    gone[one.customer[known & (one.back_us >= within)]] += 1
    if one.day + gap + within <= moments.until:
        at_risk = still & (ended_us >= gap + within)
        labelled = at_risk & (one.back_us >= gap)
        labels += at_risk.sum(), labelled.sum(), (labelled & (one.back_us < gap + within)).sum()


def _share(y: NDArray[np.int32], n: NDArray[np.int32]) -> tuple[float, float, float]:
    """Share over all rows with a 95 % interval on the logit scale; each entry sums the rows of one customer."""
    total = float(n.sum())
    if total == 0:
        return np.nan, np.nan, np.nan
    p = float(y.sum()) / total
    if p in (0.0, 1.0):
        rest = 1 - 0.025 ** (1 / max(int((n > 0).sum()), 1))
        return (p, 0.0, rest) if p == 0 else (p, 1 - rest, 1.0)
    error = float(np.sqrt(((y - p * n) ** 2).sum())) / total
    low, high = (1 / (1 + (1 - p) / p * np.exp(-sign * _Z * error / (p * (1 - p)))) for sign in (-1, 1))
    return p, float(low), float(high)


# ---------------------------------------------------------------- the same in other times and for other people


def _cohorts(moments: Moments, silences: Silences, rates: ReturnRates, tolerance: float) -> tuple[Cohort, ...]:
    """Ask again by half of the log in which the silence began, and by when the customer was first active."""
    middle = (moments.first + moments.until) // 2 // DAY_US * DAY_US
    early, day = silences.began < middle, format_instant(middle)
    groups = {f"silences begun before {day}": early, f"silences begun from {day} on": ~early}
    names = _periods(moments.time[moments.starts[:-1]], years=moments.span_days > 3 * 365)
    groups |= {f"first seen {name}": (names == name)[silences.customer] for name in sorted(set(names))}
    return tuple(_cohort(name, silences.where(chosen), rates, tolerance) for name, chosen in groups.items())


def _periods(time: Int64, years: bool) -> NDArray[np.str_]:
    """Name the quarter or the year of each moment."""
    month = time.view("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    year = (1970 + month // 12).astype(np.str_)
    return year if years else np.char.add(np.char.add(year, " Q"), (month % 12 // 3 + 1).astype(np.str_))


def _cohort(name: str, silences: Silences, rates: ReturnRates, tolerance: float) -> Cohort:
    found = return_rates(silences, rates.gap_days, rates.within_days)
    gap = _first_fit(known := found.where(~np.isnan(found.rate)), known.rate, tolerance)
    bounds = [_first_fit(known, bound, tolerance) for bound in (known.low, known.high)] if gap else [None, None]
    return Cohort(name, _distinct(silences.customer), found, Choice(gap, tolerance, *bounds))
