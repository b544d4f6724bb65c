"""The picture of `cxml nps`: what the answers say, and what everybody would."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from cxml.evaluate.plots import BLUE, GREY, INK, LIGHT, VERMILLION, make_panels, save_plot

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = {"nps": "NPS", "mean": "Mean score", "top_box": "Top box, %"}


def plot_nps(frame: pandas.DataFrame) -> Figure:
    """Draw raw and corrected figures: over time where there are several spans, else by segment.

    Parameters
    ----------
    frame : DataFrame
        ``statistic, segment, until, doubts``, then ``raw`` and ``dr`` with ``_low`` and ``_high``; one row a figure.
        The first statistic is drawn.

    Returns
    -------
    matplotlib.figure.Figure
        One panel a segment over time, or one panel with a line a segment.
    """
    statistic = frame["statistic"].iloc[0]
    shown = frame[(frame["statistic"] == statistic) & frame["dr"].notna()]
    segments = list(dict.fromkeys(shown["segment"]))
    over_time = shown["until"].nunique() > 1
    last = shown[shown["until"] == shown["until"].max()]
    company = last[last["segment"] == "all"] if "all" in segments else last
    title = f"{_NAMES[statistic]}: the answers say what they say"
    if len(company):
        raw, corrected = float(company["raw"].iloc[0]), float(company["dr"].iloc[0])
        title = f"{_NAMES[statistic]} of everybody is {corrected:.1f}; the answers alone say {raw:.1f}"
        if company["doubts"].iloc[0]:
            title = (
                f"{_NAMES[statistic]} of everybody: {corrected:.1f} is not to be trusted ({company['doubts'].iloc[0]})"
            )
    subtitle = "Blue: doubly robust, with its interval. Red: mean of the answers"
    figure, axes = make_panels(title, subtitle, len(segments) if over_time else 1)
    if over_time:
        for axis, segment in zip(axes, segments, strict=True):
            _over_time(axis, shown[shown["segment"] == segment])
            axis.set_title(segment, loc="left", fontsize=10, color=INK)
    else:
        _by_segment(axes[0], shown)
        axes[0].set_xlabel(_NAMES[statistic])
    return figure


def _over_time(axis: Axes, rows: pandas.DataFrame) -> None:
    at = np.arange(len(rows))
    axis.fill_between(at, rows["dr_low"], rows["dr_high"], color=BLUE, alpha=0.2, linewidth=0)
    axis.plot(at, rows["dr"], color=BLUE)
    axis.plot(at, rows["raw"], color=VERMILLION)
    step = max(1, len(rows) // 6)
    axis.set_xticks(at[::step], [text[:10] for text in rows["until"].iloc[::step]], rotation=30, ha="right")


def _by_segment(axis: Axes, rows: pandas.DataFrame) -> None:
    at = np.arange(len(rows))[::-1]
    axis.hlines(at, rows["dr_low"], rows["dr_high"], color=LIGHT, linewidth=5)
    axis.plot(rows["dr"], at, "o", color=BLUE)
    axis.plot(rows["raw"], at, "o", color=VERMILLION, markerfacecolor="none")
    axis.set_yticks(at, rows["segment"].tolist())
    axis.set_ylim(-0.7, len(rows) - 0.3)
    axis.grid(axis="x", color=GREY, alpha=0.2)


def save_nps_plot(frame: pandas.DataFrame, path: str | os.PathLike[str]) -> None:
    """Draw `plot_nps` into a PNG, SVG or PDF file, whole or not at all."""
    save_plot(path, plot_nps(frame))
