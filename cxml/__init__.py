"""Customer experience as machine learning.

Journey histories in; point-in-time features; models of churn and expected NPS; scores out.
Public names load on first touch, so ``import cxml`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> the module it lives in
_HOMES = {
    "ChurnModel": "cxml.models.churn",
    "ConfigError": "cxml.errors",
    "DataError": "cxml.errors",
    "JourneyFeatures": "cxml.features.frame",
    "JourneyLog": "cxml.journeys.log",
    "Project": "cxml.project",
    "SatisfactionModel": "cxml.models.satisfaction",
    "Scorer": "cxml.scoring.scorer",
    "feature": "cxml.features.custom",
    "load": "cxml.scoring.scorer",
    "make_snapshots": "cxml.snapshots.make",
    "read_journeys": "cxml.journeys.read",
    "register_feature": "cxml.features.custom",
}

__all__ = [  # noqa: RUF022 - in the order of the work, not of the alphabet
    "read_journeys", "JourneyLog", "make_snapshots", "JourneyFeatures", "feature", "register_feature",
    "ChurnModel", "SatisfactionModel", "Project", "load", "Scorer", "ConfigError", "DataError", "__version__",
]  # fmt: skip

if TYPE_CHECKING:
    from cxml.errors import ConfigError, DataError
    from cxml.features.custom import feature, register_feature
    from cxml.features.frame import JourneyFeatures
    from cxml.journeys.log import JourneyLog
    from cxml.journeys.read import read_journeys
    from cxml.models.churn import ChurnModel
    from cxml.models.satisfaction import SatisfactionModel
    from cxml.project import Project
    from cxml.scoring.scorer import Scorer, load
    from cxml.snapshots.make import make_snapshots


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cxml' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
