"""Cumulative-link boosting on outcomes whose truth is known."""

import pickle

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from cxml.errors import ConfigError, DataError
from cxml.models.cumulative import CumulativeLinkBoosting

CUTS = np.array([-2.0, 0.0, 1.5])


def simulate(n, seed=0, slope=1.0):
    """Three columns of which the first two matter; logistic noise, so the model's form is true."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    latent = slope * (X[:, 0] - 0.5 * X[:, 1])
    return X, np.digitize(latent + rng.logistic(size=n), CUTS), latent


def truth(latent):
    return 1 / (1 + np.exp(latent[:, None] - CUTS))


@pytest.fixture(scope="module")
def fitted():
    X, y, _ = simulate(6000)
    later = simulate(2000, seed=1)[:2]
    return CumulativeLinkBoosting(random_state=3, n_jobs=1).fit(X, y, eval_set=later)


def test_known_cut_points_and_order_are_recovered(fitted):
    X, _, latent = simulate(4000, seed=2)
    found = fitted.predict_latent(X)
    assert np.corrcoef(found, latent)[0, 1] > 0.97
    np.testing.assert_allclose(fitted.cut_points_, CUTS, atol=0.2)
    assert np.abs(fitted.predict_cdf(X) - truth(latent)).mean() < 0.035


def test_early_stopping_keeps_the_best_round(fitted):
    losses = fitted.eval_losses_
    assert len(losses) == fitted.best_iteration_ + fitted.early_stopping_rounds < 1000
    assert losses[fitted.best_iteration_ - 1] == min(losses)
    assert fitted.predictor_.trees.n_trees == fitted.best_iteration_
    X, y, _ = simulate(2000, seed=1)
    assert fitted.score(X, y) == pytest.approx(-min(losses), abs=1e-12)  # the cut points are that round's too


def test_prediction_is_lightgbms_own_sum_of_trees(fitted):
    X, _, _ = simulate(300, seed=4)
    booster = lightgbm.Booster(model_str=fitted.booster_text_)
    assert np.array_equal(booster.predict(X, raw_score=True), fitted.predict_latent(X))


def test_distributions_are_distributions(fitted):
    X, _, _ = simulate(500, seed=5)
    cdf, probability = fitted.predict_cdf(X), fitted.predict_proba(X)
    assert (np.diff(cdf, axis=1) >= 0).all()
    assert (probability >= 0).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, atol=1e-12)
    assert np.array_equal(fitted.predict(X), probability.argmax(axis=1))
    assert fitted.classes_.tolist() == [0, 1, 2, 3]


def test_contributions_add_up_to_the_latent_value(fitted):
    X, _, _ = simulate(50, seed=6)
    contributions = fitted.contributions(X)
    assert contributions.shape == (50, 4)
    np.testing.assert_allclose(contributions.sum(axis=1), fitted.predict_latent(X), atol=1e-9)
    strength = np.abs(contributions[:, :3]).mean(axis=0)
    assert strength[0] > strength[1] > 3 * strength[2]
    assert fitted.feature_importances_[0] == fitted.feature_importances_.max()


def test_censored_rows_are_used_for_what_they_tell():
    """Four in five of the good customers are lost from sight early: taking their last sighting for the outcome lies."""
    X, y, latent = simulate(6000, seed=7)
    rng = np.random.default_rng(8)
    lost_after = np.where((X[:, 0] > 0) & (rng.random(len(y)) < 0.8), rng.integers(1, 3, len(y)), 9)
    lower, upper = np.minimum(y, lost_after), np.where(y < lost_after, y, 3)
    model = CumulativeLinkBoosting(n_estimators=100, n_jobs=1)
    ours = model.fit(X, np.column_stack([lower, upper])).predict_cdf(X)
    naive = clone(model).fit(X, lower).predict_cdf(X)
    dropped = clone(model).set_params(n_classes=4).fit(X[lower == upper], y[lower == upper]).predict_cdf(X)
    wrong = {
        name: np.abs(p - truth(latent)).mean() for name, p in [("ours", ours), ("naive", naive), ("dropped", dropped)]
    }
    assert wrong["ours"] < 0.04
    assert wrong["naive"] > 2 * wrong["ours"] and wrong["dropped"] > 1.5 * wrong["ours"]


def test_rows_that_may_be_anything_change_nothing():
    X, y, _ = simulate(800)
    known = np.column_stack([y, y])
    more = np.vstack([known, np.tile([0, 3], (200, 1))])
    model = CumulativeLinkBoosting(n_estimators=10, n_jobs=1)
    with_them = clone(model).fit(np.vstack([X, simulate(200, seed=9)[0]]), more).booster_text_
    assert with_them == model.fit(X, known).booster_text_


def test_weight_two_is_the_row_twice():
    X, y, _ = simulate(3000)
    X = np.round(2 * X)  # few distinct values: the same bins, however often a row stands there
    weight = np.where(X[:, 0] > 0, 2.0, 1.0)
    twice = np.repeat(np.arange(3000), weight.astype(int))
    model = CumulativeLinkBoosting(n_estimators=20, min_child_samples=1, reg_lambda=0.0, colsample_bytree=1.0, n_jobs=1)
    weighted = clone(model).fit(X, y, sample_weight=weight * 7).predict_cdf(X)
    repeated = clone(model).fit(X[twice], y[twice]).predict_cdf(X)
    assert np.abs(weighted - repeated).max() < 0.005
    assert np.abs(model.fit(X, y).predict_cdf(X) - repeated).max() > 0.01


def test_the_same_seed_gives_the_same_text_on_any_number_of_threads():
    X, y, _ = simulate(3000)
    parameters = {"n_estimators": 30, "subsample": 0.7, "colsample_bytree": 0.5}
    one, two = (CumulativeLinkBoosting(n_jobs=n, **parameters).fit(X, y) for n in (1, 2))
    other = CumulativeLinkBoosting(n_jobs=1, random_state=5, **parameters).fit(X, y)
    assert one.booster_text_ == two.booster_text_
    assert np.array_equal(one.cut_points_, two.cut_points_)
    assert other.booster_text_ != one.booster_text_
    drawn = [
        CumulativeLinkBoosting(random_state=np.random.RandomState(1), **parameters).fit(X, y).booster_text_
        for _ in "ab"
    ]
    assert drawn[0] == drawn[1]


def test_training_changes_none_of_its_inputs():
    X, y, _ = simulate(500)
    frame = pd.DataFrame(X, columns=list("abc"))
    weight, before = np.ones(500), (frame.copy(), y.copy())
    model = CumulativeLinkBoosting(n_estimators=5, n_jobs=1)
    parameters = model.get_params()
    model.fit(frame, y, sample_weight=weight, eval_set=(frame, y))
    pd.testing.assert_frame_equal(frame, before[0])
    assert np.array_equal(y, before[1]) and (weight == 1).all()
    assert model.get_params() == parameters


def test_the_estimator_clones_and_pickles(fitted):
    X, _, _ = simulate(100, seed=6)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params() and not hasattr(copy, "predictor_")
    fitted.contributions(X[:1])  # tables made on first use must pickle as well
    thawed = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(thawed.predict_proba(X), fitted.predict_proba(X))
    with pytest.raises(NotFittedError):
        copy.predict(X)


def test_monotone_constraints_hold():
    X, y, _ = simulate(2000)
    model = CumulativeLinkBoosting(n_estimators=50, n_jobs=1, monotone_constraints=[1, -1, 0]).fit(X, y)
    line = np.zeros((50, 3))
    line[:, 0] = np.linspace(-3, 3, 50)
    assert (np.diff(model.predict_latent(line)) >= 0).all()
    assert (np.diff(model.predict_latent(line[:, [1, 0, 2]])) <= 0).all()


def test_categories_are_split_as_sets():
    rng = np.random.default_rng(0)
    code = rng.integers(0, 40, 4000)
    y = np.digitize(2.0 * (code % 2) + rng.logistic(size=4000), [1.0])
    rows = code[:, None].astype(np.float32)
    parameters = {"n_estimators": 20, "num_leaves": 2, "n_jobs": 1}
    as_set = CumulativeLinkBoosting(**parameters).fit(rows, y, categorical_feature=[0])
    frame = pd.DataFrame({"plan": pd.Categorical.from_codes(code, [f"p{i}" for i in range(40)])})
    as_frame = CumulativeLinkBoosting(**parameters).fit(frame, y)
    as_number = CumulativeLinkBoosting(**parameters).fit(rows, y)
    assert as_set.booster_text_ == as_frame.booster_text_
    assert as_set.score(rows, y) > as_number.score(rows, y) + 0.02


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0] * 40, "all 40 rows may be of one class"),
        (np.tile([0, 1], (40, 1)), "none of 40 rows tells anything"),
        ([0.5] * 40, "40 of 40 rows are no classes"),
        ([-1] + [1] * 39, r"1 of 40 rows are no classes from 0 to 1 \(\[-1.0, -1.0\] in row 0\)"),
        (np.tile([1, 0], (40, 1)), "are no classes"),
        (np.zeros((40, 3)), "needs one class a row"),
        ([0, 1] * 10, "X has 40 rows, y 20"),
    ],
)
def test_labels_that_make_no_sense_are_refused(y, message):
    with pytest.raises(DataError, match=message):
        CumulativeLinkBoosting().fit(np.zeros((40, 2)), y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_estimators": 0}, "n_estimators is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"num_leaves": 1}, "num_leaves is 1; it must be 2 or more"),
        ({"subsample": 1.5}, "subsample is 1.5"),
        ({"colsample_bytree": 0.0}, "colsample_bytree is 0.0"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(parameters, message):
    X, y, _ = simulate(100)
    with pytest.raises(ConfigError, match=message):
        CumulativeLinkBoosting(**parameters).fit(X, y)


@pytest.mark.parametrize("weight", [np.full(100, -1.0), np.full(100, np.nan), np.ones(99)])
def test_weights_that_make_no_sense_are_refused(weight):
    X, y, _ = simulate(100)
    with pytest.raises(DataError, match="sample_weight"):
        CumulativeLinkBoosting().fit(X, y, sample_weight=weight)


def test_rows_too_few_for_a_split_still_give_the_shares():
    y = np.repeat([0, 1, 2], [20, 50, 30])
    X = np.random.default_rng(0).normal(size=(100, 2))
    model = CumulativeLinkBoosting(n_estimators=5, min_child_samples=60, n_jobs=1).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X[:1])[0], [0.2, 0.5, 0.3], atol=0.01)


def test_columns_that_never_vary_are_refused():
    with pytest.raises(DataError, match="none of 2 columns varies over the 100 rows"):
        CumulativeLinkBoosting().fit(np.zeros((100, 2)), [0, 1] * 50)


def test_what_lightgbm_refuses_is_an_error_of_the_question():
    X, y, _ = simulate(100)
    with pytest.raises(ConfigError, match="LightGBM refuses the parameters"):
        CumulativeLinkBoosting(max_bin=1).fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"monotone_constraints": [1, -1]}, "has 2 entries; X has 3 columns"),
        ({"monotone_constraints": [5, 0, 0]}, "holds 5; each is -1, 0 or 1"),
        ({"n_estimators": 10.0}, "n_estimators is 10.0; it must be a whole number"),
        ({"random_state": "x"}, "random_state is 'x'; write a whole number"),
        ({"random_state": 1.5}, "random_state is 1.5; write a whole number"),
        ({"random_state": 2**40}, "must fit into 32 bits"),
    ],
)
def test_parameters_of_the_wrong_kind_are_told_apart_from_wrong_data(parameters, message):
    X, y, _ = simulate(100)
    with pytest.raises(ConfigError, match=message):
        CumulativeLinkBoosting(**parameters).fit(X, y)


def test_categories_have_no_order_to_be_monotone_in():
    """LightGBM would end the whole process."""
    X, y, _ = simulate(200)
    X[:, 2] = np.arange(200) % 3
    with pytest.raises(ConfigError, match="column 2 holds categories"):
        CumulativeLinkBoosting(monotone_constraints=[0, 0, 1]).fit(X, y, categorical_feature=[2])


@pytest.mark.parametrize("column", [0, 1])
def test_segments_are_codes(column):
    X, y, _ = simulate(200)
    X[:, 1] = 1e9
    model = CumulativeLinkBoosting(n_estimators=3, n_classes=2).fit(X, y > 0)
    with pytest.raises(ConfigError, match=f"calibrate_by: column {column} holds more than codes"):
        model.calibrate(X, np.ones((200, 1)), segments=column)


def test_a_generator_is_a_random_state_too():
    X, y, _ = simulate(300)
    texts = [
        CumulativeLinkBoosting(n_estimators=3, random_state=np.random.default_rng(seed), n_jobs=1)
        .fit(X, y)
        .booster_text_
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_faults_of_the_held_out_rows_are_told_as_theirs():
    X, y, _ = simulate(100)
    with pytest.raises(DataError, match=r"^y of eval_set: 100 of 100 rows are no classes"):
        CumulativeLinkBoosting().fit(X, y, eval_set=(X, np.full(100, 9)))
    with pytest.raises(DataError, match=r"^y: holds what is no number"):
        CumulativeLinkBoosting().fit(X, ["late"] * 100)
    with pytest.raises(DataError, match=r"sample_weight the shape \(100, 1\)"):
        CumulativeLinkBoosting().fit(X, y, sample_weight=np.ones((100, 1)))


def test_what_was_not_fitted_cannot_be_calibrated():
    with pytest.raises(NotFittedError):
        CumulativeLinkBoosting().calibrate(np.zeros((2, 3)), np.zeros((2, 1)))
