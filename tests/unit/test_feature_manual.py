"""The manual names every statistic, annotation and family there is."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxml import JourneyFeatures, read_journeys
from cxml.features.annotations import ANNOTATIONS
from cxml.features.catalogue import FAMILIES
from cxml.features.custom import OWN
from cxml.features.spec import STATISTICS

MANUAL = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*STATISTICS, *ANNOTATIONS, *FAMILIES, *OWN])
def test_the_manual_knows(name: str) -> None:
    assert f"`{name}`" in MANUAL


@pytest.mark.parametrize("name", list(FAMILIES))
def test_families_are_told_in_the_same_words(name: str) -> None:
    assert f"| `{name}` | {FAMILIES[name][0]} |" in MANUAL


def test_the_columns_of_transitions_are_written_as_the_manual_has_them() -> None:
    found = re.search(r"A transition is written.*?```yaml\nfeatures:\n  columns:\n(.*?)```", MANUAL, re.DOTALL)
    assert found
    columns = [line.removeprefix("    - ") for line in found[1].splitlines()]
    rows = pd.DataFrame(
        {
            "customer_id": 1,
            "timestamp": pd.date_range("2024-01-01", periods=6, tz="UTC"),
            "touchpoint": ["visit", "call", "visit", "call", "call", "visit"],
            "channel": ["web", "web", "web", "phone", "phone", "web"],
        }
    )
    log = read_journeys(rows)
    features = JourneyFeatures(families=[], columns=columns).fit(log)
    unquoted = JourneyFeatures(families=[], columns=[columns[0].replace("'", "")]).fit(log)
    assert unquoted.plan_.aggregates == features.plan_.aggregates[:1]
    snapshot = pd.DataFrame({"customer_id": [1], "cutoff": pd.to_datetime(["2024-01-08"], utc=True)})
    np.testing.assert_array_equal(features.transform(log, snapshot)[columns], [[2, 1, 0]])
