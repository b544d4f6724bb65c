"""Imports run one way through the house; this reads them all, those inside functions too."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import cxml

HOUSE = Path(cxml.__file__).parent

#: Rooms on one line know nothing of each other, of those above what they like, of those below nothing.
ORDER = """
    errors
    times files progress faults
    config console
    journeys
    snapshots simulate
    features
    models
    explain intervene evaluate
    report scoring
    training
    tracking
    project
    demo
    cli
    __main__
"""
FLOOR = {room: floor for floor, rooms in enumerate(ORDER.split("\n")) for room in rooms.split()}

#: Rooms on one line that may know of each other after all, one way.
NEIGHBOURS = {("files", "times"), ("report", "scoring")}

#: Rooms that may know only these others, and who may import a package at all.
ONLY = {"simulate": {"errors", "times", "files", "progress"}}
OWNERS = {
    "mlflow": {"tracking"},
    "rich": {"console"},
    "typer": {"cli"},
    "yaml": {"config", "faults", "project", "demo"},
}


class Import(NamedTuple):
    """One import statement."""

    place: str  # file and line
    room: str  # of the importing module
    name: str  # dotted name of what is imported


def imports(house: Path) -> Iterator[Import]:
    """Read every import below a package folder; relative ones are named in full."""
    for file in sorted(house.rglob("*.py")):
        steps = file.relative_to(house.parent).with_suffix("").parts
        room = steps[1] if len(steps) > 1 and steps[1] != "__init__" else ""
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for name in names(node, steps[:-1]):
                yield Import(f"{file.relative_to(house.parent)}:{node.lineno}", room, name)


def names(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    """Name what one statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else ()
        base = ".".join((*above, *filter(None, [node.module])))
        return [f"{base}.{alias.name}" for alias in node.names]
    return []


def offences(house: Path) -> list[str]:
    """List the imports that break the order; the package's own ``__init__`` only names where things live."""
    found = []
    for place, room, name in imports(house):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if not room:
            continue
        if room not in FLOOR:
            found.append(f"{place}: '{room}' has no place in ORDER yet")
        elif top in OWNERS and room not in OWNERS[top]:
            found.append(f"{place}: imports {top}, which is for {', '.join(sorted(OWNERS[top]))}")
        elif top == "cxml" and target != room and not allowed(room, target):
            found.append(f"{place}: {room} imports {target}")
    return found


def allowed(room: str, target: str) -> bool:
    """Say whether a room may import another; a name that is no room lives in the package itself."""
    if target not in FLOOR:
        return target.startswith("__") or room == "cli"
    if room in ONLY:
        return target in ONLY[room]
    return FLOOR[target] < FLOOR[room] or (room, target) in NEIGHBOURS


def test_every_import_runs_with_the_order():
    assert offences(HOUSE) == []


def test_every_room_has_its_place():
    rooms = {path.stem for path in HOUSE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - {"__init__"} <= set(FLOOR)


def plant(house: Path, module: str, line: str) -> list[str]:
    """Write a house of one module and list its offences."""
    file = house / f"{module}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(line)
    return offences(house)


@pytest.mark.parametrize(
    ("module", "line", "offence"),
    [
        ("journeys/read", "from cxml.models.store import load_model", "journeys imports models"),
        ("journeys/read", "import cxml.models.store", "journeys imports models"),
        ("journeys/read", "from cxml import models", "journeys imports models"),
        ("journeys/read", "from ..models import store", "journeys imports models"),
        ("journeys/read", "def f():\n    from cxml.cli import main", "journeys imports cli"),
        ("journeys/read", "if TYPE_CHECKING:\n    from cxml.models.store import SavedModel", "journeys imports models"),
        ("journeys/read", "from cxml import JourneyLog", "journeys imports JourneyLog"),
        ("scoring/scorer", "from cxml.tracking.registry import resolve", "scoring imports tracking"),
        ("explain/reasons", "from cxml.evaluate.metrics import auroc", "explain imports evaluate"),
        ("simulate/make", "from cxml.features.frame import JourneyFeatures", "simulate imports features"),
        ("models/store", "def f():\n    import mlflow.pyfunc", "imports mlflow, which is for tracking"),
        ("attic/boxes", "import json", "'attic' has no place"),
    ],
)
def test_a_planted_offence_is_seen(tmp_path, module, line, offence):
    found = plant(tmp_path / "cxml", module, line)
    assert len(found) == 1
    assert offence in found[0]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("models/store", "from cxml.files import write_aside"),
        ("models/churn", "from cxml.models.store import save_model\nfrom . import trees"),
        ("models/store", "from cxml import __version__"),
        ("tracking/runs", "import mlflow"),
        ("project", "from cxml.tracking.runs import log_training\nimport numpy"),
        ("__init__", "from cxml.project import Project"),
    ],
)
def test_an_honest_import_is_left_alone(tmp_path, module, line):
    assert plant(tmp_path / "cxml", module, line) == []
