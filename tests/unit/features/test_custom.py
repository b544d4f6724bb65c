import json
import re

import numpy as np
import pandas as pd
import pytest
from reference_features import DAY_US, Event, block_of, same_bits

from cxml.errors import ConfigError, DataError
from cxml.features import custom
from cxml.features.custom import CustomerEvents, feature, register_feature
from cxml.features.frame import JourneyFeatures
from cxml.features.leakage import check_leakage
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate
from cxml.features.state import CustomerState
from cxml.journeys.block import Coded, EventBlock
from cxml.journeys.read import read_journeys


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Every test begins without user features, and leaves none behind."""
    monkeypatch.setattr(custom, "_REGISTERED", {})


def plan_of(*names, **parts):
    aggregates = (Aggregate("count", "all", "30d"), Aggregate("sum", "value", "7d"))
    vocabularies = {"touchpoint": ("call", "play"), "level": ("gold",)}
    return FeaturePlan(aggregates, vocabularies, attributes=("level",), custom=names, **parts)


def fill(function, journeys, cutoffs, **options):
    """Fill a single user feature: for each customer the same cutoffs."""
    register_feature("mine", function, "Mine.")
    plan = FeaturePlan((), {"touchpoint": ("call", "play")}, custom=("mine",), **options)
    row_starts = np.arange(len(journeys) + 1) * len(cutoffs)
    return fill_matrix(plan, block_of(journeys), row_starts, np.array(cutoffs * len(journeys), np.int64))[:, 0]


def journey(n=4, late=None):
    return [
        Event(day * DAY_US, "call" if day % 2 else None, measures={"value": float(day)}, known=late and late(day))
        for day in range(n)
    ]


def test_a_column_stands_behind_the_aggregates_and_before_the_categories():
    @feature("mean_step", "Mean change of the value.")
    def mean_step(events, cutoff):
        return np.diff(events["value"]).mean() if len(events) > 1 else None

    plan = plan_of("mean_step")
    assert plan.columns == ["count__all__30d", "sum__value__7d", "mean_step", "last__level"]
    assert plan.numeric == ("count__all__30d", "sum__value__7d", "mean_step")
    events = [Event(0, level="gold", measures={"value": 1.0}), Event(5, measures={"value": 4.0})]
    matrix = fill_matrix(plan, block_of({1: events}), np.array([0, 2]), np.array([5, 6]))
    np.testing.assert_array_equal(matrix, np.array([[1, 1, np.nan, 0], [2, 5, 3, 0]], np.float32))


def test_sentences_come_from_the_registration_one_by_one_too():
    register_feature("mine", lambda *_: 0, "Nothing at all.")
    plan = plan_of("mine")
    assert list(plan.describe()) == plan.columns
    assert plan.describe()["mine"] == plan.describe("mine") == "Nothing at all."
    assert all(plan.describe(column) == sentence for column, sentence in plan.describe().items())
    with pytest.raises(ConfigError, match="no feature 'mime'; did you mean 'mine'"):
        plan.describe("mime")


def test_the_plan_is_data_and_names_them_only_where_there_are_any():
    plan = plan_of("mine", stages={"call": "support"})
    again = FeaturePlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert again.custom == ("mine",)
    assert "custom" not in plan_of().to_dict()


@pytest.mark.parametrize("row_starts", [[0, 1], [0, 0]])
def test_a_function_that_is_not_registered_is_refused_even_without_rows(row_starts):
    said = "feature 'mine' .* register it before, with cxml.features.custom.register_feature"
    with pytest.raises(ConfigError, match=said):
        fill_matrix(plan_of("mine"), block_of({1: journey()}), np.array(row_starts), np.arange(row_starts[-1]))
    with pytest.raises(ConfigError, match=said):
        plan_of("mine").describe()


def test_it_sees_only_what_happened_and_was_known_before_the_cutoff():
    seen = []

    def look(events, cutoff):
        seen.append((cutoff // DAY_US, events.time.tolist(), events["value"].tolist(), events["touchpoint"].tolist()))
        return len(events)

    late = {1: DAY_US, 2: 9 * DAY_US, 3: 3 * DAY_US}.get
    journeys = {1: journey(late=lambda day: late(day, day * DAY_US)), 2: [], 3: [Event(DAY_US)]}
    counts = fill(look, journeys, [0, 2 * DAY_US, 4 * DAY_US])
    assert counts.tolist() == [0, 2, 3, 0, 0, 0, 0, 1, 1]
    assert seen[1] == (2, [0, DAY_US], [0.0, 1.0], [None, "call"])
    assert seen[2] == (4, [0, DAY_US, 3 * DAY_US], [0.0, 1.0, 3.0], [None, "call", "call"])
    assert seen[7][1:] == ([DAY_US], pytest.approx([np.nan], nan_ok=True), ["call"])


def test_its_arrays_lead_to_no_other_events_and_cannot_be_written_to():
    kept = []

    def greedy(events, cutoff):
        kept.extend([events.time, events["value"], events["touchpoint"]])

    fill(greedy, {1: journey(), 2: journey()}, [2 * DAY_US])
    assert [len(array) for array in kept] == [2] * 6
    for array in kept:
        assert array.base is None or len(array.base) == 2
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


@pytest.mark.parametrize("column", ["value", "touchpoint", "time"])
def test_a_function_that_writes_fails(column):
    def scribble(events, cutoff):
        events[column][:] = 0

    with pytest.raises(ConfigError, match=r"'mine' of customer 1 .* read-only"):
        fill(scribble, {1: journey()}, [DAY_US])


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (None, np.nan), (float("nan"), np.nan), (-np.float64("nan"), np.nan), (2, 2), (True, 1), (np.True_, 1),
        (np.int8(3), 3), (np.float32(0.1), np.float32(0.1)), (0.1, np.float32(0.1)), (3.4028235e38, 3.4028235e38),
        (-0.0, -0.0),
    ],
)  # fmt: skip
def test_numbers_and_nothing_are_taken(given, value):
    assert same_bits(fill(lambda *_: given, {1: journey()}, [DAY_US]), [value]).all()
    found = fill(lambda *_: -np.float64("nan"), {1: journey()}, [DAY_US])
    assert found.view(np.uint32).item() == np.float32(np.nan).view(np.uint32).item()


@pytest.mark.parametrize("given", ["7", np.array([1.0]), np.array(1.0), [1.0], 1j, 10**400, pd.NaT])
def test_anything_else_is_refused(given):
    with pytest.raises(ConfigError, match=r"'mine' of customer 1 at 1970-01-02: (TypeError: it gave|OverflowError)"):
        fill(lambda *_: given, {1: journey()}, [DAY_US])


@pytest.mark.parametrize("given", [np.inf, -np.inf, 1e300, -3.4028236e38, np.float32("inf")])
def test_what_float32_cannot_hold_is_refused(given):
    with pytest.raises(ConfigError, match=r"'mine' of customer 1 at 1970-01-02: ValueError: it gave .*float32 cannot"):
        fill(lambda *_: given, {1: journey()}, [DAY_US])


def test_what_a_function_raises_is_told_with_feature_customer_and_cutoff():
    def fails(events, cutoff):
        return events["value"][3] / 0

    with pytest.raises(ConfigError, match=r"'mine' of customer ann at 1970-01-03: IndexError: index 3") as caught:
        fill(fails, {"ann": journey()}, [2 * DAY_US])
    assert isinstance(caught.value.__cause__, IndexError)


def test_columns_that_the_journeys_lack_are_missing_throughout():
    kept = {}

    def look(events, cutoff):
        kept.update({name: events[name] for name in ("channel", "length", "stage", "case_id", "timestamp")})

    fill(look, {1: journey(2)}, [9 * DAY_US], stages={"call": "support"})
    assert kept["channel"].tolist() == kept["case_id"].tolist() == [None, None]
    assert np.isnan(kept["length"]).all()
    assert kept["stage"].tolist() == [None, "support"]
    assert kept["timestamp"].tolist() == [0, DAY_US]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("customer_id", "is not there: a function sees the events of one customer"),
        ("available_at", "is not there: the events are those that were known"),
        ("sequence", "is not there: the events are in their order"),
        ("promised", "promise'], in days"),
    ],
)
def test_canonical_columns_that_a_function_does_not_see_are_refused(name, says):
    with pytest.raises(ConfigError, match=rf"'mine' of customer 1 at 1970-01-10: events\['{name}'\].*{says}"):
        fill(lambda events, _: len(events[name]), {1: journey(2)}, [9 * DAY_US])


SHOP = {
    "customer_id": [1, 1, 2],
    "timestamp": pd.to_datetime(["2024-01-02", "2024-01-05", "2024-01-07"], utc=True),
    "touchpoint": ["call", "play", "call"],
    "length": [3.0, 4.0, None],
    "level": ["gold", "gold", None],
}


def fitted(function, **options):
    """A log with a measure and an attribute, which only the function looks at, and features fitted to it."""
    register_feature("mine", function, "Mine.")
    log = read_journeys(pd.DataFrame(SHOP), measures=["length"], attributes=["level"], **options)
    return log, JourneyFeatures(["mine"]).fit(log)


def everywhere(log, features, customer):
    """The value of the batch, of a customer kept warm from the log, and of one kept warm from events alone."""
    cutoff = "2024-02-01"
    asked = pd.DataFrame({"customer_id": [customer], "cutoff": pd.to_datetime([cutoff], utc=True)})
    plan = FeaturePlan.from_dict(json.loads(json.dumps(features.plan_.to_dict())))
    cold = CustomerState(plan, customer_id=customer, measures=["length"], attributes=["level"])
    for event in pd.DataFrame(SHOP).query(f"customer_id == {customer}").to_dict("records"):
        cold.update({**event, "timestamp": event["timestamp"].to_pydatetime()})
    yield lambda: features.transform(log, asked)["mine"].item()
    yield lambda: features.state(customer_id=customer, log=log).vector(cutoff)[0].item()
    yield lambda: cold.vector(cutoff)[0].item()


def test_measures_attributes_and_stages_are_there_wherever_features_are_computed():
    def look(events, cutoff):
        gold = sum(text == "gold" for text in events["level"])
        staged = sum(text == "support" for text in events["stage"])
        return 100 * staged + 10 * gold + np.isnan(events["length"]).sum() + len(events["value"]) / 2

    log, features = fitted(look, stages={"support": ["call"]})
    assert [ask() for ask in everywhere(log, features, 1)] == [121.0] * 3
    assert [ask() for ask in everywhere(log, features, 2)] == [101.5] * 3  # who has neither length nor level


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lenght", "did you mean 'length'"),
        ("tochpoint", "did you mean 'touchpoint'"),
        ("session", "no such column"),
        ("stage", "no such column"),
        ("available_at", "is not there"),
    ],
)
def test_a_name_that_the_journeys_cannot_have_is_refused_alike_wherever_features_are_computed(name, says):
    log, features = fitted(lambda events, _: len(events[name]))
    for customer in (1, 2):
        told = []
        for ask in everywhere(log, features, customer):
            with pytest.raises(ConfigError, match=says) as caught:
                ask()
            told.append(str(caught.value))
        assert len(set(told)) == 1


def test_a_plan_tells_the_measures_only_where_a_function_may_look_at_them():
    log, features = fitted(lambda *_: 1)
    assert features.plan_.to_dict()["further_measures"] == ["length"]
    assert "further_measures" not in JourneyFeatures(["count__all__30d"]).fit(log).plan_.to_dict()
    assert "further_measures" not in JourneyFeatures(families=["rfm"]).fit(log).plan_.to_dict()


def test_an_event_is_no_column():
    events = CustomerEvents(np.array([1]), {}.__getitem__)
    with pytest.raises(TypeError, match="name of a column"):
        events[0]


def surprising(events, cutoff):
    """Depend on order, times, texts and values."""
    texts = [text or "" for text in events["touchpoint"]]
    return sum((i + 1) * len(text) for i, text in enumerate(texts)) + np.nansum(events["value"]) / (cutoff + 1)


@pytest.mark.parametrize("late", [False, True])
def test_neither_threads_nor_rows_nor_the_other_customers_change_a_bit(late, monkeypatch):
    rng = np.random.default_rng(0)
    register_feature("mine", surprising, "Mine.")
    journeys = {
        n: [
            Event(int(t), rng.choice(["call", "play", "x"]), measures={"value": rng.random()},
                  known=int(t + rng.integers(0, 40)) if late else None)
            for t in np.sort(rng.integers(0, 100, rng.integers(0, 30)))
        ]
        for n in range(40)
    }  # fmt: skip
    plan, at = plan_of("mine"), np.tile([20, 50, 50, 101], 40)
    row_starts, block = np.arange(41) * 4, block_of(journeys)
    whole = fill_matrix(plan, block, row_starts, at, threads=1)
    monkeypatch.setattr("cxml.features.matrix._RANGE_EVENTS", 64)
    rows = rng.permutation(len(at))
    mixed = fill_matrix(plan, block, row_starts, at, threads=7, rows=rows, out=np.empty_like(whole))
    assert same_bits(mixed[rows], whole).all()
    alone = [
        fill_matrix(plan, block_of({n: journeys[n]}), np.array([0, 1]), at[4 * n + k : 4 * n + k + 1])
        for n in journeys
        for k in range(4)
    ]
    assert same_bits(np.concatenate(alone), whole).all()


def test_a_user_feature_goes_through_the_leakage_check():
    rng = np.random.default_rng(1)
    events = pd.DataFrame(
        {
            "customer_id": rng.integers(0, 5, 60),
            "timestamp": pd.to_datetime(rng.integers(0, 90, 60), unit="D", utc=True),
            "touchpoint": rng.choice(["call", "play"], 60),
            "value": rng.random(60),
        }
    )
    log = read_journeys(events)
    snapshots = pd.DataFrame({"customer_id": range(5), "cutoff": pd.Timestamp("1970-02-10", tz="UTC")})
    register_feature("mine", surprising, "Mine.")
    assert check_leakage(log, plan_of("mine"), snapshots).clean

    def cheat(plan, block, row_starts, cutoffs, customers=None):
        return fill_matrix(plan, block, row_starts, cutoffs + 30 * DAY_US, customers)

    report = check_leakage(log, FeaturePlan((), {}, custom=("mine",)), snapshots, fill=cheat)
    assert report.columns == ("mine",)


def test_codes_outside_a_vocabulary_are_refused_though_only_the_function_looks_at_them():
    register_feature("mine", lambda *_: 1, "Mine.")
    block = EventBlock(np.array([1]), np.array([0, 1]), np.array([0]), None, {"mood": Coded(np.array([1]), ("glad",))})
    with pytest.raises(DataError, match="'mood': 1 of 1 events"):
        fill_matrix(FeaturePlan((), {}, custom=("mine",)), block, np.array([0, 1]), np.array([5]))


@pytest.mark.parametrize("name", ["", "two words", "count__all__30d", "p_alive", "tenure_days", "7d", 7, "a=b"])
def test_a_name_that_might_be_another_feature_is_refused(name):
    for use in (lambda: register_feature(name, len, "Mine."), lambda: plan_of(name)):
        with pytest.raises(ConfigError, match=re.escape(f"user feature cannot be called {name!r}")):
            use()


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two features are called 'mine'"):
        plan_of("mine", "mine")


def test_what_is_no_function_or_has_no_sentence_is_refused():
    with pytest.raises(ConfigError, match="no function"):
        register_feature("mine", 7, "Mine.")
    with pytest.raises(ConfigError, match="say in a sentence"):
        register_feature("mine", surprising, " ")


def test_a_cell_may_run_again_but_another_function_may_not_take_the_name():
    def define(number):
        @feature("mine", f"Version {number}.")
        def mine(events, cutoff):
            return number

    define(1)
    define(2)
    assert plan_of("mine").describe("mine") == "Version 2."
    with pytest.raises(ConfigError, match=r"already registered, as .*define.<locals>.mine"):
        register_feature("mine", surprising, "Mine.")
