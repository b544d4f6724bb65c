from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import cxml
from cxml.errors import ConfigError, DataError
from cxml.features.frame import JourneyFeatures
from cxml.journeys.block import Coded, CustomerTable
from cxml.journeys.read import read_journeys
from cxml.times import parse_instant

EVENTS = pd.DataFrame(
    [
        ("ann", "2024-01-01", "call", "phone", 10.0, "gold"),
        ("ann", "2024-01-20", "buy", "web", 5.0, "silver"),
        ("ann", "2024-03-01", "churned", None, None, "lost"),
        ("bob", "2024-01-05", "call", "web", None, None),
        ("bob", "2024-01-06", "call", "web", None, None),
        ("cyd", "2024-02-10", "rare", "fax", 7.0, "gold"),
    ],
    columns=["customer_id", "timestamp", "touchpoint", "channel", "value", "level"],
)
SNAPSHOTS = pd.DataFrame(
    {
        "customer_id": ["bob", "ann", "nobody", "ann", "bob"],
        "cutoff": pd.to_datetime(["2024-02-01", "2024-02-01", "2024-02-01", "2024-01-02", "2024-02-01"], utc=True),
    },
    index=[7, 3, 5, 1, 0],
)


def journeys(events=EVENTS, **settings):
    settings = {"attributes": ["level"], "stages": {"support": ["call"], "sales": ["buy"]}, **settings}
    return read_journeys(events, timezone="UTC", **settings)


@pytest.fixture(scope="module")
def log():
    return journeys()


@pytest.fixture(scope="module")
def features(log):
    return JourneyFeatures(windows=["30d", "90d"]).fit(log, until="2024-02-01")


def test_there_is_one_row_for_each_snapshot_in_its_own_order(log, features):
    frame = features.transform(log, SNAPSHOTS)
    assert frame.index.tolist() == [7, 3, 5, 1, 0]
    assert frame["count__all__90d"].tolist() == [2, 2, 0, 1, 2]
    assert frame["last__level"].tolist() == [np.nan, "silver", np.nan, "gold", np.nan]
    assert frame.columns.tolist() == features.get_feature_names_out().tolist()
    assert (frame.dtypes.drop("last__level") == np.float32).all()


def test_only_what_was_known_before_the_end_of_training_is_learned(log, features):
    assert features.plan_.vocabularies["touchpoint"] == ("buy", "call")
    assert features.plan_.vocabularies["level"] == ("gold", "silver")
    everything = JourneyFeatures().fit(log)
    assert "churned" in everything.plan_.vocabularies["touchpoint"]
    assert len(everything.plan_.columns) == everything.n_features_out_


def test_an_event_at_the_very_end_of_training_is_not_learned(log):
    at, after = (JourneyFeatures().fit(log, until=t).plan_ for t in ("2024-01-20", "2024-01-20T00:00:00.000001Z"))
    assert at.vocabularies["touchpoint"] == ("call",)
    assert after.vocabularies["touchpoint"] == ("buy", "call")


def test_a_value_that_training_did_not_see_is_other(log, features):
    late = pd.DataFrame({"customer_id": ["ann", "cyd"], "cutoff": pd.to_datetime(["2024-04-01"] * 2)})
    frame = features.transform(log, late)
    assert frame["last__level"].tolist() == ["other", "gold"]
    assert frame["last__level"].cat.categories.tolist() == ["gold", "silver", "other"]
    assert frame["distinct__touchpoint__90d"].tolist() == [2, 1]


def test_the_frame_is_the_matrix_with_names(log, features):
    matrix = features.matrix(log, SNAPSHOTS)
    frame = features.transform(log, SNAPSHOTS)
    numeric = frame.drop(columns="last__level").to_numpy()
    np.testing.assert_array_equal(matrix[:, :-1], numeric)
    codes = frame["last__level"].cat.codes.to_numpy().astype(np.float32)
    np.testing.assert_array_equal(np.nan_to_num(matrix[:, -1], nan=-1), codes)


def test_the_order_of_snapshots_does_not_change_a_row(log, features):
    shuffled = SNAPSHOTS.sample(frac=1, random_state=1)
    expected = features.transform(log, SNAPSHOTS).loc[shuffled.index]
    pd.testing.assert_frame_equal(features.transform(log, shuffled), expected)


def test_the_inputs_stay_as_they_are(log, features):
    before = SNAPSHOTS.copy()
    features.transform(log, SNAPSHOTS)
    pd.testing.assert_frame_equal(SNAPSHOTS, before)


@pytest.mark.parametrize(
    "cutoff",
    [
        "2024-02-01",
        pd.Timestamp("2024-02-01"),
        pd.Timestamp("2024-02-01", tz="UTC"),
        pd.Timestamp("2024-02-01T01:00", tz="Europe/Berlin"),
        pd.Timestamp("2024-02-01").as_unit("ns"),
        pd.Timestamp("2024-02-01").as_unit("s"),
    ],
)
def test_a_cutoff_is_the_same_moment_however_it_is_written(log, features, cutoff):
    one = pd.DataFrame({"customer_id": ["ann"], "cutoff": [cutoff]})
    assert features.transform(log, one)["days_since__touchpoint=buy"].tolist() == [12.0]


def test_no_snapshots_give_no_rows(log, features):
    assert features.transform(log, SNAPSHOTS.iloc[:0]).shape == (0, features.n_features_out_)


def test_numbers_as_ids_work_and_ids_of_the_other_kind_are_refused(log, features):
    numbered = journeys(EVENTS.assign(customer_id=[1, 1, 1, 2, 2, 3]))
    asked = SNAPSHOTS.assign(customer_id=[2, 1, 9, 1, 2])
    expected = features.transform(log, SNAPSHOTS)
    pd.testing.assert_frame_equal(features.transform(numbered, asked), expected)
    with pytest.raises(DataError, match="customer_id is whole numbers, in the journeys it is text"):
        features.transform(log, asked)
    with pytest.raises(DataError, match="customer_id is text, in the journeys it is whole numbers"):
        features.transform(numbered, SNAPSHOTS)
    with pytest.raises(DataError, match="must be whole numbers or text"):
        features.transform(log, SNAPSHOTS.assign(customer_id=0.5))


def test_customer_attributes_hold_also_for_customers_without_events():
    codes = np.array([0, 1, 0], np.int32)
    customers = CustomerTable(
        np.array(["ann", "ann", "nobody"], dtype=object),
        np.array([0, parse_instant("2024-01-15"), 0], np.int64),
        {"region": Coded(codes, ("north", "south"))},
    )
    log = replace(journeys(), customers=customers)
    frame = JourneyFeatures(windows=["30d"]).fit(log).transform(log, SNAPSHOTS)
    assert frame["last__region"].tolist()[1:4] == ["south", "north", "north"]
    assert frame["last__region"].isna().tolist() == [True, False, False, False, True]


def test_rare_values_share_a_column(log):
    features = JourneyFeatures(windows=["365d"], max_values=1).fit(log)
    assert features.plan_.vocabularies["touchpoint"] == ("call",)
    late = pd.DataFrame({"customer_id": ["ann"], "cutoff": ["2024-04-01"]})
    assert features.transform(log, late)["count__touchpoint=other__365d"].tolist() == [2]
    assert features.transform(log, late)["count__stage=sales__365d"].tolist() == [1]


def test_it_is_a_scikit_learn_transformer(log, features):
    params = {"windows": ["7d"], "max_values": 3, "families": ["basic", "trend"], "n_jobs": 2}
    copy = clone(JourneyFeatures(**params))
    assert params.items() <= copy.get_params().items()
    assert copy.set_params(max_values=5).max_values == 5
    with pytest.raises(NotFittedError):
        copy.transform(log, SNAPSHOTS)
    assert copy.fit(log) is copy
    assert cxml.JourneyFeatures is JourneyFeatures


def test_threads_do_not_change_the_numbers(log, features):
    one = clone(features).set_params(n_jobs=1).fit(log)
    two = clone(features).set_params(n_jobs=2).fit(log)
    pd.testing.assert_frame_equal(one.transform(log, SNAPSHOTS), two.transform(log, SNAPSHOTS))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"windows": "30d"}, "windows must be a list"),
        ({"windows": []}, "windows must be a list"),
        ({"windows": ["soon"]}, "windows: 'soon' is not a duration"),
        ({"max_values": 0}, "max_values must be a whole number from 1"),
        ({"families": "basic"}, r"families must be a list, such as \[basic\]"),
        ({"families": ["trends"]}, "unknown family of features 'trends'; did you mean 'trend'"),
        ({"columns": ["count__touchpoint=cal__30d"]}, "touchpoint has no value 'cal'; did you mean 'call'"),
        ({"columns": ["counts__all__30d"]}, "unknown statistic 'counts'; did you mean 'count'"),
        ({"columns": [{"stat": "count"}]}, "is no column; write its name"),
        ({"columns": [7]}, "7 is no column"),
    ],
)
def test_wrong_parameters_are_refused_at_fit(log, wrong, message):
    with pytest.raises(ConfigError, match=message):
        JourneyFeatures(**wrong).fit(log)


def test_a_wrong_number_of_threads_is_refused(log):
    with pytest.raises(ConfigError, match="n_jobs must be"):
        JourneyFeatures(n_jobs=0).fit(log).transform(log, SNAPSHOTS)


def test_an_end_of_training_before_the_first_event_is_refused(log):
    with pytest.raises(DataError, match="no event was known before"):
        JourneyFeatures().fit(log, until="2023-01-01")
    with pytest.raises(ConfigError, match="until: 'soon' is not a moment"):
        JourneyFeatures().fit(log, until="soon")


@pytest.mark.parametrize(
    ("snapshots", "error", "message"),
    [
        (SNAPSHOTS.drop(columns="cutoff"), ConfigError, "snapshots lack the column 'cutoff'"),
        (SNAPSHOTS.assign(cutoff=pd.NaT), DataError, "column 'cutoff' is missing in 5 of 5 rows"),
        (SNAPSHOTS.assign(customer_id=None), DataError, "column 'customer_id' is missing in 5 of 5 rows"),
        (SNAPSHOTS.assign(cutoff="soon"), DataError, "does not hold moments"),
        (SNAPSHOTS.assign(cutoff=1_704_067_200), DataError, "column 'cutoff' holds numbers"),
    ],
)
def test_snapshots_that_cannot_be_used_are_refused(log, features, snapshots, error, message):
    with pytest.raises(error, match=message):
        features.transform(log, snapshots)
