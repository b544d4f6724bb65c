"""What the estimators accept as a matrix."""

import numpy as np
import pandas as pd
import pytest

from cxml.errors import ConfigError, DataError
from cxml.models.frames import Columns


def frame():
    return pd.DataFrame(
        {
            "calls": np.array([1.0, np.nan, 3.0], np.float32),
            "plan": pd.Categorical(["gold", None, "basic"], categories=["basic", "gold", "other"]),
            "is_new": [True, False, True],
        }
    )


def test_a_frame_becomes_numbers_and_codes():
    X = frame()
    columns = Columns.of(X)
    assert columns.names == ("calls", "plan", "is_new") and columns.categorical("auto") == [1]
    expected = [[1, 1, 1], [np.nan, np.nan, 0], [3, 0, 1]]
    np.testing.assert_array_equal(columns.matrix(X), expected)


def test_float32_stays_float32():
    X = frame()[["calls", "plan"]]
    assert Columns.of(X).matrix(X).dtype == np.float32


def test_columns_are_found_by_name_and_further_ones_ignored():
    X = frame()
    columns = Columns.of(X)
    shuffled = X[["is_new", "plan", "calls"]].assign(extra="text")
    np.testing.assert_array_equal(columns.matrix(shuffled), columns.matrix(X))


def test_categories_are_matched_by_value_not_by_code():
    columns = Columns.of(frame())
    other_order = frame().assign(plan=pd.Categorical(["gold", None, "basic"], categories=["gold", "new", "basic"]))
    np.testing.assert_array_equal(columns.matrix(other_order)[:, 1], [1, np.nan, 0])


def test_an_unseen_category_is_other_where_there_is_one_else_missing():
    unseen = pd.Categorical(["gold", "platinum", "basic"])
    assert Columns.of(frame()).matrix(frame().assign(plan=unseen))[1, 1] == 2
    without = frame().assign(plan=pd.Categorical(["gold", None, "basic"]))
    assert np.isnan(Columns.of(without).matrix(frame().assign(plan=unseen))[1, 1])


def test_an_array_may_follow_a_frame_and_a_frame_an_array():
    X = frame()[["calls", "is_new"]]
    columns = Columns.of(X)
    np.testing.assert_array_equal(columns.matrix(columns.matrix(X)), columns.matrix(X))
    np.testing.assert_array_equal(Columns.of(np.zeros((3, 2))).matrix(X), columns.matrix(X))


def test_lists_and_integers_are_numbers():
    assert Columns.of([[1, 2]]).matrix([[1, 2]]).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda X: X.rename(columns={"calls": "call"}),
            r"1 of 3 columns are missing, first 'calls'; did you mean 'call'\?",
        ),
        (lambda X: X.assign(plan=["a", "b", "c"]), "'plan' was categorical in training"),
        (lambda X: X.assign(calls=["a", "b", "c"]), "column 'calls': holds .*, not numbers"),
        (lambda X: X.assign(calls=pd.Timestamp("2024-01-01")), "column 'calls': holds datetime64"),
        (lambda X: X.to_numpy()[:, :2], "holds object, not numbers"),
        (lambda _: np.zeros((3, 2)), r"has shape \(3, 2\), but the model was trained on 3 columns"),
        (lambda _: np.zeros(3), r"has shape \(3,\)"),
    ],
)
def test_frames_that_do_not_fit_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        Columns.of(frame()).matrix(change(frame()))


def test_a_frame_of_other_width_does_not_fit_an_array_model():
    with pytest.raises(DataError, match="has 3 columns, but the model was trained on an array of 2"):
        Columns.of(np.zeros((3, 2))).matrix(frame())


def test_one_row_must_be_a_row():
    with pytest.raises(DataError, match=r"pass X\[None, :\]"):
        Columns.of(np.zeros(3))


def test_a_column_that_is_there_twice_is_refused():
    with pytest.raises(DataError, match="'calls' is there twice"):
        Columns.of(frame().rename(columns={"is_new": "calls"}))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [("all", "write 'auto' or a list"), (["pln"], "did you mean 'plan'"), ([3], "position 3 is not from 0 to 2")],
)
def test_categorical_columns_must_be_there(chosen, message):
    with pytest.raises(ConfigError, match=message):
        Columns.of(frame()).categorical(chosen)


def test_named_and_numbered_columns_join_the_automatic_ones():
    assert Columns.of(frame()).categorical(["is_new"]) == [1, 2]
    assert Columns.of(frame()).categorical([0]) == [0, 1]
