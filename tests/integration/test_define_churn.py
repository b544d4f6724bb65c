"""`cxml define-churn` as a user meets it."""

import json
import sys

import pandas as pd
import pytest
import yaml

from cxml.cli import main


@pytest.fixture
def cxml(monkeypatch, capsys, tmp_path):
    """Call ``cxml("define-churn", "project.yaml")`` from a folder of its own; code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["cxml", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def test_the_command_prints_a_recommendation_and_writes_table_and_picture(cxml, shop, tmp_path):
    out, plot = tmp_path / "gaps.csv", tmp_path / "gaps.png"
    code, printed, err = cxml("define-churn", shop / "project.yaml", "--out", out, "--plot", plot)
    assert code == 0, err
    assert "Recommended gap:" in printed
    assert "personal rhythm" in printed
    assert "find silences" in err
    lines = printed[printed.index("For the project file") :].splitlines()[1:3]
    assert yaml.safe_load("\n".join(lines))["churn"]["kind"] == "inactivity"
    assert pd.read_csv(out)["recommended"].any()
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_command_answers_machines_and_takes_its_options(cxml, shop):
    words = ("define-churn", shop / "project.yaml", "--json", "-q", "--gap", "30d", "--gap", "8w", "--within", "90d")
    code, printed, err = cxml(*words, "--tolerate", "0.6", "--until", "2024-11-01")
    told = json.loads(printed)
    assert code == 0, err
    assert err == ""
    assert [row["gap_days"] for row in told["gaps"]] == [30, 56]
    assert (told["within_days"], told["tolerated"], told["until"]) == (90, 0.6, "2024-11-01")


def test_the_same_data_give_the_same_answer(cxml, shop):
    words = ("define-churn", shop / "project.yaml", "--json", "-q")
    assert cxml(*words)[1] == cxml(*words)[1]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--gap", "36h"], 2, "no whole number of days"),
        (["--within", "soon"], 2, "--within: 'soon' is not a duration"),
        (["--until", "1999-01-01"], 2, "not within the log"),
        (["--tolerate", "20"], 2, "between 0 and 1"),
        (["--plot", "gap.jpg"], 2, ".png or .svg"),
        (["--gap", "900d"], 3, "longer log"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_mend(cxml, shop, words, code, says):
    ended, printed, err = cxml("define-churn", shop / "project.yaml", "-q", *words)
    assert ended == code
    assert says in err
    assert printed == ""
