"""The compiled walk against LightGBM itself."""

import lightgbm
import numpy as np
import pytest

from cxml.errors import DataError
from cxml.models.modeltext import CATEGORY
from cxml.models.trees import TreeEnsemble

N_FEATURES = 8


def training_data(n=3000, seed=0):
    """Missing values, zeros, two categorical columns (3: many codes, 4: few) and a column without a gap (5)."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, N_FEATURES))
    X[:, 1] = np.where(rng.random(n) < 0.4, 0.0, X[:, 1])
    X[rng.random(X.shape) < 0.2] = np.nan
    X[:, 3], X[:, 4] = rng.integers(0, 80, n), rng.integers(0, 4, n)
    X[:, 5] = np.nan_to_num(X[:, 5])
    known = np.nan_to_num(X)
    y = known[:, 0] + X[:, 3] % 3 + known[:, 5] * known[:, 1] - (X[:, 4] == 2) + rng.normal(size=n)
    return X.astype(np.float32), y


def hostile_rows(seed=1):
    """Rows that meet every rule of LightGBM's decisions."""
    X, _ = training_data(500, seed)
    X[:40, 3], X[40:80, 3], X[80:120, 3] = -1, 1e10, 500  # no codes, and one never seen
    X[120:160, 3], X[160:200, 3], X[200:240, 4] = 3.7, -0.5, np.nan
    X[240:280, 5] = np.nan  # missing where training had no gap
    X[280:320, :3], X[320:360, :3] = 1e-36, -1e-36
    X[360:400, :3], X[400:440, :3] = np.inf, -np.inf
    return X


def grown(n_trees=40, **parameters):
    X, y = training_data()
    parameters = {
        "objective": "regression",
        "num_leaves": 15,
        "min_data_per_group": 5,
        "num_threads": 1,
        "verbosity": -1,
    } | parameters
    train = lightgbm.Dataset(X, y, categorical_feature=[3, 4], params=parameters)
    return lightgbm.train(parameters, train, n_trees)


@pytest.fixture(scope="module")
def booster():
    return grown()


@pytest.fixture(scope="module")
def trees(booster):
    return TreeEnsemble.from_text(booster.model_to_string())


VARIANTS = {
    "with missing values": {},
    "zero as missing": {"zero_as_missing": True},
    "no missing values": {"use_missing": False},
    "one leaf after the other": {"num_leaves": 63, "max_depth": 12, "min_data_in_leaf": 3},
    "one split a tree": {"num_leaves": 2},
}


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("parameters", VARIANTS.values(), ids=VARIANTS)
def test_the_walk_equals_lightgbm_in_every_bit(parameters, kind):
    booster = grown(**parameters)
    trees = TreeEnsemble.from_text(booster.model_to_string())
    for rows in (hostile_rows().astype(kind), np.random.default_rng(2).normal(size=(700, N_FEATURES)) * 1e3):
        expected = booster.predict(rows, raw_score=True)
        assert np.array_equal(trees.predict(rows), expected)
        assert [trees.predict(row[None])[0] for row in rows[:50]] == expected[:50].tolist()


@pytest.mark.parametrize("parameters", VARIANTS.values(), ids=VARIANTS)
def test_contributions_equal_lightgbm_and_add_up(parameters):
    booster = grown(**parameters)
    trees = TreeEnsemble.from_text(booster.model_to_string())
    rows = hostile_rows()
    ours = trees.contributions(rows)
    np.testing.assert_allclose(ours, booster.predict(rows, pred_contrib=True), rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours.sum(axis=1), trees.predict(rows), rtol=0, atol=1e-9)


def test_a_value_exactly_at_a_threshold_goes_left_as_in_lightgbm(booster, trees):
    rows = np.tile(hostile_rows()[:1].astype(np.float64), (len(trees.nodes), 1))
    numeric = np.flatnonzero(trees.nodes["kind"] != CATEGORY)
    rows[numeric, trees.nodes["feature"][numeric]] = trees.nodes["threshold"][numeric]
    assert np.array_equal(trees.predict(rows), booster.predict(rows, raw_score=True))


def test_threads_and_neighbours_do_not_change_a_bit(trees):
    rows = np.tile(hostile_rows(), (2, 1))
    assert np.array_equal(trees.predict(rows, threads=3), trees.predict(rows))
    one_by_one = np.concatenate([trees.contributions(row[None]) for row in rows[:60]])
    assert np.array_equal(trees.contributions(rows, threads=3)[:60], one_by_one)


def test_rows_in_any_memory_order_are_read_alike(trees):
    rows = hostile_rows()
    wide = np.zeros((len(rows), 2 * N_FEATURES), np.float32)
    wide[:, ::2] = rows
    assert np.array_equal(trees.predict(np.asfortranarray(rows)), trees.predict(rows))
    assert np.array_equal(trees.predict(wide[:, ::2]), trees.predict(rows))


def test_no_rows_give_no_predictions(trees):
    none = np.zeros((0, N_FEATURES), np.float32)
    assert trees.predict(none).shape == (0,)
    assert trees.contributions(none).shape == (0, N_FEATURES + 1)


def test_trees_that_never_split_give_their_constant():
    X, y = training_data(30)
    booster = lightgbm.train({"min_data_in_leaf": 20, "verbosity": -1}, lightgbm.Dataset(X, y), 3)
    trees = TreeEnsemble.from_text(booster.model_to_string())
    assert np.array_equal(trees.predict(X), booster.predict(X))
    contributions = trees.contributions(X)
    assert (contributions[:, :-1] == 0).all()
    np.testing.assert_allclose(contributions[:, -1], booster.predict(X), rtol=1e-12)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3)), "has 3 columns, but the model was trained on 8"),
        (np.zeros(8), "two dimensions"),
        (np.zeros((2, 8), int), "int64"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(trees, matrix, message):
    for question in (trees.predict, trees.contributions):
        with pytest.raises(DataError, match=message):
            question(matrix)


DAMAGES = {
    "cut short": (lambda text: text[: len(text) // 2], "not a whole LightGBM model text"),
    "something else": (lambda text: "{}" + text, "not a whole LightGBM model text"),
    "an older format": (lambda text: text.replace("version=v4", "version=v2"), "version is v2"),
    "several outputs": (lambda text: text.replace("num_class=1", "num_class=3"), "only num_class=1"),
    "a forest": (lambda text: text.replace("num_class=1", "average_output\nnum_class=1"), "boosting=rf"),
    "linear leaves": (lambda text: text.replace("is_linear=0", "is_linear=1", 1), "tree 0: linear leaves"),
    "no features": (lambda text: text.replace("max_feature_idx=7", "max_feature_idx=-1"), "max_feature_idx"),
    "too few features": (lambda text: text.replace("max_feature_idx=7", "max_feature_idx=2"), "split_feature must be"),
    "a missing line": (lambda text: text.replace("\nleft_child=", "\nleft=", 1), "left_child must hold 14 whole"),
    "too few numbers": (lambda text: text.replace("\nnum_leaves=15", "\nnum_leaves=16", 1), "must hold 16 numbers"),
    "many leaves": (lambda text: text.replace("\nnum_leaves=15", "\nnum_leaves=99999999999", 1), "num_leaves must"),
    "no leaf": (lambda text: text.replace("\nnum_leaves=15", "\nnum_leaves=0", 1), "num_leaves must"),
    "no categories": (lambda text: text.replace("\nnum_cat=", "\nnum_cat=0\nx=", 1), "yet a split is categorical"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_texts_are_refused(booster, damage, message):
    text = booster.model_to_string()
    assert damage(text) != text
    with pytest.raises(DataError, match=message):
        TreeEnsemble.from_text(damage(text))


def with_value(text, key, position, value):
    """Replace one number of the first line that holds ``key``."""
    head, sep, rest = text.partition(f"\n{key}=")
    line, newline, tail = rest.partition("\n")
    words = line.split(" ")
    words[position] = str(value)
    return head + sep + " ".join(words) + newline + tail


@pytest.mark.parametrize(
    ("key", "position", "value", "message"),
    [
        ("left_child", 0, 0, "must form one tree"),
        ("right_child", 3, 99, "must form one tree"),
        ("right_child", 3, -99, "must form one tree"),
        ("right_child", 3, 2**31, "must form one tree"),
        ("split_feature", 2, 8, "split_feature must be from 0 to 7"),
        ("split_feature", 2, -1, "split_feature must be from 0 to 7"),
        ("split_feature", 2, "x", "split_feature must hold 14 whole numbers"),
        ("threshold", 2, "nan", "threshold must hold 14 numbers"),
        ("decision_type", 2, 12, "decision_type is unknown"),
        ("decision_type", 2, 64, "decision_type is unknown"),
        ("leaf_value", 2, "inf", "leaf_value must be finite"),
        ("leaf_count", 2, 0, "leaf_count must be a row or more"),
        ("cat_boundaries", 0, 1, "cat_boundaries must start at 0 and ascend"),
        ("cat_boundaries", -1, 2**39, "cat_threshold must hold"),
        ("cat_threshold", 0, -1, "cat_threshold must be 32-bit words"),
    ],
)
def test_no_wrong_number_reaches_compiled_code(booster, key, position, value, message):
    with pytest.raises(DataError, match=message):
        TreeEnsemble.from_text(with_value(booster.model_to_string(), key, position, value))


def test_a_categorical_split_must_name_its_own_bit_set(booster, trees):
    categorical = int(np.flatnonzero(trees.nodes["kind"] == CATEGORY)[0])
    assert categorical < 14  # of the first tree
    for value in (-1, 10_000, 0.5):
        with pytest.raises(DataError, match="threshold of a categorical split"):
            TreeEnsemble.from_text(with_value(booster.model_to_string(), "threshold", categorical, value))


def test_two_nodes_that_lead_to_each_other_are_refused(booster):
    """Every child appears once, so only the order of numbers tells the circle."""
    lines = booster.model_to_string().split("\n")
    left = next(i for i, line in enumerate(lines) if line.startswith("left_child="))
    text = "\n".join([*lines[:left], "left_child=-1 2 1", "right_child=-2 -3 -4", *lines[left + 2 :]])
    for key, value in {"num_leaves": "4", "num_cat": "0"}.items():
        text = text.replace(
            f"\n{key}={text.partition(chr(10) + key + '=')[2].partition(chr(10))[0]}", f"\n{key}={value}", 1
        )
    for key in ("split_feature", "threshold", "decision_type", "leaf_value", "leaf_count"):
        line = text.partition(f"\n{key}=")[2].partition("\n")[0]
        words = " ".join(["2"] * (3 + key.startswith("leaf")))
        text = text.replace(f"\n{key}={line}", f"\n{key}={words}", 1)
    with pytest.raises(DataError, match="must form one tree"):
        TreeEnsemble.from_text(text)


@pytest.mark.parametrize("leaves", [2, 64, 65])
@pytest.mark.parametrize("zero_as_missing", [False, True])
def test_many_rows_of_many_trees_equal_lightgbm_in_every_bit_by_masks_or_not(leaves, zero_as_missing):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(3_000, 5)).round(1)
    X[:, 3] = rng.integers(0, 9, len(X))
    X[rng.random(X.shape) < 0.1] = np.nan
    y = np.nan_to_num(X[:, 0]) * np.nan_to_num(X[:, 1]) + (X[:, 3] % 3 == 1)
    parameters = {
        "num_leaves": leaves, "min_data_in_leaf": 2, "min_data_per_group": 5, "zero_as_missing": zero_as_missing,
        "verbosity": -1, "num_threads": 1,
    }  # fmt: skip
    booster = lightgbm.train(parameters, lightgbm.Dataset(X, y, categorical_feature=[3]), 130)
    trees = TreeEnsemble.from_text(booster.model_to_string())
    assert np.array_equal(trees.predict(X), booster.predict(X, raw_score=True))
    assert np.array_equal(trees.predict(X, threads=3), trees.predict(X))
    assert (trees._masks is None) == (leaves == 65)
    walked = np.concatenate([trees.predict(X[i : i + 1]) for i in range(200)])
    assert np.array_equal(walked, trees.predict(X)[:200])
