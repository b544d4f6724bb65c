"""Recency, frequency, monetary value and where a customer stands: said of the customer at a cutoff, of no event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError
from cxml.features.annotations import AnnotationSettings
from cxml.features.at_cutoff import EVERY, among, compiled, part_of
from cxml.journeys.block import EventBlock
from cxml.times import DAY_US

if TYPE_CHECKING:
    from cxml.features.plan import FeaturePlan

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Frequency and monetary value are those of so many days.
DAYS = 365
#: Columns of `rfm`, by name, each with its sentence.
RFM = {
    "rfm_recency": "Days from the customer's latest activity to the cutoff.",
    "rfm_frequency": f"Number of the customer's activities in the {DAYS} days before the cutoff.",
    "rfm_monetary": f"Sum of value of all events in the {DAYS} days before the cutoff.",
    "rfm_recency_quintile": "Fifth of the customers of training by recency: 5 was active last, 1 longest ago.",
    "rfm_frequency_quintile": "Fifth of the customers of training by frequency: 5 is the most active, 1 the least.",
    "rfm_monetary_quintile": "Fifth of the customers of training by monetary value: 5 is the highest, 1 the lowest.",
    "lifecycle": "Where the customer stands by their rhythm: 1 new, 2 active, 3 returned, 4 slowing, 5 lapsed.",
}
#: Those of `RFM` that look back so many days.
OF_DAYS = ("rfm_frequency", "rfm_monetary", "rfm_frequency_quintile", "rfm_monetary_quintile")
#: Those of `RFM` that need a value, and those for which something is learned, with its name.
OF_VALUE = ("rfm_monetary", "rfm_monetary_quintile")
LEARNED = {
    "rfm_recency_quintile": "recency",
    "rfm_frequency_quintile": "frequency",
    "rfm_monetary_quintile": "monetary",
    "lifecycle": "gap",
}
#: Mean gaps after which silence is slow, and after which it is long. Of somebody who comes at random at a constant
#: rate, one silence in five is longer than the first and one in twenty longer than the second.
_SLOW, _LONG = 1.5, 3.0
#: So many days of activity make a rhythm of one's own.
_OWN_RHYTHM = 3
_NEW, _ACTIVE, _RETURNED, _SLOWING, _LAPSED = 1.0, 2.0, 3.0, 4.0, 5.0


def rfm(plan: FeaturePlan, block: EventBlock, customers: tuple[int, int], row_starts: Int64, cutoffs: Int64) -> Float64:
    """Give recency, frequency and monetary value at each cutoff, their quintiles, and the stage of the customer's life.

    Recency is that of the latest activity, frequency counts activities and monetary value sums ``value``, both of a
    year. Hughes, A. M. (1994), Strategic Database Marketing (Probus), sorts customers by each into five groups of the
    same size, 5 for the best; here their cut points are those of the customers of training. How the three foretell
    what a customer is worth: Fader, Hardie and Lee (2005), RFM and CLV, Journal of Marketing Research 42(4).

    The stage compares the silence so far with the customer's own mean gap between days of activity (UTC), or, before
    there are three such days, with the usual one of training. The first that holds counts:

    - lapsed: silent for longer than 3 mean gaps;
    - new: the first activity is at most 3 usual gaps ago;
    - slowing: silent for longer than 1.5 mean gaps;
    - returned: the latest gap was longer than 3 times the mean of at least two before it;
    - active: otherwise.

    That a silence of some length tells the gone from the others is the hiatus heuristic of managers (Wuebben and von
    Wangenheim 2008, Instant Customer Base Analysis, Journal of Marketing 72(3)).

    Parameters
    ----------
    plan : FeaturePlan
        Its annotation settings name the activity (none: all events) and hold what `fit_rfm` learned.
    block : EventBlock
        The events; codes lie within their vocabularies.
    customers : (int, int)
        First customer and the one after the last.
    row_starts, cutoffs
        As in `cxml.features.matrix.fill_matrix`.

    Returns
    -------
    float64 array of shape (n_rows, 7)
        In the order of `RFM`: days, a number, money, three quintiles from 1 to 5, and the stage from 1 to 5. NaN for
        whoever was never active, but for frequency and monetary value, which are then 0. Rows are those of the
        customers alone. What was not learned is NaN throughout.

    Raises
    ------
    ConfigError
        If the plan has a column of these without what is learned for it.

    Examples
    --------
    >>> from cxml.features.plan import FeaturePlan
    >>> from cxml.journeys.block import Coded
    >>> orders = Coded(np.zeros(3, np.int32), ("order",))
    >>> block = EventBlock(np.array([7]), np.array([0, 3]), np.array([0, 10, 20]) * DAY_US, None,
    ...                    {"touchpoint": orders}, {"value": np.array([5.0, 7.0, 1.0])})
    >>> settings = AnnotationSettings(rfm={"recency": (1, 2, 8, 9), "gap": (5.0,)})
    >>> plan = FeaturePlan((), {}, annotations=settings)
    >>> rfm(plan, block, (0, 1), np.array([0, 2]), np.array([21, 60]) * DAY_US)
    array([[ 1.,  3., 13.,  5., nan, nan,  2.],
           [40.,  3., 13.,  1., nan, nan,  5.]])
    """
    settings = plan.annotations or AnnotationSettings()
    for name in plan.custom:
        if name in LEARNED and LEARNED[name] not in settings.rfm:
            raise ConfigError(f"feature '{name}' needs what fit_rfm learns; train the model again")
    told = _tell(block, settings.activity, customers, row_starts, cutoffs)
    return np.column_stack([told[:, :3], *_quintiles(told, settings.rfm), _lifecycle(told, settings.rfm)])


def behind_rfm(plan: FeaturePlan, block: EventBlock, past: Bool, cutoff: int, column: str) -> Bool:
    """Tell which events of a customer a column of `RFM` comes from.

    Parameters
    ----------
    plan : FeaturePlan
        Its annotation settings name the activity (none: all events).
    block : EventBlock
        The events of one customer.
    past : bool array of shape (n_events,)
        What happened and was known before the cutoff.
    cutoff : int
        UTC microseconds.
    column : str
        One of `RFM`.

    Returns
    -------
    bool array of shape (n_events,)
        Of recency the latest activity, of frequency the activities of its window, of monetary value the events in it
        that have one, of a quintile those of what it is a fifth of, of the stage of life all activities.

    Examples
    --------
    >>> from cxml.features.plan import FeaturePlan
    >>> from cxml.journeys.block import Coded
    >>> block = EventBlock(np.array([7]), np.array([0, 3]), np.array([0, 400, 500]) * DAY_US, None,
    ...                    {"touchpoint": Coded(np.zeros(3, np.int32), ("order",))})
    >>> behind_rfm(FeaturePlan((), {}), block, np.ones(3, bool), 600 * DAY_US, "rfm_frequency")
    array([False,  True,  True])
    """
    activity = () if plan.annotations is None else plan.annotations.activity
    active: Bool = past & _active(block, activity)
    recent: Bool = past & (cutoff - block.time <= DAYS * DAY_US)
    base = column.removesuffix("_quintile")
    if base == "rfm_monetary":
        return recent & ~np.isnan(_values(block))
    if base == "rfm_frequency":
        return active & recent
    if base == "rfm_recency" and active.any():
        active &= block.time == block.time[active].max()
    return active


def fit_rfm(blocks: Iterable[EventBlock], until: int, activity: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """Learn where the quintiles part, and the usual gap between days of activity, from the events before a moment.

    Parameters
    ----------
    blocks : iterable of EventBlock
        The journeys.
    until : int
        UTC microseconds; only events that happened and were known before count.
    activity : tuple of str
        Touchpoints; none: all events.

    Returns
    -------
    dict of str to tuple of float
        ``recency`` (days), ``frequency`` and ``monetary``: four cut points each, among those who were ever active;
        ``gap`` (days): the median of the mean gaps of those with at least three days of activity. What nobody tells is
        not there. For `AnnotationSettings.rfm`.

    Examples
    --------
    >>> from cxml.journeys.block import Coded
    >>> block = EventBlock(np.array([7]), np.array([0, 3]), np.array([0, 4, 10]) * DAY_US, None,
    ...                    {"touchpoint": Coded(np.zeros(3, np.int32), ("order",))})
    >>> fit_rfm([block], 12 * DAY_US, ())["gap"]
    (5.0,)
    """
    parts = [_tell(block, activity, (0, block.n_customers), *_each_at(block, until)) for block in blocks]
    told = np.concatenate([np.empty((0, _N_TOLD)), *parts])
    told = told[~np.isnan(told[:, 0])]
    if not len(told):
        return {}
    ends = [-(-fifth * len(told) // 5) - 1 for fifth in (1, 2, 3, 4)]  # the last of each fifth but the fifth
    learned = {
        name: tuple(np.sort(told[:, column])[ends].tolist())
        for column, name in enumerate(("recency", "frequency", "monetary"))
    }
    days, span = told[:, 4], told[:, 5]
    rhythmic = days >= _OWN_RHYTHM
    if rhythmic.any():
        learned["gap"] = (float(np.median(span[rhythmic] / (days[rhythmic] - 1.0))),)
    return learned


def _each_at(block: EventBlock, cutoff: int) -> tuple[Int64, Int64]:
    """Give every customer one snapshot."""
    return np.arange(block.n_customers + 1), np.full(block.n_customers, cutoff, np.int64)


def _quintiles(told: Float64, learned: Mapping[str, tuple[float, ...]]) -> list[Float64]:
    found = []
    for column, name in enumerate(("recency", "frequency", "monetary")):
        if name not in learned:
            found.append(np.full(len(told), np.nan))
            continue
        above = np.searchsorted(learned[name], told[:, column], side="left").astype(np.float64)
        quintile = 5.0 - above if name == "recency" else 1.0 + above
        found.append(np.where(np.isnan(told[:, 0]), np.nan, quintile))
    return found


def _lifecycle(told: Float64, learned: Mapping[str, tuple[float, ...]]) -> Float64:
    if "gap" not in learned:
        return np.full(len(told), np.nan)
    usual = learned["gap"][0]
    recency, tenure, days, span, latest = told[:, 0], told[:, 3], told[:, 4], told[:, 5], told[:, 6]
    gap = np.where(days >= _OWN_RHYTHM, span / np.maximum(days - 1.0, 1.0), usual)
    before = (span - latest) / np.maximum(days - 2.0, 1.0)
    stages = [
        (np.isnan(recency), np.nan),
        (recency > _LONG * gap, _LAPSED),
        (tenure <= _LONG * usual, _NEW),
        (recency > _SLOW * gap, _SLOWING),
        ((days > _OWN_RHYTHM) & (latest > _LONG * before), _RETURNED),
    ]
    return np.select([held for held, _ in stages], [stage for _, stage in stages], _ACTIVE)


_N_TOLD = 7


def _tell(
    block: EventBlock, activity: tuple[str, ...], customers: tuple[int, int], row_starts: Int64, cutoffs: Int64
) -> Float64:
    """Tell of each customer at each cutoff what `_look` finds."""
    part, events = part_of(block, customers, row_starts, cutoffs)
    told = np.empty((len(part.cutoffs), _N_TOLD), np.float64)
    _look(*part, _active(block, activity, events), _values(block, events), told)
    return told


def _active(block: EventBlock, activity: tuple[str, ...], events: slice = EVERY) -> Bool:
    return among(block, activity, events) if activity else np.ones(len(block.time[events]), bool)


def _values(block: EventBlock, events: slice = EVERY) -> Float64:
    return block.measures["value"][events] if "value" in block.measures else np.full(len(block.time[events]), np.nan)


@compiled
def _look(
    starts: Int64,
    row_starts: Int64,
    cutoffs: Int64,
    time: Int64,
    known: Int64,
    active: Bool,
    value: Float64,
    told: Float64,
) -> None:
    """Fill each row: recency, frequency, monetary value, tenure, days of activity, their span, the latest gap."""
    for customer in range(starts.size - 1):
        for row in range(row_starts[customer], row_starts[customer + 1]):
            cutoff = cutoffs[row]
            first, latest, n, money = -1, -1, 0.0, 0.0
            days, first_day, last_day, gap = 0.0, 0, 0, 0
            for i in range(starts[customer], starts[customer + 1]):
                if time[i] >= cutoff:
                    break
                if known[i] >= cutoff:
                    continue
                is_recent = cutoff - time[i] <= DAYS * DAY_US
                if is_recent and not np.isnan(value[i]):
                    money += value[i]
                if not active[i]:
                    continue
                if is_recent:
                    n += 1.0
                day = int(time[i] // DAY_US)
                if first < 0:
                    first, first_day, last_day, days = i, day, day, 1.0
                elif day > last_day:
                    gap, last_day = day - last_day, day
                    days += 1.0
                latest = i
            told[row, 0] = (cutoff - time[latest]) / DAY_US if latest >= 0 else np.nan
            told[row, 1], told[row, 2] = n, money
            told[row, 3] = (cutoff - time[first]) / DAY_US if first >= 0 else np.nan
            told[row, 4], told[row, 5], told[row, 6] = days, last_day - first_day, gap
