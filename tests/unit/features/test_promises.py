"""Promised times, from the source's column to features: what was kept late, and what is overdue at the cutoff."""

import json

import numpy as np
import pandas as pd
import pytest

from cxml import JourneyFeatures, read_journeys
from cxml.config import parse_config
from cxml.errors import ConfigError
from cxml.features.custom import register_feature
from cxml.features.leakage import check_leakage
from cxml.features.plan import FeaturePlan
from cxml.features.promises import OVERDUE
from cxml.features.spec import Aggregate
from cxml.times import DAY_US

NAN = float("nan")
DAYS = pd.Timestamp("2024-01-01", tz="UTC")
COLUMNS = {"promised": "eta"}


def rows(*events):
    """Make events of (customer, case, day, touchpoint, promised day)."""
    frame = pd.DataFrame(events, columns=["customer_id", "case_id", "timestamp", "touchpoint", "eta"])
    for name in ("timestamp", "eta"):
        frame[name] = DAYS + pd.to_timedelta(frame[name].astype(float), unit="D")
    return frame


ORDERS = rows(
    ("ann", "1", 0, "order", 4),
    ("ann", "2", 1, "order", 9),
    ("ann", "1", 6, "delivered", None),  # two days late
    ("ann", "2", 8, "delivered", None),  # a day early
    ("ann", "2", 9, "delivered", None),  # its second parcel: kept already
    ("bob", "3", 0, "order", 5),
    ("bob", "3", 3, "delayed", 7),  # a later promise takes the place of the earlier
    ("bob", "3", 10, "delivered", None),
    ("cat", None, 0, "order", 5),
    ("dan", None, 2, "delivered", 1),  # carries its own
)


def log_of(frame=ORDERS, **more):
    return read_journeys(frame, columns=COLUMNS, **{"promises": ["delivered"], **more})


def at(day, *customers):
    return pd.DataFrame({"customer_id": customers, "cutoff": DAYS + pd.Timedelta(days=day)})


def values(log, names, day, *customers, **more):
    features = JourneyFeatures(families=[], columns=names, **more).fit(log)
    return features.transform(log, at(day, *customers)).to_numpy().tolist()


def test_a_promised_time_is_read_as_days_from_its_event():
    block = log_of().block
    assert block.customers.tolist() == ["ann", "bob", "cat", "dan"]
    expected = [4, 8, NAN, NAN, NAN, 5, 4, NAN, 5, -1]
    np.testing.assert_array_equal(block.measures["promise"], np.array(expected, float))


def test_lateness_is_that_of_the_event_that_keeps_the_promise():
    names = ["sum__lateness__90d", "max__lateness__90d", "last__lateness__90d", "count__lateness__90d"]
    found = values(log_of(), names, 30, "ann", "bob", "cat", "dan")
    assert found[0] == [1, 2, -1, 2]
    assert found[1] == [3, 3, 3, 1]
    np.testing.assert_array_equal(found[2], [0, NAN, NAN, 0])
    assert found[3] == [1, 1, 1, 1]


def test_late_is_a_selector():
    names = ["count__late=yes__90d", "count__late=no__90d", "days_since__late=yes", "count__!late=no__90d"]
    assert values(log_of(), names, 30, "ann") == [[1, 1, 24, 4]]


def test_without_keeping_touchpoints_each_event_keeps_its_own_promise():
    log = log_of(promises=[])
    assert values(log, ["last__lateness__90d", "count__lateness__90d"], 30, "dan", "bob") == [[1, 1], [-4, 2]]


@pytest.mark.parametrize(
    ("customer", "day", "n", "days"),
    [
        ("ann", 4, 0, NAN),  # due at this very moment
        ("ann", 5, 1, 1),
        ("ann", 6, 1, 2),  # delivered at the cutoff, which is the future
        ("ann", 6.5, 0, NAN),
        ("ann", 100, 0, NAN),
        ("bob", 6, 0, NAN),  # promised for later meanwhile
        ("bob", 8, 1, 1),
        ("cat", 5.5, 1, 0.5),
        ("cat", 105, 1, 100),
        ("dan", 100, 0, NAN),
    ],
)
def test_what_is_overdue_depends_on_the_cutoff(customer, day, n, days):
    np.testing.assert_array_equal(values(log_of(), [], day, customer, custom=list(OVERDUE)), [[n, days]])


def test_a_delivery_that_is_reported_late_was_overdue_until_then():
    frame = ORDERS.assign(available_at=ORDERS["timestamp"])
    frame.loc[2, "available_at"] = DAYS + pd.Timedelta(days=20)
    log = log_of(frame)
    assert values(log, [], 19, "ann", custom=list(OVERDUE)) == [[1, 15]]
    np.testing.assert_array_equal(values(log, [], 21, "ann", custom=list(OVERDUE)), [[0, NAN]])


@pytest.mark.parametrize(
    ("event", "customer", "day", "n", "days"),
    [
        (8, "cat", 10, 0, NAN),  # nobody knows of the promise
        (8, "cat", 12, 0, NAN),  # it becomes known at this very moment
        (8, "cat", 12.5, 1, 7.5),
        (6, "bob", 8, 1, 3),  # the later promise is not known yet
        (0, "ann", 12.5, 0, NAN),  # kept by what came after it and was known before it
    ],
)
def test_what_is_overdue_goes_by_the_promises_known_at_the_cutoff(event, customer, day, n, days):
    frame = ORDERS.assign(available_at=ORDERS["timestamp"])
    frame.loc[event, "available_at"] = DAYS + pd.Timedelta(days=12)
    np.testing.assert_array_equal(values(log_of(frame), [], day, customer, custom=list(OVERDUE)), [[n, days]])


def test_the_family_service_looks_at_promises():
    features = JourneyFeatures(families=["service"]).fit(log_of())
    names = features.get_feature_names_out().tolist()
    assert {"mean__lateness__365d", "count__late=yes__90d", "days_since__late=yes", *OVERDUE} <= set(names)
    assert not any("promise" in note for note in features.notes_)
    plan = FeaturePlan.from_dict(json.loads(json.dumps(features.plan_.to_dict())))
    assert plan == features.plan_
    catalogue = features.catalogue(log_of()).set_index("column")
    assert catalogue.loc["overdue_promises", "sentence"].startswith("Number of promises")
    assert catalogue.loc["mean__lateness__365d", "owner"] == catalogue.loc["overdue_promises", "owner"] == "logistics"
    without = JourneyFeatures(families=["service"]).fit(log_of(promises=[]))
    assert not set(OVERDUE) & set(without.plan_.columns)
    assert "overdue promises (journeys.promises does not say by what a promise is kept)" in without.notes_[0]


def test_a_warm_customer_and_a_trace_say_the_same():
    log = log_of()
    features = JourneyFeatures(families=["service"]).fit(log)
    state = features.state(customer_id="ann")
    for event in ORDERS[ORDERS["customer_id"] == "ann"].sample(frac=1, random_state=1).to_dict("records"):
        state.update({"promised": event.pop("eta"), **event})
    for day in (3, 5, 6.5, 40):
        cutoff = DAYS + pd.Timedelta(days=day)
        np.testing.assert_array_equal(state.vector(cutoff), features.matrix(log, at(day, "ann"))[0])
    traced = features.trace(log, "ann", DAYS + pd.Timedelta(days=5), "overdue_promises")
    assert (traced.value, len(traced.events)) == (1.0, 1)


def test_nothing_that_comes_later_changes_them():
    rng = np.random.default_rng(0)
    n = 600
    frame = pd.DataFrame(
        {
            "customer_id": rng.integers(0, 40, n),
            "case_id": rng.choice(np.array(["1", "2", "3", None], object), n),
            "timestamp": DAYS + pd.to_timedelta(rng.integers(0, 60 * 24, n), unit="h"),
            "touchpoint": rng.choice(["order", "delivered", "visit"], n),
        }
    )
    promised = frame["timestamp"] + pd.to_timedelta(rng.integers(-24, 240, n), unit="h")
    frame["eta"] = promised.where(frame["touchpoint"] == "order")
    frame["available_at"] = frame["timestamp"] + pd.to_timedelta(rng.choice([0, 0, 50], n), unit="h")
    log = log_of(frame)
    plan = JourneyFeatures(families=["service"], columns=["std__lateness__90d"]).fit(log).plan_
    snapshots = pd.concat([at(day, *range(40)) for day in (20, 45)])
    report = check_leakage(log, plan, snapshots)
    assert report.clean, report.columns
    matrix = JourneyFeatures.from_plan(plan).transform(log, snapshots)
    assert (matrix["overdue_promises"] > 0).mean() > 0.2


def test_a_project_names_them_like_any_column():
    config = parse_config(
        "{name: a, journeys: {sources: [a.csv], promises: [delivered]}, churn: {kind: inactivity},"
        " features: {families: [basic], columns: [overdue_promises, mean__lateness__30d]}}"
    )
    log = log_of()
    plan = JourneyFeatures.from_config(config).fit(log).plan_
    assert plan.custom == ("overdue_promises",)
    assert Aggregate.parse("mean__lateness__30d") in plan.aggregates


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="'overdue_promises' needs to know by what a promise is kept"):
        JourneyFeatures(custom=["overdue_promises"]).fit(log_of(promises=[]))
    with pytest.raises(ConfigError, match="'days_overdue' is one of the package's own"):
        register_feature("days_overdue", lambda *_: 1, "Mine.")
    with pytest.raises(ConfigError, match="map that under columns as 'promised'"):
        parse_config("{name: a, journeys: {sources: [a.csv], measures: [promise]}, churn: {kind: inactivity}}")
    with pytest.raises(ConfigError, match="no measure 'latenes'; did you mean 'lateness'"):
        JourneyFeatures(columns=["mean__latenes__30d"]).fit(log_of())


def test_a_promise_written_as_text_in_local_time_is_read_with_the_zone(tmp_path):
    file = tmp_path / "orders.csv"
    file.write_text(
        "customer_id,timestamp,touchpoint,promised\n"
        "1,2024-03-30 12:00,order,2024-04-01 12:00\n"  # a night with an hour less
        "1,2024-03-31T22:00:00Z,delivered,\n"
        "2,2024-03-30 12:00,order,soon\n"
    )
    log = read_journeys(str(file), timezone="Europe/Berlin")
    np.testing.assert_array_equal(log.block.measures["promise"] * DAY_US, [47 * DAY_US / 24, NAN])
    assert log.quality.reasons == {"promised not readable": 1}
