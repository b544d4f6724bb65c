"""What ``cxml nps`` tells: satisfaction of everybody, risk against feeling, whom to ask next."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import ProjectConfig
from cxml.errors import ConfigError
from cxml.evaluate.expected_nps import DR, IPW, RAW, AskPlan, Quadrant, quadrants, whom_to_ask
from cxml.files import write_aside
from cxml.models.store import SavedModel
from cxml.progress import SILENT, Progress
from cxml.scoring.batch import score_log
from cxml.times import DAY_US, Duration, format_instant
from cxml.training.respond import ALLOWED, STATISTICS, Everybody, expected_nps

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from cxml.journeys.log import JourneyLog
    from cxml.training.studies import Leavers

Float64 = NDArray[np.float64]

#: Nobody is proposed for a survey again within so many days.
QUIET_DAYS = 30


@dataclass(frozen=True)
class NpsReport:
    """The satisfaction of everybody, and what to do with it.

    Parameters
    ----------
    everybody : Everybody
    quadrants : list of Quadrant
        Empty where the project has no churn.
    to_ask : DataFrame or None
        ``customer_id``, ``p_answer``, ``expected_score``, ``score_sd``, ``gain``, the most telling first.
    answers : float
        How many of them are expected to answer.
    level : float
    hidden : float
        Intervals of corrected figures allow for up to such a share of hidden feeling.
    bootstrap : int, optional
        Draws of customers that intervals come from; None where they come from influence functions.
    """

    everybody: Everybody
    quadrants: list[Quadrant]
    to_ask: pandas.DataFrame | None
    answers: float
    level: float
    hidden: float
    bootstrap: int | None = None

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return title, head and rows of every table for people."""
        tables = [self.everybody.table()]
        if self.quadrants:
            head = ["quadrant", "customers", "share", "mean risk", "mean feeling", "value", "what to do"]
            rows = [
                [
                    q.name, f"{q.n:,}", f"{q.share:.1%}", _number(q.risk, ".1%"), _number(q.feeling, "+.1f"),
                    "-" if q.value is None else f"{q.value:,.0f}", q.advice,
                ]
                for q in self.quadrants
            ]  # fmt: skip
            tables.append(("risk of leaving against feeling", head, rows))
        return tables

    def _source(self) -> str:
        return "customers as clusters" if self.bootstrap is None else f"from {self.bootstrap:,} draws of customers"

    def _allowance(self) -> str:
        return f"; those of corrected figures allow for {self.hidden:.0%} hidden feeling" if self.hidden else ""

    def lines(self) -> list[str]:
        """Say the rest in sentences."""
        company = self.everybody.find(self.everybody.lines[0].statistic)
        spread = ", ".join(f"{float(share):.0%} hidden: {value:.1f}" for share, value in company.hidden.items())
        response, ceiling = self.everybody.response, self.everybody.ceiling
        lines = [f"note: {note}" for note in self.everybody.notes]
        lines.append(
            f"in brackets: {self.level:.0%} intervals, {self._source()}{self._allowance()}. Worth: as many "
            "equally weighted answers would tell as much"
        )
        if response["share"] < 1:
            lines.append(
                f"{response['share']:.0%} of {response['asked']:,.0f} asked answered; on the latest fifth "
                f"{response['late_predicted']:.1%} were expected to and {response['late_share']:.1%} did "
                f"(AUROC {response['late_auroc']:.2f})"
            )
            lines.append(
                f"were a share of what moves both feeling and answering in no feature, the doubly robust "
                f"{STATISTICS[company.statistic]} would be - {spread}"
            )
        if np.isfinite(ceiling.correlation.value):
            lines.append(
                f"noise of answering, from {ceiling.note}: no expected score can come closer than a mean error of "
                f"{ceiling.mae.value:.2f}. Answers as these correlate with a perfect prediction by "
                f"{ceiling.correlation.value:.2f} at least; feeling that changed between the two counts as noise"
            )
        else:
            lines.append(f"noise of answering: {ceiling.note}")
        if self.to_ask is not None:
            lines.append(f"{len(self.to_ask):,} customers to ask next; {self.answers:.0f} answers are to be expected")
        return lines

    def frame(self) -> pandas.DataFrame:
        """Return one row a figure: statistic, segment, span, the three with their intervals, counts, doubts."""
        import pandas as pd

        rows = []
        for line in self.everybody.lines:
            row: dict[str, Any] = {
                "statistic": line.statistic, "segment": line.segment, "first": format_instant(line.first),
                "until": format_instant(line.until),
            }  # fmt: skip
            for name in (RAW, IPW, DR):
                value, low, high = getattr(line.figures, name)
                row |= {name: value, f"{name}_low": low, f"{name}_high": high}
            figures = line.figures
            row |= {
                "customers": figures.n_population, "asked": figures.n_asked, "answers": figures.n_answers,
                "effective": figures.effective, "clipped": figures.clipped, "doubts": "; ".join(line.doubts),
            }  # fmt: skip
            rows.append(row | {f"dr_if_{share}_hidden": value for share, value in line.hidden.items()})
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the report for machines; what is not known is null."""
        content = {
            "level": self.level,
            "hidden": self.hidden,
            "bootstrap": self.bootstrap,
            "figures": self.frame().to_dict("records"),
            "response": self.everybody.response,
            "noise_ceiling": {
                **asdict(self.everybody.ceiling),
                **{
                    name: list(getattr(self.everybody.ceiling, name))
                    for name in ("reliability", "correlation", "rmse", "mae")
                },
            },
            "quadrants": [asdict(quadrant) for quadrant in self.quadrants],
            "to_ask": None if self.to_ask is None else {"customers": len(self.to_ask), "answers": self.answers},
            "notes": list(self.everybody.notes),
        }
        found: dict[str, Any] = _plain(content)
        return found

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write `frame` as Parquet, or CSV where the name ends so; whole or not at all."""
        write_frame(self.frame(), path)


def write_frame(frame: pandas.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a frame as Parquet, or CSV where the name ends so; whole or not at all."""
    with write_aside(path) as aside:
        if str(path).lower().endswith(".csv"):
            frame.to_csv(aside, index=False)
        else:
            frame.to_parquet(aside, index=False, compression="zstd")


def nps_report(
    log: JourneyLog,
    config: ProjectConfig,
    model: SavedModel,
    *,
    until: int | None = None,
    window: Duration | None = None,
    every: Duration | str | None = None,
    by: str | None = None,
    level: float = 0.95,
    hidden: float = ALLOWED,
    bootstrap: int | None = None,
    ask: int | None = None,
    leavers: Leavers | None = None,
    progress: Progress = SILENT,
) -> NpsReport:
    """Tell the satisfaction of everybody, part them by risk and feeling, and choose whom to ask.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
    model : SavedModel
        Its features are what is known of a customer; its churn and satisfaction make the quadrants.
    until, window, every, by, level, hidden, bootstrap, leavers, progress
        As in `cxml.training.respond.expected_nps`.
    ask : int, optional
        Surveys to send next; nobody who was asked within 30 days.

    Returns
    -------
    NpsReport
    """
    moment = log.last + 1 if until is None else until
    everybody = expected_nps(
        log, config, model.plan, until=moment, window=window, every=every, by=by, level=level, hidden=hidden,
        bootstrap=bootstrap, leavers=leavers, progress=progress,
    )  # fmt: skip
    four: list[Quadrant] = []
    if {"churn", "satisfaction"} <= set(model.targets) and config.churn is not None:
        scores = score_log(model, log, moment, churn=config.churn, leavers=leavers, reasons=0, progress=progress)
        four = four_corners(model, scores, _worth(log, config, scores, moment))
    if ask is None:
        return NpsReport(everybody, four, None, 0.0, level, hidden, bootstrap)
    frame, answers = _to_ask(log, everybody, moment, ask)
    return NpsReport(everybody, four, frame, answers, level, hidden, bootstrap)


def four_corners(model: SavedModel, scores: pyarrow.Table, value: Float64 | None = None) -> list[Quadrant]:
    """Part scored customers by risk and feeling.

    Whoever is not in the low risk band counts as leaving; whoever is more likely to give a low score than a high one
    counts as unhappy.

    Parameters
    ----------
    model : SavedModel
    scores : pyarrow.Table
        From `cxml.scoring.batch.score_log`.
    value : float64 array of shape (n_customers,), optional

    Returns
    -------
    list of Quadrant
        ``feeling`` is P(high) less P(low), in points: for NPS the expected NPS.
    """
    settings = model.settings["churn"]
    risk = scores.column(f"churn_{settings['horizons'][-1]}").to_numpy()
    names = ("p_detractor", "p_promoter") if "p_promoter" in scores.column_names else ("p_low", "p_high")
    low, high = (scores.column(name).to_numpy() for name in names)
    return quadrants(risk, 100.0 * (high - low), risky=float(settings["bands"][0]), content=0.0, value=value)[1]


def _worth(log: JourneyLog, config: ProjectConfig, scores: pyarrow.Table, moment: int) -> Float64 | None:
    """Sum the money of each customer's events within the lookback."""
    block = log.block
    if "value" not in block.measures:
        return None
    known = block.time if block.known is None else block.known
    recent = (block.time >= moment - config.snapshots.lookback.us) & (block.time < moment) & (known < moment)
    money = np.where(recent, np.nan_to_num(block.measures["value"]), 0.0)
    owner = np.repeat(np.arange(block.n_customers), np.diff(block.starts))
    total = np.bincount(owner, money, minlength=block.n_customers)
    place = {customer: i for i, customer in enumerate(block.customers.tolist())}
    return np.asarray(total[[place[customer] for customer in scores.column("customer_id").to_pylist()]], np.float64)


def _to_ask(log: JourneyLog, everybody: Everybody, moment: int, budget: int) -> tuple[pandas.DataFrame, float]:
    import pandas as pd

    people, ceiling = everybody.people, everybody.ceiling
    if budget < 1:
        raise ConfigError(f"--ask is {budget}; give the number of surveys to send, 1 or more")
    noise = ceiling.rmse.value**2 if np.isfinite(ceiling.rmse.value) else 0.0
    noise = min(noise, float(np.quantile(people.variance, 0.05)))  # feeling that changed counts as noise too
    rested = people.last_asked < moment - QUIET_DAYS * DAY_US
    plan: AskPlan = whom_to_ask(people.propensity, people.variance, budget=budget, noise=noise, allowed=rested)
    frame = pd.DataFrame(
        {
            "customer_id": log.block.customers[people.customer[plan.order]],
            "p_answer": people.propensity[plan.order],
            "expected_score": people.score[plan.order],
            "score_sd": np.sqrt(np.maximum(people.variance[plan.order], 0.0)),
            "gain": plan.gain[plan.order],
        }
    )
    return frame, plan.answers


def _number(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)


def _plain(content: Any) -> Any:
    """Make JSON of it: NaN becomes null, numbers of numpy become Python's."""
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, np.generic):
        return _plain(content.item())
    return None if isinstance(content, float) and not np.isfinite(content) else content
