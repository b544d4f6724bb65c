"""The rhythm of customers who never say goodbye: fits the BG/NBD model behind ``p_alive``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.times import DAY_US

if TYPE_CHECKING:
    from cxml.journeys.block import EventBlock

Float64 = NDArray[np.float64]

#: Customers the parameters are learned from at most; more change the third digit.
_MOST = 50_000


def rhythms(
    blocks: Iterable[EventBlock], until: int, select: Callable[[EventBlock], NDArray[np.bool_]] | None = None
) -> Float64:
    """Reduce each customer to repeat days, recency and age.

    Parameters
    ----------
    blocks : iterable of EventBlock
    until : int
        UTC microseconds; only events that happened and were known before count.
    select : callable, optional
        Tells for each event of a block whether it counts; default: all do.

    Returns
    -------
    float64 array of shape (n_customers, 3)
        Days with an event after the first such day; days from the first event to the latest; days from the first
        event to ``until``. Customers without an event are left out.

    Examples
    --------
    >>> from cxml.journeys.block import Coded, EventBlock
    >>> block = EventBlock(np.array([7]), np.array([0, 3]), np.array([0, 1, 2]) * DAY_US, None,
    ...                    {"touchpoint": Coded(np.zeros(3, np.int32), ("buy",))})
    >>> rhythms([block], 10 * DAY_US)
    array([[ 2.,  2., 10.]])
    """
    return np.concatenate([np.empty((0, 3)), *(_rhythms(block, until, select) for block in blocks)])


def _rhythms(block: EventBlock, until: int, select: Callable[[EventBlock], NDArray[np.bool_]] | None) -> Float64:
    counts = (block.time if block.known is None else block.known) < until
    if select is not None:
        counts &= select(block)
    customer = np.repeat(np.arange(block.n_customers), np.diff(block.starts))[counts]
    time = block.time[counts]
    if not len(time):
        return np.empty((0, 3))
    begins = np.append(True, customer[1:] != customer[:-1])
    new_day = begins | np.append(True, time[1:] // DAY_US != time[:-1] // DAY_US)
    first = time[begins]
    last = time[np.append(begins[1:], True)]
    days = np.add.reduceat(new_day, np.flatnonzero(begins))
    return np.stack([days - 1, (last - first) / DAY_US, (until - first) / DAY_US], axis=1).astype(np.float64)


def fit_alive(found: Float64) -> tuple[float, float, float, float] | None:
    """Learn the BG/NBD model by maximum likelihood.

    A customer comes at a personal rate (gamma with shape ``r`` and rate ``alpha`` over customers) and may fall silent
    after each time with a personal probability (beta with ``a`` and ``b``). Fader, Hardie and Lee 2005, "Counting Your
    Customers" the Easy Way, Marketing Science 24(2), equation 6.

    Parameters
    ----------
    found : float64 array of shape (n_customers, 3)
        What `rhythms` gives.

    Returns
    -------
    (r, alpha, a, b) or None
        ``alpha`` in days, each with six digits; None where too few customers came back to learn from, or no maximum
        was found.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> days = rng.poisson(3.0, 500)
    >>> r, alpha, a, b = fit_alive(np.stack([days, np.where(days, 80.0, 0.0), np.full(500, 90.0)], axis=1))
    >>> bool(r / alpha > 0.01)
    True
    """
    from scipy.optimize import minimize

    if (found[:, 0] > 0).sum() < 30:
        return None
    if len(found) > _MOST:  # sorted first: in which order customers come depends on how many parts the log is in
        found = found[np.lexsort(found.T)]
        found = found[np.linspace(0, len(found) - 1, _MOST).astype(np.int64)]
    times, inverse = np.unique(found, axis=0, return_inverse=True)
    weight = np.bincount(inverse.ravel())
    scale = max(1.0, float(np.mean(times[:, 2])))  # ages near 1 keep the search well conditioned
    x, recency, age = times[:, 0], times[:, 1] / scale, times[:, 2] / scale

    def loss(logs: Float64) -> Any:
        return -np.average(_log_likelihood(np.exp(logs), x, recency, age), weights=weight)

    best = minimize(loss, np.log([1.0, 1.0, 1.0, 3.0]), method="L-BFGS-B", bounds=[(-7.0, 7.0)] * 4)
    if not np.isfinite(best.fun):
        return None
    r, alpha, a, b = np.exp(best.x)
    return _short(r), _short(alpha * scale), _short(a), _short(b)


def _short(number: float) -> float:
    return float(f"{number:.6g}")  # the last bits of a search depend on the machine


def _log_likelihood(parameters: Float64, x: Float64, recency: Float64, age: Float64) -> Float64:
    from scipy.special import betaln, gammaln

    r, alpha, a, b = parameters
    rate = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    alive = betaln(a, b + x) - betaln(a, b) - (r + x) * np.log(alpha + age)
    silent = betaln(a + 1, b + np.maximum(x, 1) - 1) - betaln(a, b) - (r + x) * np.log(alpha + recency)
    likelihood: Float64 = rate + np.logaddexp(alive, np.where(x > 0, silent, -np.inf))
    return likelihood
