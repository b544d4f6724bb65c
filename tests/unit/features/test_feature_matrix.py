from dataclasses import replace

import numpy as np
import pytest
from reference_features import DAY_US, Event, block_of, coded, reference_features, same_bits

from cxml.errors import ConfigError, DataError
from cxml.features.annotations import AnnotationSettings
from cxml.features.matrix import _RANGE_EVENTS, fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate, default_spec
from cxml.journeys.block import Coded, CustomerTable, EventBlock, slice_block

VOCABULARY = ("call", "visit")
PLAN = FeaturePlan(
    default_spec({"touchpoint": VOCABULARY}, ["value"], ["7d", "30d"], with_other={"touchpoint"}),
    {"touchpoint": VOCABULARY},
)


def column(plan, matrix, name):
    return matrix[:, plan.columns.index(name)].tolist()


def ask(events, at, plan=PLAN, **changes):
    """Fill the rows of one customer."""
    block = replace(block_of({1: events}), **changes)
    return fill_matrix(plan, block, np.array([0, len(at)]), np.array(at, np.int64))


def test_a_window_holds_its_left_edge_and_not_the_cutoff():
    at = [7 * DAY_US - 1, 7 * DAY_US, 7 * DAY_US + 1]
    assert column(PLAN, ask([Event(0), Event(7 * DAY_US)], at), "count__all__7d") == [1, 1, 1]
    assert column(PLAN, ask([Event(0)], at), "count__all__7d") == [1, 1, 0]
    assert column(PLAN, ask([Event(7 * DAY_US)], at), "count__all__7d") == [0, 0, 1]


def test_the_reference_would_notice_an_edge_moved_by_a_microsecond():
    at = [7 * DAY_US]
    events, moved = [Event(7 * DAY_US)], [Event(7 * DAY_US - 1)]
    true, leaky = (reference_features(PLAN.columns, e, at, PLAN.vocabularies)[0] for e in (events, moved))
    changed = {name for name, same in zip(PLAN.columns, same_bits(true, leaky), strict=True) if not same}
    assert {"count__all__7d", "days_since__touchpoint=call", "tenure_days", "active_days__all__30d"} <= changed
    assert same_bits(ask(events, at)[0], true).all()
    assert not same_bits(ask(events, at)[0], leaky).all()


def test_nothing_counts_zero_and_everything_else_of_nothing_is_missing():
    row = ask([], [DAY_US])[0]
    zero = {name for name, value in zip(PLAN.columns, row, strict=True) if value == 0}
    assert zero == {c for c in PLAN.columns if c.startswith(("count", "sum", "active_days", "distinct"))}
    assert np.isnan(row[[name not in zero for name in PLAN.columns]]).all()


def test_days_are_fractions():
    row = ask([Event(0), Event(DAY_US // 2, "visit")], [DAY_US])
    assert column(PLAN, row, "tenure_days") == [1.0]
    assert column(PLAN, row, "days_since__touchpoint=visit") == [0.5]


def test_active_days_are_calendar_days_in_utc_also_before_1970():
    hour = DAY_US // 24
    row = ask([Event(-25 * hour), Event(-2 * hour), Event(-1 * hour), Event(1 * hour)], [2 * hour])
    assert column(PLAN, row, "active_days__all__7d") == [3]


def test_unseen_values_are_one_value_and_nulls_are_none():
    events = [Event(0, "new"), Event(1, "newer"), Event(2, None), Event(3, "call")]
    row = ask(events, [10])
    assert column(PLAN, row, "count__touchpoint=other__7d") == [2]
    assert column(PLAN, row, "distinct__touchpoint__7d") == [2]
    assert column(PLAN, row, "count__all__7d") == [4]


def test_the_order_of_the_blocks_own_vocabulary_does_not_matter():
    codes = np.array([0, 1], np.int32)
    events = [Event(0), Event(1)]
    rows = [
        ask(events, [2], categories={"touchpoint": Coded(c, v)})
        for c, v in ((codes, ("visit", "call")), (1 - codes, ("call", "visit")))
    ]
    np.testing.assert_array_equal(*rows)


def test_the_same_number_of_events_summed_at_another_cutoff_gives_the_same_bits():
    events = [Event(i, measures={"value": v}) for i, v in enumerate([1e16, 1.0, -1e16, 0.1])]
    alone = ask(events, [4])
    together = ask(events, [1, 2, 3, 4])[-1:]
    np.testing.assert_array_equal(alone, together)
    assert column(PLAN, alone, "sum__value__7d") == [np.float32(0.1 - 1e16 + 1.0 + 1e16)]


def test_a_late_event_counts_from_when_it_is_known():
    events = [Event(0, known=0), Event(DAY_US, "visit", known=5 * DAY_US)]
    rows = ask(events, [2 * DAY_US, 5 * DAY_US, 5 * DAY_US + 1])
    assert column(PLAN, rows, "count__all__30d") == [1, 1, 2]
    assert column(PLAN, rows, "days_since__all")[:2] == [2.0, 5.0]
    assert column(PLAN, rows, "days_since__all")[2] == pytest.approx(4.0)


def test_an_event_said_to_be_known_before_it_happens_still_waits_for_its_time():
    rows = ask([Event(DAY_US, known=0)], [DAY_US // 2, 2 * DAY_US])
    assert column(PLAN, rows, "count__all__30d") == [0, 1]


def test_a_measure_the_block_lacks_is_missing_everywhere():
    rows = ask([Event(0, measures={"value": 1.0})], [DAY_US], measures={})
    assert column(PLAN, rows, "sum__value__7d") == [0]
    assert np.isnan(column(PLAN, rows, "mean__value__7d")).all()


def many(n_customers=400, n_events=200, seed=0):
    rng = np.random.default_rng(seed)
    n = n_customers * n_events
    time = np.sort(rng.integers(0, 60 * DAY_US, (n_customers, n_events)), axis=1).ravel()
    block = EventBlock(
        customers=np.arange(n_customers),
        starts=np.arange(n_customers + 1, dtype=np.int64) * n_events,
        time=time,
        known=None,
        categories={"touchpoint": Coded(rng.integers(-1, 3, n).astype(np.int32), ("a", "call", "visit"))},
        measures={"value": rng.normal(size=n)},
    )
    assert block.n_events > _RANGE_EVENTS
    return block, np.arange(n_customers + 1) * 3, np.tile(np.array([20, 40, 60]) * DAY_US, n_customers)


def test_the_number_of_threads_does_not_change_a_bit():
    block, row_starts, cutoffs = many()
    one, two, seven = (fill_matrix(PLAN, block, row_starts, cutoffs, threads=n) for n in (1, 2, 7))
    assert same_bits(one, two).all()
    assert same_bits(one, seven).all()


def test_annotations_and_the_second_walk_do_not_depend_on_the_threads_either():
    block, row_starts, cutoffs = many()
    names = (
        "mean__gap__7d", "mean__response__30d", "count__previous=call__7d", "std__value@!touchpoint=call__30d",
        "p_alive__touchpoint=call", "burstiness__all__30d", "ratio__value__7d/30d", "entropy__touchpoint__7d",
    )  # fmt: skip
    plan = FeaturePlan(
        tuple(map(Aggregate.parse, names)),
        {"touchpoint": VOCABULARY, "previous": VOCABULARY},
        alive=(0.2, 4.0, 0.8, 2.4),
        annotations=AnnotationSettings(interventions=("call",), activity=("visit",), respond_within="2d"),
    )
    one, three = (fill_matrix(plan, block, row_starts, cutoffs, threads=n) for n in (1, 3))
    assert same_bits(one, three).all()
    half = row_starts[: block.n_customers // 2 + 1]
    first = fill_matrix(plan, slice_block(block, 0, block.n_customers // 2), half, cutoffs[: half[-1]])
    assert same_bits(one[: half[-1]], first).all()
    assert not np.isnan(one).any(axis=0).all()


def test_a_slice_of_a_block_gives_the_same_rows_into_a_buffer_that_is_used_again():
    block, row_starts, cutoffs = many()
    whole = fill_matrix(PLAN, block, row_starts, cutoffs)
    buffer = np.full((3 * 150, len(PLAN.columns)), 99, np.float32)
    for first in range(0, block.n_customers, 150):
        stop = min(first + 150, block.n_customers)
        rows = slice(row_starts[first], row_starts[stop])
        starts = row_starts[first : stop + 1] - row_starts[first]
        part = fill_matrix(PLAN, slice_block(block, first, stop), starts, cutoffs[rows], out=buffer)
        assert np.shares_memory(part, buffer)
        assert same_bits(part, whole[rows]).all()


def test_customers_without_snapshots_and_logs_without_either_are_fine():
    block = block_of({1: [Event(0)], 2: [Event(0)], 3: []})
    rows = fill_matrix(PLAN, block, np.array([0, 0, 1, 2]), np.array([1, 1]))
    assert column(PLAN, rows, "count__all__7d") == [1, 0]
    assert fill_matrix(PLAN, block, np.zeros(4, np.int64), np.empty(0, np.int64)).shape == (0, len(PLAN.columns))
    assert fill_matrix(PLAN, block_of({}), np.zeros(1, np.int64), np.empty(0, np.int64)).shape[0] == 0


def test_no_cutoffs_leave_a_larger_buffer_as_it_is():
    plan = FeaturePlan((Aggregate.parse("tenure_days"),), {"region": ("north",)}, customer_attributes=("region",))
    table = CustomerTable(np.array([1]), np.array([0]), {"region": coded(["north"])})
    out, none = np.full((3, 2), 7, np.float32), np.empty(0, np.int64)
    fill_matrix(plan, block_of({1: [Event(0)]}), np.array([0, 0]), none, table, out=out, rows=none)
    assert (out == 7).all()


def test_a_plan_without_windows_works():
    plan = FeaturePlan((Aggregate.parse("tenure_days"),), {})
    assert ask([Event(0)], [DAY_US], plan=plan).tolist() == [[1.0]]


@pytest.mark.parametrize("code", [2, -2, 2**30])
def test_a_code_outside_its_vocabulary_is_refused(code):
    bad = Coded(np.array([0, code], np.int32), ("call", "visit"))
    with pytest.raises(DataError, match=r"column 'touchpoint': 1 of 2 events .* outside its vocabulary of 2 values"):
        ask([Event(0), Event(1)], [2], categories={"touchpoint": bad})


def test_events_out_of_order_are_refused():
    with pytest.raises(DataError, match="customer 1: event 1 is before the one in front of it"):
        ask([Event(5), Event(4)], [9])


def test_cutoffs_out_of_order_are_refused():
    with pytest.raises(ConfigError, match="customer 1: cutoff 1 is before the one in front of it"):
        ask([Event(5)], [9, 8])


@pytest.mark.parametrize("starts", [[0, 3], [0, 1], [1, 2], [0, 2, 2]])
def test_a_block_whose_starts_do_not_fit_is_refused(starts):
    with pytest.raises(DataError, match="starts do not ascend"):
        ask([Event(0), Event(1)], [2], starts=np.array(starts, np.int64))


def test_a_block_with_columns_of_different_lengths_is_refused():
    with pytest.raises(DataError, match="differ in length"):
        ask([Event(0), Event(1)], [2], measures={"value": np.zeros(1)})
    with pytest.raises(DataError, match="differ in length"):
        ask([Event(0), Event(1)], [2], categories={"touchpoint": coded(["call"])})


@pytest.mark.parametrize("row_starts", [[0, 2], [0, 1, 1], [1, 1], [0, -1]])
def test_row_starts_that_do_not_fit_are_refused(row_starts):
    with pytest.raises(ConfigError, match="row_starts must ascend from 0 to the number of cutoffs"):
        fill_matrix(PLAN, block_of({1: [Event(0)]}), np.array(row_starts), np.array([1]))


@pytest.mark.parametrize("rows", [[0], [0, 2], [-1, 0]])
def test_rows_outside_the_output_are_refused(rows):
    block, out = block_of({1: [Event(0)]}), np.empty((2, len(PLAN.columns)), np.float32)
    with pytest.raises(ConfigError, match="rows must give each of the 2 cutoffs a row of out, 0 to 1"):
        fill_matrix(PLAN, block, np.array([0, 2]), np.array([1, 2]), rows=np.array(rows), out=out)


@pytest.mark.parametrize("shape", [(0, 0), (1, 1)])
def test_an_output_of_another_shape_is_refused(shape):
    with pytest.raises(ConfigError, match="out must be float32 of shape"):
        fill_matrix(PLAN, block_of({1: []}), np.array([0, 1]), np.array([1]), out=np.empty(shape, np.float32))
