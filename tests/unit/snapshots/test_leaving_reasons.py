"""Which reason a churn has, where reasons compete."""

import numpy as np
import pytest

from cxml.config import ChurnConfig
from cxml.journeys.block import Coded, EventBlock
from cxml.snapshots.make import churn_rows
from cxml.snapshots.reasons import leaving_reasons
from cxml.snapshots.timeline import churn_timeline
from cxml.times import DAY_US

CHURN = ChurnConfig(
    kind="event",
    touchpoints=["cancelled", "dunned", "moved"],
    reasons={"voluntary": ["cancelled"], "other": ["moved", "dunned"]},
    horizons=["30d"],
)


def reasons(journey, at, *, known=None, until=1000, activity=(), ends=()):
    """Reasons of one journey of (day, touchpoint), seen at a day; nan where no churn was seen."""
    names = tuple(sorted({name for _, name in journey}))
    block = EventBlock(
        customers=np.arange(1),
        starts=np.array([0, len(journey)]),
        time=np.array([day * DAY_US for day, _ in journey]),
        known=None if known is None else np.array([day * DAY_US for day in known]),
        categories={"touchpoint": Coded(np.array([names.index(n) for _, n in journey], np.int32), names)},
        measures={},
    )
    timeline = churn_timeline(block, CHURN.model_copy(update={"ends": list(ends)}), list(activity))
    rows = churn_rows(timeline, np.array([at]) * DAY_US, lookback=100 * DAY_US, observed_until=until * DAY_US)
    return leaving_reasons(timeline, rows, until * DAY_US).tolist()


@pytest.mark.parametrize(
    ("events", "more", "expected"),
    [
        ([(0, "order"), (25, "cancelled")], {}, 0),
        ([(0, "order"), (25, "dunned"), (26, "cancelled")], {}, 1),
        ([(0, "order"), (10, "moved")], {}, 1),
        ([(0, "order"), (25, "order")], {}, None),
        ([(0, "order"), (25, "cancelled")], {"until": 25}, None),
        ([(0, "order"), (3, "cancelled"), (5, "order"), (25, "dunned")], {"activity": ["order"]}, 1),
        ([(0, "order"), (12, "order"), (15, "over"), (25, "dunned")], {"ends": ["over"]}, None),
        ([(0, "order"), (5, "dunned"), (25, "cancelled")], {"known": [0, 12, 25]}, 1),
        ([(0, "order"), (15, "dunned"), (25, "cancelled")], {"known": [0, 2000, 25]}, 0),
    ],
    ids=[
        "the touchpoint says it", "the first counts", "at the cutoff is the future", "nobody left",
        "not seen any more", "who came back may leave for another reason", "finished is not churned",
        "left before, known afterwards", "never known",
    ],
)  # fmt: skip
def test_the_reason_is_that_of_the_churn_that_was_seen(events, more, expected):
    [found] = reasons(events, 10, **more)
    assert (np.isnan(found) and expected is None) or found == expected
