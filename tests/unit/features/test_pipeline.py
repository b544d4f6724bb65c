"""Features as a step among others of scikit-learn: whatever learns is fitted on the snapshots of training alone."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.pipeline import make_pipeline

from cxml import JourneyFeatures, read_journeys
from cxml.errors import ConfigError, DataError

DAYS = pd.to_datetime(["2024-02-01", "2024-03-01", "2024-04-01"], utc=True)


@pytest.fixture(scope="module")
def log():
    rng = np.random.default_rng(0)
    n = 900
    rows = pd.DataFrame({"customer_id": rng.integers(0, 60, n), "touchpoint": rng.choice(["visit", "buy"], n)})
    rows["timestamp"] = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 110, n), unit="D")
    rows.loc[rows["timestamp"] >= DAYS[2], "touchpoint"] = "novelty"
    rows["level"] = np.where(rows["customer_id"] % 2 == 0, "low", "high")
    return read_journeys(rows, attributes=["level"])


@pytest.fixture(scope="module")
def snapshots(log):
    days = np.repeat(DAYS, log.n_customers)
    frame = pd.DataFrame({"customer_id": np.tile(log.events.customers, 3), "cutoff": days})
    return frame, (frame["customer_id"] % 2 == 0).to_numpy()


def steps(log, **more):
    to_numbers = make_column_transformer((SimpleImputer(), make_column_selector(dtype_include=np.number)))
    return make_pipeline(JourneyFeatures(windows=["30d"], **more).on(log), to_numbers, LogisticRegression(max_iter=500))


def test_a_pipeline_learns_and_predicts_from_snapshots_alone(log, snapshots):
    X, y = snapshots
    model = steps(log).fit(X, y)
    assert model.predict_proba(X).shape == (len(X), 2)
    expected = JourneyFeatures(windows=["30d"]).fit(log, until=DAYS[2])
    assert list(model[0].get_feature_names_out()) == list(expected.get_feature_names_out())
    pd.testing.assert_frame_equal(model[0].transform(X), expected.transform(log, X))
    assert model[0].n_features_in_ == 2


def test_it_learns_nothing_from_after_the_snapshots_it_is_fitted_on(log, snapshots):
    X, y = snapshots
    step = JourneyFeatures(windows=["30d"]).on(log)
    assert "count__touchpoint=novelty__30d" not in step.fit(X, y).get_feature_names_out()
    later = X.assign(cutoff=DAYS[2] + pd.Timedelta("1D"))
    assert "count__touchpoint=novelty__30d" in step.fit(later, y).get_feature_names_out()


def test_parameters_of_the_features_are_searched_over(log, snapshots):
    X, y = snapshots
    grid = {"snapshotfeatures__features__families": [["basic"], ["basic", "mix"]]}
    search = GridSearchCV(steps(log), grid, cv=TimeSeriesSplit(2), error_score="raise").fit(X, y)
    assert search.best_estimator_[0].features.families in grid["snapshotfeatures__features__families"]


def test_clones_share_the_log_and_are_not_fitted(log, snapshots):
    X, _ = snapshots
    step = JourneyFeatures(windows=["30d"]).on(log).fit(X)
    copy = clone(step)
    assert copy.log is log
    assert copy.features is not step.features
    assert copy.features.get_params() == step.features.get_params()
    with pytest.raises(NotFittedError):
        copy.transform(X)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(step)).transform(X), step.transform(X))


@pytest.mark.parametrize("how", ["pandas", "polars"])
def test_frames_come_as_they_are_asked_for(log, snapshots, how):
    pytest.importorskip(how)
    X, _ = snapshots
    given = JourneyFeatures(windows=["30d"]).on(log).set_output(transform=how).fit(X).transform(X)
    assert type(given).__module__.startswith(how)
    assert list(given.columns) == list(JourneyFeatures(windows=["30d"]).fit(log, DAYS[2]).get_feature_names_out())


def test_fit_transform_learns_up_to_the_latest_cutoff(log, snapshots):
    X, _ = snapshots
    found = JourneyFeatures(windows=["30d"]).fit_transform(log, X)
    pd.testing.assert_frame_equal(found, JourneyFeatures(windows=["30d"]).fit(log, DAYS[2]).transform(log, X))
    more = JourneyFeatures(windows=["30d"]).fit_transform(log, X, until="2024-05-01")
    assert "count__touchpoint=novelty__30d" in more
    with pytest.raises(DataError, match="there are none to learn from"):
        JourneyFeatures().fit_transform(log, X.iloc[:0])
    with pytest.raises(ConfigError, match="lack the column 'cutoff'"):
        JourneyFeatures().on(log).fit(X[["customer_id"]])
