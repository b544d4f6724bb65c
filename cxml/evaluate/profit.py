"""What a campaign of retention is worth when the predictions choose whom to address.

The model of Verbraken, Verbeke and Baesens (2013), "A novel profit maximizing metric for measuring classification
performance of customer churn prediction models", IEEE Transactions on Knowledge and Data Engineering 25(5), with a
value of its own for each customer as in Oskarsdottir, Baesens and Vanthienen (2018), "Profit-based model selection
for customer retention using individual customer lifetime values", Big Data 6(1):

    a churner is addressed:   accepts with chance g and stays:    value - offer - contact
                              else leaves all the same:           - contact
    anybody else is addressed: takes the offer gladly:            - offer - contact
    not addressed:                                                  0

How likely a churner accepts is not known, only its distribution: g is Beta(6, 14) by default, 0.3 on average. The
*expected maximum profit* takes the best number of customers to address for each g and the mean over g.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxml.errors import ConfigError, DataError
from cxml.evaluate.metrics import Cell, Float64, ratio, weights_of, yes_no

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Campaign:
    """What a campaign costs, in the unit of the customers' value.

    Parameters
    ----------
    offer : float
        What the offer costs with everyone who takes it. The defaults are the proportions of Verbraken et al. (2013)
        to a customer worth 1: an offer of 10 and a contact of 1 for a customer worth 200.
    contact : float
        What addressing a customer costs.
    accepts : (float, float)
        Parameters a and b of the Beta distribution of the chance that a churner accepts and stays.

    Raises
    ------
    ConfigError
        If a cost is negative or a parameter is not above 0.

    Examples
    --------
    >>> round(Campaign().chance, 2)
    0.3
    """

    offer: float = 0.05
    contact: float = 0.005
    accepts: tuple[float, float] = (6.0, 14.0)

    def __post_init__(self) -> None:
        if not (self.offer >= 0 and self.contact >= 0 and min(self.accepts) > 0):
            raise ConfigError(
                f"campaign: offer {self.offer:g} and contact {self.contact:g} must not be negative, and both numbers "
                f"of accepts {tuple(self.accepts)} must be above 0"
            )

    @property
    def chance(self) -> float:
        """Mean chance that a churner accepts."""
        a, b = self.accepts
        return a / (a + b)


class ProfitCurve(NamedTuple):
    """Profit against the share of customers addressed.

    Parameters
    ----------
    share : array of shape (n_points,)
        From 0 to 1.
    profit : array of shape (n_points,)
        A customer of the base, in the unit of the value.
    """

    share: Float64
    profit: Float64

    @property
    def best(self) -> tuple[float, float]:
        """The share with the highest profit, and that profit."""
        place = int(np.argmax(self.profit))
        return float(self.share[place]), float(self.profit[place])


def expected_gain(predicted: ArrayLike, value: ArrayLike = 1.0, campaign: Campaign | None = None) -> Float64:
    """Return what addressing each customer is expected to bring: the order in which `expected_profit` addresses them.

    Parameters
    ----------
    predicted : array of shape (n,)
        P(churn).
    value : float or array of shape (n,)
        What is lost with the customer; unknown (NaN) counts as nothing.
    campaign : Campaign, optional

    Returns
    -------
    float64 array of shape (n,)

    Examples
    --------
    >>> expected_gain([0.0, 1.0], value=100.0, campaign=Campaign(offer=10.0, contact=1.0)).round(9).tolist()
    [-11.0, 26.0]
    """
    terms = campaign or Campaign()
    p = np.asarray(predicted, dtype=np.float64)
    worth = _worth(value, len(p))
    kept = terms.chance * (worth - terms.offer)
    gain: Float64 = p * kept - (1.0 - p) * terms.offer - terms.contact
    return gain


def expected_profit(
    observed: ArrayLike,
    predicted: ArrayLike,
    value: ArrayLike = 1.0,
    *,
    campaign: Campaign | None = None,
    weight: ArrayLike | None = None,
) -> Any:
    """Return the expected maximum profit of a campaign that addresses customers by their expected gain; see the module.

    Parameters
    ----------
    observed : array of shape (n,)
        1 churned, 0 not.
    predicted : array of shape (n,)
        P(churn).
    value : float or array of shape (n,)
        What is lost with the customer; unknown (NaN) counts as nothing. The same for all by default, and then this is
        the EMPC of Verbraken et al. (2013), in customer values.
    campaign : Campaign, optional
    weight : array of shape (n,) or (n_replicates, n), optional
        Non-negative.

    Returns
    -------
    float, or array of shape (n_replicates,)
        A customer of the base, in the unit of the value; never below 0, since one may address nobody.

    Examples
    --------
    >>> perfect = expected_profit([1, 0, 0, 0], [1.0, 0.0, 0.0, 0.0])
    >>> round(perfect, 5) == round((0.3 * 0.95 - 0.005) / 4, 5)
    True
    >>> expected_profit([0, 0], [0.9, 0.1])
    0.0
    """
    terms = campaign or Campaign()
    y, p = yes_no(observed, predicted)
    w = weights_of(weight, len(y))
    worth = _worth(value, len(y))
    order = _in_order(y, p, worth, terms)
    corners = np.empty((2, len(y) + 1))
    totals = []
    for row in np.atleast_2d(w):
        n = _upper_hull(row[order.rows], order.kept, order.spent, order.ends, corners[0], corners[1])
        totals.append(_expected_maximum(corners[0, :n], corners[1, :n], terms))
    found = ratio(totals, np.atleast_2d(w).sum(axis=1))
    return found if w.ndim == 2 else float(found[0])


def profit_curve(
    observed: ArrayLike, predicted: ArrayLike, value: ArrayLike = 1.0, *, campaign: Campaign | None = None
) -> ProfitCurve:
    """Draw up the profit against the share of customers addressed, at the mean chance that a churner accepts.

    Parameters
    ----------
    observed, predicted, value, campaign
        As in `expected_profit`.

    Returns
    -------
    ProfitCurve
        One point for each group of equal expected gain; the first is nobody.

    Examples
    --------
    >>> share, profit = profit_curve([1, 0], [0.9, 0.1], campaign=Campaign(offer=0.1, contact=0.0)).best
    >>> share, round(profit, 3)
    (0.5, 0.135)
    """
    terms = campaign or Campaign()
    y, p = yes_no(observed, predicted)
    worth = _worth(value, len(y))
    order = _in_order(y, p, worth, terms)
    profit = np.cumsum(terms.chance * order.kept - order.spent)[order.ends]
    share = (np.flatnonzero(order.ends) + 1) / max(len(y), 1)
    return ProfitCurve(np.r_[0.0, share], np.r_[0.0, profit / max(len(y), 1)])


def profit_cells(
    known: ArrayLike,
    predicted: ArrayLike,
    horizons: Sequence[str],
    value: ArrayLike = 1.0,
    campaign: Campaign | None = None,
) -> Iterator[Cell]:
    """List ``expected_profit`` at every horizon as cells, each on the rows whose outcome is known there.

    Parameters
    ----------
    known, predicted : array of shape (n, n_horizons)
    horizons : sequence of str
        As in `cxml.evaluate.metrics.churn_cells`.
    value, campaign
        As in `expected_profit`.

    Yields
    ------
    Cell
    """
    outcome, p = np.asarray(known, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    worth = _worth(value, len(outcome))
    for k, horizon in enumerate(horizons):
        rows = ~np.isnan(outcome[:, k])
        arrays = (outcome[rows, k], p[rows, k], worth[rows])
        yield Cell(f"expected_profit_{horizon}", partial(expected_profit, campaign=campaign), arrays, rows)


def _worth(value: ArrayLike, n: int) -> Float64:
    worth = np.asarray(value, dtype=np.float64)
    if worth.ndim and worth.shape != (n,):
        raise DataError(f"value has shape {worth.shape}; give one number, or one for each of {n} rows")
    return np.nan_to_num(np.broadcast_to(worth, (n,)), nan=0.0)


class _Order(NamedTuple):
    """Customers in the order in which they are addressed.

    Parameters
    ----------
    rows : int array of shape (n,)
    kept, spent : array of shape (n,)
        What acceptance keeps of each, and what addressing costs for certain.
    ends : bool array of shape (n,)
        Whether the next one's expected gain differs.
    """

    rows: NDArray[np.intp]
    kept: Float64
    spent: Float64
    ends: NDArray[np.bool_]


def _in_order(y: Float64, p: Float64, worth: Float64, terms: Campaign) -> _Order:
    gain = expected_gain(p, worth, terms)
    rows = np.argsort(-gain, kind="stable")
    ends = np.r_[gain[rows][1:] != gain[rows][:-1], np.ones(min(len(rows), 1), dtype=np.bool_)]
    kept, spent = y * (worth - terms.offer), (1.0 - y) * terms.offer + terms.contact
    return _Order(rows, kept[rows], spent[rows], ends)


def _expected_maximum(spent: Float64, kept: Float64, terms: Campaign) -> float:
    """Mean over g of the highest ``g * kept - spent``: each corner of the hull is best between two values of g."""
    from scipy.special import betainc

    a, b = terms.accepts
    with np.errstate(divide="ignore"):
        turns = np.diff(spent) / np.diff(kept)
    edges = np.clip(np.r_[0.0, turns, 1.0], 0.0, 1.0)
    mass, first_moment = np.diff(betainc(a, b, edges)), terms.chance * np.diff(betainc(a + 1.0, b, edges))
    return float(kept @ first_moment - spent @ mass)


def _compiled(function: _F) -> _F:
    return cast(_F, numba.njit(cache=True, nogil=True)(function))


@_compiled
def _upper_hull(weight: Float64, kept: Float64, spent: Float64, ends: NDArray[np.bool_], x: Float64, y: Float64) -> int:
    """Walk down the order and write the rising corners of the upper hull of (spent, kept); return how many.

    Each is the best number of customers to address for some chance of acceptance (monotone chain, Andrew 1979).
    """
    x[0], y[0] = 0.0, 0.0
    n, now_x, now_y = 1, 0.0, 0.0
    for i in range(len(weight)):
        now_x += weight[i] * spent[i]
        now_y += weight[i] * kept[i]
        if not ends[i] or (n > 0 and now_y <= y[n - 1]):
            continue
        while n > 0 and now_x <= x[n - 1]:
            n -= 1
        while n > 1 and (y[n - 1] - y[n - 2]) * (now_x - x[n - 1]) <= (now_y - y[n - 1]) * (x[n - 1] - x[n - 2]):
            n -= 1
        x[n], y[n] = now_x, now_y
        n += 1
    return n
