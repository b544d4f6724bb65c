"""What is learned from how journeys of training ended: which steps are typical of a bad end, and how peers fared.

Both are learned once for each fold of customers (see `cxml.features.folds`), from the customers of all others, so that
no outcome is ever in a value of the customer whose it is. Sums are kept fold by fold and never taken back out of a
total, which would leave the last bits of what was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError
from cxml.features.annotate import annotate
from cxml.features.annotations import AnnotationSettings, LikenessTable
from cxml.features.folds import N_FOLDS, folds_of
from cxml.features.matrix import fill_matrix
from cxml.features.peers import PeerTable
from cxml.features.plan import FeaturePlan
from cxml.journeys.block import CustomerTable, EventBlock
from cxml.times import DAY_US

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog

_F = TypeVar("_F", bound=Callable[..., Any])
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Touchpoints that get likeness of their own.
MOST_TOUCHPOINTS = 50
#: So many of the latest events before a snapshot tell what its journey was like.
_LATEST_EVENTS = 20
#: Weight, in snapshots, of what is known of more journeys against what is known of few.
_PRIOR_SNAPSHOTS = 10.0
_PRIOR_PEERS = 20.0
_MONTH_US, _YEAR_US = 30 * DAY_US, 365 * DAY_US
#: What is learned is kept to so many decimals: more would be noise, and make models large.
_DECIMALS = 6
_EVER = int(np.iinfo(np.int64).min)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of some snapshots.

    Parameters
    ----------
    customer : int64 array of shape (n,)
        Index into the customers of the block, ascending.
    cutoff : int64 array of shape (n,)
        UTC microseconds, ascending within each customer.
    value : float64 array of shape (n,)
        1 churned within the shortest horizon, 0 not; or the score. Whole numbers, which add up to the same in
        whatever order they come.
    """

    customer: Int64
    cutoff: Int64
    value: Float64

    def __len__(self) -> int:
        return len(self.customer)


#: Gives the outcomes that became known from one moment to another (UTC microseconds, the end exclusive), as they were
#: known at the end. What becomes known later must not change them.
Between = Callable[[int, int], Outcomes]
#: Gives the outcomes of the customers of a block, which holds all their events and not all customers: a log that does
#: not fit in memory is looked at block by block.
Known = Callable[[EventBlock], Between]


def demand_outcomes(outcomes: Mapping[str, Known] | None, names: Collection[str]) -> Mapping[str, Known]:
    """Refuse features that are learned from outcomes where there are none.

    Parameters
    ----------
    outcomes : mapping of str to Known, optional
        By target, ``churn`` and ``score``.
    names : collection of str
        What is wanted of `cxml.features.catalogue.FROM_OUTCOMES`.

    Returns
    -------
    mapping of str to Known
        ``outcomes``; empty where nothing is wanted.

    Raises
    ------
    ConfigError
        If something is wanted and there are no outcomes.

    Examples
    --------
    >>> demand_outcomes(None, [])
    {}
    """
    if outcomes is None and names:
        raise ConfigError(
            f"features: {' and '.join(sorted(names))} are learned from outcomes, which a log alone does not "
            "tell; leave them out here, give fit the outcomes, or let cxml train or cxml features do it for a project"
        )
    return outcomes or {}


def learn_likeness(
    log: JourneyLog,
    outcomes: Mapping[str, Known],
    touchpoints: Sequence[str],
    until: int,
    last_low: float | None = None,
) -> LikenessTable | None:
    """Learn which steps are typical of churn or, where churn is not known, of low scores.

    Parameters
    ----------
    log : JourneyLog
        All journeys; looked at block by block.
    outcomes : mapping of str to Known
        By target.
    touchpoints : sequence of str
        Those with log-odds of their own.
    until : int
        Only what was known before this moment counts, UTC microseconds.
    last_low : float, optional
        Highest score of the low band; without it scores teach nothing.

    Returns
    -------
    LikenessTable or None
        None where no outcome is known.
    """
    for target, known in outcomes.items():
        if target == "churn" or last_low is not None:
            ended_badly = partial(_ended_badly, known, until, None if target == "churn" else last_low)
            likeness = fit_likeness(log, ended_badly, touchpoints)
            if likeness is not None:
                return likeness
    return None


def _ended_badly(known: Known, until: int, last_low: float | None, block: EventBlock) -> Outcomes:
    """Give the outcomes of a block; scores as 1 where they are low."""
    found = known(block)(_EVER, until)
    return found if last_low is None else replace(found, value=(found.value <= last_low).astype(np.float64))


def fit_likeness(
    log: JourneyLog,
    outcomes: Callable[[EventBlock], Outcomes],
    touchpoints: Sequence[str],
    most_events: int = _LATEST_EVENTS,
) -> LikenessTable | None:
    """Learn how much more often each step occurs in journeys that ended badly than in others.

    Each snapshot has a weight of 1, shared by the last events known before its cutoff. Of the weight that a step has,
    a share was in journeys that ended badly; the log-odds of this share, less those of all steps together, is the
    logarithm of how much more likely the step is in such a journey. The share of a step is shrunk to that of its
    touchpoint, and this one to that of all, each time with the weight of ten snapshots.

    Parameters
    ----------
    log : JourneyLog
        All journeys; looked at block by block.
    outcomes : callable
        Gives the outcomes of a block; ``value`` is 1 where the journey ended badly, else 0.
    touchpoints : sequence of str
        Those with log-odds of their own.
    most_events : int
        How many of the latest events count.

    Returns
    -------
    LikenessTable or None
        None where there is no outcome. It does not depend on how customers are spread over blocks.

    Examples
    --------
    >>> import pandas as pd
    >>> from cxml import read_journeys
    >>> days = pd.date_range("2024-01-01", periods=100, tz="UTC")
    >>> log = read_journeys(pd.DataFrame({"customer_id": range(100), "timestamp": days,
    ...                                   "touchpoint": ["call", "visit"] * 50}))
    >>> ended = Outcomes(np.arange(100), np.full(100, log.last + 1), np.tile([1.0, 0.0], 50))
    >>> [odds > 0 for odds in fit_likeness(log, lambda block: ended, ["call", "visit"]).log_odds[0][-1]]
    [True, False, False]
    """
    names = tuple(sorted(touchpoints))
    n_outcomes, counts = 0, np.zeros((N_FOLDS, 2, len(names) + 2, len(names) + 1, most_events), np.int64)
    for n, found in log.map_blocks(lambda block: _steps_of(block, outcomes(block), names, most_events)):
        n_outcomes += n
        counts += found
    if not n_outcomes:
        return None
    weights = (counts / np.arange(1, most_events + 1)).sum(axis=-1)
    tables = [_log_odds(weights[_others(fold)].sum(axis=0)) for fold in range(N_FOLDS)]
    return LikenessTable(names, tuple(tuple(map(tuple, np.round(table, _DECIMALS).tolist())) for table in tables))


def _steps_of(
    block: EventBlock, outcomes: Outcomes, names: tuple[str, ...], most_events: int
) -> tuple[int, NDArray[np.int64]]:
    """Count the outcomes of a block, and the steps before them (see `_count_steps`)."""
    counts = np.zeros((N_FOLDS, 2, len(names) + 2, len(names) + 1, most_events), np.int64)
    if not len(outcomes):
        return 0, counts
    said = annotate(block, ["previous", "gap"], AnnotationSettings())
    touchpoint, previous = block.categories["touchpoint"], said.categories["previous"]
    place = {name: i for i, name in enumerate(names)}
    by_code = np.array([*(place.get(name, len(names)) for name in touchpoint.vocabulary), -1], np.int64)
    row = np.where(np.isnan(said.measures["gap"]), len(names) + 1, by_code[previous.codes])
    _count_steps(
        block.starts, block.time, block.time if block.known is None else block.known, row, by_code[touchpoint.codes],
        outcomes.customer, outcomes.cutoff, outcomes.value == 1.0, folds_of(block.customers), counts,
    )  # fmt: skip
    return len(outcomes), counts


def _others(fold: int) -> list[int]:
    return [other for other in range(N_FOLDS) if other != fold]


def _log_odds(weights: Float64) -> Float64:
    """Turn weights of good and bad ends, of shape (2, n_rows, n_columns), into shrunken log-odds."""
    total, bad = weights.sum(axis=0), weights[1]
    share = (bad.sum() + 0.5) / (total.sum() + 1.0)
    of_touchpoint = (bad.sum(axis=0) + _PRIOR_SNAPSHOTS * share) / (total.sum(axis=0) + _PRIOR_SNAPSHOTS)
    of_step = (bad + _PRIOR_SNAPSHOTS * of_touchpoint) / (total + _PRIOR_SNAPSHOTS)
    return cast(Float64, np.log(of_step / (1.0 - of_step)) - np.log(share / (1.0 - share)))


def _compiled(function: _F) -> _F:
    return cast(_F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@_compiled
def _count_steps(
    starts: Int64,
    time: Int64,
    known: Int64,
    row: Int64,
    column: Int64,
    customer: Int64,
    cutoff: Int64,
    bad: Bool,
    fold: Int64,
    counts: Int64,
) -> None:
    """Count in ``counts[fold, bad, row, column, n - 1]`` the latest events before each snapshot, where it has n.

    Counts, not weights of 1 / n: whole numbers add up to the same in whatever order the snapshots come.
    """
    most = counts.shape[4]
    latest = np.empty(most, np.int64)
    for snapshot in range(customer.size):
        low, high = starts[customer[snapshot]], starts[customer[snapshot] + 1]
        event = low + np.searchsorted(time[low:high], cutoff[snapshot]) - 1
        n = 0
        while event >= low and n < most:
            if known[event] < cutoff[snapshot]:
                latest[n] = event
                n += 1
            event -= 1
        for event in latest[:n]:
            if row[event] >= 0 and column[event] >= 0:
                counts[fold[customer[snapshot]], np.int64(bad[snapshot]), row[event], column[event], n - 1] += 1


def learn_peers(
    log: JourneyLog,
    plan: FeaturePlan,
    outcomes: Mapping[str, Known],
    attributes: Sequence[str],
    until: int,
) -> tuple[PeerTable, ...]:
    """Learn how the customers of each value of some attributes fared, month by month.

    Parameters
    ----------
    log : JourneyLog
        All journeys, and what is known of customers; looked at block by block.
    plan : FeaturePlan
        Has the attributes and their vocabularies.
    outcomes : mapping of str to Known
        By target.
    attributes : sequence of str
    until : int
        The latest date, UTC microseconds.

    Returns
    -------
    tuple of PeerTable
        One for each target and attribute; none for a target of which nothing is known.
    """
    if not attributes or not outcomes:
        return ()
    only = replace(plan, aggregates=(), custom=(), peers=(), alive=None)
    dates = _monthly(log.first, until)
    threads = None if log.events.n_parts == 1 else 1  # several blocks are looked at at a time

    def tallies_of(block: EventBlock) -> dict[tuple[str, int], Tally]:
        found = {}
        for target, known in outcomes.items():
            between = known(block)
            for date in dates:
                ended = between(date - _YEAR_US, date)
                if len(ended):
                    found[target, date] = tally(block, log.customers, only, attributes, ended, threads)
        return found

    tallies: dict[tuple[str, int], Tally] = {}
    for found in log.map_blocks(tallies_of):
        for key, one in found.items():
            so_far = tallies.setdefault(key, dict.fromkeys(attributes, np.zeros(())))
            tallies[key] = {name: so_far[name] + one[name] for name in attributes}
    learned = []
    for target in outcomes:
        known_at = [date for date in dates if (target, date) in tallies and _tells_all(tallies[target, date])]
        for name in attributes if known_at else ():
            rates = np.stack([rates_of(tallies[target, date][name]) for date in known_at], axis=1)
            nested = tuple(tuple(map(tuple, of_dates)) for of_dates in np.round(rates, _DECIMALS).tolist())
            learned.append(PeerTable(name, target, tuple(known_at), nested))
    return tuple(learned)


def _monthly(first: int, until: int) -> list[int]:
    """Give the ends of the months before a moment, ascending, and it itself."""
    return list(range(until, first, -_MONTH_US))[::-1]


#: By attribute, of shape (2, n_folds, n_values + 2): the sum of the outcomes of each value, and how many there are.
Tally = dict[str, Float64]


def tally(
    block: EventBlock,
    table: CustomerTable | None,
    plan: FeaturePlan,
    attributes: Sequence[str],
    outcomes: Outcomes,
    threads: int | None = None,
) -> Tally:
    """Add up the outcomes of the customers of a block by value of each attribute, fold by fold.

    Parameters
    ----------
    block : EventBlock
    table : CustomerTable, optional
    plan : FeaturePlan
        Has the attributes and their vocabularies, and nothing else: what the customers had at their cutoffs.
    attributes : sequence of str
    outcomes : Outcomes
    threads : int, optional
        Default: one for each core.

    Returns
    -------
    dict of str to float64 array of shape (2, n_folds, n_values + 2)
        By attribute: sums, and numbers of outcomes. Those of blocks add up to those of all.
    """
    row_starts = np.searchsorted(outcomes.customer, np.arange(block.n_customers + 1)).astype(np.int64)
    matrix = fill_matrix(plan, block, row_starts, outcomes.cutoff, table, threads)
    fold = folds_of(block.customers)[outcomes.customer]
    found: Tally = {}
    for name in attributes:
        codes, n_codes = matrix[:, plan.columns.index(f"last__{name}")], len(plan.vocabularies[name]) + 2
        cell = fold * n_codes + np.where(np.isnan(codes), n_codes - 1, codes).astype(np.int64)
        shape, size = (N_FOLDS, n_codes), N_FOLDS * n_codes
        sums = np.bincount(cell, outcomes.value, size).reshape(shape)
        counts = np.bincount(cell, minlength=size).reshape(shape)
        found[name] = np.array([sums, counts], np.float64)
    return found


def _tells_all(tallied: Tally) -> bool:
    """Tell whether something is known outside of every fold."""
    n_of_fold = next(iter(tallied.values()))[1].sum(axis=1)
    return bool((n_of_fold < n_of_fold.sum()).all())


def rates_of(tallied: Float64) -> Float64:
    """Compute the mean outcome by value of an attribute, without the customers of each fold.

    A mean is shrunk to that of all values with the weight of 20 snapshots.

    Parameters
    ----------
    tallied : float64 array of shape (2, n_folds, n_values + 2)
        Sums and numbers of outcomes, of customers of two folds at least.

    Returns
    -------
    float64 array of shape (n_folds, n_values + 2)

    Examples
    --------
    >>> two_folds = np.array([[[0.0], [3.0], [0.0], [0.0], [0.0]], [[4.0], [4.0], [0.0], [0.0], [0.0]]])
    >>> rates_of(two_folds).round(3).ravel().tolist()
    [0.75, 0.0, 0.375, 0.375, 0.375]
    """
    sums, counts = np.stack([tallied[:, _others(fold)].sum(axis=1) for fold in range(N_FOLDS)], axis=1)
    overall = sums.sum(axis=1, keepdims=True) / counts.sum(axis=1, keepdims=True)
    rates: Float64 = (sums + _PRIOR_PEERS * overall) / (counts + _PRIOR_PEERS)
    return rates
