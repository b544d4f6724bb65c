"""Laws that hold in every simulated world."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from cxml.simulate import simulate

START = pd.Timestamp("2024-02-01", tz="UTC")
DAY = pd.Timedelta(1, "D")

worlds = st.fixed_dictionaries(
    {
        "n_customers": st.integers(1, 60),
        "n_days": st.integers(100, 240),
        "random_state": st.integers(0, 2**32),
        "horizons": st.lists(st.integers(1, 98), min_size=1, max_size=3, unique=True).map(lambda days: sorted(days)),
        "n_replays": st.integers(1, 20),
        "drift_from": st.none() | st.integers(-10, 240).map(lambda day: START + day * DAY),
        "truth_at": st.none() | st.integers(1, 100).map(lambda day: START + day * DAY),
    }
)
few = settings(deadline=None, max_examples=20)


@few
@given(worlds)
def test_events_lie_in_the_span_in_order_of_time(asked):
    time = simulate(start=START, **asked).events["timestamp"]
    assert time.is_monotonic_increasing
    assert len(time)
    assert time.min() >= START
    assert time.max() < START + asked["n_days"] * DAY


@few
@given(worlds)
def test_a_journey_begins_at_signing_up_and_ends_at_cancelling(asked):
    events = simulate(start=START, **asked).events
    span = events.groupby("customer_id")["timestamp"].agg(["min", "max"])
    once = events[events["touchpoint"].isin(["signup", "cancelled"])]
    assert not once.duplicated(["customer_id", "touchpoint"]).any()
    for touchpoint, end in (("signup", "min"), ("cancelled", "max")):
        stamps = events[events["touchpoint"] == touchpoint].set_index("customer_id")["timestamp"]
        assert (stamps == span.loc[stamps.index, end]).all()


@few
@given(worlds)
def test_the_truth_is_made_of_probabilities_that_rise_with_the_horizon(asked):
    truth = simulate(start=START, **asked).truth
    churn = truth[[f"churn_{days}d" for days in asked["horizons"]]].to_numpy()
    assert ((churn >= 0) & (churn <= 1)).all()
    assert (np.diff(churn, axis=1) >= 0).all()
    parts = truth[["p_detractor", "p_passive", "p_promoter"]]
    assert ((parts >= 0) & (parts <= 1)).all(axis=None)
    assert np.allclose(parts.sum(axis=1), 1.0)
    assert truth["expected_score"].between(0, 10).all()
    assert truth["effect"].between(-1, 1).all()
    assert not truth.isna().any(axis=None)


@few
@given(worlds)
def test_nobody_the_truth_speaks_of_has_left_or_is_yet_to_come(asked):
    simulation = simulate(start=START, **asked)
    events, truth = simulation.events, simulation.truth
    told = events[events["customer_id"].isin(truth["customer_id"])].merge(truth[["customer_id", "cutoff"]])
    past = told["timestamp"] < told["cutoff"]
    assert past[told["touchpoint"] == "signup"].all()
    assert not past[told["touchpoint"] == "cancelled"].any()


@few
@given(worlds)
def test_a_case_is_one_customer_s_and_nobody_pursues_it_once_resolved(asked):
    events = simulate(start=START, **asked).events
    of_case = events[events["case_id"].notna()]
    assert (of_case.groupby("case_id")["customer_id"].nunique() == 1).all()
    contacts = of_case[of_case["resolved"].notna()]
    resolved = contacts["resolved"].astype(bool)
    last = ~contacts.duplicated("case_id", keep="last")
    assert last[resolved].all()
