"""Pictures of how good a model is; each title says in a sentence what there is to see.

Figures are made without pyplot, so nothing global changes and no window opens. Colours are those of Okabe and Ito
(2008), which the colour-blind can tell apart; lines are labelled where they end, so no legend need be decoded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxml.errors import ConfigError, DataError
from cxml.evaluate.bootstrap import Interval
from cxml.evaluate.metrics import Float64, auroc, ece, lift_at, mae, rank_groups
from cxml.files import write_aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
INK, GREY, LIGHT = "#222222", "#6b6b6b", "#d9d9d9"
_SERIES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
_GROUPS = 5
_BINS = 10


def plot_reliability(known: ArrayLike, predicted: ArrayLike, horizons: Sequence[str]) -> Figure:
    """Draw observed churn rates against predicted ones, one panel a horizon.

    Parameters
    ----------
    known : array of shape (n, n_horizons)
        1 churned by the horizon, 0 not, NaN censored before it.
    predicted : array of shape (n, n_horizons)
        P(churn by the horizon).
    horizons : sequence of str
        Their names.

    Returns
    -------
    matplotlib.figure.Figure
        Ten groups of equally many customers, with 95 % Wilson (1927) intervals of their rates.
    """
    cuts = _by_horizon(known, predicted, horizons)
    gaps = [ece(y, p) for _, y, p in cuts]
    worst = 100 * max(gaps)
    title = f"Predicted churn and what then happened differ by {worst:.1f} points on average" + (
        " or less" if len(cuts) > 1 else ""
    )
    figure, axes = make_panels(title, "Each dot: a tenth of the customers, with its 95 % interval", len(cuts))
    for axis, (horizon, y, p), gap in zip(axes, cuts, gaps, strict=True):
        _reliability_panel(axis, y, p)
        axis.set_title(f"{horizon} churn: {100 * gap:.1f} points apart", loc="left", fontsize=10, color=INK)
    axes[0].set_ylabel("share that churned")
    return figure


def plot_gain(known: ArrayLike, predicted: ArrayLike, horizons: Sequence[str]) -> Figure:
    """Draw the share of churners found against the share of customers looked at, riskiest first.

    Parameters as in `plot_reliability`.
    """
    cuts = _by_horizon(known, predicted, horizons)
    horizon, y, p = cuts[0]
    found = _percent_text(lift_at(y, p) / 10)
    title = f"The riskiest tenth of customers holds {found} of the {horizon} churn"
    figure, axes = make_panels(title, "Share of all churners found when the riskiest are looked at first", 1, width=7.2)
    axis = axes[0]
    looked_at = np.linspace(0, 1, 201)
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    axis.text(0.62, 0.57, "by chance", color=GREY, fontsize=9, rotation=33, ha="center", va="center")
    for k, (name, outcome, probability) in enumerate(cuts):
        colour = _SERIES[k % len(_SERIES)]
        axis.plot(looked_at, _gain(outcome, probability, looked_at), color=colour, linewidth=2)
        label = f"{name}: AUROC {auroc(outcome, probability):.3f}, lift at 10 % {lift_at(outcome, probability):.1f}"
        axis.text(0.98, 0.05 + 0.065 * (len(cuts) - 1 - k), label, color=colour, fontsize=10, ha="right")
    percent_axis(axis, x=True, y=True)
    axis.set(xlim=(0, 1), ylim=(0, 1.01))
    axis.set_xlabel("share of customers looked at, riskiest first")
    axis.set_ylabel("share of churners found")
    return figure


def plot_churn_by_horizon(known: ArrayLike, predicted: ArrayLike, horizons: Sequence[str]) -> Figure:
    """Draw churn over the horizons for five groups of customers, from the safest fifth to the riskiest.

    Parameters as in `plot_reliability`; customers are grouped by their prediction at the last horizon.
    """
    outcome, p = _two_d(known, predicted, horizons)
    fifth = _equal_groups(p[:, -1], _GROUPS)
    groups = [g for g in range(_GROUPS) if (fifth == g).any()]
    with np.errstate(invalid="ignore"):
        seen = np.array([[_nan_mean(outcome[fifth == g, k]) for k in range(p.shape[1])] for g in groups])
    said = np.array([p[fifth == g].mean(axis=0) for g in groups])
    last, ends = horizons[-1], [_percent_text(seen[0, -1]), _percent_text(seen[-1, -1])]
    title = f"{last} churn was {ends[1]} in the riskiest fifth of customers, {ends[0]} in the safest"
    if len(groups) == 1:
        title = f"All customers were given the same {last} churn, {_percent_text(said[0, -1])}"
    figure, axes = make_panels(
        title, "Lines: predicted. Dots: what happened, among customers whose outcome is known", 1, 7.6
    )
    axis, x = axes[0], np.arange(len(horizons))
    shades = _shades(len(groups))
    for row in range(len(groups)):
        axis.plot(x, said[row], color=shades[row], linewidth=2, marker="" if len(x) > 1 else "_", markersize=18)
        axis.plot(x, seen[row], "o", color=shades[row], markeredgecolor="white", markersize=8, clip_on=False)
    labels = {groups[0]: "safest fifth", groups[-1]: "riskiest fifth"} if len(groups) > 1 else {groups[0]: "everybody"}
    for row, group in enumerate(groups):
        if group in labels:
            axis.annotate(
                labels[group], (x[-1], said[row, -1]), xytext=(12, 0), textcoords="offset points",
                color=shades[row], fontsize=10, va="center",
            )  # fmt: skip
    axis.set_xticks(x, [str(h) for h in horizons])
    axis.set(xlim=(-0.15, x[-1] + 0.15 + 0.28 * max(1, x[-1])), ylim=(0, None))
    axis.set_xlabel("horizon")
    axis.set_ylabel("share that churns")
    percent_axis(axis, y=True)
    return figure


def plot_risk_histogram(predicted: ArrayLike, horizons: Sequence[str]) -> Figure:
    """Draw how the predicted churn probabilities are spread, one panel a horizon.

    Parameters
    ----------
    predicted : array of shape (n, n_horizons)
        P(churn by the horizon).
    horizons : sequence of str
        Their names.
    """
    p = np.asarray(predicted, dtype=np.float64)
    p, _ = _two_d(p, p, horizons)
    risky = 100 * float((p[:, -1] >= 0.5).mean())
    title = f"{risky:.0f} % of customers are more likely than not to churn ({horizons[-1]})"
    figure, axes = make_panels(title, f"Predicted probability of churn, {len(p):,} customers", len(horizons))
    for k, (axis, horizon) in enumerate(zip(axes, horizons, strict=True)):
        axis.hist(p[:, k], bins=40, range=(0, 1), weights=np.full(len(p), 1 / len(p)), color=BLUE)
        mean = float(p[:, k].mean())
        axis.axvline(mean, color=VERMILLION, linewidth=1.5)
        axis.annotate(
            f"mean {100 * mean:.1f} %", (mean, 1), xycoords=("data", "axes fraction"), va="top",
            xytext=(5 if mean < 0.6 else -5, -4), textcoords="offset points", ha="left" if mean < 0.6 else "right",
            color=VERMILLION, fontsize=9,
        )  # fmt: skip
        axis.set_title(f"{horizon} churn", loc="left", fontsize=10, color=INK)
        axis.set(xlim=(0, 1))
        axis.set_xlabel("predicted probability")
        percent_axis(axis, x=True, y=True)
    axes[0].set_ylabel("share of customers")
    return figure


def plot_score_distribution(scores: ArrayLike, probability: ArrayLike, lo: int = 0) -> Figure:
    """Draw the shares of answers as predicted and as given.

    Parameters
    ----------
    scores : array of shape (n,)
        Answers; NaN rows are left out.
    probability : array of shape (n, n_scores)
        P(score = lo), ...
    lo : int
        Lowest score.
    """
    y, q = _answered(scores, probability)
    n_scores = q.shape[1]
    given = np.bincount((y - lo).astype(np.int64), minlength=n_scores) / len(y)
    said = q.mean(axis=0)
    values = np.arange(lo, lo + n_scores)
    title = f"The mean score was {values @ given:.2f} and was predicted to be {values @ said:.2f}"
    figure, axes = make_panels(
        title, f"Shares of {len(y):,} answers; mean absolute error {mae(y, q, lo=lo):.2f} points", 1, width=7.6
    )
    axis = axes[0]
    axis.bar(values, given, width=0.72, color=LIGHT)
    axis.plot(values, said, "o-", color=BLUE, linewidth=1.5, markersize=6)
    side, edge = ("left", 0.02) if given @ values >= values.mean() else ("right", 0.98)  # where the bars are low
    for text, colour, height in (("bars: answers given", GREY, 0.94), ("dots: predicted", BLUE, 0.875)):
        axis.text(edge, height, text, color=colour, fontsize=10, ha=side, transform=axis.transAxes)
    axis.set_xticks(values if n_scores <= 21 else values[:: n_scores // 10])
    axis.set_ylim(0, 1.15 * max(given.max(), said.max()))
    axis.set_xlabel("score")
    axis.set_ylabel("share of answers")
    percent_axis(axis, y=True)
    return figure


def plot_score_reliability(scores: ArrayLike, probability: ArrayLike, lo: int = 0) -> Figure:
    """Draw the mean answer of ten groups of customers against their mean expected score.

    Parameters as in `plot_score_distribution`.
    """
    y, q = _answered(scores, probability)
    expected = q @ np.arange(lo, lo + q.shape[1], dtype=np.float64)
    tenth = _equal_groups(expected, _BINS)
    groups = np.unique(tenth)
    said = np.array([expected[tenth == g].mean() for g in groups])
    seen = np.array([y[tenth == g].mean() for g in groups])
    half = np.array([1.96 * y[tenth == g].std() / np.sqrt((tenth == g).sum()) for g in groups])
    title = f"The happiest tenth by prediction answered {seen[-1]:.1f} on average, the unhappiest {seen[0]:.1f}"
    figure, axes = make_panels(title, "Each dot: a tenth of the answers, with its 95 % interval", 1, width=6.4)
    axis = axes[0]
    ends = min(said.min(), (seen - half).min()), max(said.max(), (seen + half).max())
    axis.plot(ends, ends, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    axis.errorbar(said, seen, yerr=half, fmt="o", color=BLUE, ecolor=SKY, elinewidth=1.5, markersize=6)
    axis.set_xlabel("expected score")
    axis.set_ylabel("mean answer")
    return figure


def plot_importance(names: Sequence[str], importance: ArrayLike, top: int = 25) -> Figure:
    """Draw the features that matter most as bars.

    Parameters
    ----------
    names : sequence of str
        Feature names.
    importance : array of shape (n_features,)
        Non-negative: gain, or mean absolute contribution.
    top : int
        How many to show.
    """
    value = np.asarray(importance, dtype=np.float64)
    if value.shape != (len(names),) or not len(names):
        raise DataError(f"importance has shape {value.shape}, there are {len(names)} names; give one value a name")
    share = value / max(value.sum(), np.finfo(np.float64).tiny)
    order = np.lexsort((np.arange(len(value)), -share))[:top]
    order = order[share[order] > 0] if (share > 0).any() else order[:1]
    title = f"'{names[order[0]]}' matters most: {100 * share[order[0]]:.0f} % of the importance"
    subtitle = f"The first {len(order)} of {len(names)} features hold {100 * share[order].sum():.0f} %"
    figure, axes = make_panels(title, subtitle, 1, width=8.4, height=1.6 + 0.24 * len(order))
    axis, y = axes[0], np.arange(len(order))[::-1]
    axis.barh(y, share[order], color=BLUE, height=0.7)
    for k, feature in enumerate(order):
        axis.annotate(
            f"{100 * share[feature]:.1f} %", (share[feature], y[k]), xytext=(4, 0), textcoords="offset points",
            fontsize=8, color=GREY, va="center",
        )  # fmt: skip
    axis.set_yticks(y, [str(names[feature]) for feature in order], fontsize=9)
    axis.set_ylim(-0.7, len(order) - 0.3)
    axis.set_xlim(0, 1.12 * share[order[0]] or 1.0)
    axis.grid(False)
    axis.set_xticks([])
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    axis.tick_params(length=0)
    return figure


@dataclass(frozen=True, slots=True)
class FoldPanel:
    """One metric over the folds of a backtest.

    Parameters
    ----------
    title : str
    folds : sequence of str
        E.g. the first cutoff of each test.
    by_who : mapping of str to sequence of Interval or None
        Who predicted -> figure of each fold, None where there is none.
    """

    title: str
    folds: Sequence[str]
    by_who: Mapping[str, Sequence[Interval | None]]


def plot_folds(panels: Sequence[FoldPanel], model: str) -> Figure:
    """Draw metrics by fold with their intervals, the model beside the baselines; lower is better.

    Parameters
    ----------
    panels : sequence of FoldPanel
    model : str
        Who of them is the model.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not panels:
        raise DataError("panels: there is no fold to draw")
    won = [won for panel in panels for won in _won(panel, model)]
    title = f"The model is better than every baseline in {sum(won)} of {len(won)} tests"
    width = max(6.4, 3.4 * len(panels) + 1.6)
    figure, axes = make_panels(title, "Each dot: one fold, with its 95 % interval; lower is better", len(panels), width)
    everyone = list(dict.fromkeys(who for panel in panels for who in panel.by_who))
    others = [who for who in everyone if who != model]
    colours = dict(zip(others, (VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY), strict=False))
    for axis, panel in zip(axes, panels, strict=True):
        for place, (who, figures) in enumerate(panel.by_who.items()):
            # side by side, so that intervals do not hide each other
            x = np.arange(len(panel.folds)) + 0.12 * (place - (len(panel.by_who) - 1) / 2)
            value, low, high = np.array([f or (np.nan,) * 3 for f in figures], dtype=np.float64).T
            colour = BLUE if who == model else colours.get(who, GREY)
            axis.vlines(x, low, high, color=colour, linewidth=2.5 if who == model else 1)
            axis.plot(x, value, "o", color=colour, markersize=7 if who == model else 4)
        axis.set_title(panel.title, loc="left", fontsize=10, color=INK)
        axis.set_xticks(np.arange(len(panel.folds)), list(panel.folds), rotation=30, ha="right")
        axis.set_xlabel("first cutoff of the test")
    for k, who in enumerate([model, *others]):
        axes[-1].annotate(
            who, (1.03, 0.95 - 0.075 * k), xycoords="axes fraction", fontsize=9,
            color=BLUE if who == model else colours.get(who, GREY), annotation_clip=False,
        )  # fmt: skip
    return figure


def _won(panel: FoldPanel, model: str) -> list[bool]:
    """Whether the model is better than everybody else, for the folds that it was tested in."""
    others = [figures for who, figures in panel.by_who.items() if who != model]
    return [
        all(ours.value < one[k].value for one in others if one[k] is not None)  # type: ignore[union-attr]
        for k, ours in enumerate(panel.by_who[model])
        if ours is not None
    ]


@dataclass(frozen=True, slots=True)
class CurvePanel:
    """A loss against how much a model was given.

    Parameters
    ----------
    title : str
    given : sequence of float
        Above 0.
    losses : sequence of Interval
    line : (array, array), optional
        A fitted curve, x and y.
    ylabel : str
    """

    title: str
    given: Sequence[float]
    losses: Sequence[Interval]
    ylabel: str
    line: tuple[Float64, Float64] | None = None


def plot_curves(panels: Sequence[CurvePanel], *, title: str, subtitle: str, xlabel: str) -> Figure:
    """Draw losses with their intervals against how much was given, on a logarithmic axis, one panel a curve.

    Parameters
    ----------
    panels : sequence of CurvePanel
    title, subtitle, xlabel : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.ticker import NullLocator

    figure, axes = make_panels(title, subtitle, len(panels), width=6.4 * len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        if panel.line is not None:
            axis.plot(*panel.line, color=GREY, linewidth=1.5)
        known = [k for k, interval in enumerate(panel.losses) if not np.isnan(interval.low)]
        axis.vlines(
            [panel.given[k] for k in known], [panel.losses[k].low for k in known],
            [panel.losses[k].high for k in known], color=SKY, linewidth=2,
        )  # fmt: skip
        axis.plot(panel.given, [interval.value for interval in panel.losses], "o", color=BLUE, markersize=7)
        axis.set_xscale("log")
        axis.set_xticks(list(panel.given), [f"{each:,.10g}" for each in panel.given])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_title(panel.title, loc="left", fontsize=10, color=INK)
        axis.set_xlabel(xlabel)
        axis.set_ylabel(panel.ylabel)
    return figure


def churn_plots(known: ArrayLike, predicted: ArrayLike, horizons: Sequence[str]) -> dict[str, Figure]:
    """Draw all pictures of a churn model, by file name without ending."""
    return {
        "churn_reliability": plot_reliability(known, predicted, horizons),
        "churn_gain": plot_gain(known, predicted, horizons),
        "churn_by_horizon": plot_churn_by_horizon(known, predicted, horizons),
        "churn_risk_histogram": plot_risk_histogram(predicted, horizons),
    }


def score_plots(scores: ArrayLike, probability: ArrayLike, lo: int = 0) -> dict[str, Figure]:
    """Draw all pictures of a satisfaction model, by file name without ending."""
    return {
        "satisfaction_distribution": plot_score_distribution(scores, probability, lo),
        "satisfaction_reliability": plot_score_reliability(scores, probability, lo),
    }


def save_plots(folder: str | os.PathLike[str], figures: Mapping[str, Figure], dpi: int = 120) -> list[Path]:
    """Write figures as PNG files into a folder, each whole or not at all.

    Parameters
    ----------
    folder : path
        Made when missing.
    figures : mapping of str to Figure
        File names without ending.
    dpi : int
        Dots an inch.

    Returns
    -------
    list of Path
    """
    paths = []
    for name, figure in figures.items():
        path = Path(folder) / f"{name}.png"
        with write_aside(path) as aside:
            figure.savefig(aside, format="png", dpi=dpi, metadata={"Software": None})
        paths.append(path)
    return paths


def save_plot(path: str | os.PathLike[str], figure: Figure, dpi: int = 120) -> Path:
    """Write one figure, whole or not at all; the ending of the name says the format.

    Parameters
    ----------
    path : path
        Ends in ``.png``, ``.svg`` or ``.pdf``.
    figure : Figure
    dpi : int
        Dots an inch.

    Returns
    -------
    Path

    Raises
    ------
    ConfigError
        If the name ends otherwise.
    """
    from matplotlib import rc_context

    target, ending = Path(path), plot_format(path)
    # no date and nothing drawn by lot: same data, same bytes
    with write_aside(target) as aside, rc_context({"svg.hashsalt": "cxml"}):
        figure.savefig(aside, format=ending, dpi=dpi, bbox_inches="tight", metadata={_STAMPS[ending]: None})
    return target


#: What each format would note of when and by what it was written.
_STAMPS = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}


def plot_format(path: str | os.PathLike[str]) -> str:
    """Tell the format by the ending of a name, before long work is done for a picture that cannot be written.

    Raises
    ------
    ConfigError
        If it is none of png, svg and pdf.

    Examples
    --------
    >>> plot_format("folds.PNG")
    'png'
    """
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in _STAMPS:
        raise ConfigError(f"cannot draw '{path}': name a file that ends in .png, .svg or .pdf")
    return ending


# ---------------------------------------------------------------- parts of a picture


def make_panels(
    title: str, subtitle: str, n: int, width: float | None = None, height: float = 4.4
) -> tuple[Figure, list[Axes]]:
    """Lay out ``n`` panels side by side under a title and a subtitle; width and height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width or max(6.0, 3.6 * n + 0.6), height), layout="constrained", facecolor="white")
    head = figure.suptitle(_wrap(title, figure.get_figwidth()), x=0.01, ha="left", fontsize=12.5, color=INK)
    head.set_fontweight("bold")
    axes = [figure.add_subplot(1, n, k + 1) for k in range(n)]
    figure.text(0.01, 0.0, " ", fontsize=14)  # keeps a line free at the foot
    figure.text(0.01, 0.012, subtitle, ha="left", va="bottom", fontsize=9, color=GREY)
    figure.get_layout_engine().set(rect=(0, 0.06, 1, 0.94), w_pad=0.08, h_pad=0.06)  # type: ignore[union-attr, call-arg]
    for axis in axes:
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axis.spines[side].set_color(LIGHT)
        axis.grid(axis="y", color="#eeeeee", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(colors=GREY, labelsize=9)
        axis.xaxis.label.set_color(GREY)
        axis.yaxis.label.set_color(GREY)
    return figure, axes


def _wrap(title: str, width_inches: float) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(title, int(width_inches * 10.4)))


def percent_axis(axis: Axes, x: bool = False, y: bool = False) -> None:
    """Write the ticks of an axis, whose values are shares, in per cent."""
    from matplotlib.ticker import FuncFormatter

    for line in [axis.xaxis] * x + [axis.yaxis] * y:
        line.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))


def _percent_text(share: float) -> str:
    return "unknown" if np.isnan(share) else f"{100 * share:.0f} %"


def _reliability_panel(axis: Axes, y: Float64, p: Float64) -> None:
    tenth = _equal_groups(p, _BINS)
    groups = np.unique(tenth)
    said = np.array([p[tenth == g].mean() for g in groups])
    seen = np.array([y[tenth == g].mean() for g in groups])
    low, high = _wilson(seen, np.array([(tenth == g).sum() for g in groups]))
    end = min(1.0, 1.05 * max(said.max(), high.max()))
    axis.plot([0, end], [0, end], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    axis.vlines(said, low, high, color=SKY, linewidth=2, clip_on=False)
    axis.plot(said, seen, "o", color=BLUE, markersize=6, clip_on=False)
    axis.set(xlim=(0, end), ylim=(0, end))
    axis.set_xlabel("predicted probability")
    percent_axis(axis, x=True, y=True)


def _shades(n: int) -> list[Any]:
    """From safe blue over grey to risky vermillion; dark enough to read on white."""
    from matplotlib.colors import LinearSegmentedColormap

    ramp = LinearSegmentedColormap.from_list("risk", [BLUE, "#8a8a8a", VERMILLION])
    return [ramp(x) for x in (np.linspace(0, 1, n) if n > 1 else [1.0])]


# ---------------------------------------------------------------- the numbers in it


def _two_d(known: ArrayLike, predicted: ArrayLike, horizons: Sequence[str]) -> tuple[Float64, Float64]:
    outcome, p = np.asarray(known, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if outcome.shape != p.shape or p.ndim != 2 or p.shape[1] != len(horizons) or not len(p):
        raise DataError(
            f"known has shape {outcome.shape} and predicted {p.shape}; with {len(horizons)} horizons both must be "
            f"(n_rows, {len(horizons)}) with at least one row"
        )
    return outcome, p


def _by_horizon(known: ArrayLike, predicted: ArrayLike, horizons: Sequence[str]) -> list[tuple[str, Float64, Float64]]:
    """Outcome and prediction of the rows that are known, for the horizons that have any."""
    outcome, p = _two_d(known, predicted, horizons)
    rows = ~np.isnan(outcome)
    cuts = [(str(h), outcome[rows[:, k], k], p[rows[:, k], k]) for k, h in enumerate(horizons) if rows[:, k].any()]
    if not cuts:
        raise DataError("known: no outcome is known at any horizon, so there is nothing to draw")
    return cuts


def _answered(scores: ArrayLike, probability: ArrayLike) -> tuple[Float64, Float64]:
    y, q = np.asarray(scores, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    rows = ~np.isnan(y)
    if not rows.any():
        raise DataError("scores: none is an answer, so there is nothing to draw")
    return y[rows], q[rows]


def _equal_groups(values: Float64, n: int) -> NDArray[np.intp]:
    """Group 0 to n - 1, equally many rows each as far as ties allow."""
    edges = np.unique(np.quantile(values, np.arange(1, n) / n))
    return np.searchsorted(edges, values, side="right")


def _gain(y: Float64, p: Float64, looked_at: Float64) -> Float64:
    happened, others = rank_groups(y, p, np.ones(len(y)))
    if not happened.sum():
        return np.full(len(looked_at), np.nan)
    seen, found = np.cumsum(happened + others), np.cumsum(happened)
    return np.interp(looked_at, np.r_[0, seen / seen[-1]], np.r_[0, found / found[-1]])


def _wilson(rate: Float64, n: NDArray[np.intp], z: float = 1.96) -> tuple[Float64, Float64]:
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def _nan_mean(values: Float64) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
