"""Trees as bit masks over their leaves: all splits on a feature are looked at together, by rising threshold.

A row starts with every leaf of every tree within reach, one bit each. A split that sends the row to the right takes the
leaves on its left out of reach, and the leftmost leaf that remains is the one the row falls into. The splits that do so
are, for one value of a feature, those with a threshold below it: the first that is not ends the search. There is hardly
a branch to guess wrong, which is what walking trees costs most. (Lucchese et al. 2015, "QuickScorer: a fast algorithm
to rank documents with additive ensembles of regression trees", SIGIR.)
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
MASK_NODE = np.dtype(
    [("threshold", "<f8"), ("mask", "<u8"), ("feature", "<i4"), ("tree", "<i4"), ("kind", "<i4"), ("spare", "<i4")]
)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
#: Where the one bit that is set stands, by the top six bits of its product with the de Bruijn sequence.
BIT = np.zeros(64, np.int64)
BIT[[((1 << i) * int(_DE_BRUIJN) & int(_ALL)) >> 58 for i in range(64)]] = np.arange(64)


class LeafMasks(NamedTuple):
    """An ensemble as masks.

    Parameters
    ----------
    features : int32 array
        Features with a numeric split, ascending.
    starts : int32 array of shape (len(features) + 1,)
        Splits of each of them in ``ordered``.
    ordered : structured array
        Numeric splits, by feature and threshold; ``mask`` lacks the bits of the leaves on the left.
    others : structured array
        Splits that zero or a category decides: these are looked at one by one.
    leaf_value : float64 array
        From left to right, tree after tree.
    leaf_starts : int32 array of shape (n_trees + 1,)
    """

    features: NDArray[np.int32]
    starts: NDArray[np.int32]
    ordered: NDArray[Any]
    others: NDArray[Any]
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
    found = np.zeros(len(nodes), MASK_NODE)
    values = np.empty_like(leaf_value)
    _fill_masks(nodes, roots, leaf_value, leaf_starts, found, values)
    for name in ("threshold", "feature", "kind"):
        found[name] = nodes[name]
    numeric = found["kind"] <= NAN_LEFT
    ordered = found[numeric]
    ordered = ordered[np.lexsort((ordered["threshold"], ordered["feature"]))]
    features, starts = np.unique(ordered["feature"], return_index=True)
    bounds = np.append(starts, len(ordered)).astype(np.int32)
    return LeafMasks(features.astype(np.int32), bounds, ordered, found[~numeric], values, leaf_starts)


# ---- compiled: checks nothing, all indices were checked when the text was read ----


@njit(cache=True)
def _fill_masks(nodes, roots, leaf_value, leaf_starts, found, values):  # type: ignore[no-untyped-def]
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
            found[at].mask = ~below
            found[at].tree = tree
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
    matrix, features, starts, ordered, others, leaf_value, leaf_starts, category_starts, category_words, bit, out
):
    """Add the leaves that each row falls into, tree after tree."""
    reach = np.empty(leaf_starts.size - 1, np.uint64)
    for row in range(matrix.shape[0]):
        reach[:] = _ALL
        for j in range(features.size):
            value = np.float64(matrix[row, features[j]])
            if np.isnan(value):
                for k in range(starts[j], starts[j + 1]):
                    if ordered[k].kind != NAN_LEFT:
                        reach[ordered[k].tree] &= ordered[k].mask
                continue
            for k in range(starts[j], starts[j + 1]):
                if value <= ordered[k].threshold:
                    break
                reach[ordered[k].tree] &= ordered[k].mask
        for k in range(others.size):
            node = others[k]
            value = np.float64(matrix[row, node.feature])
            if not goes_left(value, node.kind, node.threshold, category_starts, category_words):
                reach[node.tree] &= node.mask
        for tree in range(reach.size):
            lowest = reach[tree] & (~reach[tree] + np.uint64(1))
            out[row] += leaf_value[leaf_starts[tree] + bit[(lowest * _DE_BRUIJN) >> np.uint64(58)]]
