"""State and trace as methods of `JourneyFeatures`: what they find is what the batch computes."""

import numpy as np
import pandas as pd
import pytest

from cxml import JourneyFeatures
from cxml.errors import ConfigError, DataError
from cxml.journeys.log import JourneyLog
from tests.unit.features.test_catalogue import CUTOFF, EVERY, fitted, log  # noqa: F401 - a fixture


def test_a_state_that_begins_with_the_log_goes_on_like_the_batch(log: JourneyLog) -> None:  # noqa: F811
    features = fitted(log, EVERY)
    early = log.upto("2024-03-01")
    customer = int(log.events.customers[7])
    state = features.state(customer_id=customer, log=early)
    rows = log.to_pandas()
    for event in rows[(rows["customer_id"] == customer) & (rows["timestamp"] >= "2024-03-01")].to_dict("records"):
        state.update({name: None if pd.isna(value) else value for name, value in event.items()})
    batch = features.matrix(log, pd.DataFrame({"customer_id": [customer], "cutoff": [CUTOFF]}))
    np.testing.assert_array_equal(state.vector(CUTOFF), batch[0])


def test_a_state_may_begin_with_nothing_or_with_events(log: JourneyLog) -> None:  # noqa: F811
    features = fitted(log, ["basic"])
    assert features.state().n_events == 0
    assert features.state([{"timestamp": CUTOFF, "touchpoint": "call"}]).n_events == 1
    with pytest.raises(ConfigError, match="say whose events"):
        features.state(log=log)
    frame = pd.DataFrame({"customer_id": 7, "timestamp": [CUTOFF], "touchpoint": "call"})
    assert features.state(frame.to_dict("records")).n_events == 1
    for wrong in (frame, frame.to_dict("records")[0], "call", 7):
        with pytest.raises(ConfigError, match=r"state: events are a list of mappings.*to_dict\('records'\)"):
            features.state(wrong)
    with pytest.raises(DataError, match="event: 'call' is no mapping"):
        features.state(["call"])


def test_a_trace_names_the_events_behind_a_value(log: JourneyLog) -> None:  # noqa: F811
    features = fitted(log, ["basic"])
    customer = int(log.events.customers[3])
    found = features.trace(log, customer, CUTOFF, "count__touchpoint=call__90d")
    rows = log.to_pandas()
    calls = rows[(rows["customer_id"] == customer) & (rows["touchpoint"] == "call")]["timestamp"]
    inside = calls[(calls < CUTOFF) & (calls >= CUTOFF - pd.Timedelta(days=90))]
    assert found.value == len(inside) == len(found.events)
    assert list(found.times) == inside.astype("int64").tolist()
    assert "touchpoint 'call'" in found.sentence
    with pytest.raises(DataError, match="no event of customer 987654"):
        features.trace(log, 987_654, CUTOFF, "count__all__90d")
    with pytest.raises(ConfigError, match="count__all__9d"):
        features.trace(log, customer, CUTOFF, "count__all__9d")


def test_user_features_stand_between_numbers_and_categories(log: JourneyLog) -> None:  # noqa: F811
    from cxml.features.custom import register_feature

    register_feature("n_phone", n_phone, "Number of events by phone.")
    features = fitted(log, ["basic"], custom=["n_phone"])
    frame = features.transform(log, pd.DataFrame({"customer_id": log.events.customers, "cutoff": CUTOFF}))
    rows = log.to_pandas()
    by_phone = rows[(rows["channel"] == "phone") & (rows["timestamp"] < CUTOFF)].groupby("customer_id").size()
    expected = by_phone.reindex(log.events.customers, fill_value=0)
    np.testing.assert_array_equal(frame["n_phone"], expected)
    assert isinstance(features, JourneyFeatures)


def n_phone(events, cutoff):  # type: ignore[no-untyped-def]
    return float((events["channel"] == "phone").sum())
