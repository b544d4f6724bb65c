import numpy as np
import pandas as pd
import pytest
from reference_features import DAY_US, Event, block_of, coded

from cxml.features.frame import JourneyFeatures
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate
from cxml.journeys.block import CustomerTable
from cxml.journeys.read import read_journeys

UNDATED = np.iinfo(np.int64).min
PLAN = FeaturePlan(
    (Aggregate("count", "all", "30d"),),
    {"level": ("gold", "silver"), "region": ("north", "south")},
    attributes=("level",),
    customer_attributes=("region",),
)


def table(*rows):
    """Make a table of ``(customer, valid_from, region)``."""
    customers, valid_from, regions = zip(*rows, strict=True)
    kind = object if isinstance(customers[0], str) else np.int64
    return CustomerTable(np.array(customers, kind), np.array(valid_from, np.int64), {"region": coded(regions)})


def regions(customers, journeys, asked):
    """Codes of ``last__region`` at ``{customer: [cutoff, ...]}``."""
    block = block_of(journeys)
    row_starts = np.cumsum([0, *(len(asked[c]) for c in sorted(journeys))])
    at = np.array([t for c in sorted(journeys) for t in asked[c]], np.int64)
    return fill_matrix(PLAN, block, row_starts, at, customers)[:, -1].tolist()


def test_the_row_holds_strictly_after_its_date():
    rows = table((1, 10, "north"), (1, 20, "south"))
    got = regions(rows, {1: []}, {1: [10, 11, 20, 21]})
    assert got == pytest.approx([np.nan, 0, 0, 1], nan_ok=True)


def test_a_table_without_dates_holds_always():
    assert regions(table((1, UNDATED, "south")), {1: []}, {1: [-DAY_US, 0]}) == [1, 1]


def test_a_value_that_was_not_fitted_is_other_and_null_stays_unknown():
    rows = table((1, 0, "east"), (2, 0, "north"), (2, 5, None))
    got = regions(rows, {1: [], 2: []}, {1: [9], 2: [5, 9]})
    assert got == pytest.approx([2, 0, np.nan], nan_ok=True)


def test_customers_are_found_by_their_text_wherever_they_stand():
    rows = table(("anna", 0, "north"), ("carl", 0, "south"), ("dora", 0, "north"))
    got = regions(rows, {"bert": [], "carl": [], "emil": []}, {"bert": [1], "carl": [1], "emil": [1]})
    assert got == pytest.approx([np.nan, 1, np.nan], nan_ok=True)


def test_without_a_table_or_its_column_all_is_unknown():
    bare = CustomerTable(np.array([1]), np.array([0]), {})
    assert np.isnan(regions(None, {1: []}, {1: [9]})).all()
    assert np.isnan(regions(bare, {1: []}, {1: [9]})).all()


def test_the_last_known_level_of_the_journey_skips_nulls_and_looks_beyond_every_window():
    events = [Event(0, level="gold"), Event(1, level=None), Event(200 * DAY_US, level="bronze")]
    block = block_of({1: events})
    at = np.array([0, 1, 100 * DAY_US, 300 * DAY_US])
    got = fill_matrix(PLAN, block, np.array([0, 4]), at)[:, 1].tolist()
    assert got == pytest.approx([np.nan, 0, 0, 2], nan_ok=True)


def test_a_late_level_does_not_displace_a_later_one():
    events = [Event(0, level="gold", known=50), Event(10, level="silver", known=10)]
    got = fill_matrix(PLAN, block_of({1: events}), np.array([0, 2]), np.array([20, 60]))[:, 1].tolist()
    assert got == [1, 1]


def test_attributes_that_nobody_had_yet_are_other_and_no_obstacle():
    """A table of customers that begins after what features are chosen from."""
    day = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(40), unit="D")
    events = pd.DataFrame({"customer_id": np.arange(40) % 4, "timestamp": day, "touchpoint": "login"})
    since = int(day[30].value // 1000)
    table = CustomerTable(np.arange(4), np.full(4, since), {"tariff": coded(["a", "b", "a", "b"])})
    features = JourneyFeatures(windows=["7d"]).fit(read_journeys(events, customers=table), until=day[20])
    assert features.plan_.vocabularies["tariff"] == ()
    log = read_journeys(events, customers=table)
    later = features.transform(log, pd.DataFrame({"customer_id": range(4), "cutoff": day[39]}))
    assert later["last__tariff"].astype(str).tolist() == ["other"] * 4
