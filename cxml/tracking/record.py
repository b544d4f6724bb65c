"""What MLflow keeps of a training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cxml import __version__
from cxml.config import ProjectConfig, to_yaml
from cxml.evaluate.exam import Exam
from cxml.tracking.runs import Dataset, NestedRun
from cxml.training.backtest import Backtest
from cxml.training.learn import Trained, config_digest
from cxml.training.record import write_plots
from cxml.training.studies import PARTS
from cxml.training.tune import Tuned


def run_record(
    trained: Trained,
    config: ProjectConfig,
    plots_folder: str | os.PathLike[str],
    tuned: Mapping[str, Tuned] | None = None,
) -> dict[str, Any]:
    """Gather what MLflow keeps of a training: the keywords of `cxml.tracking.runs.log_training`."""
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
        "nested": [run for found in (tuned or {}).values() for run in nested_runs(found)],
    }


def backtest_record(found: Backtest, config: ProjectConfig, digest: str) -> dict[str, Any]:
    """Gather what MLflow keeps of a backtest: the keywords of `cxml.tracking.runs.log_findings`.

    One run for all folds together, one below it for each target in each fold.

    Parameters
    ----------
    found : Backtest
    config : ProjectConfig
    digest : str
        Of the log.
    """
    params: dict[str, Any] = {"random_state": config.random_state}
    params |= {f"{target}.folds": len(found.of(target)) for target in found.pooled}
    params |= {f"config.{key}": value for key, value in flatten(config.model_dump(mode="json", exclude_none=True))}
    return {
        "params": params,
        "metrics": {key: value for exam in found.pooled.values() for key, value in _figures(exam).items()},
        "tags": {
            "project": config.name, "data_digest": digest, "config_digest": config_digest(config),
            "kind": "backtest", "cxml_version": __version__,
        },
        "config_yaml": to_yaml(config),
        "nested": [
            NestedRun(
                name=f"{one.study.target} fold {one.fold}",
                params={
                    f"{one.study.target}.{name}": value for name, value in one.study.split.to_dict().items()
                } | {"n_features": len(one.plan.columns), "rows_test": one.exam.n_rows},
                metrics=_figures(one.exam),
                tags={"target": one.study.target, "fold": one.fold},
            )
            for one in found.folds
        ],
    }  # fmt: skip


def _figures(exam: Exam) -> dict[str, float]:
    return {f"{exam.target}.{name}": value for name, value in exam.flat().items()}


def nested_runs(tuned: Tuned) -> list[NestedRun]:
    """Give one run for each trial of tuning.

    Parameters
    ----------
    tuned : Tuned

    Returns
    -------
    list of NestedRun
    """
    return [
        NestedRun(
            name=f"{tuned.target} trial {trial.number}",
            params={f"{tuned.target}.{name}": value for name, value in trial.parameters.items()},
            metrics={
                f"{tuned.target}.{tuned.metric}": trial.loss,
                **{f"{tuned.target}.{tuned.metric}_fold_{k}": loss for k, loss in enumerate(trial.losses, start=1)},
            },
            tags={"target": tuned.target, "trial": trial.number, "state": trial.state,
                  "best": trial.number == tuned.best.number},
            began_ms=trial.began_ms,
            ended_ms=trial.ended_ms,
        )
        for trial in tuned.trials
    ]  # fmt: skip


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
