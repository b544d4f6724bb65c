"""LightGBM's decision at a split, compiled: checks nothing, all indices were checked when the text was read."""

from __future__ import annotations

import numpy as np
from numba import njit

from cxml.models.modeltext import CATEGORY, NAN_LEFT, ZERO_LEFT

_ZERO = float(np.float32(1e-35))  # LightGBM's kZeroThreshold
_LARGEST_CODE = 2147483647.0


@njit(cache=True, nogil=True)
def goes_left(value, kind, threshold, category_starts, category_words):  # type: ignore[no-untyped-def]
    """Tell LightGBM's decision at one split (``Tree::NumericalDecision``, ``Tree::CategoricalDecision``)."""
    if kind <= NAN_LEFT:  # without a branch: `|` and `&`, not `or` and `and`
        return (value <= threshold) | (np.isnan(value) & (kind == NAN_LEFT))
    if kind == CATEGORY:
        return is_among(value, np.int64(threshold), category_starts, category_words)
    if np.isnan(value) or (value >= -_ZERO and value <= _ZERO):
        return kind == ZERO_LEFT
    return value <= threshold


@njit(cache=True, nogil=True)
def is_among(value, split, category_starts, category_words):  # type: ignore[no-untyped-def]
    """Tell whether the code is in the bit set of a categorical split; NaN, negative and huge codes are not."""
    if not (value > -1.0 and value <= _LARGEST_CODE):
        return False
    code = np.int64(value)
    word = category_starts[split] + (code >> 5)
    if word >= category_starts[split + 1]:
        return False
    return (category_words[word] >> np.uint32(code & 31)) & np.uint32(1) == 1
