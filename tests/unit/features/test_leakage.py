from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cxml.errors import DataError
from cxml.features.frame import JourneyFeatures
from cxml.features.leakage import check_leakage
from cxml.features.matrix import fill_matrix
from cxml.journeys.block import Coded, CustomerTable
from cxml.journeys.read import read_journeys
from cxml.times import DAY_US, parse_instant

CUSTOMERS = [f"c{i:02d}" for i in range(30)]
CUTOFFS = pd.to_datetime(["2024-02-01", "2024-03-01", "2024-03-02"], utc=True)
SNAPSHOTS = pd.DataFrame(
    [(customer, cutoff) for cutoff in CUTOFFS for customer in CUSTOMERS], columns=["customer_id", "cutoff"]
)


def journeys(late):
    rng = np.random.default_rng(0)
    n = 900
    stamps = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 90 * 24, n), unit="h")
    events = pd.DataFrame(
        {
            "customer_id": rng.choice(CUSTOMERS, n),
            "timestamp": stamps,
            "touchpoint": rng.choice(["call", "buy", "visit"], n),
            "value": rng.normal(size=n).round(2),
            "level": rng.choice(["gold", "silver"], n),
        }
    )
    if late:
        events["available_at"] = stamps + pd.to_timedelta(rng.integers(0, 10, n), unit="D")
    dates = np.sort(rng.integers(0, 90, (30, 3))) * DAY_US + parse_instant("2024-01-01")
    codes = rng.integers(0, 2, 90).astype(np.int32)
    customers = CustomerTable(
        np.repeat(np.array(CUSTOMERS, dtype=object), 3), dates.ravel(), {"plan": Coded(codes, ("flat", "free"))}
    )
    return read_journeys(events, timezone="UTC", attributes=["level"], customers=customers)


@pytest.fixture(scope="module", params=[False, True], ids=["as it happens", "late"])
def log(request):
    return journeys(late=request.param)


@pytest.fixture(scope="module")
def plan(log):
    return JourneyFeatures(windows=["7d", "60d"]).fit(log).plan_


def later(plan, block, row_starts, cutoffs, customers=None):
    """Look a day beyond the cutoff at events."""
    good = fill_matrix(plan, block, row_starts, cutoffs, customers)
    leaky = fill_matrix(plan, block, row_starts, cutoffs + DAY_US, customers)
    return np.concatenate([leaky[:, :-1], good[:, -1:]], axis=1)


def at_the_cutoff(plan, block, row_starts, cutoffs, customers=None):
    """Take ``<`` for ``<=``."""
    return fill_matrix(plan, block, row_starts, cutoffs + 1, customers)


def todays_plan(plan, block, row_starts, cutoffs, customers=None):
    """Join the customers as they are now."""
    customers = CustomerTable(customers.customers, np.zeros_like(customers.valid_from), customers.attributes)
    return fill_matrix(plan, block, row_starts, cutoffs, customers)


def known_when_it_happens(plan, block, row_starts, cutoffs, customers=None):
    """Forget that news may be late."""
    return fill_matrix(plan, replace(block, known=None), row_starts, cutoffs, customers)


def normalised(plan, block, row_starts, cutoffs, customers=None):
    """Scale a feature by all of the customer's history."""
    rows = fill_matrix(plan, block, row_starts, cutoffs, customers)
    totals = np.add.reduceat(np.append(np.nan_to_num(block.measures["value"]), 0), block.starts[:-1])
    rows[:, plan.columns.index("sum__value__60d")] /= np.repeat(totals, np.diff(row_starts)) + 1e6
    return rows


def test_the_features_know_nothing_of_the_future(log, plan):
    report = check_leakage(log, plan, SNAPSHOTS)
    assert report.clean
    assert (report.n_snapshots, report.n_customers, len(report.cutoffs)) == (90, 30, 3)
    assert str(report).startswith(f"No leak: {len(plan.columns)} features of 90 snapshots (30 customers, 3 cutoffs)")


def test_a_look_one_day_ahead_is_seen_and_named(log, plan):
    report = check_leakage(log, plan, SNAPSHOTS, fill=later)
    assert not report.clean
    assert {"count__all__7d", "sum__value__60d", "days_since__all"} <= set(report.columns)
    assert "last__plan" not in report.columns
    assert {leak.cutoff for leak in report.leaks} == set(report.cutoffs)
    assert {leak.tampering for leak in report.leaks} == {"deleted", "shuffled", "added"}
    assert str(report).startswith("LEAK: ")
    assert "at 2024-02-01, in " in str(report)


def test_a_leak_of_one_microsecond_is_seen(log, plan):
    report = check_leakage(log, plan, SNAPSHOTS, fill=at_the_cutoff)
    assert {"count__all__7d", "last__level", "last__plan"} <= set(report.columns)


def test_attributes_joined_as_they_are_today_are_seen(log, plan):
    assert check_leakage(log, plan, SNAPSHOTS, fill=todays_plan).columns == ("last__plan",)


def test_late_news_used_too_early_are_seen():
    log = journeys(late=True)
    plan = JourneyFeatures(windows=["7d", "60d"]).fit(log).plan_
    assert "count__all__7d" in check_leakage(log, plan, SNAPSHOTS, fill=known_when_it_happens).columns


def test_a_normalisation_over_all_history_is_seen_in_its_own_column_alone(log, plan):
    assert check_leakage(log, plan, SNAPSHOTS, fill=normalised).columns == ("sum__value__60d",)


def test_the_same_seed_looks_at_the_same_sample(log, plan):
    a, b = (
        check_leakage(log, plan, SNAPSHOTS, fill=later, random_state=5, max_customers=7, max_cutoffs=2)
        for _ in range(2)
    )
    assert a == b
    assert (a.n_customers, len(a.cutoffs), a.n_snapshots) == (7, 2, 14)


def test_snapshots_of_strangers_alone_are_refused(log, plan):
    with pytest.raises(DataError, match="no snapshot is of a customer in the journeys"):
        check_leakage(log, plan, SNAPSHOTS.assign(customer_id="nobody"))
