"""The rules of tests/conftest.py about what may be skipped, tried on small test files of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.fixture
def outcome(tmp_path):
    """Run one test file under the conftest and return pytest's closing line."""

    def run(text: str, **environment: str) -> str:
        (tmp_path / "tests").mkdir(exist_ok=True)
        shutil.copy(CONFTEST, tmp_path / "tests")
        (tmp_path / "tests" / "test_it.py").write_text(f"import pytest\n{text}\n")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CXML_", "PYTEST_"))}
        answer = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull,
             f"--rootdir={tmp_path}", "tests"],
            cwd=tmp_path, env=inherited | environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        closing = answer.stdout.strip().splitlines()[-1].removeprefix("1 warning, ")
        assert (answer.returncode != 0) == closing.startswith(FAILURES)
        return closing

    return run


FAILURES = ("1 failed", "1 error")
SKIPPED = "def test_a():\n    pytest.skip('no')"
NEEDS_DATA = (
    "@pytest.mark.needs_shared_data\ndef test_a(shared_data):\n    assert (shared_data / 'README.md').is_file()"
)


def test_a_skip_is_allowed_by_default(outcome):
    assert outcome(SKIPPED).startswith("1 skipped")


@pytest.mark.parametrize(
    "text", [SKIPPED, "@pytest.mark.skip\ndef test_a(): pass", "pytest.skip('no', allow_module_level=True)"]
)
def test_a_skip_is_a_failure_where_all_is_required(outcome, text):
    assert outcome(text, CXML_REQUIRE_ALL="1").startswith(FAILURES)


def test_an_expected_failure_is_no_skip(outcome):
    text = "@pytest.mark.xfail\ndef test_a():\n    assert False"
    assert outcome(text, CXML_REQUIRE_ALL="1").startswith("1 xfailed")


def test_data_that_nobody_promised_may_be_absent(outcome):
    assert outcome(NEEDS_DATA, CXML_REQUIRE_ALL="1").startswith("1 skipped")


def test_data_that_were_promised_must_be_there(outcome, tmp_path):
    assert outcome(NEEDS_DATA, CXML_REQUIRE_ALL="1", CXML_DATA=str(tmp_path / "x")).startswith(FAILURES)


def test_data_that_are_there_are_used(outcome, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").write_text("")
    assert outcome(NEEDS_DATA, CXML_DATA="data").startswith("1 passed")


def test_a_missing_part_is_a_reason_to_skip_but_not_where_all_is_required(outcome, tmp_path):
    text = "@pytest.mark.needs_spark\ndef test_a(): pass"
    nowhere = {"PATH": str(tmp_path), "JAVA_HOME": ""}
    assert outcome(text, **nowhere).startswith("1 skipped")
    assert outcome(text, **nowhere, CXML_REQUIRE_ALL="1").startswith(FAILURES)
