"""What a test needs beside Python, and what happens where it is not there.

A test marked ``needs_...`` is skipped, with the reason and the mend, where that part is missing. With
``CXML_REQUIRE_ALL=1`` nothing may be skipped: a skip is a failure. The real data sets are asked for only where they
can be expected, because they do not come with the code: when ``CXML_DATA`` names their folder, or the default folder
is there.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("cxml", deadline=None)  # the first call of a compiled function compiles it
settings.load_profile("cxml")

REPOSITORY = Path(__file__).parents[1]
SHARED_DATA = Path(os.environ.get("CXML_DATA") or REPOSITORY / ".." / "shared" / "data").resolve()
DATA_EXPECTED = bool(os.environ.get("CXML_DATA")) or SHARED_DATA.is_dir()


def missing_shared_data() -> str | None:
    """Say what is missing of the real data sets."""
    if SHARED_DATA.is_dir():
        return None
    return f"no folder '{SHARED_DATA}'; name the folder of the data sets in CXML_DATA"


def missing_postgres() -> str | None:
    """Say what is missing of a PostgreSQL server that a test can start for itself."""
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), *map(Path, os.get_exec_path())]
    if not any((folder / "initdb").is_file() for folder in folders):
        return "no initdb; install it with: apt-get install postgresql"
    return _missing_package("adbc_driver_postgresql", extra="postgres")


def missing_spark() -> str | None:
    """Say what is missing of Spark in local mode."""
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        return "no java; install it with: apt-get install openjdk-17-jre-headless"
    return _missing_package("pyspark", extra="spark")


def _missing_package(package: str, *, extra: str) -> str | None:
    if importlib.util.find_spec(package):
        return None
    return f"no package {package}; install it with: pip install 'cxml[{extra}]'"


NEEDS: dict[str, Callable[[], str | None]] = {
    "needs_shared_data": missing_shared_data,
    "needs_postgres": missing_postgres,
    "needs_spark": missing_spark,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run here."""
    reasons = {name: missing() for name, missing in NEEDS.items()}
    for item in items:
        for name, reason in reasons.items():
            if reason and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a skip a failure; an expected failure, which pytest reports as a kind of skip, stays one."""
    if os.environ.get("CXML_REQUIRE_ALL") != "1" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"CXML_REQUIRE_ALL=1 allows no skip, and this was skipped. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge the skip of one test."""
    report = yield
    if DATA_EXPECTED or not item.get_closest_marker("needs_shared_data"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judge the skip of a whole file."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of the real data sets, for tests marked ``needs_shared_data``."""
    return SHARED_DATA
