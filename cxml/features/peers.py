"""Rates among peers: how customers of the same attribute fared, as far as that was known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError
from cxml.features.folds import N_FOLDS, folds_of

if TYPE_CHECKING:
    from cxml.features.plan import FeaturePlan

_F = TypeVar("_F", bound=Callable[..., Any])
Int64 = NDArray[np.int64]

TARGETS = ("churn", "score")
_SENTENCES = {
    "churn": "Share that churned within the shortest horizon among",
    "score": "Mean score of",
}


@dataclass(frozen=True)
class PeerTable:
    """How the customers of each value of an attribute fared, at some dates.

    Parameters
    ----------
    attribute : str
        The category by which customers are peers.
    target : {"churn", "score"}
        Whether the rates are shares that churned or mean scores.
    dates : tuple of int
        UTC microseconds, ascending. A cutoff takes the rates of the latest date that is not after it.
    rates : tuple of tuple of tuple of float
        ``rates[fold][date][code]``, learned without the customers of the fold; behind the codes of the vocabulary
        stand those of ``other`` and of an unknown value.

    Raises
    ------
    ConfigError
        If dates do not ascend, or there is no rate for each of them in every fold.

    Examples
    --------
    >>> table = PeerTable("plan", "churn", (0, 10), (((0.1, 0.2, 0.2), (0.1, 0.3, 0.2)),) * N_FOLDS)
    >>> table.name
    'peer_churn__plan'
    >>> PeerTable.from_dict(table.to_dict()) == table
    True
    """

    attribute: str
    target: str
    dates: tuple[int, ...]
    rates: tuple[tuple[tuple[float, ...], ...], ...]

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ConfigError(f"peers: unknown target {self.target!r}; it is churn or score")
        if not self.dates or any(a >= b for a, b in pairwise(self.dates)):
            raise ConfigError(f"{self.name}: dates must ascend, and there must be one; train the model again")
        widths = {len(codes) for dates in self.rates for codes in dates}
        if [len(dates) for dates in self.rates] != [len(self.dates)] * N_FOLDS or len(widths) != 1:
            raise ConfigError(f"{self.name}: rates must be of {N_FOLDS} folds and {len(self.dates)} dates each")
        if not np.isfinite(self.table).all():
            raise ConfigError(f"{self.name}: a rate is no number; train the model again")

    @property
    def name(self) -> str:
        """The column."""
        return f"peer_{self.target}__{self.attribute}"

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """The rates as an array of shape (n_folds, n_dates, n_codes)."""
        return np.array(self.rates, np.float64)

    @cached_property
    def moments(self) -> Int64:
        """The dates as an array."""
        return np.array(self.dates, np.int64)

    def describe(self) -> str:
        """Say in a plain sentence what the column holds."""
        return (
            f"{_SENTENCES[self.target]} other customers with the same {self.attribute}, of the year before the latest "
            "monthly date that training knew before the cutoff."
        )

    def to_dict(self) -> dict[str, Any]:
        """Give the table as JSON-able data."""
        return {
            "attribute": self.attribute,
            "target": self.target,
            "dates": list(self.dates),
            "rates": [[list(codes) for codes in dates] for dates in self.rates],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PeerTable:
        """Read back what `to_dict` gave.

        Raises
        ------
        ConfigError
            If it is no such table.
        """
        try:
            return cls(
                str(data["attribute"]),
                str(data["target"]),
                tuple(int(date) for date in data["dates"]),
                tuple(tuple(tuple(float(rate) for rate in codes) for codes in dates) for dates in data["rates"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"peers: not a table of rates ({error!r}); train the model again") from None


def fill_peers(
    plan: FeaturePlan,
    customers: NDArray[np.generic],
    row_starts: Int64,
    cutoffs: Int64,
    rows: Int64,
    out: NDArray[np.float32],
) -> None:
    """Fill the columns of rates among peers, from those of the attributes, which are filled already.

    Parameters
    ----------
    plan : FeaturePlan
        Says which rates, and where they go.
    customers : array of shape (n_customers,)
        Ids of the block.
    row_starts, cutoffs, rows, out
        As in `cxml.features.matrix.fill_matrix`.

    Raises
    ------
    DataError
        If there are such columns, and a customer has no id.
    """
    if not plan.peers:
        return
    folds = folds_of(customers)
    for peers, (source, target) in zip(plan.peers, plan.peer_places, strict=True):
        _fill_rates(peers.table, peers.moments, folds, row_starts, cutoffs, rows, out, source, target)


def _compiled(function: _F) -> _F:
    return cast(_F, numba.njit(cache=True, nogil=True)(function))


@_compiled
def _fill_rates(
    rates: NDArray[np.float64],
    dates: Int64,
    folds: Int64,
    row_starts: Int64,
    cutoffs: Int64,
    rows: Int64,
    out: NDArray[np.float32],
    source: int,
    target: int,
) -> None:
    """Fill one column from the codes in another; NaN for a cutoff before all dates."""
    for customer in range(folds.size):
        for snapshot in range(row_starts[customer], row_starts[customer + 1]):
            row = rows[snapshot] if rows.size else snapshot
            date = np.searchsorted(dates, cutoffs[snapshot], side="right") - 1
            code = out[row, source]
            place = rates.shape[2] - 1 if np.isnan(code) else np.int64(code)
            out[row, target] = rates[folds[customer], date, place] if date >= 0 else np.nan
