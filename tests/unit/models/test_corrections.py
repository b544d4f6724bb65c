"""Trees of a threshold's own: kept where the ranking differs by threshold, left out where it does not."""

import numpy as np
import pytest
from sklearn.base import clone

from cxml.errors import ConfigError, DataError
from cxml.models.churn import ChurnModel

HORIZONS = np.array([30.0, 90.0])


def simulate(n, seed, *, one_ranking):
    """Leaving early has one cause, leaving late another (or the same one)."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    early = 1 / (1 + np.exp(2.0 - 1.5 * X[:, 0]))
    late = 1 / (1 + np.exp(1.0 - 1.5 * X[:, 0 if one_ranking else 1]))
    day = np.where(rng.random(n) < early, 15.0, np.where(rng.random(n) < late, 60.0, 200.0))
    y = np.column_stack([np.minimum(day, 100.0), day < 100.0])
    return X, y, np.column_stack([early, early + (1 - early) * late])


def fit(one_ranking, **parameters):
    later = simulate(4000, 1, one_ranking=one_ranking)[:2]
    X, y, _ = simulate(4000, 0, one_ranking=one_ranking)
    model = ChurnModel(horizons=("30d", "90d"), **{"n_jobs": 1} | parameters)
    return model.fit(X, y, eval_set=later, calibration_set=later)


@pytest.fixture(scope="module")
def two_rankings():
    return {asked: fit(False, corrections=asked) for asked in ("auto", False)}


def test_two_rankings_are_learned_where_there_are_two(two_rankings):
    X, _, truth = simulate(4000, 2, one_ranking=False)
    off = {asked: np.abs(model.predict_churn(X) - truth).mean() for asked, model in two_rankings.items()}
    assert off["auto"] < 0.7 * off[False]
    assert len(two_rankings["auto"].predictor_.parts()) == 2


@pytest.mark.parametrize("seed", range(3))
def test_horizons_with_little_in_common_get_all_trees_of_their_own(seed, two_rankings):
    """A few small trees cannot take back what common trees that suit neither horizon have said."""
    X, _, truth = simulate(4000, 2, one_ranking=False)
    asked = {name: fit(False, corrections=name, random_state=seed) for name in ("auto", "apart", True)}
    off = {name: np.abs(model.predict_churn(X) - truth).mean() for name, model in asked.items()}
    assert [model.boosting_.best_iteration_ == 1 for model in asked.values()] == [True, True, False]
    assert off["auto"] == off["apart"] < off[True]


def test_rows_too_few_for_a_trial_leave_the_common_trees(monkeypatch):
    """Of a rare outcome some of the rows may hold none; the training itself has enough."""
    monkeypatch.setattr("cxml.models.churn.ROWS_OF_TRIAL", 1)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    left = np.arange(400) < 30
    y = np.column_stack([np.where(left, 15.0, 100.0), left])
    for seed in range(20):
        model = ChurnModel(horizons=("30d", "90d"), random_state=seed, n_estimators=5, n_jobs=1)
        model.fit(X, y, eval_set=(X, y))
        assert model.boosting_.best_iteration_ > 1


def test_no_horizon_grows_more_trees_than_it_may():
    model = fit(False, corrections="apart", n_estimators=7)
    assert [own.n_trees for own in model.predictor_.corrections] == [7, 7]


def test_the_score_is_of_all_trees_and_ranks_models_as_their_losses_do():
    """So that a search over `corrections` finds what is best."""
    X, y, _ = simulate(4000, 9, one_ranking=False)
    scores = {name: fit(False, corrections=name).score(X, y) for name in (False, True, "apart")}
    assert scores[False] + 0.02 < min(scores[True], scores["apart"])
    apart = fit(False, corrections="apart", calibrate=False)
    cdf = np.column_stack([np.zeros(4000), apart.predict_churn(X), np.ones(4000)])
    lower = np.digitize(y[:, 0], HORIZONS)  # who is lost from sight at 100 days is known to stay for 90
    held = cdf[np.arange(4000), lower + 1] - cdf[np.arange(4000), lower]
    assert apart.score(X, y) == pytest.approx(np.log(np.maximum(held, 1e-15)).mean(), abs=1e-9)


@pytest.mark.parametrize("lacking", ["X", "eval_set"])
def test_trees_apart_are_refused_where_a_horizon_would_get_none(lacking):
    X, y, _ = simulate(2000, 0, one_ranking=False)
    short = np.column_stack([np.minimum(y[:, 0], 80.0), (y[:, 0] < 80) & (y[:, 1] == 1)])
    short[y[:, 0] >= 30] = [60.0, 0.0]  # nobody is known to stay or leave between 30 and 90 days
    short[:40] = [95.0, 0.0]
    grown, later = (short, y) if lacking == "X" else (y, short)
    model = ChurnModel(horizons=("30d", "90d"), corrections="apart", n_jobs=1)
    short[:40] = [60.0, 0.0] if lacking == "eval_set" else [95.0, 0.0]
    if lacking == "X":
        short[y[:, 0] < 30] = [95.0, 0.0]
        short[40:100] = [10.0, 1.0]
        grown = np.where(np.arange(2000)[:, None] < 100, short, [100.0, 0.0])
        grown[:, 0] = np.where(grown[:, 1] == 1, 40.0, 100.0)
    with pytest.raises(DataError, match=f"rows of {lacking} tell of one outcome at most at"):
        model.fit(X, grown, eval_set=(X, later))
    with pytest.raises(ConfigError, match="give fit an eval_set"):
        model.fit(X, y)


def test_faults_are_told_before_the_trial_looks_at_rows():
    X, y, _ = simulate(4000, 0, one_ranking=False)
    later = (X, y)
    with pytest.raises(DataError, match="sample_weight"):
        ChurnModel(horizons=("30d", "90d")).fit(X, y, eval_set=later, sample_weight=np.ones(10))
    with pytest.raises(DataError, match=r"X has 3,900 rows, y 4,000"):
        ChurnModel(horizons=("30d", "90d")).fit(X[:3900], y, eval_set=later)
    ChurnModel(horizons=("30d", "90d"), random_state=-1, n_estimators=2, n_jobs=1).fit(X, y, eval_set=later)


def test_more_common_trees_than_one_where_one_ranking_does():
    assert fit(True, corrections="auto").boosting_.best_iteration_ > 10


def test_importances_count_the_trees_of_the_horizons(two_rankings):
    gain = two_rankings["auto"].boosting_.feature_importances_
    assert gain[2] < 0.2 * gain[:2].min()


@pytest.mark.parametrize("corrections", [True, "apart"])
def test_monotone_constraints_bind_the_trees_of_the_horizons_too(corrections):
    """The first column hastens leaving; told that it must not, no horizon may say so."""
    X, y, _ = simulate(4000, 0, one_ranking=False)
    later = simulate(4000, 1, one_ranking=False)[:2]
    model = ChurnModel(horizons=("30d", "90d"), corrections=corrections, monotone_constraints=[1, 0, 0], n_jobs=1)
    model.fit(X, y, eval_set=later, calibration_set=later)
    assert model.predictor_.corrections
    rising = np.zeros((50, 3))
    rising[:, 0] = np.linspace(-3, 3, 50)
    assert (np.diff(model.predict_churn(rising), axis=0) <= 0).all()


def test_they_are_left_out_where_one_ranking_does():
    """Proportional odds hold."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(8000, 3))
    day = 120 * np.exp(X[:, 0]) * np.exp(rng.logistic(size=8000))
    y = np.column_stack([np.minimum(day, 100.0), day < 100.0])
    later = X[4000:], y[4000:]
    model = ChurnModel(horizons=("30d", "90d"), n_jobs=1).fit(X[:4000], y[:4000], eval_set=later)
    assert model.predictor_.corrections == ()
    kept = clone(model).set_params(corrections=True).fit(X[:4000], y[:4000], eval_set=later)
    assert all(trees is not None for trees in kept.predictor_.corrections)


def test_none_are_grown_without_rows_that_say_when_to_stop():
    X, y, _ = simulate(1000, 4, one_ranking=False)
    assert (
        ChurnModel(horizons=("30d", "90d"), n_estimators=5, corrections=True, n_jobs=1).fit(X, y).predictor_.parts()
        == {}
    )


def test_the_distribution_does_not_cross(two_rankings):
    X = np.random.default_rng(5).normal(size=(3000, 3)) * 3
    assert (np.diff(two_rankings["auto"].predict_churn(X), axis=1) >= 0).all()


def test_contributions_tell_of_the_corrections_too(two_rankings):
    """Leaving late is a matter of the second column, which the common trees know less of."""
    model = two_rankings["auto"]
    X, _, _ = simulate(300, 6, one_ranking=False)
    predictor = model.predictor_
    corrected = predictor.margins(X) - predictor.cut_points
    np.testing.assert_allclose(model.contributions(X).sum(axis=1), -corrected.mean(axis=1), atol=1e-9)


def test_training_again_gives_the_same_trees(two_rankings):
    again = fit(False, corrections="auto", n_jobs=2)
    texts = [{name: trees.text for name, trees in model.predictor_.parts().items()}
             for model in (again, two_rankings["auto"])]  # fmt: skip
    assert texts[0] == texts[1]
