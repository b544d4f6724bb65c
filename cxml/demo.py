"""The main job end to end on simulated journeys: what ``cxml demo`` and ``cxml simulate`` do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxml.files import write_aside
from cxml.progress import SILENT, Progress

if TYPE_CHECKING:
    import pandas

    from cxml.project import ScoreResult, TrainResult
    from cxml.simulate import Simulation

#: The project file for simulated journeys; paths are relative to the folder it is written to.
PROJECT = """\
# Simulated telecom journeys: who will cancel within 30, 60, 90 days, and what score would each give now.
name: telecom_demo
journeys:
  sources: [events.parquet]
  timezone: UTC
  stages:
    onboarding: [signup]
    usage: [login, order, delivered, delivered_late, plan_changed]
    billing: [invoice, price_increase, payment_failed, refund]
    support: [call, chat, email, self_service, complaint]
    loyalty: [campaign_offer, survey_sent, survey_answer]
  activity: [login, order]
  contacts: [call, chat, email]
customers:
  source: customers.parquet
  attributes: [plan, region, acquisition]
snapshots: {every: 30d, lookback: 180d}
churn:
  kind: event
  touchpoints: [cancelled]
  horizons: [30d, 60d, 90d]
satisfaction:
  kind: nps
  touchpoint: survey_answer
  asked: survey_sent
tracking: {uri: "sqlite:///mlflow.db"}
"""


@dataclass(frozen=True)
class DemoResult:
    """What the demo found, in lines for people, with what training and scoring returned."""

    lines: list[str]
    trained: TrainResult
    scored: ScoreResult

    def to_dict(self) -> dict[str, Any]:
        """Return the summary for machines."""
        return {"train": self.trained.to_dict(), "score": self.scored.to_dict()}


def write_simulation(simulation: Simulation, out: str | os.PathLike[str]) -> dict[str, Path]:
    """Write events, customers, truth and a project file into a folder.

    Parameters
    ----------
    simulation : Simulation
    out : path

    Returns
    -------
    dict of str to Path
        ``events``, ``customers``, ``truth``, ``project``.
    """
    folder = Path(out)
    written = {**simulation.write(folder), "project": folder / "project.yaml"}
    with write_aside(written["project"]) as aside:
        aside.write_text(PROJECT, encoding="utf-8")
    return written


def run_demo(out: str | os.PathLike[str], n_customers: int, seed: int, progress: Progress = SILENT) -> DemoResult:
    """Simulate, train, score, and tell in words what came out.

    Parameters
    ----------
    out : path
        Folder for ``events.parquet``, ``customers.parquet``, ``truth.parquet``, ``project.yaml``, ``model/``,
        ``scores.parquet``, ``plots/`` and ``mlflow.db``.
    n_customers, seed : int
    progress : Progress

    Returns
    -------
    DemoResult
    """
    from cxml.project import Project
    from cxml.simulate import simulate
    from cxml.training.record import write_plots

    folder = Path(out)
    simulation = simulate(n_customers, random_state=seed, progress=progress)
    write_simulation(simulation, folder)
    project = Project.from_file(folder / "project.yaml")
    project.read(quarantine=folder / "quarantine.parquet", progress=progress)
    trained = project.train(out=folder / "model", progress=progress)
    write_plots(trained.trained, project.config, folder / "plots")
    past = project.score(folder / "model", cutoff=simulation.truth["cutoff"].iloc[0], reasons=0, progress=progress)
    now = project.score(folder / "model", out=folder / "scores.parquet", progress=progress)
    lines = [
        *_say_data(simulation),
        *_say_test(trained),
        *_say_truth(simulation, past.table.to_pandas()),
        *_say_scores(now),
        *_say_files(folder, trained),
    ]
    return DemoResult(lines, trained, now)


def _say_data(simulation: Simulation) -> list[str]:
    events = simulation.events
    first, last = events["timestamp"].min(), events["timestamp"].max()
    return [
        f"Simulated {len(events):,} events of {events['customer_id'].nunique():,} customers, "
        f"{first:%Y-%m-%d} to {last:%Y-%m-%d}.",
        "",
    ]


def _say_test(trained: TrainResult) -> list[str]:
    exams = trained.trained.exams
    churn, answers = exams["churn"].scores["cxml"], exams["satisfaction"].scores["cxml"]
    rule = exams["churn"].scores["RFM logistic regression"]
    return [
        "Tested on the latest cutoffs, which the model never saw:",
        f"  who leaves within 90 days  AUROC {churn['auroc_90d'].value:.3f} (RFM regression "
        f"{rule['auroc_90d'].value:.3f}); the riskiest tenth leaves {churn['lift_at_10pct_90d'].value:.1f} times as "
        "often as average",
        f"  survey score 0-10          off by {answers['mae'].value:.2f} points on average; "
        f"NPS off by {answers['nps_error'].value:+.1f}",
        "",
    ]


def _say_truth(simulation: Simulation, scores: pandas.DataFrame) -> list[str]:
    """Compare with what only a simulator knows."""
    import numpy as np

    both = simulation.truth.merge(scores, on="customer_id", suffixes=("_true", ""))
    tenth = both.nlargest(max(len(both) // 10, 1), "churn_90d")
    raw = simulation.events["score"].dropna()
    true_nps = 100 * float((both["p_promoter_true"] - both["p_detractor_true"]).mean())
    answered = 100 * float((raw >= 9).mean() - (raw <= 6).mean())
    said, true = both["churn_90d"], both["churn_90d_true"]
    return [
        f"Against the simulator's truth at {both['cutoff'].iloc[0]:%Y-%m-%d} ({len(both):,} customers):",
        f"  churn in 90 days           predicted {said.mean():.1%}, true {true.mean():.1%}; "
        f"correlation over customers {np.corrcoef(said, true)[0, 1]:.2f}",
        f"  its riskiest tenth         predicted {tenth['churn_90d'].mean():.1%}, "
        f"true {tenth['churn_90d_true'].mean():.1%}",
        f"  NPS                        of those who answered {answered:+.0f}, expected by the model for everyone "
        f"{both['expected_nps'].mean():+.0f}, true {true_nps:+.0f}",
        "",
    ]


def _say_scores(now: ScoreResult) -> list[str]:
    frame = now.table.to_pandas()
    top = frame.nlargest(3, "churn_90d")
    lines = [
        f"Scored {len(frame):,} customers as of {frame['cutoff'].iloc[0]:%Y-%m-%d}: "
        f"{frame['churn_30d'].sum():.0f} are expected to leave within 30 days, "
        f"{frame['churn_90d'].sum():.0f} within 90.",
        "The three most at risk:",
    ]
    for row in top.to_dict("records"):
        why = "; ".join(row[f"reason_{i}"] for i in (1, 2, 3) if isinstance(row[f"reason_{i}"], str))
        lines.append(
            f"  customer {row['customer_id']}: {row['churn_90d']:.0%} within 90 days, "
            f"would score {row['expected_score']:.1f} ({why})"
        )
    return [*lines, ""]


def _say_files(folder: Path, trained: TrainResult) -> list[str]:
    names: dict[str, Any] = {
        "scores.parquet": "one row a customer: risk by horizon, expected score, reasons",
        "model/": f"version {trained.trained.model.version}, with its card (card.md)",
        "plots/": "pictures of the test: calibration, gain, churn by horizon, what matters",
        "mlflow.db": "the run; see it with: mlflow ui --backend-store-uri sqlite:///" + str(folder / "mlflow.db"),
        "project.yaml": "the project file; make it yours",
    }
    lines = [f"In {folder}:", *(f"  {name:15} {what}" for name, what in names.items())]
    if trained.tracking_failure:
        lines.append(f"warning: the run was not recorded in MLflow ({trained.tracking_failure})")
    return lines
