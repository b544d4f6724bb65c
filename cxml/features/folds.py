"""The fold of a customer, which follows from the id alone: the same in training, in a batch and in a service.

What is learned from outcomes is learned once for each fold, from the customers of all other folds. So nobody's own
outcome is ever in a value of theirs, in training as little as later.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxml.errors import DataError
from cxml.journeys.shuffle import parts_of_integers, parts_of_texts

Int64 = NDArray[np.int64]

N_FOLDS = 5
#: From here on a text is no longer read as an integer, so that integers must go the way of texts.
_TOO_LONG = 10**18


def folds_of(customers: NDArray[np.generic]) -> Int64:
    """Give each customer a fold.

    Parameters
    ----------
    customers : int64 or object (str) array of shape (n_customers,)
        Ids; ``"17"`` has the fold of 17.

    Returns
    -------
    int64 array of shape (n_customers,)
        From 0 to ``N_FOLDS - 1``.

    Raises
    ------
    DataError
        If an id is the empty text: what depends on the customer cannot be said of nobody.

    Examples
    --------
    >>> folds_of(np.array([17, 18, 19])).tolist(), folds_of(np.array(["17", "ann"], object)).tolist()
    ([1, 0, 4], [1, 2])
    """
    if customers.dtype == object:
        texts = [str(customer) for customer in customers.tolist()]
        if "" in texts:
            raise DataError(
                "a journey without customer_id: features that are learned from outcomes (likeness, peers) depend on "
                "whose journey it is. Give the events their customer_id."
            )
        return parts_of_texts(texts, N_FOLDS).astype(np.int64)
    ids = np.ascontiguousarray(customers, np.int64)
    folds = parts_of_integers(ids, N_FOLDS).astype(np.int64)
    long = np.flatnonzero((ids >= _TOO_LONG) | (ids <= -_TOO_LONG))
    folds[long] = parts_of_texts([str(one) for one in ids[long].tolist()], N_FOLDS)
    return folds
