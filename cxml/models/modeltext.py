"""Reading LightGBM's model text (format v4): every index is checked before compiled code sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import DataError

Float64 = NDArray[np.float64]

#: One split: 24 bytes, so that a step of the walk touches one cache line. A child >= 0 is a node, else ~leaf.
NODE = np.dtype([("threshold", "<f8"), ("feature", "<i4"), ("kind", "<i4"), ("left", "<i4"), ("right", "<i4")])

# Kinds of split, by where NaN goes; ZERO: zero goes there too.
NAN_RIGHT, NAN_LEFT, ZERO_RIGHT, ZERO_LEFT, CATEGORY = range(5)


def read_model_text(text: str) -> dict[str, Any]:
    """Turn the text into flat arrays over all trees.

    Parameters
    ----------
    text : str
        Whatever follows the trees is ignored.

    Returns
    -------
    dict
        ``n_features`` and the arrays that `cxml.models.trees.TreeEnsemble` is made of.

    Raises
    ------
    DataError
        If the text is cut short or damaged, or holds what is not supported: several outputs per row, random
        forests (averaged output), linear leaves.
    """
    header, sections = _split_text(text)
    n_features = _check_header(header)
    trees = [_read_tree(section, number, n_features) for number, section in enumerate(sections)]
    return {"n_features": n_features, **_concatenate(trees)}


def _split_text(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    body, end, _ = text.partition("\nend of trees")
    if not text.startswith("tree\n") or not end:
        raise DataError(
            "this is not a whole LightGBM model text: it must begin with 'tree' and hold 'end of trees'. "
            "Save the model again."
        )
    header, *sections = body.split("\nTree=")
    return _fields(header), [_fields(section) for section in sections]


def _fields(section: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in section.splitlines())
    return {key: value if equals else "present" for key, equals, value in pairs if key}


def _check_header(header: dict[str, str]) -> int:
    wanted = {"version": "v4", "num_class": "1", "num_tree_per_iteration": "1"}
    for key, value in wanted.items():
        if header.get(key) != value:
            raise DataError(
                f"LightGBM model text: {key} is {header.get(key, 'missing')}, but only {key}={value} is supported"
            )
    if "average_output" in header:
        raise DataError("LightGBM model text: averaged output (boosting=rf) is not supported; train with boosting=gbdt")
    (n_features,) = _integers(header, "max_feature_idx", 1, "the header")
    if n_features < 0:
        raise DataError("LightGBM model text: max_feature_idx is negative. The text is damaged.")
    return int(n_features) + 1


def _read_tree(fields: dict[str, str], number: int, n_features: int) -> dict[str, NDArray[Any]]:
    """Read one tree with its own (local) numbering of nodes and leaves."""
    where = f"tree {number}"
    if fields.get("is_linear", "0") != "0":
        raise DataError(f"LightGBM model text, {where}: linear leaves are not supported; train with linear_tree=false")
    (n_leaves,) = _integers(fields, "num_leaves", 1, where)
    _demand(1 <= n_leaves <= 1_000_000, where, "num_leaves", "must be from 1 to 1,000,000")
    n_nodes = int(n_leaves) - 1
    leaf_value = _floats(fields, "leaf_value", n_nodes + 1, where)
    leaf_count = _floats(fields, "leaf_count", n_nodes + 1, where)
    _demand(bool(np.isfinite(leaf_value).all()), where, "leaf_value", "must be finite")
    _demand(bool(((leaf_count >= 1) & np.isfinite(leaf_count)).all()), where, "leaf_count", "must be a row or more")
    nodes = np.zeros(n_nodes, NODE)
    nodes["threshold"] = _floats(fields, "threshold", n_nodes, where)  # inf parts all numbers from NaN
    nodes["feature"] = _integers(fields, "split_feature", n_nodes, where)
    inside = (nodes["feature"] >= 0) & (nodes["feature"] < n_features)
    _demand(bool(inside.all()), where, "split_feature", f"must be from 0 to {n_features - 1}")
    nodes["left"] = _integers(fields, "left_child", n_nodes, where)
    nodes["right"] = _integers(fields, "right_child", n_nodes, where)
    _check_children(nodes, where)
    nodes["kind"] = _kinds(_integers(fields, "decision_type", n_nodes, where), nodes["threshold"], where)
    starts, words = _read_categories(fields, nodes, where)
    return {"nodes": nodes, "leaf_value": leaf_value, "leaf_count": leaf_count, "starts": starts, "words": words}


def _check_children(nodes: NDArray[Any], where: str) -> None:
    """Demand a tree: each node but the root, and each leaf, hangs once below a node with a smaller number."""
    n_nodes = len(nodes)
    children = np.concatenate([nodes["left"], nodes["right"]]).astype(np.int64)
    expected = np.arange(-(n_nodes + 1), n_nodes) if n_nodes else children
    expected = expected[expected != 0]  # nothing hangs the root below a node
    whole = np.array_equal(np.sort(children), expected)
    parents = np.tile(np.arange(n_nodes), 2)
    downwards = bool((children[children >= 0] > parents[children >= 0]).all())
    _demand(whole and downwards, where, "left_child, right_child", "must form one tree")


def _kinds(decision: NDArray[np.int64], threshold: Float64, where: str) -> NDArray[np.int64]:
    """Turn LightGBM's decision bits (1: categorical, 2: default left, 4 and 8: type of missing) to kinds."""
    missing, left = (decision >> 2) & 3, (decision >> 1) & 1
    _demand(bool(((decision >= 0) & (decision < 16) & (missing < 3)).all()), where, "decision_type", "is unknown")
    as_zero = np.where(threshold >= 0.0, NAN_LEFT, NAN_RIGHT)  # no NaN in training: LightGBM takes it for 0
    numeric = np.choose(missing, [as_zero, ZERO_RIGHT + left, NAN_RIGHT + left])
    return np.where(decision & 1, CATEGORY, numeric)


def _read_categories(
    fields: dict[str, str], nodes: NDArray[Any], where: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    (n_splits,) = _integers(fields, "num_cat", 1, where)
    categorical = nodes["kind"] == CATEGORY
    if n_splits == 0:
        _demand(not categorical.any(), where, "num_cat", "is 0, yet a split is categorical")
        return np.zeros(1, np.int64), np.zeros(0, np.int64)
    starts = _integers(fields, "cat_boundaries", int(n_splits) + 1, where)
    _demand(bool(starts[0] == 0 and (np.diff(starts) > 0).all()), where, "cat_boundaries", "must start at 0 and ascend")
    words = _integers(fields, "cat_threshold", int(starts[-1]), where)
    _demand(bool(((words >= 0) & (words < 2**32)).all()), where, "cat_threshold", "must be 32-bit words")
    split = nodes["threshold"][categorical]
    inside = (split >= 0) & (split < n_splits) & (split == np.floor(split))
    _demand(bool(inside.all()), where, "threshold", f"of a categorical split must be from 0 to {n_splits - 1}")
    return starts, words


def _concatenate(trees: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Lay the trees behind each other and renumber nodes, leaves and categorical splits over the whole."""
    node_starts = _starts(len(tree["nodes"]) for tree in trees)
    leaf_starts = _starts(len(tree["leaf_value"]) for tree in trees)
    split_starts = _starts(len(tree["starts"]) - 1 for tree in trees)
    word_starts = _starts(len(tree["words"]) for tree in trees)
    nodes, boundaries = [], [np.zeros(1, np.int64)]
    for tree, node0, leaf0, split0, word0 in zip(
        trees, node_starts, leaf_starts, split_starts, word_starts, strict=False
    ):
        part = tree["nodes"].copy()
        for side in ("left", "right"):
            part[side] = np.where(part[side] >= 0, part[side] + node0, part[side] - leaf0)  # ~(a + b) = ~a - b
        part["threshold"] += np.where(part["kind"] == CATEGORY, split0, 0)
        nodes.append(part)
        boundaries.append(tree["starts"][1:] + word0)
    grown = np.diff(node_starts) > 0
    return {
        "nodes": np.concatenate([np.zeros(0, NODE), *nodes]),
        "roots": np.where(grown, node_starts[:-1], ~leaf_starts[:-1]).astype(np.int32),
        "leaf_value": np.concatenate([np.zeros(0), *(tree["leaf_value"] for tree in trees)]),
        "leaf_count": np.concatenate([np.zeros(0), *(tree["leaf_count"] for tree in trees)]),
        "leaf_starts": leaf_starts.astype(np.int32),
        "category_starts": np.concatenate(boundaries).astype(np.int32),
        "category_words": np.concatenate([np.zeros(0, np.int64), *(tree["words"] for tree in trees)]).astype(np.uint32),
    }


def _starts(sizes: Iterator[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.fromiter(sizes, np.int64))]).astype(np.int64)


def _integers(fields: dict[str, str], key: str, n: int, where: str) -> NDArray[np.int64]:
    try:
        found = [int(word) for word in fields[key].split()]
    except (KeyError, ValueError):
        raise _damaged(where, key, f"must hold {n} whole numbers") from None
    _demand(len(found) == n and all(abs(x) < 2**40 for x in found), where, key, f"must hold {n} whole numbers")
    return np.array(found, np.int64)


def _floats(fields: dict[str, str], key: str, n: int, where: str) -> Float64:
    try:
        found = np.array([float(word) for word in fields[key].split()], np.float64)
    except (KeyError, ValueError):
        raise _damaged(where, key, f"must hold {n} numbers") from None
    _demand(len(found) == n and not np.isnan(found).any(), where, key, f"must hold {n} numbers")
    return found


def _demand(holds: bool, where: str, key: str, rule: str) -> None:
    if not holds:
        raise _damaged(where, key, rule)


def _damaged(where: str, key: str, rule: str) -> DataError:
    return DataError(f"LightGBM model text, {where}: {key} {rule}. The text is damaged: save the model again.")
