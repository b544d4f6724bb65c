import numpy as np
import pandas as pd
import pytest

from cxml.errors import DataError
from cxml.evaluate import metrics as m
from cxml.evaluate.baselines import churn_baselines, score_baselines

NAMES = ["days_since__all", "tenure_days", "count__all__7d", "count__all__90d", "sum__value__90d", "last__score__365d"]


def make_features(n, seed):
    """Days since the last event decide on churn, the last score on the next; both with noise."""
    rng = np.random.default_rng(seed)
    days = rng.exponential(20, n)
    last = rng.integers(0, 11, n).astype(float)
    frame = pd.DataFrame(
        {
            "days_since__all": days,
            "tenure_days": days + rng.exponential(200, n),
            "count__all__7d": rng.poisson(2, n),
            "count__all__90d": rng.poisson(10, n),
            "sum__value__90d": np.where(rng.random(n) < 0.2, np.nan, rng.normal(50, 30, n)),
            "last__score__365d": np.where(rng.random(n) < 0.3, np.nan, last),
            "last__plan": pd.Categorical(rng.choice(["a", "b"], n)),
        }
    )
    logit = np.log1p(days)[:, None] * 1.2 - np.array([5.0, 4.0])
    known = (rng.random((n, 1)) < 1 / (1 + np.exp(-logit))).astype(float)
    scores = np.clip(last + rng.integers(-1, 2, n), 0, 10)
    return frame, known, scores


@pytest.fixture(scope="module")
def churn():
    train, known, _ = make_features(3000, 0)
    test, outcome, _ = make_features(3000, 1)
    return train, known, test, outcome


def test_the_base_rate_is_that_of_training_at_each_horizon(churn):
    train, known, test, _ = churn
    known = known.copy()
    known[:100, 1] = np.nan
    found = churn_baselines(train, known, test)
    assert found["base rate"].shape == (3000, 2)
    np.testing.assert_allclose(found["base rate"][0], np.nanmean(known, axis=0))


def test_the_recency_rule_ranks_by_recency(churn):
    train, known, test, _ = churn
    found = churn_baselines(train, known, test)["recency rule"]
    order = np.argsort(test["days_since__all"].to_numpy())
    assert (np.diff(found[order], axis=0) >= 0).all()


def test_regressions_beat_the_base_rate_and_are_calibrated(churn):
    train, known, test, outcome = churn
    found = churn_baselines(train, known, test)
    loss = {name: m.log_loss(outcome[:, 0], p[:, 0]) for name, p in found.items()}
    assert loss["recency rule"] < loss["base rate"] - 0.02
    assert loss["RFM logistic regression"] < loss["base rate"] - 0.02
    assert m.calibration_slope(outcome[:, 0], found["RFM logistic regression"][:, 0]) == pytest.approx(1, abs=0.15)


def test_every_baseline_goes_through_the_metrics_of_the_model(churn):
    train, known, test, outcome = churn
    for p in churn_baselines(train, known, test).values():
        assert np.isfinite(m.churn_metrics(outcome, p, ["30d", "60d"])["log_loss_60d"])


def test_a_matrix_with_names_gives_what_the_frame_gives(churn):
    train, known, test, _ = churn
    from_frame = churn_baselines(train, known, test)
    as_matrix = [(frame[NAMES].to_numpy(dtype=np.float32), NAMES) for frame in (train, test)]
    from_matrix = churn_baselines(as_matrix[0], known, as_matrix[1])
    for name, p in from_frame.items():
        np.testing.assert_allclose(from_matrix[name], p, atol=1e-5)


def test_missing_value_columns_are_no_obstacle(churn):
    train, known, test, _ = churn
    found = churn_baselines(train[["days_since__all"]], known, test[["days_since__all"]])
    assert set(found) == {"base rate", "recency rule", "RFM logistic regression"}
    assert set(churn_baselines(train[["last__plan"]], known, test[["last__plan"]])) == {"base rate"}


def test_an_indicator_tells_gaps_from_the_mean(churn):
    """Whoever has no value churns here; a filled-in mean alone could not say so."""
    train, _, test, _ = churn
    known = train["sum__value__90d"].isna().to_numpy(dtype=float)[:, None]
    found = churn_baselines(train, known, test)["RFM logistic regression"]
    gap = test["sum__value__90d"].isna()
    assert found[gap].min() > 0.9 > 0.1 > found[~gap].max()


def test_a_column_that_never_varied_in_training_says_nothing(churn):
    train, known, test, _ = churn
    constant = churn_baselines(train.assign(count__all__7d=3.0), known, test)["RFM logistic regression"]
    without = churn_baselines(train.drop(columns="count__all__7d"), known, test)["RFM logistic regression"]
    np.testing.assert_allclose(constant, without, atol=1e-6)


def test_one_class_in_training_gives_its_rate(churn):
    train, _, test, _ = churn
    found = churn_baselines(train, np.zeros((3000, 1)), test)
    assert all((p == 0).all() for p in found.values())


def test_a_draw_of_the_rows_is_enough_and_the_same_for_the_same_seed(churn):
    train, known, test, _ = churn
    some = churn_baselines(train, known, test, max_rows=1000)["RFM logistic regression"]
    every = churn_baselines(train, known, test)["RFM logistic regression"]
    np.testing.assert_array_equal(some, churn_baselines(train, known, test, max_rows=1000)["RFM logistic regression"])
    assert 0 < np.abs(some - every).mean() < 0.05


@pytest.fixture(scope="module")
def survey():
    train, _, scores = make_features(4000, 2)
    test, _, answers = make_features(3000, 3)
    return train, scores, test, answers


def test_score_baselines_are_distributions_and_the_last_score_helps(survey):
    train, scores, test, answers = survey
    found = score_baselines(train, scores, test, lo=0, hi=10)
    assert list(found) == ["base distribution", "last score rule", "RFM logistic regression"]
    worth = {name: m.rps(answers, p) for name, p in found.items()}  # refuses what is no distribution
    assert worth["last score rule"] < 0.7 * worth["base distribution"]


def test_the_last_score_rule_shrinks_rare_scores_and_falls_back_for_new_ones():
    names = ["last__score__30d", "last__score__365d"]
    last = np.r_[np.full(100, 9.0), 2.0]
    train = np.column_stack([np.full(101, np.nan), last])
    scores = np.r_[np.full(100, 9), 0]
    test = np.column_stack([np.full(3, np.nan), [9.0, 2.0, 5.0]])
    found = score_baselines((train, names), scores, (test, names), lo=0, hi=10)["last score rule"]
    base = np.bincount(scores, minlength=11) / 101
    np.testing.assert_allclose(found[2], base)  # 5 was never seen
    np.testing.assert_allclose(found[1], (np.eye(11)[0] + 10 * base) / 11)  # 2 was seen once
    assert found[0, 9] > 0.99


def test_scores_that_nobody_gave_keep_probability_zero_and_unanswered_rows_are_left_out(survey):
    train, scores, test, _ = survey
    scores = np.where(scores < 3, np.nan, scores)
    for p in score_baselines(train, scores, test, lo=0, hi=10).values():
        assert p.shape == (3000, 11)
        assert (p[:, :3] == 0).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: churn_baselines(x, np.ones((2, 1)), x), "known has 2 rows"),
        (lambda x: churn_baselines(x, np.full((3, 1), np.nan), x), "no known outcome"),
        (lambda x: churn_baselines(x, np.array([[0.0], [1], [1]]), (x[0], ["other"])), "lack the column 'days_since"),
        (lambda x: score_baselines(x, [1, 2, 11], x, lo=0, hi=10), "1 of 3 are no whole numbers from 0 to 10"),
        (lambda x: score_baselines(x, [np.nan] * 3, x, lo=0, hi=10), "none is an answer"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(call, says):
    with pytest.raises(DataError, match=says):
        call((np.arange(3.0)[:, None], ["days_since__all"]))
