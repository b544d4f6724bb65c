"""What is told of a training: the model card, the pictures, and what MLflow keeps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cxml.config import ProjectConfig, to_yaml
from cxml.evaluate.card import model_card
from cxml.evaluate.exam import MODEL, Exam
from cxml.evaluate.plots import churn_plots, plot_importance, save_plots, score_plots
from cxml.models.store import SavedModel
from cxml.times import format_instant
from cxml.training.studies import PARTS, Outlook, known_churn

if TYPE_CHECKING:
    from cxml.training.learn import Trained

#: Test rows whose contributions are averaged for the importance of features.
IMPORTANCE_ROWS = 2_000


def write_card(model: SavedModel, config: ProjectConfig, outlook: Outlook, exams: Mapping[str, Exam]) -> str:
    """Write the model card.

    Parameters
    ----------
    model : SavedModel
    config : ProjectConfig
    outlook : Outlook
    exams : mapping of str to Exam

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
        },
        split=parts,
        results={target: exam.scores for target, exam in exams.items()},
        packages=model.metadata["versions"],
        limits=[exam.verdict() for exam in exams.values()],
    )


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
        moment = f"asked ({config.satisfaction.asked})" if config.satisfaction.asked else "answering"
        said["satisfaction"] = (
            f"the answer of '{config.satisfaction.touchpoint}' ({config.satisfaction.kind}, {lowest} to {highest}), "
            f"from what was known before {moment}"
        )
    return said


def write_plots(trained: Trained, config: ProjectConfig, folder: str | os.PathLike[str]) -> None:
    """Draw reliability, gain, importance and histograms of the test into a folder, as PNG."""
    outlook, figures = trained.outlook, {}
    for target, study in outlook.studies.items():
        test, ours = study.parts["test"], trained.predictions[target][MODEL]
        if target == "churn":
            horizons = trained.model.settings["churn"]["horizons"]
            figures |= churn_plots(known_churn(test, config), ours, horizons)
        else:
            figures |= score_plots(test.y, ours, trained.model.settings["satisfaction"]["lowest"])
        contributions = trained.model.targets[target].trees.contributions(test.X[:IMPORTANCE_ROWS])
        figures[f"{target}_importance"] = plot_importance(
            outlook.plan.columns, np.abs(contributions[:, :-1]).mean(axis=0)
        )
    save_plots(folder, figures)


def run_record(trained: Trained, config: ProjectConfig, plots_folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Gather what MLflow keeps of a training: the keywords of `cxml.tracking.runs.log_training`."""
    from cxml.tracking.runs import Dataset

    write_plots(trained, config, plots_folder)
    metadata = trained.model.metadata
    params: dict[str, Any] = {"random_state": config.random_state, "n_features": len(trained.outlook.plan.columns)}
    datasets = []
    for target, study in trained.outlook.studies.items():
        params[f"{target}.n_trees"] = trained.model.targets[target].trees.n_trees
        params |= {f"{target}.{name}": value for name, value in study.split.to_dict().items()}
        for part in PARTS:
            params[f"{target}.rows_{part}"] = len(study.parts[part])
            datasets.append(
                Dataset(
                    name=f"{config.name} {target} {part}",
                    digest=metadata["data"]["digest"],
                    context="training" if part == "train" else part,
                    source=", ".join(source.label for source in config.journeys.sources),
                    profile={"rows": len(study.parts[part]), **study.split.to_dict()},
                )
            )
    params |= {f"config.{key}": value for key, value in flatten(config.model_dump(mode="json", exclude_none=True))}
    return {
        "params": params,
        "metrics": trained.metrics(),
        "tags": {
            "project": config.name,
            "data_digest": metadata["data"]["digest"],
            "config_digest": metadata["config_digest"],
            "model_version": trained.model.version,
            "cxml_version": metadata["versions"]["cxml"],
        },
        "config_yaml": to_yaml(config),
        "plots_folder": plots_folder,
        "datasets": datasets,
    }


def flatten(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """List the leaves of nested dicts under dotted keys; lists stay whole, as text.

    Examples
    --------
    >>> flatten({"a": {"b": 1, "c": [1, 2]}})
    [('a.b', 1), ('a.c', '[1, 2]')]
    """
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in flatten(value, f"{prefix}{key}.")]
    return [(prefix.removesuffix("."), str(tree) if isinstance(tree, list) else tree)]
