"""The test of a model: its metrics with intervals, beside what anyone would do without it, on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.evaluate.bootstrap import Interval, metric_intervals, paired_difference
from cxml.evaluate.metrics import Cell, churn_cells, log_loss, rps, score_cells
from cxml.evaluate.profit import Campaign, profit_cells
from cxml.evaluate.slices import Slice, slice_metrics
from cxml.evaluate.survival import survival_cells
from cxml.times import Duration

Float64 = NDArray[np.float64]

MODEL = "cxml"
#: Beginning of what the model says of one reason, among predictions: ``"cxml: moved"``.
BY_REASON = f"{MODEL}: "

#: Beginnings of the metrics that a table for people shows; all are in the card and in MLflow.
_SHOWN = ("auroc", "log", "ece", "lift", "concordance", "integrated", "expected", "rps", "mae", "quadratic", "nps",
          "balance")  # fmt: skip
#: What decides whether a model is better, as people call it.
_DECIDES = {"churn": "log loss", "satisfaction": "RPS"}
#: Metrics taken apart by attribute.
_SLICED = ("base_rate", "rate_error", "auroc", "log_loss", "rps", "mae", "nps_error", "balance_error")
#: Metrics of churn for one reason.
_OF_A_REASON = ("base_rate", "rate_error", "auroc", "log_loss", "ece")


@dataclass(frozen=True, slots=True)
class Exam:
    """Metrics of the model and of the baselines on the same test snapshots.

    Parameters
    ----------
    target : str
        ``"churn"`` or ``"satisfaction"``.
    n_rows, n_customers : int
        Size of the test.
    scores : dict of str to dict of str to Interval
        Who predicted -> metric -> value with its 95 % bootstrap interval over customers.
    gains : dict of str to dict of str to Interval
        Baseline -> metric -> model minus baseline, paired, for the metric that decides (log loss by horizon,
        RPS); below 0 the model is better.
    slices : tuple of Slice
        Metrics of the model by attribute, those of churn at the first horizon.
    """

    target: str
    n_rows: int
    n_customers: int
    scores: dict[str, dict[str, Interval]]
    gains: dict[str, dict[str, Interval]]
    slices: tuple[Slice, ...] = ()

    @property
    def beats_all(self) -> bool:
        """Whether the model is better than every baseline on every deciding metric."""
        return any(self.gains.values()) and not self.unbeaten()

    def table(self) -> tuple[str, list[str], list[list[str]]]:
        """Return title, head and rows of a table for people."""
        shown = [m for m in self.scores[MODEL] if m.split("_")[0] in _SHOWN]
        rows = [
            [metric, *(_cell(metrics.get(metric), with_interval=who == MODEL) for who, metrics in self.scores.items())]
            for metric in shown
        ]
        title = f"{self.target}: test on {self.n_rows:,} snapshots of {self.n_customers:,} customers"
        return title, ["metric", *self.scores], rows

    def unbeaten(self) -> list[str]:
        """Name the baselines that the model does not beat, with metric and paired difference, the worst first."""
        return self._said(lambda gain: not gain.value < 0)

    def verdict(self) -> str:
        """Say in one sentence whether the model is worth having, and on which metric."""
        unbeaten = self.unbeaten()
        close = self._said(lambda gain: gain.value < 0 and not gain.high < 0)  # an end that is NaN proves nothing
        decides = _DECIDES[self.target]
        if not any(self.gains.values()):
            return f"{self.target}: nothing to compare with on {decides}"
        if unbeaten:
            also = f"; within chance on {len(close)}" if close else ""
            return f"{self.target}: does NOT beat every baseline on {decides}: no better on {worst_of(unbeaten)}{also}"
        if close:
            return f"{self.target}: better than every baseline on {decides}, but within chance on {worst_of(close)}"
        return f"{self.target}: better than every baseline on {decides}, beyond chance"

    def _said(self, chosen: Callable[[Interval], bool]) -> list[str]:
        found = [
            (gain, f"{metric} against {who} ({gain.value:+.4f}, {gain.low:+.4f} to {gain.high:+.4f})")
            for who, gains in self.gains.items()
            for metric, gain in gains.items()
            if chosen(gain)
        ]
        return [text for _, text in sorted(found, key=lambda each: -each[0].value)]

    def flat(self) -> dict[str, float]:
        """Return the model's metrics by name, as numbers."""
        return {name: interval.value for name, interval in self.scores[MODEL].items()}


def worst_of(said: Sequence[str]) -> str:
    """Say the first of several, and how many more there are.

    Examples
    --------
    >>> worst_of(["log_loss_30d against base rate", "log_loss_60d against base rate"])
    'log_loss_30d against base rate and 1 more'
    """
    return said[0] + (f" and {len(said) - 1} more" if len(said) > 1 else "")


def examine_churn(
    known: Float64,
    predictions: Mapping[str, Float64],
    horizons: Sequence[str],
    customers: NDArray[np.generic],
    *,
    followed: tuple[Float64, Float64] | None = None,
    inactivity: bool = False,
    value: Float64 | float = 1.0,
    campaign: Campaign | None = None,
    reasons: Mapping[str, tuple[Float64, Float64]] | None = None,
    attributes: Mapping[str, NDArray[Any]] | None = None,
    n: int = 200,
    random_state: int = 0,
) -> Exam:
    """Test churn predictions at every horizon.

    Parameters
    ----------
    known : array of shape (n_rows, n_horizons)
        1 churned by the horizon, 0 not, NaN censored before it.
    predictions : dict of str to array of shape (n_rows, n_horizons)
        Who -> P(churn by the horizon); ``"cxml"`` is the model.
    horizons : sequence of str
    customers : array of shape (n_rows,)
        A customer's rows are drawn together.
    followed : (array of shape (n_rows,), array of shape (n_rows,)), optional
        Days to the outcome or to the end of what was seen, and whether the outcome was seen (1 or 0); for
        concordance and integrated Brier score.
    inactivity : bool
        Whether the outcome in ``followed`` is the next activity, and churn its absence.
    value : float or array of shape (n_rows,)
        What is lost with the customer; for the expected profit.
    campaign : Campaign, optional
        What retention costs, in the same unit.
    reasons : mapping of str to (array, array), optional
        Reason -> as ``known``, with 1 only where it was the reason, and P(churn by the horizon, for it); two arrays of
        shape (n_rows, n_horizons).
    attributes : mapping of str to str array of shape (n_rows,), optional
        By which to take the metrics apart.
    n : int
        Bootstrap replicates.
    random_state : int

    Returns
    -------
    Exam
    """
    # A horizon nobody in the test was observed for says nothing; one whole column of NaN would only be noise.
    seen = [k for k in range(len(horizons)) if (~np.isnan(known[:, k])).any()]
    names = [horizons[k] for k in seen]
    days = [Duration.parse(name).days for name in names]

    def cells_of(p: Float64) -> list[Cell]:
        told = [*churn_cells(known[:, seen], p, names), *profit_cells(known[:, seen], p, names, value, campaign)]
        if followed is None or not names:
            return told
        return [*told, *survival_cells(*followed, 1.0 - p if inactivity else p, days)]

    cells = {who: cells_of(p[:, seen]) for who, p in predictions.items()}
    for reason, (happened, p) in (reasons or {}).items():
        cells[MODEL] += _reason_cells(reason, happened[:, seen], p[:, seen], names)
    gains: dict[str, dict[str, Interval]] = {}
    for who, p in predictions.items():
        if who == MODEL:
            continue
        gains[who] = {}
        for k in seen:
            rows = ~np.isnan(known[:, k])
            y = known[rows, k]
            gains[who][f"log_loss_{horizons[k]}"] = paired_difference(
                log_loss, (y, predictions[MODEL][rows, k]), (y, p[rows, k]), customers[rows], n=n,
                random_state=random_state,
            )  # fmt: skip
    sliced = [cell for cell in cells[MODEL] if names and cell.key.removesuffix(f"_{names[0]}") in _SLICED]
    return _exam("churn", cells, gains, customers, sliced, attributes, n, random_state)


def _reason_cells(reason: str, happened: Float64, p: Float64, horizons: Sequence[str]) -> list[Cell]:
    """Test the probability of one reason; keys have the reason before the horizon."""
    names = [f"{reason}_{horizon}" for horizon in horizons]
    wanted = {f"{metric}_{name}" for metric in _OF_A_REASON for name in names}
    return [cell for cell in churn_cells(happened, p, names) if cell.key in wanted]


def examine_scores(
    scores: Float64,
    predictions: Mapping[str, Float64],
    lowest: int,
    groups: tuple[int, int],
    customers: NDArray[np.generic],
    *,
    attributes: Mapping[str, NDArray[Any]] | None = None,
    n: int = 200,
    random_state: int = 0,
) -> Exam:
    """Test score distributions.

    Parameters
    ----------
    scores : array of shape (n_rows,)
    predictions : dict of str to array of shape (n_rows, n_scores)
        Who -> P(each score).
    lowest : int
        Lowest score of the scale.
    groups : (int, int)
        Highest low and highest middle score.
    customers, attributes, n, random_state
        As in `examine_churn`.

    Returns
    -------
    Exam
    """
    cells = {who: list(score_cells(scores, p, lowest, groups)) for who, p in predictions.items()}
    metric = partial(rps, lo=lowest)
    gains = {
        who: {
            "rps": paired_difference(
                metric, (scores, predictions[MODEL]), (scores, p), customers, n=n, random_state=random_state
            )
        }
        for who, p in predictions.items()
        if who != MODEL
    }
    sliced = [cell for cell in cells[MODEL] if cell.key in _SLICED]
    return _exam("satisfaction", cells, gains, customers, sliced, attributes, n, random_state)


def _exam(
    target: str,
    cells: Mapping[str, Iterable[Cell]],
    gains: dict[str, dict[str, Interval]],
    customers: NDArray[np.generic],
    sliced: Sequence[Cell],
    attributes: Mapping[str, NDArray[Any]] | None,
    n: int,
    random_state: int,
) -> Exam:
    telling = {name: values for name, values in (attributes or {}).items() if len(np.unique(values)) > 1}
    slices = tuple(slice_metrics(sliced, telling, customers, n=n, random_state=random_state))
    scores = {who: metric_intervals(c, customers, n=n, random_state=random_state) for who, c in cells.items()}
    return Exam(target, len(customers), len(np.unique(customers)), scores, gains, slices)


def _cell(interval: Interval | None, *, with_interval: bool) -> str:
    if interval is None or np.isnan(interval.value):
        return "-"
    if not with_interval:
        return f"{interval.value:.4f}"
    return f"{interval.value:.4f} ({interval.low:.4f} to {interval.high:.4f})"
