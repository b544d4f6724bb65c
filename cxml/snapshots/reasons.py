"""Why they left: the reason that the event of leaving gives."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cxml.snapshots.make import ChurnRows
from cxml.snapshots.timeline import CHURN, Timeline


def leaving_reasons(timeline: Timeline, rows: ChurnRows, until: int) -> NDArray[np.float64]:
    """Find the reason of every churn that was seen.

    Parameters
    ----------
    timeline : Timeline
        With reasons, of kind ``event``.
    rows : ChurnRows
        From the same timeline.
    until : int
        End of observation, as the rows were made with; what happened or became known at or after it is not seen.

    Returns
    -------
    float64 array of shape (n_rows,)
        Position of the reason; NaN where no churn was seen.
    """
    assert timeline.reason is not None
    reason = _find(
        timeline.starts, timeline.time, timeline.known, timeline.role, timeline.reason, rows.customer, rows.cutoff,
        rows.observed, until,
    )  # fmt: skip
    return np.where(reason < 0, np.nan, reason)


@njit(cache=True, nogil=True)
def _find(starts, time, known, role, reason, customer, cutoff, observed, until):  # type: ignore[no-untyped-def]
    """Go through each customer's events as `scan` does: a leaving that became known late comes before any other."""
    found = np.full(len(customer), -1, np.int64)
    for row in range(len(customer)):
        if not observed[row]:
            continue
        i, t = customer[row], cutoff[row]
        for e in range(starts[i], starts[i + 1]):
            if (role[e] & CHURN) == 0 or time[e] >= until or known[e] >= until:
                continue
            if time[e] >= t or known[e] >= t:
                found[row] = reason[e]
                break
    return found
