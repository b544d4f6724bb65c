"""Who answers: the learner fits the size of the data, and the probability is one."""

import numpy as np
import pytest

from cxml.errors import ConfigError, DataError
from cxml.models.response import ResponseModel


def asked(n, seed=0, intercept=-1.0, slope=1.5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    truth = 1 / (1 + np.exp(-(intercept + slope * X[:, 0])))
    return X, rng.random(n) < truth, truth


def test_trees_grow_where_answers_are_many_a_regression_stands_where_few_and_the_share_where_fewer():
    chosen = {n: ResponseModel().fit(*asked(n)[:2]).learner_ for n in (4000, 400, 60)}
    assert chosen == {4000: "trees", 400: "logistic", 60: "constant"}


@pytest.mark.parametrize("learner", ["trees", "logistic"])
def test_the_probability_is_near_the_true_one(learner):
    X, came, _ = asked(4000)
    model = ResponseModel(learner, C=1.0).fit(X, came)
    fresh, _, truth = asked(2000, seed=1)
    said = model.predict_answer(fresh)
    assert np.abs(said - truth).mean() < 0.05
    assert np.allclose(model.predict_proba(fresh).sum(axis=1), 1.0)


def test_later_askings_move_the_level():
    X, came, _ = asked(4000)
    later, came_later, truth = asked(3000, seed=2, intercept=-2.0)
    before = ResponseModel().fit(X, came).predict_answer(later).mean()
    after = ResponseModel().fit(X, came, calibration_set=(later, came_later)).predict_answer(later).mean()
    assert abs(after - truth.mean()) < 0.02 < abs(before - truth.mean())


def test_where_everybody_answers_everybody_is_expected_to():
    X = asked(500)[0]
    assert (ResponseModel().fit(X, np.ones(500)).predict_answer(X) == 1.0).all()


def test_gaps_and_categories_are_welcome_to_the_regression():
    X, came, _ = asked(500)
    X[::7, 1] = np.nan
    X[:, 3] = np.arange(500) % 3
    X[5, 3] = np.nan
    model = ResponseModel("logistic").fit(X, came, categorical_feature=[3])
    strange = X[:3].copy()
    strange[:, 3] = 9.0
    assert np.isfinite(model.predict_answer(strange)).all()


def test_the_number_of_threads_changes_no_bit():
    X, came, _ = asked(3000)
    one, two = (ResponseModel(n_jobs=n).fit(X, came).predict_answer(X) for n in (1, 2))
    assert np.array_equal(one, two)


def test_nonsense_is_refused():
    X, came, _ = asked(100)
    with pytest.raises(DataError, match="one flag a row"):
        ResponseModel().fit(X, came[:-1])
    with pytest.raises(DataError, match="True and False"):
        ResponseModel().fit(X, np.full(100, 2))
    with pytest.raises(ConfigError, match="did you mean 'trees'"):
        ResponseModel("treees").fit(X, came)
