"""What was promised and is overdue at a cutoff: that depends on the cutoff itself, and so is said of no event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError
from cxml.features.at_cutoff import EVERY, among, compiled, part_of
from cxml.journeys.block import EventBlock
from cxml.journeys.schema import PROMISE
from cxml.times import DAY_US

if TYPE_CHECKING:
    from cxml.features.plan import FeaturePlan

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Columns of `overdue`, by name, each with its sentence.
OVERDUE = {
    "overdue_promises": "Number of promises made before the cutoff that are past their time and not kept.",
    "days_overdue": "Days from the promised time to the cutoff, of the promise that is overdue for longest.",
}


def overdue(
    plan: FeaturePlan, block: EventBlock, customers: tuple[int, int], row_starts: Int64, cutoffs: Int64
) -> Float64:
    """Tell how many promises are overdue at each cutoff, and for how long.

    A promise is open from the event that carries a promised time until the next event of the same case (without a
    case: of the customer's other events without one) whose touchpoint keeps promises. A later promise of the same
    case takes the place of the earlier one. An open promise is overdue once its time has passed. Only events that
    happened and were known before the cutoff count.

    Parameters
    ----------
    plan : FeaturePlan
        Its annotation settings name the touchpoints by which promises are kept.
    block : EventBlock
        The events; codes lie within their vocabularies.
    customers : (int, int)
        First customer and the one after the last.
    row_starts, cutoffs
        As in `cxml.features.matrix.fill_matrix`.

    Returns
    -------
    float64 array of shape (n_rows, 2)
        In the order of `OVERDUE`; the days are NaN where nothing is overdue. Rows are those of the customers alone.

    Raises
    ------
    ConfigError
        If the plan does not say by what promises are kept.

    Examples
    --------
    >>> from cxml.features.annotations import AnnotationSettings
    >>> from cxml.features.plan import FeaturePlan
    >>> from cxml.journeys.block import Coded
    >>> block = EventBlock(np.array([7]), np.array([0, 2]), np.array([0, 9 * DAY_US]), None,
    ...                    {"touchpoint": Coded(np.array([1, 0], np.int32), ("delivered", "order"))},
    ...                    {"promise": np.array([3.0, np.nan])})
    >>> plan = FeaturePlan((), {}, annotations=AnnotationSettings(promises=("delivered",)))
    >>> overdue(plan, block, (0, 1), np.array([0, 3]), np.array([2, 5, 10]) * DAY_US)
    array([[ 0., nan],
           [ 1.,  2.],
           [ 0., nan]])
    """
    keeping = () if plan.annotations is None else plan.annotations.promises
    if not keeping:
        raise ConfigError(
            f"{' and '.join(OVERDUE)} need to know by what a promise is kept; name it in journeys.promises, such as "
            "promises: [delivered]"
        )
    part, events = part_of(block, customers, row_starts, cutoffs)
    found = np.empty((len(part.cutoffs), len(OVERDUE)), np.float64)
    _find_overdue(*part, *_matters(block, events), among(block, keeping, events), _promised(block, events), found)
    return found


def behind_overdue(plan: FeaturePlan, block: EventBlock, past: Bool, cutoff: int, column: str) -> Bool:
    """Tell which events of a customer made the promises that are overdue; as `cxml.features.rfm.behind_rfm`.

    Of ``days_overdue`` they are only those of the promise that is overdue for longest.

    Examples
    --------
    >>> from cxml.features.annotations import AnnotationSettings
    >>> from cxml.features.plan import FeaturePlan
    >>> from cxml.journeys.block import Coded
    >>> block = EventBlock(np.array([7]), np.array([0, 2]), np.array([0, 9 * DAY_US]), None,
    ...                    {"touchpoint": Coded(np.array([1, 0], np.int32), ("delivered", "order"))},
    ...                    {"promise": np.array([3.0, np.nan])})
    >>> plan = FeaturePlan((), {}, annotations=AnnotationSettings(promises=("delivered",)))
    >>> behind_overdue(plan, block, np.array([True, False]), 5 * DAY_US, "overdue_promises")
    array([ True, False])
    """
    keeping = () if plan.annotations is None else plan.annotations.promises
    keeps, promise = among(block, keeping), _promised(block)
    told = np.flatnonzero(past & (keeps | ~np.isnan(promise)))
    matters, _ = _matters(block)
    latest = np.zeros(block.n_events, bool)
    latest[list(dict(zip(matters[told].tolist(), told.tolist(), strict=True)).values())] = True
    passed = (cutoff - block.time) / DAY_US - promise
    late = latest & ~keeps & (passed > 0.0)
    return late & (passed == passed[late].max()) if column == "days_overdue" and late.any() else late


def _promised(block: EventBlock, events: slice = EVERY) -> Float64:
    """Tell how far ahead each of some events promises something: days, or NaN."""
    return block.measures[PROMISE][events] if PROMISE in block.measures else np.full(len(block.time[events]), np.nan)


def _matters(block: EventBlock, events: slice = EVERY) -> tuple[Int32, int]:
    """Give each case of some events a number, those without one a number too, and say how many there are."""
    coded = block.categories.get("case_id")
    if coded is None:
        return np.zeros(len(block.time[events]), np.int32), 1
    used, numbers = np.unique(coded.codes[events], return_inverse=True)
    return numbers.astype(np.int32), len(used)


@compiled
def _find_overdue(
    starts: Int64,
    row_starts: Int64,
    cutoffs: Int64,
    time: Int64,
    known: Int64,
    matter: Int32,
    n_matters: int,
    keeps: Bool,
    promise: Float64,
    found: Float64,
) -> None:
    """Go back from each cutoff; the latest event of a matter that makes or keeps a promise tells whether it is open."""
    asked = np.full(n_matters, -1, np.int64)
    for customer in range(starts.size - 1):
        for row in range(row_starts[customer], row_starts[customer + 1]):
            cutoff, n, longest = cutoffs[row], 0.0, np.nan
            for i in range(starts[customer + 1] - 1, starts[customer] - 1, -1):
                is_told = keeps[i] or not np.isnan(promise[i])
                if not is_told or time[i] >= cutoff or known[i] >= cutoff or asked[matter[i]] == row:
                    continue
                asked[matter[i]] = row
                passed = (cutoff - time[i]) / DAY_US - promise[i]
                if not keeps[i] and passed > 0.0:
                    n += 1.0
                    if not passed <= longest:
                        longest = passed
            found[row, 0], found[row, 1] = n, longest
