"""Survey scores as one ordered outcome."""

import numpy as np
import pytest
from sklearn.base import clone

from cxml.errors import ConfigError, DataError
from cxml.models.satisfaction import SatisfactionModel


def simulate(n, scale=(0, 10), seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    share = 1 / (1 + np.exp(-(X[:, 0] + rng.logistic(size=n) * 0.5)))
    lowest, highest = scale
    return X, np.floor(lowest + share * (highest - lowest + 1))


@pytest.fixture(scope="module")
def fitted():
    X, y = simulate(5000)
    later = simulate(2000, seed=1)
    return SatisfactionModel(n_jobs=1).fit(X, y, eval_set=later, calibration_set=later)


def test_expected_scores_follow_the_scores(fitted):
    X, y = simulate(3000, seed=2)
    expected = fitted.predict(X)
    assert ((expected >= 0) & (expected <= 10)).all()
    assert expected.mean() == pytest.approx(y.mean(), abs=0.1)
    assert np.corrcoef(expected, y)[0, 1] > 0.7
    np.testing.assert_allclose(expected, fitted.predict_proba(X) @ np.arange(11), atol=1e-9)


def test_groups_are_the_sums_of_their_scores(fitted):
    X, y = simulate(3000, seed=3)
    probability, groups = fitted.predict_proba(X), fitted.predict_groups(X)
    assert fitted.groups_ == (6, 8) and fitted.classes_.tolist() == list(range(11))
    for k, scores in enumerate((slice(0, 7), slice(7, 9), slice(9, 11))):
        np.testing.assert_allclose(groups[:, k], probability[:, scores].sum(axis=1), atol=1e-12)
    observed = [np.mean(y <= 6), np.mean((y > 6) & (y <= 8)), np.mean(y > 8)]
    np.testing.assert_allclose(groups.mean(axis=0), observed, atol=0.03)


@pytest.mark.parametrize(
    ("scale", "kind", "groups"),
    [((1, 5), None, (2, 3)), ((1, 7), None, (3, 4)), ((1, 10), None, (3, 7)), ((1, 5), "custom", (2, 3))],
)
def test_any_scale_is_learned(scale, kind, groups):
    X, y = simulate(400, scale)
    model = SatisfactionModel(scale=scale, kind=kind, n_estimators=20, n_jobs=1).fit(X, y)
    assert model.groups_ == groups
    assert model.predict_proba(X).shape == (400, scale[1] - scale[0] + 1)
    low = model.predict_proba(X)[:, model.classes_ <= groups[0]].sum(axis=1)
    high = model.predict_proba(X)[:, model.classes_ > groups[1]].sum(axis=1)
    np.testing.assert_allclose(model.predict_groups(X), np.column_stack([low, 1 - low - high, high]), atol=1e-12)


def test_who_did_not_answer_changes_nothing():
    X, y = simulate(400)
    more_X, more_y = np.vstack([X, simulate(100, seed=4)[0]]), np.concatenate([y, np.full(100, np.nan)])
    model = SatisfactionModel(n_estimators=10, n_jobs=1)
    text = clone(model).fit(X, y).boosting_.booster_text_
    assert clone(model).fit(more_X, more_y).boosting_.booster_text_ == text
    both = [clone(model).fit(X, y, calibration_set=rows).predictor_.calibration for rows in ((X, y), (more_X, more_y))]
    assert both[0].to_dict() == both[1].to_dict()


def test_a_calibration_set_without_the_highest_score_is_no_obstacle():
    X, y = simulate(800)
    model = SatisfactionModel(n_estimators=10, n_jobs=1).fit(X, y, calibration_set=(X[y < 9], y[y < 9]))
    slope = model.predictor_.calibration.slope
    assert slope[-1] == slope[-2] == slope[-3] != slope[-4]  # nobody above 8: as the threshold below


def test_a_score_that_nobody_gave_is_improbable_and_no_obstacle():
    X, y = simulate(2000)
    y[y == 5] = 4
    probability = SatisfactionModel(n_estimators=30, n_jobs=1).fit(X, y).predict_proba(X)
    assert probability[:, 5].max() < 0.01


def test_segments_that_differ_are_calibrated_apart_and_others_are_left_alone():
    """One region has grown less content since; the trees, grown before, cannot know."""

    def later(seed):
        X, y = simulate(4000, seed=seed)
        X[:, 2] = np.arange(4000) % 4
        return X, np.where(X[:, 2] == 3, np.maximum(y - 3, 0), y)

    X, y = simulate(4000)
    X[:, 2] = np.arange(4000) % 4
    rows, fresh = later(5), later(6)
    parts = {"eval_set": rows, "calibration_set": rows, "categorical_feature": [2]}
    plain = SatisfactionModel(n_estimators=60, n_jobs=1).fit(X, y, **parts)
    apart = clone(plain).set_params(calibrate_by=2).fit(X, y, **parts)
    off = {
        name: [abs((model.predict(fresh[0]) - fresh[1])[fresh[0][:, 2] == region].mean()) for region in range(4)]
        for name, model in (("plain", plain), ("apart", apart))
    }
    assert off["plain"][3] > 1 and max(off["plain"][:3]) > 0.4
    assert max(off["apart"]) < 0.25


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full(40, 8.0), "all 40 answers are 8"),
        (
            np.r_[np.arange(10.0), np.full(90, np.nan)],
            "10 answers in 100 rows are too few to learn from; 30 are needed",
        ),
        (np.full(40, 11.0), "40 of 40 scores are not whole numbers from 0 to 10"),
    ],
)
def test_answers_that_teach_nothing_are_refused(y, message):
    with pytest.raises(DataError, match=message):
        SatisfactionModel().fit(np.zeros((len(y), 2)), y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"scale": (5, 1)}, "scale is"),
        ({"scale": (1, 5.5)}, "whole numbers"),
        ({"kind": "np"}, "did you mean 'nps'"),
        ({"kind": "nps", "scale": (1, 5)}, "has another scale"),
        ({"kind": "csat", "scale": (1, 7)}, "has another scale"),
    ],
)
def test_questions_about_no_scale_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        SatisfactionModel(**parameters).fit(np.zeros((2, 2)), [1, 2])
