"""The interval-censored likelihood: its derivatives, and the cut points it leads to."""

import numpy as np
import pytest

from cxml.models.likelihood import Intervals, cut_point_step, first_cut_points, gradients, mean_loss

CUTS = np.array([-1.5, -0.2, 0.4, 2.0])


def every_interval(copies=1, seed=0):
    pairs = [(low, high) for low in range(5) for high in range(low, 5)] * copies
    lower, upper = np.array(pairs, np.int32).T
    weight = np.random.default_rng(seed).uniform(0.5, 1.5, len(pairs))
    return Intervals(lower.copy(), upper.copy(), weight, 4)


def derivatives(latent, outcomes, cuts):
    gradient, hessian = np.empty((2, len(latent)), np.float32)
    sums, mean = gradients(latent, outcomes, cuts, gradient, hessian)
    return gradient, hessian, sums, mean


def total_loss(latent, outcomes, cuts):
    return mean_loss(latent, outcomes, cuts) * outcomes.weight.sum()


def one_row(outcomes, i):
    return Intervals(outcomes.lower[i : i + 1], outcomes.upper[i : i + 1], outcomes.weight[i : i + 1], outcomes.n_cuts)


def test_gradient_and_hessian_are_the_numerical_differences():
    outcomes = every_interval()
    latent = np.random.default_rng(1).normal(size=len(outcomes.lower))
    gradient, hessian, _, _ = derivatives(latent, outcomes, CUTS)
    step = 1e-4
    for i, f in enumerate(latent):
        below, here, above = (total_loss(np.array([f + d]), one_row(outcomes, i), CUTS) for d in (-step, 0.0, step))
        assert gradient[i] == pytest.approx((above - below) / (2 * step), abs=1e-6)
        assert hessian[i] == pytest.approx((above - 2 * here + below) / step**2, abs=1e-5)


def test_an_interval_that_may_be_anything_tells_nothing():
    outcomes = every_interval()
    gradient, hessian, _, _ = derivatives(np.zeros(len(outcomes.lower)), outcomes, CUTS)
    anything = (outcomes.lower == 0) & (outcomes.upper == 4)
    assert (gradient[anything] == 0).all() and (hessian[anything] == 0).all()
    assert (hessian[~anything] > 0).all()


@pytest.mark.parametrize("far", [-800.0, -40.0, 40.0, 800.0])
def test_far_out_values_stay_finite(far):
    outcomes = every_interval()
    latent = np.full(len(outcomes.lower), far)
    gradient, hessian, sums, _ = derivatives(latent, outcomes, CUTS)
    assert np.isfinite(gradient).all() and np.isfinite(hessian).all() and np.isfinite(sums).all()
    assert np.isfinite(total_loss(latent, outcomes, CUTS))


def test_the_step_of_the_cut_points_is_newtons():
    """The step must solve H d = g, both by numerical differences of the loss with the prior's row."""
    outcomes = every_interval(copies=20)
    latent = np.random.default_rng(2).normal(size=len(outcomes.lower))
    _, _, sums, mean = derivatives(latent, outcomes, CUTS)
    step = cut_point_step(CUTS, outcomes.pair_weights(), sums, mean)
    prior = Intervals(np.arange(5, dtype=np.int32), np.arange(5, dtype=np.int32), np.full(5, 0.2), 4)

    def slope(cuts, d=1e-5):
        def loss(cuts):
            return total_loss(latent, outcomes, cuts) + total_loss(
                np.full(5, latent @ outcomes.weight / outcomes.weight.sum()), prior, cuts
            )

        return np.array([(loss(cuts + d * e) - loss(cuts - d * e)) / (2 * d) for e in np.eye(4)])

    hessian = np.array([(slope(CUTS + 1e-4 * e) - slope(CUTS - 1e-4 * e)) / 2e-4 for e in np.eye(4)])
    np.testing.assert_allclose(hessian @ step, -slope(CUTS), rtol=2e-3, atol=1e-2)


def test_the_first_cut_points_give_the_observed_shares():
    shares = np.array([0.1, 0.2, 0.4, 0.3])
    classes = np.repeat(np.arange(4), (shares * 100_000).astype(int)).astype(np.int32)
    cuts = first_cut_points(Intervals(classes, classes, np.ones(len(classes)), 3))
    np.testing.assert_allclose(1 / (1 + np.exp(-cuts)), shares.cumsum()[:-1], atol=1e-4)


def test_censored_rows_move_the_cut_points_as_kaplan_and_meier_do():
    """40 % lost after the first interval: survivors of the second are judged among those still in sight."""
    lower = np.repeat([0, 1, 1, 2], [200, 400, 100, 300]).astype(np.int32)
    upper = np.repeat([0, 2, 1, 2], [200, 400, 100, 300]).astype(np.int32)
    cuts = first_cut_points(Intervals(lower, upper, np.ones(1000), 2))
    survival = np.cumprod([1 - 200 / 1000, 1 - 100 / 400])
    np.testing.assert_allclose(1 / (1 + np.exp(cuts)), survival, atol=2e-3)


def test_a_class_nobody_was_seen_in_keeps_its_place():
    classes = np.repeat([0, 1, 3, 4], 25_000).astype(np.int32)
    cuts = first_cut_points(Intervals(classes, classes, np.ones(100_000), 4))
    assert (np.diff(cuts) > 0).all()
    np.testing.assert_allclose(1 / (1 + np.exp(-cuts)), [0.25, 0.5, 0.5, 0.75], atol=1e-3)


def test_a_step_never_lets_cut_points_cross():
    rng = np.random.default_rng(3)
    for _ in range(200):
        cuts = np.sort(rng.normal(size=4)) + np.arange(4) * 1e-6
        classes = rng.integers(0, 5, 6).astype(np.int32)
        outcomes = Intervals(classes, classes, np.ones(6), 4)
        _, _, sums, mean = derivatives(rng.normal(size=6) * 5, outcomes, cuts)
        assert (np.diff(cuts + cut_point_step(cuts, outcomes.pair_weights(), sums, mean)) > 0).all()
