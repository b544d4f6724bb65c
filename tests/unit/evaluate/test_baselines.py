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
    frames = [frame.assign(last__plan=frame["last__plan"].cat.codes).astype(np.float32) for frame in (train, test)]
    as_frame = [frame.assign(last__plan=old["last__plan"]) for frame, old in zip(frames, (train, test), strict=True)]
    as_matrix = [(frame.to_numpy(), list(frame.columns)) for frame in frames]
    from_frame = churn_baselines(as_frame[0], known, as_frame[1])
    from_matrix = churn_baselines(as_matrix[0], known, as_matrix[1], categorical=["last__plan"])
    for name, p in from_frame.items():
        np.testing.assert_allclose(from_matrix[name], p, atol=1e-5)


def test_missing_value_columns_are_no_obstacle(churn):
    train, known, test, _ = churn
    found = churn_baselines(train[["days_since__all"]], known, test[["days_since__all"]])
    assert set(found) == {"base rate", "recency rule", "RFM logistic regression", "plain LightGBM"}
    without = churn_baselines(train[["last__plan"]], known, test[["last__plan"]])
    assert set(without) == {"base rate", "plain LightGBM"}


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


def test_plain_lightgbm_is_what_a_default_classifier_predicts(churn):
    from lightgbm import LGBMClassifier

    train, known, test, _ = churn
    known = known.copy()
    known[:500, 1] = np.nan  # not learned from at that horizon
    found = churn_baselines(train, known, test, random_state=3)["plain LightGBM"]
    for k, rows in ((0, slice(None)), (1, slice(500, None))):
        classifier = LGBMClassifier(n_jobs=1, random_state=3, deterministic=True, force_row_wise=True, verbosity=-1)
        classifier.fit(train[rows], known[rows, k])
        np.testing.assert_array_equal(found[:, k], classifier.predict_proba(test)[:, 1])


def test_plain_lightgbm_sees_what_no_rule_looks_at(churn):
    train, _, test, _ = churn
    known = (train["last__plan"] == "a").to_numpy(dtype=float)[:, None]
    found = churn_baselines(train, known, test)
    assert (found["plain LightGBM"][:, 0].round() == (test["last__plan"] == "a")).all()
    assert (np.abs(found["RFM logistic regression"] - known.mean()) < 0.2).all()


def test_columns_in_another_order_are_found_by_name(churn):
    train, known, test, _ = churn
    matrices = [(frame[names].to_numpy(dtype=np.float32), names)
                for frame, names in ((train, NAMES), (test, NAMES), (test, NAMES[::-1]))]  # fmt: skip
    same = churn_baselines(matrices[0], known, matrices[1])
    turned = churn_baselines(matrices[0], known, matrices[2])
    for who, p in same.items():
        np.testing.assert_array_equal(turned[who], p)


@pytest.fixture(scope="module")
def survey():
    train, _, scores = make_features(4000, 2)
    test, _, answers = make_features(3000, 3)
    return train, scores, test, answers


def test_score_baselines_are_distributions_and_the_last_score_helps(survey):
    train, scores, test, answers = survey
    found = score_baselines(train, scores, test, lo=0, hi=10)
    assert list(found) == ["base distribution", "last score rule", "RFM logistic regression", "plain LightGBM"]
    worth = {name: m.rps(answers, p) for name, p in found.items()}  # refuses what is no distribution
    assert worth["last score rule"] < 0.7 * worth["base distribution"]


def test_plain_lightgbm_spreads_scores_as_far_as_it_is_off_on_rows_it_did_not_see(survey):
    """The probability integral transform is even: its mean is a half."""
    train, scores, test, answers = survey
    found = score_baselines(train, scores, test, lo=0, hi=10)["plain LightGBM"]
    known = test["last__score__365d"].notna().to_numpy()
    expected = found @ np.arange(11)
    assert np.corrcoef(expected[known], answers[known])[0, 1] > 0.9
    below = np.cumsum(found, axis=1)[np.arange(len(answers)), answers.astype(int)]
    at = found[np.arange(len(answers)), answers.astype(int)]
    assert (below - 0.5 * at).mean() == pytest.approx(0.5, abs=0.03)
    assert (below - 0.5 * at).std() == pytest.approx(12**-0.5, abs=0.03)  # narrower where it is too sure


def test_constant_features_leave_the_base_rate():
    x, names = np.ones((60, 1)), ["a"]
    known = (np.arange(60) % 3 == 0).astype(float)[:, None]
    found = churn_baselines((x, names), known, (x, names))["plain LightGBM"]
    np.testing.assert_allclose(found, 1 / 3)
    same = score_baselines((x, names), np.full(60, 4), (x, names), lo=1, hi=5)["plain LightGBM"]
    np.testing.assert_array_equal(same, np.tile(np.eye(5)[3], (60, 1)))


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
    for who, p in score_baselines(train, scores, test, lo=0, hi=10).items():
        assert p.shape == (3000, 11)
        assert (p[:, :3] == 0).all() or who == "plain LightGBM"  # which knows numbers, not scores


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: churn_baselines(x, np.ones((2, 1)), x), "known has 2 rows"),
        (lambda x: churn_baselines(x, np.full((3, 1), np.nan), x), "no known outcome"),
        (lambda x: churn_baselines(x, np.array([[0.0], [1], [1]]), (x[0], ["other"])), "lack the column 'days_since"),
        (
            lambda x: churn_baselines(pd.DataFrame({"days_since__all": [1.0, 2, 3]}), np.array([[0.0], [1], [1]]), x),
            "both be DataFrames",
        ),
        (lambda x: score_baselines(x, [1, 2, 11], x, lo=0, hi=10), "1 of 3 are no whole numbers from 0 to 10"),
        (lambda x: score_baselines(x, [np.nan] * 3, x, lo=0, hi=10), "none is an answer"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(call, says):
    with pytest.raises(DataError, match=says):
        call((np.arange(3.0)[:, None], ["days_since__all"]))
