"""Laws of the figures for everybody."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxml.evaluate.expected_nps import Asked, asking_rates, effective_size, estimate, quadrants

seeds = st.integers(0, 2**32 - 1)


def draw(seed, n=200):
    rng = np.random.default_rng(seed)
    answered = rng.random(n) < 0.4
    answered[:10] = True
    value = np.where(answered, rng.choice([-100.0, 0.0, 100.0], n), np.nan)
    customer = rng.integers(0, n // 2, n)
    return rng, Asked(customer, answered, value, np.full(n, rng.uniform(0.05, 1.0)), np.full(n, rng.normal()))


@settings(max_examples=40)
@given(seeds)
def test_where_all_are_as_willing_and_nothing_is_foreseen_nothing_is_corrected(seed):
    _, asked = draw(seed)
    found = estimate(asked)
    assert found.ipw == pytest.approx(found.raw)
    assert found.dr.value == pytest.approx(found.raw.value)
    assert found.effective == pytest.approx(found.n_answers)


@settings(max_examples=40)
@given(seeds)
def test_the_order_of_rows_means_nothing_and_a_shift_of_all_answers_shifts_all_figures(seed):
    rng, asked = draw(seed)
    asked = Asked(asked.customer, asked.answered, asked.value, rng.uniform(0.05, 1.0, 200), rng.normal(0, 50, 200))
    found, mixed = estimate(asked), estimate(asked.rows(rng.permutation(200)))
    moved = estimate(Asked(asked.customer, asked.answered, asked.value + 7, asked.propensity, asked.expected + 7))
    for name in ("raw", "ipw", "dr"):
        one = np.array(getattr(found, name))
        assert np.array(getattr(mixed, name)) == pytest.approx(one)
        assert np.array(getattr(moved, name)) == pytest.approx(one + 7)


@settings(max_examples=40)
@given(seeds, st.integers(1, 200))
def test_rates_of_asking_spend_the_budget_and_leave_nobody_out(seed, budget):
    rng = np.random.default_rng(seed)
    rate = asking_rates(rng.random(200), rng.uniform(0, 90, 200), budget=budget)
    assert rate.sum() == pytest.approx(budget)
    assert ((rate > 0) & (rate <= 1 + 1e-12)).all()


@settings(max_examples=40)
@given(seeds)
def test_quadrants_part_all_customers_and_no_weights_tell_more_than_equal_ones(seed):
    rng = np.random.default_rng(seed)
    place, four = quadrants(rng.random(50), rng.normal(size=50), risky=rng.random(), content=rng.normal())
    assert np.bincount(place, minlength=4).tolist() == [q.n for q in four]
    assert 1 <= effective_size(rng.random(50) + 1e-9) <= 50 + 1e-9
