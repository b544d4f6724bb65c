"""The picture of `cxml define-churn`: what each gap of silence gets wrong, and whether that moves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxml.errors import ConfigError, nearest
from cxml.evaluate.plots import BLUE, GREY, INK, LIGHT, ORANGE, SKY, VERMILLION, make_panels, percent_axis
from cxml.files import write_aside
from cxml.snapshots.definition import Cohort, Definition, ReturnRates

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")


def plot_definition(found: Definition) -> Figure:
    """Draw both kinds of error by gap, and the error of the first kind by cohort.

    Parameters
    ----------
    found : Definition

    Returns
    -------
    matplotlib.figure.Figure
    """
    rates, within, gap = found.rates, found.rates.within_days, found.choice.gap_days
    subtitle = (
        f"Lines with bands: estimate and 95 % interval, customers as clusters. Dashed: the share of wrong calls put up "
        f"with. {found.n_customers:,} customers, {found.n_silences:,} silences of a day or more"
    )
    figure, axes = make_panels(_title(found), subtitle, 2, width=11.5, height=5.0)
    _errors_panel(axes[0], found)
    _cohorts_panel(axes[1], found)
    ticks = _ticks(rates.gap_days, gap)
    for axis in axes:
        axis.set_xscale("log")
        axis.set_xticks(ticks, [f"{day}" for day in ticks])
        axis.minorticks_off()
        axis.axhline(found.tolerated, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axis.set_yticks(np.arange(6) / 5)
        axis.set(ylim=(0, 1.22), xlim=(rates.gap_days[0] * 0.95, rates.gap_days[-1] * 1.05))
        axis.set_xlabel("days of silence after which a customer is called gone")
        percent_axis(axis, y=True)
        if gap is not None:
            axis.axvline(gap, ymax=1 / 1.22, color=LIGHT, linewidth=5, zorder=0)
    axes[0].set_title(f"Wrong calls of both kinds; back means within {within} days", loc="left", fontsize=10, color=INK)
    axes[1].set_title("Called gone, came back: the same by cohort", loc="left", fontsize=10, color=INK)
    return figure


def save_definition_plot(found: Definition, path: str | os.PathLike[str], dpi: int = 130) -> None:
    """Draw `plot_definition` into a PNG or SVG file, whole or not at all.

    Parameters
    ----------
    found : Definition
    path : path
        Its ending names the format.
    dpi : int
        Dots an inch, for PNG.

    Raises
    ------
    ConfigError
        If the ending is neither.
    """
    import matplotlib as mpl

    kind = picture_format(path)
    metadata: dict[str, Any] = {"Software": None} if kind == "png" else {"Date": None}
    with write_aside(path) as aside, mpl.rc_context({"svg.hashsalt": "cxml"}):  # ids in an SVG are random without
        plot_definition(found).savefig(aside, format=kind, dpi=dpi, metadata=metadata)


def picture_format(path: str | os.PathLike[str]) -> str:
    """Return the format that a file name asks for, or refuse it.

    Examples
    --------
    >>> picture_format("gap.SVG")
    'svg'
    """
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise ConfigError(f"--plot '{path}': a picture ends in .png or .svg{nearest(kind, FORMATS) if kind else ''}")
    return kind


def _title(found: Definition) -> str:
    rates, choice = found.rates, found.choice
    if choice.gap_days is None:
        back = f"{100 * rates.rate[-1]:.0f} % come back even after {rates.gap_days[-1]}"
        return f"Silence does not tell who is gone here: {back} days of it"
    k = int(np.flatnonzero(rates.gap_days == choice.gap_days)[0])
    why = "the recommended gap" if choice.tolerance == found.tolerated else "the first gap after which most stay away"
    back = f"{100 * rates.rate[k]:.0f} % still come back within {rates.within_days} days"
    return f"After {choice.gap_days} days of silence {back}: {why}"


def _errors_panel(axis: Axes, found: Definition) -> None:
    curve, gaps, errors = found.curve, found.rates.gap_days, found.errors
    axis.fill_between(curve.gap_days, curve.low, curve.high, color=SKY, alpha=0.35, linewidth=0)
    axis.plot(curve.gap_days, curve.rate, color=BLUE, linewidth=2)
    axis.fill_between(gaps, errors.hidden_low, errors.hidden_high, color=ORANGE, alpha=0.3, linewidth=0)
    axis.plot(gaps, errors.hidden, color=VERMILLION, linewidth=2)
    for k in np.flatnonzero(gaps == found.choice.gap_days):
        for value, colour in ((found.rates.rate[k], BLUE), (errors.hidden[k], VERMILLION)):
            axis.plot(gaps[k], value, "o", color=colour, markersize=7, markeredgecolor="white", zorder=4)
    axis.text(
        0.98, 0.955, "of those called gone, came back", color=BLUE, ha="right", fontsize=10, transform=axis.transAxes
    )
    axis.text(
        0.98, 0.90, "of those not called gone, stay away", color=VERMILLION, ha="right", fontsize=10,
        transform=axis.transAxes,
    )  # fmt: skip
    axis.set_ylabel("share")


def _cohorts_panel(axis: Axes, found: Definition) -> None:
    halves, others = found.cohorts[:2], found.cohorts[2:]
    for cohort in others:
        axis.plot(*_known(cohort.rates), color=GREY, linewidth=0.9, alpha=0.7)
    for cohort, colour in zip(halves, (BLUE, ORANGE), strict=True):
        gaps, rate = _known(cohort.rates)
        axis.plot(gaps, rate, color=colour, linewidth=2)
    shown = [(cohort.name, colour) for cohort, colour in zip(halves, (BLUE, ORANGE), strict=True) if _drawn(cohort)]
    shown += [("customers by when they were first seen", GREY)] if any(_drawn(c) for c in others) else []
    for line, (text, colour) in enumerate(shown):
        axis.text(0.98, 0.955 - 0.055 * line, text, color=colour, ha="right", fontsize=10, transform=axis.transAxes)


def _known(rates: ReturnRates) -> tuple[Any, Any]:
    known = ~np.isnan(rates.rate)
    return rates.gap_days[known], rates.rate[known]


def _drawn(cohort: Cohort) -> bool:
    return cohort.longest_days is not None


def _ticks(gaps: Any, chosen: int | None) -> list[int]:
    """Choose gaps far enough apart on a logarithmic axis to be read, the recommended one among them."""
    ticks = [] if chosen is None else [chosen]
    least = (np.log(gaps[-1]) - np.log(gaps[0])) / 12
    for gap in (int(g) for g in gaps):
        if all(abs(np.log(gap / tick)) >= least for tick in ticks):
            ticks.append(gap)
    return sorted(ticks)
