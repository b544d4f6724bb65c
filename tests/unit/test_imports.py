"""What is not imported costs nothing; each check is a process of its own."""

import json
import subprocess
import sys

import pytest

import cxml

#: What a service has no use for. Not yaml and scipy: numba brings them along.
HEAVY = {
    "adbc_driver_postgresql", "duckdb", "joblib", "lightgbm", "matplotlib", "mlflow", "pandas", "pyarrow", "pydantic",
    "pyspark", "rich", "sklearn", "typer",
}  # fmt: skip

#: Modules that a service loads to score one journey while the customer waits.
SERVING = [
    "cxml.explain.reasons",
    "cxml.features.attributes",
    "cxml.features.kernel",
    "cxml.features.matrix",
    "cxml.features.plan",
    "cxml.features.single",
    "cxml.features.state",
    "cxml.journeys.block",
    "cxml.journeys.records",
    "cxml.models.calibration",
    "cxml.models.packing",
    "cxml.models.predictor",
    "cxml.models.store",
    "cxml.models.trees",
    "cxml.scoring.quick",
    "cxml.scoring.scorer",
]


def loaded_by(*statements: str) -> list[set[str]]:
    """Return the top-level modules that a fresh process has loaded after each statement."""
    show = "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    code = "\n".join(["import json, sys", *(f"{statement}\n{show}" for statement in statements)])
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return [set(json.loads(line)) for line in answer.stdout.splitlines()]


def test_importing_the_package_brings_in_the_standard_library_alone():
    before, after = loaded_by("import importlib, typing", "import cxml")
    assert after - before == {"cxml"}


def test_a_public_name_loads_on_first_touch():
    before, light, heavy = loaded_by("import cxml", "dir(cxml), cxml.__version__, cxml.DataError", "import cxml.config")
    assert not (light - before) & {*HEAVY, "numpy", "numba", "scipy", "yaml"}
    assert "pydantic" in heavy


def test_serving_needs_no_heavy_package():
    loaded = loaded_by(*(f"import {module}" for module in SERVING))
    brought = {module: names & HEAVY for module, names in zip(SERVING, loaded, strict=True)}
    assert {module: names for module, names in brought.items() if names} == {}


@pytest.mark.parametrize("name", cxml.__all__)
def test_every_public_name_is_there(name):
    assert getattr(cxml, name) is not None


def test_the_public_names_and_their_homes_agree():
    assert set(cxml.__all__) == {*cxml._HOMES, "__version__"}
    assert set(dir(cxml)) == set(cxml.__all__)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'cxml' has no attribute 'read_journey'"):
        cxml.read_journey  # noqa: B018 - the look-up is the test


def test_reading_journeys_does_not_load_scipy_and_leaves_numba_whole(tmp_path):
    file = str(tmp_path / "a.parquet")
    code = f"""
import sys
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
stamps = pa.array([0, 1], pa.timestamp("us", "UTC"))
events = pa.table({{"customer_id": [1, 2], "timestamp": stamps, "touchpoint": ["a", "b"]}})
pq.write_table(events, {file!r})
import cxml
cxml.read_journeys({file!r})
assert "numba.np.arraymath" in sys.modules and "scipy.linalg" not in sys.modules
import numba
product = numba.njit(lambda a: np.dot(a, a))(np.eye(2))
assert "scipy.linalg" in sys.modules and product.tolist() == [[1.0, 0.0], [0.0, 1.0]]
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_reading_clean_parquet_needs_no_pandas(tmp_path):
    """Arrow's ``to_numpy`` imports it: a third of the time that ten million events take."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = {
        "customer_id": [7, 7, 8],
        "timestamp": pa.array([1_700_000_000_000_000 + i for i in range(3)], pa.timestamp("us", "UTC")),
        "touchpoint": ["call", "answer", "call"],
        "channel": ["web", None, "app"],
        "value": [1.0, None, 2.5],
        "duration": pa.array([None, 3, 5], pa.int32()),
        "score": [None, 9.0, None],
    }
    pq.write_table(pa.table(rows), tmp_path / "events.parquet")
    read = f"read_journeys({str(tmp_path / 'events.parquet')!r}, survey='answer', score_scale=(0, 10))"
    fit = "learn_plan(log, Choice(('30d',)))"
    before, after = loaded_by(
        "import cxml",
        f"from cxml import read_journeys; log = {read}; from cxml.features.learn import Choice, learn_plan; {fit}",
    )
    assert (after - before) & {"pandas", "duckdb", "sklearn", "lightgbm", "matplotlib", "mlflow"} == set()
