"""Exact Shapley values of trees, computed leaf by leaf.

A leaf is reached when every feature on its path agrees, so the game it plays among its D features is a product,
and its multilinear extension is one too. The Shapley value of a player is the integral, along the diagonal of
the unit cube, of the extension's derivative (Owen 1972, "Multilinear extensions of games", Management Science 18):

    value_j = leaf * (o_j - z_j) * integral_0^1 of  product_{k != j} (o_k t + z_k (1 - t))  dt

where z_k is the share of training rows that pass the conditions on feature k, and o_k is 1 if this row passes
them, else 0. The integrand is a polynomial of degree D - 1, so Gauss-Legendre quadrature with D / 2 points (rounded up)
is exact; every term is positive, hence no cancellation. The values are those of path-dependent TreeSHAP (Lundberg et
al. 2020, Nature Machine Intelligence 2).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


class LeafPaths(NamedTuple):
    """What the compiled sum needs to know of every leaf; one *element* is one feature on one leaf's path.

    Parameters
    ----------
    leaf_value : float64 array of shape (n_leaves,)
    element_starts : int32 array of shape (n_leaves + 1,)
        Elements of each leaf.
    feature, share : array of shape (n_elements,)
        Feature, and share of training rows that pass its conditions.
    condition_starts : int32 array of shape (n_elements + 1,)
        Conditions of each element.
    condition_node : int32 array; condition_left : uint8 array
        Which split, and whether the path goes left there.
    factor_starts : int64 array of shape (n_leaves,)
        Where a leaf's rows of ``factor`` and ``gain`` begin.
    factor, gain : float64 array
        For each element and quadrature point ``t + z (1 - t)``, and ``(1 - z)`` over it.
    point_starts : int32 array; weight, rest : float64 array
        Quadrature weights and ``1 - t`` by number of points.
    """

    leaf_value: Float64
    element_starts: Int32
    feature: Int32
    share: Float64
    condition_starts: Int32
    condition_node: Int32
    condition_left: NDArray[np.uint8]
    factor_starts: NDArray[np.int64]
    factor: Float64
    gain: Float64
    point_starts: Int32
    weight: Float64
    rest: Float64


def leaf_paths(nodes: NDArray[Any], leaf_value: Float64, leaf_count: Float64) -> LeafPaths:
    """Follow every leaf of every tree up to its root and merge conditions on the same feature.

    Parameters
    ----------
    nodes, leaf_value, leaf_count
        As in `cxml.models.trees.TreeEnsemble`.

    Returns
    -------
    LeafPaths
    """
    parent_of_node, parent_of_leaf, count = _parents(nodes, leaf_count)
    depth = _depths(parent_of_node, parent_of_leaf)
    room = int(depth.sum())
    element_starts = np.zeros(len(leaf_value) + 1, np.int32)
    feature, share = np.empty(room, np.int32), np.empty(room)
    condition_starts = np.zeros(room + 1, np.int32)
    condition_node, condition_left = np.empty(room, np.int32), np.empty(room, np.uint8)
    n_elements = _merge(
        nodes, parent_of_node, parent_of_leaf, count, leaf_count, int(depth.max(initial=0)),
        element_starts, feature, share, condition_starts, condition_node, condition_left,
    )  # fmt: skip
    feature, share = feature[:n_elements], share[:n_elements]
    points = (np.diff(element_starts) + 1) // 2
    point_starts, t, weight = _quadrature(int(points.max(initial=0)))
    factor_starts, at = _factor_index(element_starts, points, point_starts)
    factor = t[at] + np.repeat(share, np.repeat(points, np.diff(element_starts))) * (1.0 - t[at])
    gain = (1.0 - np.repeat(share, np.repeat(points, np.diff(element_starts)))) / factor
    return LeafPaths(
        leaf_value, element_starts, feature, share, condition_starts[: n_elements + 1], condition_node,
        condition_left, factor_starts, factor, gain, point_starts, weight, 1.0 - t,
    )  # fmt: skip


def _quadrature(most: int) -> tuple[Int32, Float64, Float64]:
    """Gauss-Legendre points and weights on [0, 1] for 0, 1, ..., ``most`` points, one set after the other."""
    rules = [np.polynomial.legendre.leggauss(n) for n in range(1, most + 1)]
    sizes = [0, 0, *range(1, most + 1)]
    t = np.concatenate([np.zeros(0), *((x + 1.0) / 2.0 for x, _ in rules)])
    weight = np.concatenate([np.zeros(0), *(w / 2.0 for _, w in rules)])
    return np.cumsum(sizes).astype(np.int32), t, weight


def _factor_index(
    element_starts: Int32, points: NDArray[Any], point_starts: Int32
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each leaf's table begins, and which quadrature point each of its entries belongs to."""
    n_elements = np.diff(element_starts).astype(np.int64)
    sizes = n_elements * points
    starts = np.cumsum(sizes) - sizes
    inside = np.arange(int(sizes.sum())) - np.repeat(starts, sizes)
    per_entry = np.repeat(points, sizes)
    return starts, point_starts[per_entry] + inside % np.maximum(per_entry, 1)


@njit(cache=True)
def _parents(nodes, leaf_count):  # type: ignore[no-untyped-def]
    """Link nodes and leaves to the split above them, and count the training rows below every split."""
    parent_of_node = np.full(nodes.size, -1, np.int32)
    parent_of_leaf = np.full(leaf_count.size, -1, np.int32)
    count = np.zeros(nodes.size)
    for at in range(nodes.size - 1, -1, -1):  # children stand behind their parents
        for child in (nodes[at].left, nodes[at].right):
            if child >= 0:
                parent_of_node[child] = at
                count[at] += count[child]
            else:
                parent_of_leaf[~child] = at
                count[at] += leaf_count[~child]
    return parent_of_node, parent_of_leaf, count


@njit(cache=True)
def _depths(parent_of_node, parent_of_leaf):  # type: ignore[no-untyped-def]
    node_depth = np.ones(parent_of_node.size, np.int64)
    for at in range(parent_of_node.size):
        if parent_of_node[at] >= 0:
            node_depth[at] = node_depth[parent_of_node[at]] + 1
    depth = np.zeros(parent_of_leaf.size, np.int64)
    for leaf in range(parent_of_leaf.size):
        if parent_of_leaf[leaf] >= 0:
            depth[leaf] = node_depth[parent_of_leaf[leaf]]
    return depth


@njit(cache=True)
def _merge(  # type: ignore[no-untyped-def]
    nodes, parent_of_node, parent_of_leaf, count, leaf_count, most,
    element_starts, feature, share, condition_starts, condition_node, condition_left,
):  # fmt: skip
    """Write the elements and conditions of every leaf; return how many elements there are."""
    path_node, path_left, path_ratio = np.empty(most, np.int32), np.empty(most, np.uint8), np.empty(most)
    n_elements = n_conditions = 0
    for leaf in range(parent_of_leaf.size):
        length, child, rows, at = 0, ~leaf, leaf_count[leaf], parent_of_leaf[leaf]
        while at >= 0:
            path_node[length], path_left[length] = at, nodes[at].left == child
            path_ratio[length] = rows / count[at]
            length, child, rows, at = length + 1, at, count[at], parent_of_node[at]
        for first in range(length):
            wanted = nodes[path_node[first]].feature
            seen = False
            for before in range(first):
                seen = seen or nodes[path_node[before]].feature == wanted
            if seen:
                continue
            feature[n_elements], share[n_elements] = wanted, 1.0
            for step in range(first, length):
                if nodes[path_node[step]].feature == wanted:
                    share[n_elements] *= path_ratio[step]
                    condition_node[n_conditions], condition_left[n_conditions] = path_node[step], path_left[step]
                    n_conditions += 1
            n_elements += 1
            condition_starts[n_elements] = n_conditions
        element_starts[leaf + 1] = n_elements
    return n_elements


@njit(cache=True, nogil=True)
def fill_contributions(  # type: ignore[no-untyped-def]
    went_left, leaf_value, element_starts, feature, share, condition_starts, condition_node, condition_left,
    factor_starts, factor, gain, point_starts, weight, rest, out,
):  # fmt: skip
    """Add what every leaf gives to every feature of one row to ``out``.

    Parameters
    ----------
    went_left : uint8 array of shape (n_nodes,)
        Whether the row goes left at each split.
    leaf_value, ..., rest
        The fields of `LeafPaths`.
    out : float64 array of shape (at least n_features,)
        Filled in place.
    """
    most = point_starts.size
    product = np.empty(most)
    passes = np.empty(feature.size, np.uint8)
    for leaf in range(leaf_value.size):
        first, last = element_starts[leaf], element_starts[leaf + 1]
        n_points = (last - first + 1) // 2
        points = point_starts[n_points]
        for q in range(n_points):
            product[q] = weight[points + q] * leaf_value[leaf]
        at = factor_starts[leaf]
        for element in range(first, last):
            agrees = True
            for c in range(condition_starts[element], condition_starts[element + 1]):
                agrees = agrees and went_left[condition_node[c]] == condition_left[c]
            passes[element] = agrees
            for q in range(n_points):
                product[q] *= factor[at + q] if agrees else share[element] * rest[points + q]
            at += n_points
        missed = 0.0  # the same for every feature whose conditions the row fails
        for q in range(n_points):
            missed -= product[q] / rest[points + q]
        at = factor_starts[leaf]
        for element in range(first, last):
            if passes[element]:
                for q in range(n_points):
                    out[feature[element]] += product[q] * gain[at + q]
            else:
                out[feature[element]] += missed
            at += n_points
