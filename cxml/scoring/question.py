"""Whether a model answers what a project asks."""

from __future__ import annotations

from typing import Any

from cxml.config import ProjectConfig
from cxml.errors import ConfigError
from cxml.models.store import SavedModel


def check_question(model: SavedModel, config: ProjectConfig) -> None:
    """Demand that a model was trained on the question of this project file.

    Parameters
    ----------
    model : SavedModel
    config : ProjectConfig

    Raises
    ------
    ConfigError
        Naming the first thing in which they differ: targets, churn kind, horizons, survey scale, customer attributes.
    """
    for what, trained, asked in _differences(model, config):
        raise ConfigError(
            f"the model '{model.name}' ({model.version}) was trained for {what} {trained}, the project file has "
            f"{asked}. "
            "Train a model on this project file, or score with the project file of the model."
        )


def _differences(model: SavedModel, config: ProjectConfig) -> list[tuple[str, Any, Any]]:
    churn, satisfaction = config.churn, config.satisfaction
    asked = [name for name in ("churn", "satisfaction") if getattr(config, name) is not None]
    pairs: list[tuple[str, Any, Any]] = [("targets", sorted(model.targets), asked)]
    if churn is not None and "churn" in model.targets:
        settings = model.settings["churn"]
        kind = "inactivity" if churn.kind == "inactivity" else "event"
        pairs += [
            ("churn of kind", settings["kind"], kind),
            ("horizons", settings["horizons"], [str(h) for h in churn.horizons]),
            ("reasons", settings.get("reasons", []), list(churn.reasons)),
        ]
    if satisfaction is not None and "satisfaction" in model.targets:
        settings = model.settings["satisfaction"]
        bounds = [settings["lowest"], settings["highest"]]
        pairs.append(("survey scores", [settings["kind"], *bounds], [satisfaction.kind, *satisfaction.bounds]))
    attributes = list(config.customers.attributes) if config.customers else []
    pairs.append(("customer attributes", model.settings["customer_attributes"], attributes))
    return [(what, trained, wanted) for what, trained, wanted in pairs if trained != wanted]
