"""What is learned from how journeys of training ended: which steps are typical of a bad end, and how peers fared.

Both are learned once for each fold of customers (see `cxml.features.folds`), from the customers of all others, so that
no outcome is ever in a value of the customer whose it is. Sums are kept fold by fold and never taken back out of a
total, which would leave the last bits of what was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

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
        Index into the customers of the log's block, ascending.
    cutoff : int64 array of shape (n,)
        UTC microseconds, ascending within each customer.
    value : float64 array of shape (n,)
        1 churned within the shortest horizon, 0 not; or the score.
    """

    customer: Int64
    cutoff: Int64
    value: Float64

    def __len__(self) -> int:
        return len(self.customer)


#: Gives the outcomes that became known from one moment to another (UTC microseconds, the end exclusive), as they were
#: known at the end. What becomes known later must not change them.
Known = Callable[[int, int], Outcomes]


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
    block: EventBlock,
    outcomes: Mapping[str, Known],
    touchpoints: Sequence[str],
    until: int,
    last_low: float | None = None,
) -> LikenessTable | None:
    """Learn which steps are typical of churn or, where churn is not known, of low scores.

    Parameters
    ----------
    block : EventBlock
        All journeys.
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
        found = known(_EVER, until)
        if len(found) and (target == "churn" or last_low is not None):
            value = found.value if target == "churn" else (found.value <= cast(float, last_low)).astype(np.float64)
            return fit_likeness(block, replace(found, value=value), touchpoints)
    return None


def fit_likeness(
    block: EventBlock, outcomes: Outcomes, touchpoints: Sequence[str], most_events: int = _LATEST_EVENTS
) -> LikenessTable:
    """Learn how much more often each step occurs in journeys that ended badly than in others.

    Each snapshot has a weight of 1, shared by the last events known before its cutoff. Of the weight that a step has,
    a share was in journeys that ended badly; the log-odds of this share, less those of all steps together, is the
    logarithm of how much more likely the step is in such a journey. The share of a step is shrunk to that of its
    touchpoint, and this one to that of all, each time with the weight of ten snapshots.

    Parameters
    ----------
    block : EventBlock
        All journeys.
    outcomes : Outcomes
        ``value`` is 1 where the journey ended badly, else 0.
    touchpoints : sequence of str
        Those with log-odds of their own.
    most_events : int
        How many of the latest events count.

    Returns
    -------
    LikenessTable

    Examples
    --------
    >>> from cxml.journeys.block import Coded
    >>> block = EventBlock(np.arange(100), np.arange(101), np.zeros(100, np.int64), None,
    ...                    {"touchpoint": Coded(np.arange(100, dtype=np.int32) % 2, ("call", "visit"))})
    >>> ended = Outcomes(np.arange(100), np.ones(100, np.int64), (np.arange(100) % 2 == 0).astype(float))
    >>> [odds > 0 for odds in fit_likeness(block, ended, ["call", "visit"]).log_odds[0][-1]]
    [True, False, False]
    """
    names = tuple(sorted(touchpoints))
    said = annotate(block, ["previous", "gap"], AnnotationSettings())
    touchpoint, previous = block.categories["touchpoint"], said.categories["previous"]
    place = {name: i for i, name in enumerate(names)}
    by_code = np.array([*(place.get(name, len(names)) for name in touchpoint.vocabulary), -1], np.int64)
    row = np.where(np.isnan(said.measures["gap"]), len(names) + 1, by_code[previous.codes])
    weights = np.zeros((N_FOLDS, 2, len(names) + 2, len(names) + 1))
    _weigh_steps(
        block.starts, block.time, block.time if block.known is None else block.known, row, by_code[touchpoint.codes],
        outcomes.customer, outcomes.cutoff, outcomes.value == 1.0, folds_of(block.customers), most_events, weights,
    )  # fmt: skip
    tables = [_log_odds(weights[_others(fold)].sum(axis=0)) for fold in range(N_FOLDS)]
    return LikenessTable(names, tuple(tuple(map(tuple, np.round(table, _DECIMALS).tolist())) for table in tables))


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
def _weigh_steps(
    starts: Int64,
    time: Int64,
    known: Int64,
    row: Int64,
    column: Int64,
    customer: Int64,
    cutoff: Int64,
    bad: Bool,
    fold: Int64,
    most: int,
    weights: Float64,
) -> None:
    """Add to ``weights[fold, bad, row, column]`` what the latest events before each snapshot weigh."""
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
                weights[fold[customer[snapshot]], np.int64(bad[snapshot]), row[event], column[event]] += 1.0 / n


def learn_peers(
    block: EventBlock,
    table: CustomerTable | None,
    plan: FeaturePlan,
    outcomes: Mapping[str, Known],
    attributes: Sequence[str],
    until: int,
) -> tuple[PeerTable, ...]:
    """Learn how the customers of each value of some attributes fared, month by month.

    Parameters
    ----------
    block : EventBlock
        All journeys.
    table : CustomerTable, optional
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
    if not attributes or not block.n_events:
        return ()
    only = replace(plan, aggregates=(), custom=(), peers=(), alive=None)
    dates = _monthly(int(block.time.min()), until)
    folds = folds_of(block.customers)
    learned = []
    for target, known in outcomes.items():
        rates: dict[int, dict[str, Float64]] = {}
        for date in dates:
            found = known(date - _YEAR_US, date)
            if all((folds[found.customer] != fold).any() for fold in range(N_FOLDS)):
                rates[date] = rates_at(block, table, only, attributes, found)
        for name in attributes if rates else ():
            by_fold = np.round(np.stack([found[name] for found in rates.values()], axis=1), _DECIMALS)
            nested = tuple(tuple(map(tuple, of_dates)) for of_dates in by_fold.tolist())
            learned.append(PeerTable(name, target, tuple(rates), nested))
    return tuple(learned)


def _monthly(first: int, until: int) -> list[int]:
    """Give the ends of the months before a moment, ascending, and it itself."""
    return list(range(until, first, -_MONTH_US))[::-1]


def rates_at(
    block: EventBlock, table: CustomerTable | None, plan: FeaturePlan, attributes: Sequence[str], outcomes: Outcomes
) -> dict[str, Float64]:
    """Compute the mean outcome by value of each attribute, without the customers of each fold.

    A mean is shrunk to that of all values with the weight of 20 snapshots.

    Parameters
    ----------
    block : EventBlock
        All journeys.
    table : CustomerTable, optional
    plan : FeaturePlan
        Has the attributes and their vocabularies, and nothing else: what the customers had at their cutoffs.
    attributes : sequence of str
    outcomes : Outcomes
        Of customers of two folds at least.

    Returns
    -------
    dict of str to float64 array of shape (n_folds, n_values + 2)
        By attribute.
    """
    row_starts = np.searchsorted(outcomes.customer, np.arange(block.n_customers + 1)).astype(np.int64)
    matrix = fill_matrix(plan, block, row_starts, outcomes.cutoff, table)
    fold = folds_of(block.customers)[outcomes.customer]
    found = {}
    for name in attributes:
        codes, n_codes = matrix[:, plan.columns.index(f"last__{name}")], len(plan.vocabularies[name]) + 2
        cell = fold * n_codes + np.where(np.isnan(codes), n_codes - 1, codes).astype(np.int64)
        shape, size = (N_FOLDS, n_codes), N_FOLDS * n_codes
        sums = np.bincount(cell, outcomes.value, size).reshape(shape)
        counts = np.bincount(cell, minlength=size).reshape(shape)
        found[name] = np.array(
            [_shrunk(sums[_others(k)].sum(axis=0), counts[_others(k)].sum(axis=0)) for k in range(N_FOLDS)]
        )
    return found


def _shrunk(sums: Float64, counts: Int64) -> Float64:
    shrunk: Float64 = (sums + _PRIOR_PEERS * (sums.sum() / counts.sum())) / (counts + _PRIOR_PEERS)
    return shrunk
