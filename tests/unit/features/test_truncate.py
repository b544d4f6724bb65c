"""Features of short histories: what a log would give that holds no more."""

import numpy as np
import pandas as pd

from cxml.features import truncate
from cxml.features.learn import Choice, learn_plan
from cxml.features.matrix import fill_matrix
from cxml.features.truncate import fill_short_matrix, truncate_history
from cxml.journeys.read import read_journeys

START = pd.Timestamp("2023-01-01", tz="UTC")
DAY = 86_400_000_000


def frame(rows):
    table = pd.DataFrame(rows, columns=["customer_id", "day", "touchpoint"])
    table["timestamp"] = START + pd.to_timedelta(table.pop("day"), unit="D")
    return table


def random_log(n=80, days=180, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        (customer, day, str(rng.choice(["login", "call", "order"])))
        for customer in range(n)
        for day in np.sort(rng.uniform(0, days, rng.integers(1, 15)))
    ]
    return read_journeys(frame(rows), timezone="UTC")


def test_short_history_gives_the_features_of_a_log_that_holds_no_more(monkeypatch):
    """Bit for bit, at each cutoff apart, however the work is cut."""
    log = random_log()
    plan, block, width = learn_plan(log, Choice(windows=["7d", "90d"])), log.block, 45 * DAY
    moments = [(START + pd.Timedelta(days=day)).value // 1000 for day in (30, 100, 101, 170)]
    customer, cutoff = np.repeat(np.arange(block.n_customers), 4), np.tile(moments, block.n_customers)
    short = fill_short_matrix(plan, block, customer, cutoff, width)
    monkeypatch.setattr(truncate, "_EVENTS_AT_ONCE", 100)
    np.testing.assert_array_equal(short, fill_short_matrix(plan, block, customer, cutoff, width))
    ids = np.repeat(block.customers, np.diff(block.starts))
    names = np.array(block.categories["touchpoint"].vocabulary)[block.categories["touchpoint"].codes]
    for at in moments:
        kept = (block.time >= at - width) & (block.time < at)
        events = pd.DataFrame({"customer_id": ids[kept], "touchpoint": names[kept],
                               "timestamp": pd.to_datetime(block.time[kept], unit="us", utc=True)})  # fmt: skip
        small = read_journeys(events, timezone="UTC")
        mine = cutoff == at
        there = np.isin(block.customers, small.block.customers)
        place = np.searchsorted(small.block.customers, block.customers[there])
        starts = np.searchsorted(place, np.arange(small.block.n_customers + 1)).astype(np.int64)
        expected = fill_matrix(plan, small.block, starts, np.full(len(place), at))
        assert there.sum() > 30
        np.testing.assert_array_equal(short[mine][there], expected)


def test_late_news_stay_late_in_a_short_history():
    events = frame([(1, 0, "login"), (1, 5, "call"), (1, 8, "call")])
    events["available_at"] = events["timestamp"] + pd.to_timedelta([0, 0, 9], unit="D")
    log = read_journeys(events, timezone="UTC")
    at = (START + pd.Timedelta(days=10)).value // 1000
    short = truncate_history(log.block, np.array([0]), np.array([at]), 6 * DAY)
    plan = learn_plan(log, Choice(windows=["30d"]))
    count = fill_matrix(plan, short, np.array([0, 1]), np.array([at]))[0, plan.columns.index("count__all__30d")]
    assert (short.n_events, count) == (2, 1)
