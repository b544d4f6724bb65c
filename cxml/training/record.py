"""What is told of a training: the model card and the pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cxml.config import ProjectConfig
from cxml.evaluate.card import model_card
from cxml.evaluate.exam import MODEL, Exam
from cxml.evaluate.plots import churn_plots, plot_importance, save_plots, score_plots
from cxml.models.predictor import CumulativePredictor
from cxml.models.store import SavedModel
from cxml.times import format_instant
from cxml.training.respond import Everybody
from cxml.training.studies import Outlook, known_churn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cxml.training.learn import Trained

#: Test rows whose contributions are averaged for the importance of features.
IMPORTANCE_ROWS = 2_000


def write_card(
    model: SavedModel,
    config: ProjectConfig,
    outlook: Outlook,
    exams: Mapping[str, Exam],
    everybody: Everybody | None = None,
) -> str:
    """Write the model card.

    Parameters
    ----------
    model : SavedModel
    config : ProjectConfig
    outlook : Outlook
    exams : mapping of str to Exam
    everybody : Everybody, optional
        What all customers would answer.

    Returns
    -------
    str
        Markdown.
    """
    data = model.metadata["data"]
    parts = [
        {
            "target": study.target,
            "part": part,
            "first cutoff": format_instant(int(rows.cutoff.min())),
            "last cutoff": format_instant(int(rows.cutoff.max())),
            "snapshots": len(rows),
            "customers": len(np.unique(rows.customer)),
        }
        for study in outlook.studies.values()
        for part, rows in study.parts.items()
    ]
    return model_card(
        name=model.name,
        version=model.version,
        targets=predicted(config),
        training={
            "events": data["events"],
            "customers": data["customers"],
            "window": f"{data['first']} to {data['last']}",
            "features": len(outlook.plan.columns),
            "data digest": f"`{data['digest'][:16]}`",
            "config digest": f"`{model.metadata['config_digest'][:16]}`",
            "seed": config.random_state,
            **{f"trees of {target}": _trees(predictor, config) for target, predictor in model.targets.items()},
        },
        split=parts,
        results={target: exam.scores for target, exam in exams.items()},
        packages=model.metadata["versions"],
        verdicts=[exam.verdict() if exam.beats_all else f"**{exam.verdict()}**" for exam in exams.values()],
        limits=[
            f"Do not act on its {target}: a simple rule, or LightGBM as it comes, did as well on the test."
            for target, exam in exams.items()
            if not exam.beats_all
        ],
        slices={target: exam.slices for target, exam in exams.items()},
        everybody=None if everybody is None else (*everybody.table()[1:], everybody.notes),
    )


def _trees(predictor: CumulativePredictor, config: ProjectConfig) -> str:
    """Count the trees, those of a horizon alone apart."""
    horizons = [] if config.churn is None else config.churn.horizons
    own = [
        f"{trees.n_trees} of {horizon} alone"
        for horizon, trees in zip(horizons, predictor.corrections, strict=False)
        if trees is not None
    ]
    return ", ".join([f"{predictor.trees.n_trees} common", *own])


def predicted(config: ProjectConfig) -> dict[str, str]:
    """Say in a sentence for each target what is predicted, and when."""
    said = {}
    if config.churn is not None:
        horizons = ", ".join(str(h) for h in config.churn.horizons)
        what = {
            "event": f"P({' or '.join(config.churn.touchpoints)}) within",
            "table": "P(leaving, by the table of leavers) within",
            "inactivity": "P(no " + (" or ".join(config.journeys.activity) or "event") + ") for",
        }[config.churn.kind]
        said["churn"] = (
            f"{what} {horizons} of a cutoff, for customers seen in the {config.snapshots.lookback} before it; "
            f"cutoffs every {config.snapshots.every}"
        )
    if config.satisfaction is not None:
        lowest, highest = config.satisfaction.bounds
        moment = f"the question ({config.satisfaction.asked})" if config.satisfaction.asked else "the answer"
        said["satisfaction"] = (
            f"the answer of '{config.satisfaction.touchpoint}' ({config.satisfaction.kind}, {lowest} to {highest}), "
            f"from what was known before {moment}"
        )
    return said


def write_plots(trained: Trained, config: ProjectConfig, folder: str | os.PathLike[str]) -> None:
    """Draw reliability, gain, importance and histograms of the test into a folder, as PNG."""
    outlook = trained.outlook
    figures: dict[str, Figure] = {}
    for target, study in outlook.studies.items():
        test, ours = study.parts["test"], trained.predictions[target][MODEL]
        if target == "churn":
            horizons = trained.model.settings["churn"]["horizons"]
            figures |= churn_plots(known_churn(study, "test", config), ours, horizons)
        else:
            figures |= score_plots(test.y, ours, trained.model.settings["satisfaction"]["lowest"])
        contributions = trained.model.targets[target].contributions(test.X[:IMPORTANCE_ROWS])
        figures[f"{target}_importance"] = plot_importance(
            outlook.plan.columns, np.abs(contributions[:, :-1]).mean(axis=0)
        )
    save_plots(folder, figures)
