"""Every row counts as much as its weight says, and every part of a model rests on what it is meant to rest on."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone

from cxml.models import churn
from cxml.models.boosting import bin_rows
from cxml.models.calibration import fit_calibration
from cxml.models.churn import ChurnModel
from cxml.models.corrections import Growth, Residual, grow_corrections, rank_apart
from cxml.models.cumulative import CumulativeLinkBoosting, parameters_of
from cxml.models.reasons import fit_split
from cxml.models.why import Leavers, learn_split

SMALL = Growth(
    {"objective": "binary", "boost_from_average": False, "metric": "binary_logloss", "num_leaves": 4, "max_bin": 31,
     "learning_rate": 0.3, "lambda_l2": 10.0, "min_data_in_leaf": 20, "feature_pre_filter": False, "verbosity": -1,
     "num_threads": 1, "deterministic": True, "force_row_wise": True}, most=30, patience=5,
)  # fmt: skip
HORIZONS = ("30d", "90d")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def draw(log_odds, seed):
    return (np.random.default_rng(seed).random(log_odds.shape) < sigmoid(log_odds)).astype(float)


def binned(train, held_out):
    return bin_rows(SMALL.parameters, train.matrix, held_out.matrix, [])


def standard_errors(gain):
    """By how many standard errors what rows gain differs from nothing."""
    return gain.sum() / (gain.std() * np.sqrt(len(gain)))


# a threshold's own trees


def left_unexplained(n, seed, strength):
    """The common value knows of the first column; each threshold depends on the second one as well, more or less."""
    X = np.random.default_rng(seed).normal(size=(n, 4))
    common = np.repeat(X[:, :1], len(strength), axis=1)
    return Residual(X, common, draw(common + strength * X[:, 1:2], seed + 100), np.ones(common.shape))


def test_trees_are_kept_where_the_loss_falls_by_more_than_three_standard_errors():
    strength = np.linspace(0, 0.6, 16)
    train, held_out = left_unexplained(1500, 0, strength), left_unexplained(1500, 1, strength)
    rows = train, held_out, SMALL, binned(train, held_out)
    corrections = [trees.predict(held_out.matrix) for trees in grow_corrections(*rows, always=True)]
    gained = np.array([
        standard_errors(held_out.loss(k, np.zeros(1500)) - held_out.loss(k, own)) for k, own in enumerate(corrections)
    ])  # fmt: skip
    kept = np.array([trees is not None for trees in grow_corrections(*rows, always=False)])
    assert np.array_equal(kept, gained > 3)
    assert ((gained > 2.5) & ~kept).any() and ((gained < 3.5) & kept).any()


def one_ranking(n, seed, blur):
    """Two thresholds with the same ranking, of which the common value has a blurred picture."""
    X = np.random.default_rng(seed).normal(size=(n, 3))
    blurred = np.repeat(X[:, :1] + blur * X[:, 1:2], 2, axis=1)
    return Residual(X, blurred, draw(np.repeat(X[:, :1], 2, axis=1), seed + 100), np.ones((n, 2)))


@pytest.mark.parametrize(("blur", "apart"), [(0.0, False), (0.3, False), (0.6, True)])
def test_thresholds_rank_apart_where_their_own_trees_clearly_foretell_more(blur, apart):
    """Foretelling a little more may be chance."""
    train, held_out = one_ranking(1000, 0, blur), one_ranking(1000, 1, blur)
    bare = [replace(rows, margins=np.zeros((1000, 2)) + train.base_rates()) for rows in (train, held_out)]
    own = grow_corrections(*bare, SMALL, binned(*bare), always=True)
    gain = sum(
        held_out.loss(k, np.zeros(1000)) - bare[1].loss(k, trees.predict(held_out.matrix))
        for k, trees in enumerate(own)
    )
    assert (gain.sum() > 0) == (blur > 0)
    assert (standard_errors(gain) > 3) == apart
    assert rank_apart(train, held_out, SMALL, binned(train, held_out)) is apart


def known_for_few(n, seed, share):
    """The common value is right of the first threshold and misleads about the second, which is known of a share."""
    X = np.random.default_rng(seed).normal(size=(n, 5))
    common = X[:, :4].sum(axis=1)
    outcome = draw(np.column_stack([common, 2 * X[:, 4]]), seed + 100)
    outcome[np.arange(n) >= share * n, 1] = np.nan
    return Residual(X, np.column_stack([common, common]), outcome, np.where(np.isnan(outcome), 0.0, 1.0))


@pytest.mark.parametrize("share", [1.0, 0.08])
def test_a_threshold_known_of_few_rows_says_as_much_of_ranking_apart_as_one_known_of_all(share):
    train, held_out = known_for_few(5000, 0, share), known_for_few(5000, 1, share)
    assert rank_apart(train, held_out, SMALL, binned(train, held_out))


def test_thresholds_do_not_rank_apart_where_one_has_too_little_for_trees_of_its_own():
    train, held_out = known_for_few(2000, 0, 1.0), known_for_few(2000, 1, 1.0)
    assert rank_apart(train, held_out, SMALL, binned(train, held_out))
    nobody = [replace(rows, outcome=rows.outcome * [0, 1]) for rows in (train, held_out)]
    assert grow_corrections(*nobody, SMALL, binned(*nobody), always=True)[0] is None
    assert not rank_apart(*nobody, SMALL, binned(*nobody))


def heavy_and_light(n, seed, light):
    """Half the rows rise with the first column and weigh 1; the other half fall with it, and weigh less."""
    X = np.random.default_rng(seed).normal(size=(n, 2))
    heavy = np.arange(n) % 2 == 0
    outcome = draw(np.where(heavy, 2.0, -2.0)[:, None] * X[:, :1], seed + 100)
    return Residual(X, np.zeros((n, 1)), outcome, np.where(heavy, 1.0, light)[:, None])


def test_trees_follow_the_rows_that_weigh_more():
    train, held_out = heavy_and_light(2000, 0, 0.1), heavy_and_light(2000, 1, 0.1)
    (trees,) = grow_corrections(train, held_out, SMALL, binned(train, held_out), always=True)
    low, high = trees.predict(np.array([[-1.0, 0.0], [1.0, 0.0]]))
    assert trees.n_trees > 3  # the held-out rows that weigh little do not stop them
    assert high - low > 1


def test_rows_that_are_unknown_at_a_threshold_count_for_nothing_there():
    train, held_out = heavy_and_light(2000, 0, 0.0), heavy_and_light(2000, 1, 0.0)
    unknown = [replace(rows, outcome=np.where(rows.weight > 0, rows.outcome, np.nan), weight=np.ones((2000, 1)))
               for rows in (train, held_out)]  # fmt: skip
    texts = [
        grow_corrections(*rows, SMALL, binned(*rows), always=True)[0].text for rows in (unknown, (train, held_out))
    ]
    assert texts[0] == texts[1]


# a borrowed curve


@pytest.mark.parametrize(("n", "n_knots"), [(200, 0), (800, 33), (4000, None)])
def test_a_threshold_with_few_outcomes_borrows_the_curve_of_the_nearest_one_at_the_distance_between_them(n, n_knots):
    """As a line, with two bent ends, or as the data have it."""
    cuts = np.array([-2.0, 0.0, 0.5])
    latent = np.random.default_rng(0).normal(size=n) * 1.5
    outcome = draw(np.array([2.0, 1.0, 0.4]) * (cuts - latent[:, None]), 1)
    outcome[10:, 1] = np.nan
    found = fit_calibration(latent, cuts, outcome)
    if n_knots is not None:
        assert [len(knots) for knots, _ in found.curves] == [n_knots] * 3 * (n_knots > 0)
    at = np.linspace(-3, 3, 41)
    log_odds = found.log_odds(np.subtract.outer(-at, -cuts))
    np.testing.assert_allclose(log_odds[:, 1], log_odds[:, 2] - 0.5, atol=1e-7)
    assert np.abs(log_odds[:, 1] - log_odds[:, 0] - 2.0).max() > 0.5


# sample weights


def simulate(n, seed, *, opposite=False, alike=False):
    """Leaving early has one cause, leaving late another; or the same one; or everything the other way round."""
    X = np.random.default_rng(seed).normal(size=(n, 3))
    sign = -1.0 if opposite else 1.0
    early = draw(sign * 2 * X[:, 0] - 0.5, seed + 100) == 1
    late = draw(sign * 2 * X[:, 0 if alike else 1] + 0.5, seed + 200) == 1
    day = np.where(early, 15.0, np.where(late, 60.0, 200.0))
    return X, np.column_stack([np.minimum(day, 100.0), day < 100.0])


def contradicted(n, **kind):
    """Half of the rows say the opposite of the other half, but weigh a fiftieth."""
    (X, y), (X_opposite, y_opposite) = simulate(n, 0, **kind), simulate(n, 1, opposite=True, **kind)
    return np.vstack([X, X_opposite]), np.vstack([y, y_opposite]), np.repeat([1.0, 0.02], n)


def test_sample_weights_reach_the_trees_of_each_horizon():
    X, y, weight = contradicted(1500)
    later = simulate(1000, 2)
    model = ChurnModel(horizons=HORIZONS, corrections="apart", n_jobs=1)
    fitted = model.fit(X, y, eval_set=later, sample_weight=weight)
    early = fitted.predict_churn([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])[:, 0]
    late = fitted.predict_churn([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]])[:, 1]
    assert early[1] - early[0] > 0.4 and late[1] - late[0] > 0.2


@pytest.mark.parametrize("alike", [False, True])
def test_sample_weights_count_when_it_is_tried_whether_horizons_rank_apart(monkeypatch, alike):
    monkeypatch.setattr(churn, "ROWS_OF_TRIAL", 1500)
    X, y, weight = contradicted(1500, alike=alike)
    model = ChurnModel(horizons=HORIZONS, n_jobs=1)
    model.fit(X, y, eval_set=simulate(1000, 2, alike=alike), sample_weight=weight)
    assert (model.boosting_.best_iteration_ == 1) is not alike


def test_the_trial_takes_a_twentieth_of_the_rows_and_so_many_at_least(monkeypatch):
    seen, grow = [], churn._grow

    def watch(parameters, train, later, *rest, **options):
        seen.append((len(train[0]), len(later[0])))
        return grow(parameters, train, later, *rest, **options)

    monkeypatch.setattr(churn, "ROWS_OF_TRIAL", 200)
    monkeypatch.setattr(churn, "_grow", watch)
    ChurnModel(horizons=HORIZONS, n_estimators=2, n_jobs=1).fit(*simulate(6000, 0), eval_set=simulate(3000, 1))
    assert seen == [(300, 200), (6000, 3000)]


@pytest.mark.parametrize("constant", [1e-4, 1e4])
@pytest.mark.parametrize("corrections", [False, True, "auto", "apart"])
def test_only_the_proportions_of_sample_weights_matter_to_churn(corrections, constant):
    later, fresh = simulate(600, 1), simulate(300, 2)[0]
    model = ChurnModel(horizons=HORIZONS, corrections=corrections, n_estimators=15, n_jobs=1)
    X, y = simulate(1000, 0)
    found = [
        clone(model).fit(X, y, eval_set=later, calibration_set=later, sample_weight=weight).predict_churn(fresh)
        for weight in (np.ones(1000), np.full(1000, constant))
    ]
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("constant", [1e-4, 1e4])
def test_only_the_proportions_of_sample_weights_matter_to_the_common_trees(constant):
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(800, 3)), rng.uniform(0.5, 2.0, 800)
    y = np.digitize(X[:, 0] + rng.logistic(size=800), [-1.0, 1.0])
    model = CumulativeLinkBoosting(n_estimators=20, n_jobs=1)
    plain, multiplied = (clone(model).fit(X, y, sample_weight=weights) for weights in (weight, constant * weight))
    np.testing.assert_allclose(multiplied.predict_cdf(X), plain.predict_cdf(X), rtol=0, atol=1e-9)
    np.testing.assert_allclose(multiplied.cut_points_, plain.cut_points_, rtol=0, atol=1e-9)


@pytest.mark.parametrize("corrections", ["auto", True])
def test_rows_of_weight_zero_say_nothing_of_who_is_lost_from_sight(corrections):
    """Those left out were lost early, which would raise the weights of all who stay in sight."""
    rng = np.random.default_rng(0)
    later = simulate(600, 1)
    X = rng.normal(size=(3000, later[0].shape[1]))
    left, seen = rng.exponential(60 * np.exp(X[:, 0])), rng.uniform(0, 150, 3000)
    y = np.column_stack([np.minimum(left, seen), left < seen])
    counts = (seen > 60).astype(float)
    model = ChurnModel(horizons=HORIZONS, corrections=corrections, n_estimators=15, n_jobs=1)
    given = clone(model).fit(X, y, eval_set=later, sample_weight=counts)
    alone = clone(model).fit(X[counts > 0], y[counts > 0], eval_set=later)
    np.testing.assert_array_equal(given.predict_churn(X), alone.predict_churn(X))


@pytest.mark.parametrize("corrections", [False, True, "apart"])
def test_rows_of_weight_zero_are_as_good_as_left_out(corrections):
    X, y = simulate(1000, 0)
    later, fresh = simulate(600, 1), simulate(300, 2)[0]
    model = ChurnModel(horizons=HORIZONS, corrections=corrections, n_estimators=15, n_jobs=1)
    plain = clone(model).fit(X, y, eval_set=later, sample_weight=np.ones(1000))
    padded = clone(model).fit(
        np.vstack([X, X, X]), np.vstack([y, y, y]), eval_set=later, sample_weight=np.repeat([1.0, 0.0, 0.0], 1000)
    )
    np.testing.assert_allclose(padded.predict_churn(fresh), plain.predict_churn(fresh), rtol=0, atol=1e-9)


# reasons


def leavers(seed, n=1500):
    """The first column speaks for the second reason in the heavy half, and for the first reason in the light one."""
    X = np.random.default_rng(seed).normal(size=(n, 2))
    heavy = np.arange(n) % 2 == 0
    reason = draw(np.where(heavy, 2.0, -2.0) * X[:, 0], seed + 100).astype(np.int64)
    return Leavers(X, np.zeros(n, np.int64), reason, np.where(heavy, 10.0, 1.0))


def learn(names, train):
    parameters = parameters_of(CumulativeLinkBoosting(n_estimators=40, learning_rate=0.2, n_jobs=1))
    return learn_split(names, 1, train, None, parameters, [])


def test_leavers_stand_for_those_lost_from_sight_before_they_could_be_seen_to_leave():
    """As many leave late as early, but half of the late ones are lost from sight before."""
    rng = np.random.default_rng(0)
    reason = np.arange(4000) % 2
    day, until = np.where(reason == 1, 80.0, 10.0), np.where(rng.random(4000) < 0.5, 40.0, 100.0)
    left = day < until
    y = np.column_stack([np.minimum(day, until), left, np.where(left, reason, np.nan)])
    found = Leavers.of(np.zeros((4000, 1)), y, [30.0, 90.0], ["early", "late"])
    assert found.reason.mean() < 0.35
    assert np.average(found.reason, weights=found.weight) == pytest.approx(0.5, abs=0.02)


def test_the_trees_of_a_reason_follow_the_leavers_that_weigh_more():
    share = np.exp(learn(["a", "b"], leavers(0)).log_shares(np.array([[-1.0, 0.0], [1.0, 0.0]])))
    assert share[0, 0] - share[1, 0] > 0.4 and share[1, 1] - share[0, 1] > 0.4


def test_later_leavers_mend_the_shares_by_their_weight():
    """As many gave one reason as the other, but the first ones weigh four times as much."""
    reason = np.arange(400) % 2
    weight = np.where(reason == 0, 4.0, 1.0)
    parted = [
        fit_split(["a", "b"], [None, None], np.zeros(2), 1, (np.zeros((400, 1)), 0 * reason, reason, weights))
        .split(np.ones((1, 1)), np.zeros((1, 1)))[0, 0]
        for weights in (weight, 1e-4 * weight, 1e4 * weight)
    ]  # fmt: skip
    np.testing.assert_allclose(parted[0], [0.8, 0.2], atol=0.02)
    np.testing.assert_allclose(parted[1:], [parted[0]] * 2, atol=1e-6)


def test_a_reason_without_trees_has_the_share_that_the_weights_of_its_leavers_give_it():
    """Few of those who leave late are seen to do so, and each stands for several."""
    heavy = np.arange(1000) >= 985
    train = replace(leavers(1, 1000), weight=np.where(heavy, 10.0, 1.0))
    split = learn(["a", "b", "late"], replace(train, reason=np.where(heavy, 2, train.reason)))
    assert split.trees[2] is None
    share = np.exp(split.log_shares(np.zeros((1, 2))))[0, 2]
    assert share == pytest.approx(150 / (150 + 985), rel=0.03)


def test_monotone_constraints_are_about_the_time_and_not_about_the_reason():
    """A column that must not hasten leaving may well raise the share of one reason, and lower that of another."""
    X, y = simulate(1500, 0)
    reason = np.where(y[:, 1] == 1, draw(2 * X[:, 0], 5), np.nan)
    rows = X, np.column_stack([y, reason])
    model = ChurnModel(horizons=HORIZONS, reasons=["a", "b"], n_estimators=20, corrections=False, n_jobs=1)
    free, bound = (
        clone(model).set_params(monotone_constraints=signs).fit(*rows, calibration_set=rows).predictor_.reasons
        for signs in (None, [1, 0, 0])
    )
    assert [bound.trees[r].text for r in (0, 1)] == [free.trees[r].text for r in (0, 1)]
    share = np.exp(bound.log_shares(np.array([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])))
    assert share[0, 0] - share[1, 0] > 0.3 and share[1, 1] - share[0, 1] > 0.3
