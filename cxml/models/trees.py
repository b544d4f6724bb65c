"""LightGBM's model text as validated flat arrays, walked by compiled code.

Serving needs neither LightGBM nor its thread pool: what is below repeats LightGBM's own decisions and adds leaf values
in the same order, so it returns the very bits of ``Booster.predict(raw_score=True)``. Many rows of small trees
go by masks (`cxml.models.masks`), all others are walked.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cxml.errors import DataError
from cxml.models.decide import goes_left
from cxml.models.masks import BIT, LeafMasks, fill_sums, leaf_masks
from cxml.models.modeltext import read_model_text
from cxml.models.shapley import LeafPaths, fill_contributions, leaf_paths

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

_BLOCK = 64  # rows that walk one tree together, while it is in the cache


@dataclass(frozen=True)
class TreeEnsemble:
    """Boosted trees, ready to be evaluated; build one with `from_text`.

    Parameters
    ----------
    text : str
        LightGBM's model text, as it is saved.
    n_features : int
        Columns that a matrix must have.
    nodes : structured array of shape (n_nodes,)
        All splits, tree after tree; see `cxml.models.modeltext.NODE`.
    roots : int32 array of shape (n_trees,)
        First node of each tree, or ``~leaf`` of a tree that never split.
    leaf_value : float64 array of shape (n_leaves,)
        What each leaf adds to the latent value.
    leaf_count : float64 array of shape (n_leaves,)
        Training rows in each leaf.
    leaf_starts : int32 array of shape (n_trees + 1,)
        Leaves of tree ``i`` are ``leaf_starts[i]:leaf_starts[i + 1]``.
    category_starts : int32 array of shape (n_category_splits + 1,)
        Words of each categorical split in ``category_words``.
    category_words : uint32 array
        Bit sets of the category codes that go left.
    """

    text: str
    n_features: int
    nodes: NDArray[Any]
    roots: Int32
    leaf_value: Float64
    leaf_count: Float64
    leaf_starts: Int32
    category_starts: Int32
    category_words: NDArray[np.uint32]

    @classmethod
    def from_text(cls, text: str) -> TreeEnsemble:
        """Read LightGBM's model text (format v4).

        Every index is checked before compiled code, which checks nothing, sees it.

        Parameters
        ----------
        text : str
            From ``Booster.model_to_string()`` or a saved model file; whatever follows the trees is ignored.

        Returns
        -------
        TreeEnsemble

        Raises
        ------
        DataError
            If the text is cut short or damaged, or holds what is not supported: several outputs per row,
            random forests (averaged output), linear leaves.
        """
        return cls(text=text, **read_model_text(text))

    @property
    def n_trees(self) -> int:
        """How many trees."""
        return len(self.roots)

    def predict(self, matrix: NDArray[Any], threads: int | None = None) -> Float64:
        """Sum the leaves that each row falls into.

        Parameters
        ----------
        matrix : float32 or float64 array of shape (n_rows, n_features)
            NaN where missing; categories as codes.
        threads : int, optional
            Split the rows over so many threads. The result does not depend on it.

        Returns
        -------
        float64 array of shape (n_rows,)
            Equal in every bit to ``Booster.predict(matrix, raw_score=True)``.

        Raises
        ------
        DataError
            If the matrix has another number of columns or is no matrix of floats.
        """
        rows = check_matrix(matrix, self.n_features)
        out = np.zeros(len(rows))

        masks = self._masks if len(rows) >= _BLOCK else None

        def add(first: int, last: int) -> None:
            if masks is not None:
                fill_sums(rows[first:last], *masks, self.category_starts, self.category_words, BIT, out[first:last])
                return
            _walk(
                rows[first:last], self.nodes, self.roots, self.leaf_value,
                self.category_starts, self.category_words, out[first:last],
            )  # fmt: skip

        over_rows(add, len(rows), threads)
        return out

    def contributions(self, matrix: NDArray[Any], threads: int | None = None) -> Float64:
        """Share the latent value of each row among its features (path-dependent TreeSHAP, exact).

        Parameters
        ----------
        matrix : float32 or float64 array of shape (n_rows, n_features)
            As for `predict`.
        threads : int, optional
            Split the rows over so many threads. The result does not depend on it.

        Returns
        -------
        float64 array of shape (n_rows, n_features + 1)
            What each feature adds; the last column is the mean over the training rows. A row sums to its
            `predict`. The same values as LightGBM's ``pred_contrib=True``, but for rounding.

        Notes
        -----
        Lundberg et al. 2020, "From local explanations to global understanding with explainable AI for trees",
        Nature Machine Intelligence 2; how it is computed stands in `cxml.models.shapley`.
        """
        rows = check_matrix(matrix, self.n_features)
        out = np.zeros((len(rows), self.n_features + 1))

        def share(first: int, last: int) -> None:
            went_left = np.empty(len(self.nodes), np.uint8)
            for row in range(first, last):
                _decide(rows[row], self.nodes, self.category_starts, self.category_words, went_left)
                fill_contributions(went_left, *self._paths, out[row])

        over_rows(share, len(rows), threads)
        out[:, -1] = self.expected_value
        return out

    @cached_property
    def expected_value(self) -> float:
        """Mean latent value over the training rows that grew each tree."""
        total = 0.0
        for first, last in zip(self.leaf_starts[:-1], self.leaf_starts[1:], strict=True):
            count = self.leaf_count[first:last]
            total += float(self.leaf_value[first:last] @ count / count.sum())
        return total

    @cached_property
    def _masks(self) -> LeafMasks | None:
        return leaf_masks(self.nodes, self.roots, self.leaf_value, self.leaf_starts)

    @cached_property
    def _paths(self) -> LeafPaths:
        return leaf_paths(self.nodes, self.leaf_value, self.leaf_count)


def check_matrix(matrix: NDArray[Any], n_features: int) -> NDArray[Any]:
    """Return the matrix in C order, or refuse it.

    Examples
    --------
    >>> check_matrix(np.zeros((2, 3)), 4)
    Traceback (most recent call last):
        ...
    cxml.errors.DataError: the matrix has 3 columns, but the model was trained on 4. Make it with the model's own plan.
    """
    rows = np.asarray(matrix)
    if rows.ndim != 2 or rows.dtype not in (np.float32, np.float64):
        raise DataError(
            f"a feature matrix has two dimensions and is float32 or float64; this has shape {rows.shape} "
            f"and type {rows.dtype}. Convert it with numpy.asarray(matrix, dtype='float32')."
        )
    if rows.shape[1] != n_features:
        raise DataError(
            f"the matrix has {rows.shape[1]} columns, but the model was trained on {n_features}. "
            "Make it with the model's own plan."
        )
    return np.ascontiguousarray(rows)


def over_rows(work: Callable[[int, int], None], n_rows: int, threads: int | None) -> None:
    """Call ``work(first, last)`` over ranges that cover the rows, on ``threads`` threads where it pays."""
    n_ranges = max(1, min(threads or 1, n_rows // _BLOCK))
    if n_ranges == 1:
        work(0, n_rows)
        return
    bounds = np.linspace(0, n_rows, n_ranges + 1).astype(int)
    with ThreadPoolExecutor(n_ranges) as pool:
        list(pool.map(work, bounds[:-1].tolist(), bounds[1:].tolist()))


# ---- compiled: checks nothing, all indices were checked when the text was read ----


@njit(cache=True, nogil=True)
def _walk(matrix, nodes, roots, leaf_value, category_starts, category_words, out):  # type: ignore[no-untyped-def]
    """Add the trees one after the other to ``out``, in LightGBM's order, a block of rows at a time."""
    n_rows = matrix.shape[0]
    for first in range(0, n_rows, _BLOCK):
        last = min(first + _BLOCK, n_rows)
        for tree in range(roots.size):
            for row in range(first, last):
                at = roots[tree]
                while at >= 0:
                    node = nodes[at]
                    value = np.float64(matrix[row, node.feature])
                    left = goes_left(value, node.kind, node.threshold, category_starts, category_words)
                    at = node.left if left else node.right
                out[row] += leaf_value[~at]


@njit(cache=True, nogil=True)
def _decide(row, nodes, category_starts, category_words, went_left):  # type: ignore[no-untyped-def]
    """Note for every split of every tree whether the row would go left there."""
    for at in range(nodes.size):
        node = nodes[at]
        value = np.float64(row[node.feature])
        went_left[at] = goes_left(value, node.kind, node.threshold, category_starts, category_words)
