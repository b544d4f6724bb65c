"""Durations and scores as intervals of classes."""

import numpy as np
import pytest

from cxml.errors import ConfigError, DataError
from cxml.models.outcomes import (
    censoring_weights,
    churn_intervals,
    churn_known,
    score_groups,
    score_intervals,
    score_kind,
)

HORIZONS = (30.0, 60.0, 90.0)


@pytest.mark.parametrize(
    ("duration", "observed", "lower", "upper"),
    [
        (0, True, 0, 0),
        (29.99, True, 0, 0),
        (30, True, 1, 1),  # exactly at the horizon is not within [t, t + h)
        (89.99, True, 2, 2),
        (90, True, 3, 3),
        (400, True, 3, 3),
        (0, False, 0, 3),
        (29.99, False, 0, 3),
        (30, False, 1, 3),
        (90, False, 3, 3),
        (np.inf, False, 3, 3),
    ],
)
def test_a_duration_falls_into_its_classes(duration, observed, lower, upper):
    found = churn_intervals([duration], [observed], HORIZONS)
    assert (found[0][0], found[1][0]) == (lower, upper)


@pytest.mark.parametrize(
    ("duration", "observed", "event"),
    [
        (29.99, True, [1, 1, 1]),
        (30, True, [0, 1, 1]),
        (45, False, [0, np.nan, np.nan]),
        (0, False, [np.nan, np.nan, np.nan]),
        (90, False, [0, 0, 0]),
        (np.inf, False, [0, 0, 0]),
    ],
)
def test_what_is_known_at_each_horizon(duration, observed, event):
    assert np.array_equal(churn_known([duration], [observed], HORIZONS, "event")[0], event, equal_nan=True)
    inactive = 1 - np.array(event, float)
    assert np.array_equal(churn_known([duration], [observed], HORIZONS, "inactivity")[0], inactive, equal_nan=True)


def test_weights_undo_what_censoring_does_to_the_share_of_churners():
    rng = np.random.default_rng(0)
    churn, lost = rng.exponential(80, 40_000), rng.uniform(0, 120, 40_000)
    duration, observed = np.minimum(churn, lost), churn < lost
    known = churn_known(duration, observed, HORIZONS, "event")
    weights = censoring_weights(duration, observed, HORIZONS)
    assert np.array_equal(weights > 0, ~np.isnan(known))
    for k, horizon in enumerate(HORIZONS):
        use = weights[:, k] > 0
        true = 1 - np.exp(-horizon / 80)
        assert np.average(known[use, k], weights=weights[use, k]) == pytest.approx(true, abs=0.02)
        assert known[use, k].mean() > true + (0.02 if k else 0.01)  # without them the share is too high


def test_without_censoring_every_weight_is_one():
    assert (censoring_weights([5, 40, np.inf, 95], [True, True, False, True], HORIZONS) == 1).all()


def test_weights_are_limited():
    duration = np.concatenate([np.arange(1, 30, 0.01), [31.0]])
    weights = censoring_weights(duration, np.zeros(len(duration)), [30.0])
    assert weights.max() == 20.0


def test_the_last_row_to_be_lost_does_not_divide_by_zero():
    assert censoring_weights([10, 20], [True, False], [30.0]).tolist() == [[1.0], [0.0]]
    assert censoring_weights([20, 20], [True, False], [30.0]).tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize(
    ("duration", "observed"),
    [([-1.0], [True]), ([np.nan], [False]), ([np.inf], [True]), ([5.0], [0.5]), ([5.0], [np.nan])],
)
def test_impossible_durations_are_refused(duration, observed):
    for question in (churn_intervals, censoring_weights):
        with pytest.raises(DataError, match="1 of 1 rows have no usable duration"):
            question(duration, observed, HORIZONS)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(DataError, match="equal length"):
        churn_intervals([1.0, 2.0], [True], HORIZONS)


def test_an_unknown_kind_offers_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'event'"):
        churn_known([1.0], [True], HORIZONS, "events")
    with pytest.raises(ConfigError, match="did you mean 'nps'"):
        score_groups("npss", 0, 10)


@pytest.mark.parametrize("score", [-1, 11, 3.5, np.inf])
def test_scores_out_of_scale_are_refused(score):
    with pytest.raises(DataError, match=r"1 of 2 scores are not whole numbers from 0 to 10 \(.* in row 1\)"):
        score_intervals([5, score], (0, 10))


@pytest.mark.parametrize(
    ("kind", "scale", "groups"),
    [
        ("nps", (0, 10), (6, 8)),
        ("csat", (1, 5), (2, 3)),
        ("ces", (1, 7), (3, 4)),
        ("custom", (0, 1), (0, 0)),
        ("custom", (1, 3), (1, 2)),
        ("custom", (1, 4), (1, 3)),
        ("custom", (1, 5), (2, 3)),
        ("custom", (1, 10), (3, 7)),
        ("custom", (0, 100), (33, 66)),
    ],
)
def test_scores_group_by_the_rule_of_their_survey(kind, scale, groups):
    assert score_groups(kind, *scale) == groups


def test_a_scale_names_its_survey():
    assert [score_kind(scale) for scale in ((0, 10), (1, 5), (1, 7), (1, 10))] == ["nps", "csat", "ces", "custom"]


def test_a_scale_must_ascend():
    with pytest.raises(ConfigError, match="does not ascend"):
        score_groups("custom", 5, 5)
