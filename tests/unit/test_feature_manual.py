"""The manual names every statistic, annotation and family there is."""

from pathlib import Path

import pytest

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
