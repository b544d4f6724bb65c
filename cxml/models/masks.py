"""Trees as bit masks over their leaves: one split is decided for many rows at a time, without a branch.

A row starts with every leaf of a tree within reach, one bit each. A split that sends the row to the right takes the
leaves on its left out of reach, and the leftmost leaf that remains is the one the row falls into: so splits may be
looked at in any order, each for a block of rows with one vector instruction after the other, and nothing is guessed
wrong, which is what walking trees costs most. (Lucchese et al. 2015, "QuickScorer: a fast algorithm to rank documents
with additive ensembles of regression trees", SIGIR; for vectors of rows Lucchese et al. 2016, "Exploiting CPU SIMD
extensions to speed-up document scoring with tree ensembles", SIGIR.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cxml.models.decide import goes_left
from cxml.models.modeltext import NAN_LEFT

#: Leaves that a tree may have: bits of a mask.
MOST_LEAVES = 64
#: Rows that are decided together; of 32, LLVM makes no vector instructions.
ROWS = 64
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
#: Where the one bit that is set stands, by the top six bits of its product with the de Bruijn sequence.
BIT = np.zeros(64, np.int64)
BIT[[((1 << i) * int(_DE_BRUIJN) & int(_ALL)) >> 58 for i in range(64)]] = np.arange(64)


class LeafMasks(NamedTuple):
    """An ensemble as masks.

    Parameters
    ----------
    features : int32 array of shape (n_used,)
        Features that are split on, ascending.
    masks : uint64 array of shape (n_nodes,)
        Tree after tree: for each split all bits but those of the leaves on its left.
    thresholds : float64 array of shape (n_nodes,)
    places : int32 array of shape (n_nodes,)
        Which of ``features`` is split on.
    kinds : int32 array of shape (n_nodes,)
        How; see `cxml.models.modeltext`.
    node_starts : int32 array of shape (n_trees + 1,)
        Splits of each tree.
    leaf_value : float64 array
        From left to right, tree after tree.
    leaf_starts : int32 array of shape (n_trees + 1,)
    """

    features: NDArray[np.int32]
    masks: NDArray[np.uint64]
    thresholds: NDArray[np.float64]
    places: NDArray[np.int32]
    kinds: NDArray[np.int32]
    node_starts: NDArray[np.int32]
    leaf_value: NDArray[np.float64]
    leaf_starts: NDArray[np.int32]


def leaf_masks(
    nodes: NDArray[Any], roots: NDArray[np.int32], leaf_value: NDArray[np.float64], leaf_starts: NDArray[np.int32]
) -> LeafMasks | None:
    """Turn an ensemble into masks; None where a tree has more than 64 leaves.

    Parameters
    ----------
    nodes, roots, leaf_value, leaf_starts
        Of a `cxml.models.trees.TreeEnsemble`.

    Returns
    -------
    LeafMasks or None
    """
    if np.diff(leaf_starts).max(initial=0) > MOST_LEAVES:
        return None
    masks, trees, values = np.empty(len(nodes), np.uint64), np.empty(len(nodes), np.int32), np.empty_like(leaf_value)
    _fill_masks(nodes, roots, leaf_value, leaf_starts, masks, trees, values)
    features, places = np.unique(nodes["feature"], return_inverse=True)
    return LeafMasks(
        features.astype(np.int32),
        masks,
        np.ascontiguousarray(nodes["threshold"], np.float64),
        places.astype(np.int32),
        np.ascontiguousarray(nodes["kind"], np.int32),
        np.searchsorted(trees, np.arange(len(roots) + 1)).astype(np.int32),
        values,
        leaf_starts,
    )


# ---- compiled: checks nothing, all indices were checked when the text was read ----


@njit(cache=True)
def _fill_masks(nodes, roots, leaf_value, leaf_starts, masks, trees, values):  # type: ignore[no-untyped-def]
    """Give every split its mask and every leaf its place; a child stands behind its parent among the nodes."""
    n_below, first = np.empty(nodes.size, np.int64), np.empty(nodes.size, np.int64)
    stop = nodes.size
    for tree in range(roots.size - 1, -1, -1):
        offset, root = leaf_starts[tree], roots[tree]
        if root < 0:
            values[offset] = leaf_value[~root]
            continue
        for at in range(stop - 1, root - 1, -1):
            left, right = nodes[at].left, nodes[at].right
            n_below[at] = (n_below[left] if left >= 0 else 1) + (n_below[right] if right >= 0 else 1)
        first[root] = 0
        for at in range(root, stop):
            left, right = nodes[at].left, nodes[at].right
            n_left = n_below[left] if left >= 0 else 1
            below = ((np.uint64(1) << np.uint64(n_left)) - np.uint64(1)) << np.uint64(first[at])
            masks[at], trees[at] = ~below, tree
            if left >= 0:
                first[left] = first[at]
            else:
                values[offset + first[at]] = leaf_value[~left]
            if right >= 0:
                first[right] = first[at] + n_left
            else:
                values[offset + first[at] + n_left] = leaf_value[~right]
        stop = root


@njit(cache=True, nogil=True)
def fill_sums(  # type: ignore[no-untyped-def]
    matrix, features, masks, thresholds, places, kinds, node_starts, leaf_value, leaf_starts,
    category_starts, category_words, bit, out,
):  # fmt: skip
    """Add the leaves that each row falls into, tree after tree.

    The innermost loops run over all rows of a block, in the last block over some that do not count: a fixed number of
    rounds without a branch is what compilers make vector instructions of.
    """
    values = np.zeros((features.size, ROWS), np.float64)
    reach = np.empty(ROWS, np.uint64)
    for first in range(0, matrix.shape[0], ROWS):
        n = min(ROWS, matrix.shape[0] - first)
        for j in range(features.size):
            for row in range(n):
                values[j, row] = matrix[first + row, features[j]]
        for tree in range(leaf_starts.size - 1):
            reach[:] = _ALL
            for k in range(node_starts[tree], node_starts[tree + 1]):
                mask, threshold, kind, value = masks[k], thresholds[k], kinds[k], values[places[k]]
                if kind == NAN_LEFT:
                    for row in range(ROWS):
                        reach[row] = reach[row] & mask if value[row] > threshold else reach[row]
                elif kind < NAN_LEFT:
                    for row in range(ROWS):
                        reach[row] = reach[row] if value[row] <= threshold else reach[row] & mask
                else:
                    for row in range(n):
                        if not goes_left(value[row], kind, threshold, category_starts, category_words):
                            reach[row] &= mask
            for row in range(n):
                lowest = reach[row] & (~reach[row] + np.uint64(1))
                leaf = bit[(lowest * _DE_BRUIJN) >> np.uint64(58)]
                out[first + row] += leaf_value[leaf_starts[tree] + leaf]
