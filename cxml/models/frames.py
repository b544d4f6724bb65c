"""The estimators' door for feature matrices: arrays or DataFrames in, float columns and category codes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, DataError, nearest

OTHER = "other"


@dataclass(frozen=True)
class Columns:
    """What the columns were when the model was trained.

    Parameters
    ----------
    n : int
    names : tuple of str, optional
        None when an array was given.
    categories : dict of str to tuple
        The categories of each pandas categorical column, in the order of their codes.
    """

    n: int
    names: tuple[str, ...] | None = None
    categories: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, X: Any) -> Columns:
        """Note the columns of a matrix or DataFrame."""
        if not _is_frame(X):
            shape = np.shape(X)
            if len(shape) != 2:
                raise DataError(f"X: needs rows and columns, but has shape {shape}. For one row, pass X[None, :].")
            return cls(shape[1])
        names = tuple(str(name) for name in X.columns)
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise DataError(f"X: column '{min(twice)}' is there twice. Rename one.")
        categories = {
            str(name): tuple(X[name].cat.categories) for name in X.columns if str(X[name].dtype) == "category"
        }
        return cls(len(names), names, categories)

    def categorical(self, chosen: str | Sequence[str | int]) -> list[int]:
        """Find the categorical columns: ``"auto"`` (those of type category), or also those named or numbered."""
        if isinstance(chosen, str):
            if chosen != "auto":
                raise ConfigError(f"categorical_feature is '{chosen}': write 'auto' or a list of columns")
            return [i for i, name in enumerate(self.names or ()) if name in self.categories]
        return sorted({self.position(column) for column in chosen} | set(self.categorical("auto")))

    def position(self, column: str | int, what: str = "categorical_feature") -> int:
        """Find a column by name or number; refuse what is not there."""
        if isinstance(column, str):
            if column not in (self.names or ()):
                raise ConfigError(f"{what}: no column '{column}'{nearest(column, self.names or ())}")
            return (self.names or ()).index(column)
        if not 0 <= column < self.n:
            raise ConfigError(f"{what}: position {column} is not from 0 to {self.n - 1}")
        return int(column)

    def matrix(self, X: Any) -> NDArray[Any]:
        """Return the values in the trained order.

        Parameters
        ----------
        X : DataFrame or array of shape (n_rows, n)
            A DataFrame's columns are found by name; more columns than were trained on are ignored. A category
            becomes its code; one that was not seen becomes that of "other" where there is one, else NaN.

        Returns
        -------
        float32 or float64 array of shape (n_rows, n)

        Raises
        ------
        DataError
            If columns are missing or not numeric.
        """
        if _is_frame(X):
            matrix = self._from_frame(X)
        else:
            matrix = _floats(np.asarray(X), "X")
            if matrix.ndim != 2 or matrix.shape[1] != self.n:
                raise DataError(f"X: has shape {matrix.shape}, but the model was trained on {self.n} columns")
        return matrix

    def _from_frame(self, X: Any) -> NDArray[Any]:
        names = self.names if self.names is not None else tuple(str(name) for name in X.columns)
        if len(names) != self.n:
            raise DataError(f"X: has {len(names)} columns, but the model was trained on an array of {self.n}")
        by_name = {str(name): name for name in X.columns}
        missing = [name for name in names if name not in by_name]
        if missing:
            raise DataError(
                f"X: {len(missing)} of {self.n} columns are missing, first '{missing[0]}'"
                f"{nearest(missing[0], by_name)} Make the features with the plan the model was trained on."
            )
        columns = [self._column(X[by_name[name]], name) for name in names]
        kind = np.float32 if all(column.dtype == np.float32 for column in columns) else np.float64
        matrix = np.empty((len(X), self.n), kind)
        for i, column in enumerate(columns):
            matrix[:, i] = column
        return matrix

    def _column(self, values: Any, name: str) -> NDArray[Any]:
        if name not in self.categories:
            return _floats(values.to_numpy(), f"X: column '{name}'")
        if str(values.dtype) != "category":
            raise DataError(
                f"X: column '{name}' was categorical in training, but is {values.dtype}. Use astype('category')."
            )
        return _codes(values, self.categories[name])


def _codes(values: Any, known: tuple[Any, ...]) -> NDArray[np.float32]:
    """Codes of a categorical column in the trained order of categories."""
    code_of = {category: code for code, category in enumerate(known)}
    unseen = float(code_of.get(OTHER, np.nan))
    table = np.array([*(code_of.get(category, unseen) for category in values.cat.categories), np.nan], np.float32)
    codes: NDArray[np.float32] = table[values.cat.codes.to_numpy()]  # code -1, missing, is the last entry
    return codes


def _floats(values: NDArray[Any], what: str) -> NDArray[Any]:
    if values.dtype in (np.float32, np.float64):
        return values
    if values.dtype.kind not in "biuf":
        raise DataError(f"{what}: holds {values.dtype}, not numbers. Make texts pandas categories: astype('category').")
    return values.astype(np.float64)


def rows_that_count(X: Any, y: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Leave out rows of weight 0, as if they had not been given.

    Examples
    --------
    >>> X, y, weight = rows_that_count([[1.0], [2.0]], [0, 1], [0.5, 0.0])
    >>> X.tolist(), y.tolist(), weight.tolist()
    ([[1.0]], [0], [0.5])
    """
    if weight is None:
        return X, y, None
    try:
        weight = np.asarray(weight, np.float64)
    except (TypeError, ValueError):
        raise DataError("sample_weight: holds what is no number; write one number of 0 or more a row") from None
    counts = weight != 0
    if counts.all() or not counts.any() or counts.shape != (len(X),) or counts.shape != (len(y),):
        return X, y, weight  # nothing to leave out, or a fault that is told elsewhere
    return X[counts] if _is_frame(X) else np.asarray(X)[counts], np.asarray(y)[counts], weight[counts]


def _is_frame(X: Any) -> bool:
    return hasattr(X, "columns") and hasattr(X, "iloc")
