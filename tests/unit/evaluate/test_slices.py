"""Metrics by attribute: the same figures as on the rows of the slice alone."""

import numpy as np
import pytest

from cxml.errors import ConfigError, DataError
from cxml.evaluate.bootstrap import metric_intervals
from cxml.evaluate.metrics import auroc, churn_cells, nps_error, score_cells
from cxml.evaluate.slices import bands, slice_metrics, slice_table, value_names
from cxml.evaluate.survival import survival_cells

RNG = np.random.default_rng(0)
N = 600
CUSTOMER = np.repeat(np.arange(N // 2), 2)
PLAN = RNG.choice(["gold", "basic", "rare"], N // 2, p=[0.6, 0.37, 0.03])[CUSTOMER]
P = RNG.random((N, 2)) * [0.5, 1.0]
KNOWN = (RNG.random((N, 2)) < P).astype(float)
KNOWN[::7, 1] = np.nan


def slices(**options):
    return slice_metrics(churn_cells(KNOWN, P, ["30d", "60d"]), {"plan": PLAN}, CUSTOMER, n=20, **options)


def test_a_slice_has_the_figures_and_intervals_of_its_rows_alone():
    found = {s.value: s for s in slices(smallest=20)}
    rows = PLAN == "gold"
    gold = found["gold"]
    known = rows & ~np.isnan(KNOWN[:, 1])
    assert gold.scores["auroc_60d"].value == auroc(KNOWN[known, 1], P[known, 1])
    assert (gold.n_rows, gold.n_customers) == (rows.sum(), len(np.unique(CUSTOMER[rows])))
    alone = metric_intervals(churn_cells(KNOWN[rows], P[rows], ["30d", "60d"]), CUSTOMER[rows], n=20)
    assert gold.scores.keys() == alone.keys()
    for key, interval in alone.items():
        np.testing.assert_array_equal(gold.scores[key], interval)


def test_the_largest_comes_first_and_what_is_too_small_is_left_out():
    assert [s.value for s in slices(smallest=50)] == ["gold", "basic"]


def test_small_values_are_pooled_where_together_they_are_large_enough():
    assert [s.value for s in slices(smallest=20, most=1)] == ["gold", "(others)"]
    pooled = slices(smallest=20, most=1)[1]
    assert pooled.n_rows == (PLAN != "gold").sum()


def test_intervals_keep_customers_together():
    """Every customer twice tells no more than once; rows drawn one by one would make intervals narrower."""
    once = slice_metrics(churn_cells(KNOWN[:, :1], P[:, :1], ["30d"]), {"all": np.full(N, "all")}, np.arange(N), n=300)
    twice = slice_metrics(
        churn_cells(np.repeat(KNOWN[:, :1], 2, axis=0), np.repeat(P[:, :1], 2, axis=0), ["30d"]),
        {"all": np.full(2 * N, "all")}, np.repeat(np.arange(N), 2), n=300,
    )  # fmt: skip
    widths = [s[0].scores["auroc_30d"].high - s[0].scores["auroc_30d"].low for s in (once, twice)]
    assert widths[1] == pytest.approx(widths[0], rel=1e-9)


def test_any_metric_can_be_taken_apart():
    scores = RNG.integers(0, 11, N).astype(float)
    q = RNG.dirichlet(np.ones(11), N)
    found = slice_metrics(score_cells(scores, q), {"plan": PLAN}, CUSTOMER, n=5)
    rows = PLAN == "basic"
    assert {s.value: s for s in found}["basic"].scores["nps_error"].value == nps_error(scores[rows], q[rows])
    lasted = slice_metrics(
        survival_cells(np.full(N, 60.0), KNOWN[:, 0], P, [30.0, 61.0]), {"plan": PLAN}, CUSTOMER, n=5
    )
    assert all(0 <= s.scores["concordance"].value <= 1 for s in lasted)


def test_codes_and_numbers_become_values():
    assert value_names([0, 2, np.nan], ["a", "b", "other"]).tolist() == ["a", "other", "(unknown)"]
    tenure = np.array([1, 2, 3, 4, 5, 6, 7, np.nan])
    found = bands(tenure, n=2)
    assert sorted(set(found)) == ["(unknown)", "1: below 4", "2: 4 and above"]
    assert bands(np.full(5, 3.0)).tolist() == ["1: all"] * 5
    assert bands([np.nan]).tolist() == ["(unknown)"]


def test_the_table_has_one_line_a_slice():
    head, rows = slice_table(slices(smallest=20), ["auroc_30d", "none_such"])
    assert head == ["attribute", "value", "customers", "auroc_30d", "none_such"]
    assert [row[1] for row in rows] == ["gold", "basic"]
    assert rows[0][4] == "-"


def test_what_does_not_fit_is_refused():
    cells = list(churn_cells(KNOWN, P, ["30d", "60d"]))
    with pytest.raises(DataError, match="attribute 'plan' has shape"):
        slice_metrics(cells, {"plan": PLAN[1:]}, CUSTOMER)
    with pytest.raises(DataError, match="is of 600 rows, customers of 599"):
        slice_metrics(cells, {"plan": PLAN[1:]}, CUSTOMER[1:])
    with pytest.raises(ConfigError, match="at least 1"):
        slice_metrics(cells, {"plan": PLAN}, CUSTOMER, smallest=0)
