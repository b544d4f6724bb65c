import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from reference_features import DAY_US, Event, block_of, coded, same_bits

from cxml.errors import ConfigError, DataError
from cxml.features.annotations import AnnotationSettings
from cxml.features.frame import JourneyFeatures
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate
from cxml.features.state import CustomerState
from cxml.journeys.block import Coded, CustomerTable
from cxml.journeys.read import read_journeys

PLAN = FeaturePlan(
    tuple(map(Aggregate.parse, ("count__touchpoint=call__1d", "sum__value__7d", "last__score__7d"))),
    {"touchpoint": ("call", "play"), "level": ("gold",)},
    attributes=("level",),
)


def state_of(*events, plan=PLAN, **options):
    state = CustomerState(plan, **options)
    for event in events:
        state.update(event)
    return state


def call(time=0, **columns):
    return {"time": time, "touchpoint": "call", **columns}


def test_without_events_counts_are_zero_and_the_rest_is_missing():
    state = CustomerState(PLAN)
    np.testing.assert_array_equal(state.vector(0), np.array([0, 0, np.nan, np.nan], np.float32))
    assert state.n_events == 0
    assert state.vector(0).dtype == np.float32


def test_a_log_read_from_a_frame_and_a_state_fed_with_its_rows_agree():
    rng = np.random.default_rng(3)
    n = 300
    rows = pd.DataFrame(
        {
            "customer_id": rng.choice(["ann", "bob"], n),
            "timestamp": pd.to_datetime(rng.integers(0, 30, n) * DAY_US, unit="us", utc=True),
            "touchpoint": rng.choice(["call", "play", "Größe", "R&D"], n),
            "channel": rng.choice(["web", "phone", None], n),
            "value": rng.choice([np.nan, -0.0, 0.1, 1e16, -1e16], n),
            "resolved": rng.choice(["yes", "no", None], n),
            "sequence": rng.choice([np.nan, 1, 2], n),
            "available_at": pd.to_datetime(rng.integers(0, 40, n) * DAY_US, unit="us", utc=True),
            "length": rng.choice([1.0, 2.5, np.nan], n),
            "level": rng.choice(["gold", "silver", None], n),
        }
    )
    log = read_journeys(rows, measures=["length"], attributes=["level"])
    features = JourneyFeatures(windows=["1d", "7d", "30d"]).fit(log)
    for customer in ("ann", "bob"):
        mine = rows[rows.customer_id == customer].sample(frac=1, random_state=1)
        state = state_of(*mine.to_dict("records"), plan=features.plan_, customers=log.customers, customer_id=customer)
        snapshots = pd.DataFrame({"customer_id": customer, "cutoff": pd.date_range("1970-01-02", periods=45, tz="UTC")})
        found = np.stack([state.vector(cutoff) for cutoff in snapshots["cutoff"]])
        assert same_bits(found, features.matrix(log, snapshots)).all()


def test_a_vector_is_new_each_time_and_asking_changes_nothing():
    state = state_of(call(value=2.0))
    first = state.vector(5)
    first[:] = 7
    assert state.vector(5).tolist()[:2] == [1, 2]


def test_arrays_grow_from_the_smallest_to_thousands_of_events():
    times = np.random.default_rng(0).permutation(3000) * 1000
    state = state_of(*(call(int(time), value=float(time)) for time in times))
    block = block_of({1: [Event(t, "call", measures={"value": float(t)}) for t in sorted(times.tolist())]})
    for cutoff in (0, 1, 1_000_001, 2_999_000, 10**10):
        expected = fill_matrix(PLAN, block, np.array([0, 1]), np.array([cutoff]))[0]
        assert same_bits(state.vector(cutoff), expected).all()
    assert state.n_events == 3000


def test_a_touchpoint_never_seen_counts_as_other():
    plan = FeaturePlan((Aggregate("count", "touchpoint=other", "1d"),), {"touchpoint": ("call",)})
    assert state_of(call(), {"time": 0, "touchpoint": "new"}, plan=plan).vector(1).tolist() == [1]


def test_a_long_vocabulary_of_the_log_is_not_kept():
    block = block_of({1: [Event(0, "play")]})
    many = tuple(f"p{i:05d}" for i in range(10_000))
    codes = np.array([9_999], np.int32)
    wide = replace(block, categories=block.categories | {"case_id": Coded(codes, many)})
    state = CustomerState(PLAN, wide)
    assert state._events.texts["case_id"] == ["p09999"]


def test_an_event_known_late_counts_once_it_is_known():
    state = state_of(call(0, available_at=10), call(1, known=0), call(2, available_at=None))
    assert [state.vector(cutoff)[0] for cutoff in (1, 2, 3, 10, 11)] == [0, 1, 2, 2, 3]


@pytest.mark.parametrize(
    "time",
    [
        DAY_US, np.int64(DAY_US), dt.datetime(1970, 1, 2, tzinfo=dt.UTC), pd.Timestamp("1970-01-02T01:00+01:00"),
        dt.datetime(1970, 1, 1, 22, tzinfo=dt.timezone(-dt.timedelta(hours=2))),
        "1970-01-02T00:00:00Z", " 1970-01-02T01:00:00+01:00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["time", "timestamp"])
def test_a_time_is_microseconds_or_a_datetime_with_a_zone(time, name):
    state = state_of({name: time, "touchpoint": "call", "available_at": time})
    assert [state.vector(DAY_US + more)[0] for more in (0, 1)] == [0, 1]
    assert [state.vector(cutoff)[0] for cutoff in ("1970-01-02", "1970-01-02T12:00:00Z")] == [0, 1]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NaT, pd.NA])
def test_what_is_missing_is_null_however_it_is_written(missing):
    event = call(value=missing, channel=missing, level=missing, sequence=missing, available_at=missing, score=missing)
    np.testing.assert_array_equal(state_of(event).vector(1), state_of(call()).vector(1))


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"touchpoint": "call"}, "time is missing"),
        (call(pd.NaT), "time is missing"),
        (call(dt.datetime(2024, 1, 1)), "a datetime with a zone"),
        (call("2024-01-01T00:00:00"), "a text with one, such as"),
        (call("tomorrow"), "a datetime with a zone"),
        ("timestamp", "'timestamp' is no mapping; write"),
        (call(5.0), "a datetime with a zone"),
        (call(True), "time is no whole number"),
        (call(np.datetime64("2024-01-01")), "time is no whole number"),
        (call(2**60), "outside 1900 to 2200"),
        (call(timestamp=3), "time and timestamp are two names"),
        (call(available_at=2**63), "available_at is no whole number of 64 bits"),
        (call(known="soon"), "known is 'soon'"),
        ({"time": 0}, "touchpoint is missing"),
        (call(touchpoint=" "), "touchpoint is missing"),
        (call(value="much"), "value is not a number"),
        (call(value=float("inf")), "value is not finite"),
        (call(resolved=3), "resolved is neither yes nor no"),
        (call(sequence=1.5), "sequence is no whole number"),
        (call(customer_id=8), "it is of customer 8, and the state of customer 7"),
    ],
)
def test_an_event_that_cannot_be_read_is_refused_and_leaves_no_trace(event, said):
    state = state_of(call(value=1.0), customer_id=7)
    before = state.vector(10)
    with pytest.raises(DataError, match=said):
        state.update(event)
    assert state.n_events == 1
    np.testing.assert_array_equal(state.vector(10), before)


def test_an_event_may_say_whose_it_is():
    assert state_of(call(customer_id="7"), customer_id=7).n_events == 1
    assert state_of(call(customer_id="ann")).n_events == 1


def test_an_unknown_column_is_refused_and_a_named_one_is_not():
    with pytest.raises(ConfigError, match="unknown column 'chanel'; did you mean 'channel'"):
        state_of(call(chanel="web"))
    with pytest.raises(ConfigError, match="unknown column 'length'"):
        state_of(call(length=1))
    assert state_of(call(length=1, mood="glad"), measures=["length"], attributes=["mood"]).n_events == 1


def test_an_annotation_follows_from_the_events_unless_they_hold_a_column_of_its_name():
    plan = FeaturePlan((Aggregate("sum", "gap", "7d"),), {"touchpoint": ("call",)}, annotations=AnnotationSettings())
    assert state_of(call(0), call(2 * DAY_US), plan=plan).vector(5 * DAY_US).tolist() == [2]
    with pytest.raises(ConfigError, match="unknown column 'gap'"):
        state_of(call(gap=1.0), plan=plan)
    held = block_of({1: [Event(0, measures={"gap": 5.0})]}, measures=("gap",))
    assert state_of(call(1, gap=4.0), plan=plan, events=held).vector(2).tolist() == [9]


def test_a_sequence_orders_events_of_one_moment_behind_those_of_the_block():
    held = block_of({1: [Event(0, "play", measures={"score": 1.0}), Event(0, "call", measures={"score": 2.0})]})
    events = [call(score=4.0, sequence=9), call(score=3.0, sequence=8)]
    for given in (events, events[::-1]):
        assert state_of(*given, events=held).vector(1)[2] == 4
    assert CustomerState(PLAN, held).vector(1)[2] == 2


def test_attributes_of_the_customer_come_from_the_rows_of_that_customer():
    plan = replace(PLAN, vocabularies=PLAN.vocabularies | {"region": ("n", "s")}, customer_attributes=("region",))
    table = CustomerTable(
        np.array(["ann", "bob", "bob"], object), np.array([0, 0, 50]), {"region": coded(["n", "s", "n"])}
    )
    bob = state_of(call(), plan=plan, customers=table, customer_id="bob")
    assert [bob.vector(cutoff)[-1] for cutoff in (50, 51)] == [1, 0]
    assert np.isnan(state_of(plan=plan, customers=table, customer_id="cid").vector(9)[-1])
    with pytest.raises(ConfigError, match="Give customer_id"):
        CustomerState(plan, customers=table)
    with pytest.raises(ConfigError, match="ids are texts in one and numbers in the other"):
        CustomerState(plan, customers=table, customer_id=7)


def test_a_block_of_several_customers_or_of_another_one_is_refused():
    block = block_of({1: [Event(0)], 2: [Event(0)]})
    with pytest.raises(ConfigError, match="the block holds 2"):
        CustomerState(PLAN, block)
    with pytest.raises(ConfigError, match="the events are of customer 1, not of 2"):
        CustomerState(PLAN, block_of({1: []}), customer_id=2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"time": np.array([5, 3])}, "do not ascend"),
        ({"time": np.array([5, 6, 7])}, "differ in length"),
        ({"measures": {"value": np.array([1.0])}}, "differ in length"),
        ({"known": np.array([1])}, "differ in length"),
        ({"categories": {"touchpoint": Coded(np.array([0, 2], np.int32), ("a", "b"))}}, "1 of 2 events have a code"),
        ({"categories": {"touchpoint": Coded(np.array([0, 1], np.int32), ("b", "a"))}}, "vocabulary does not ascend"),
    ],
)
def test_a_block_that_is_no_journey_is_refused(change, said):
    block = replace(block_of({1: [Event(3), Event(5)]}), **change)
    with pytest.raises(DataError, match=said):
        CustomerState(PLAN, block)


@pytest.mark.parametrize("at", ["soon", None, 2**70, 1.5])
def test_a_cutoff_that_is_no_moment_is_refused(at):
    with pytest.raises(ConfigError, match="cutoff: "):
        CustomerState(PLAN).vector(at)


def test_threads_may_share_a_state():
    state = CustomerState(PLAN)

    def work(k):
        for i in range(200):
            state.update(call(i * 1000 + k, value=1.0))
            n, total = state.vector(DAY_US)[:2]
            assert n == total

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert state.n_events == 1600
    assert state.vector(DAY_US)[:2].tolist() == [1600, 1600]
