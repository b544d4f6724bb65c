"""The test of a model: its metrics with intervals, beside what anyone would do without it, on the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cxml.evaluate.bootstrap import Interval, metric_intervals, paired_difference
from cxml.evaluate.metrics import Cell, churn_cells, log_loss, rps, score_cells

Float64 = NDArray[np.float64]

MODEL = "cxml"


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
    """

    target: str
    n_rows: int
    n_customers: int
    scores: dict[str, dict[str, Interval]]
    gains: dict[str, dict[str, Interval]]

    @property
    def beats_all(self) -> bool:
        """Whether the model is better than every baseline on every deciding metric."""
        return all(gain.value < 0 for gains in self.gains.values() for gain in gains.values())

    def table(self) -> tuple[str, list[str], list[list[str]]]:
        """Return title, head and rows of a table for people."""
        shown = [m for m in self.scores[MODEL] if m.split("_")[0] in ("auroc", "log", "ece", "lift", "rps", "mae")]
        shown += [m for m in self.scores[MODEL] if m in ("quadratic_kappa", "nps_error", "balance_error")]
        rows = [
            [metric, *(_cell(metrics.get(metric), with_interval=who == MODEL) for who, metrics in self.scores.items())]
            for metric in shown
        ]
        title = f"{self.target}: test on {self.n_rows:,} snapshots of {self.n_customers:,} customers"
        return title, ["metric", *self.scores], rows

    def verdict(self) -> str:
        """Say in one sentence whether the model is worth having."""
        close = [
            f"{metric} against {who} ({gain.value:+.4f}, {gain.low:+.4f} to {gain.high:+.4f})"
            for who, gains in self.gains.items()
            for metric, gain in gains.items()
            if gain.high >= 0
        ]
        if not close:
            return f"{self.target}: better than every baseline, beyond chance"
        word = (
            "better than every baseline, but within chance on"
            if self.beats_all
            else "NOT clearly better than baselines on"
        )
        return f"{self.target}: {word} " + "; ".join(close)

    def flat(self) -> dict[str, float]:
        """Return the model's metrics by name, as numbers."""
        return {name: interval.value for name, interval in self.scores[MODEL].items()}


def examine_churn(
    known: Float64,
    predictions: Mapping[str, Float64],
    horizons: Sequence[str],
    customers: NDArray[np.generic],
    *,
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
    cells = {who: list(churn_cells(known[:, seen], p[:, seen], names)) for who, p in predictions.items()}
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
    return _exam("churn", cells, gains, customers, n, random_state)


def examine_scores(
    scores: Float64,
    predictions: Mapping[str, Float64],
    lowest: int,
    groups: tuple[int, int],
    customers: NDArray[np.generic],
    *,
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
    customers, n, random_state
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
    return _exam("satisfaction", cells, gains, customers, n, random_state)


def _exam(
    target: str,
    cells: Mapping[str, Iterable[Cell]],
    gains: dict[str, dict[str, Interval]],
    customers: NDArray[np.generic],
    n: int,
    random_state: int,
) -> Exam:
    scores = {who: metric_intervals(c, customers, n=n, random_state=random_state) for who, c in cells.items()}
    return Exam(target, len(customers), len(np.unique(customers)), scores, gains)


def _cell(interval: Interval | None, *, with_interval: bool) -> str:
    if interval is None or np.isnan(interval.value):
        return "-"
    if not with_interval:
        return f"{interval.value:.4f}"
    return f"{interval.value:.4f} ({interval.low:.4f} to {interval.high:.4f})"
