"""`cxml learning-curve` and `cxml history` as a user meets them; profit and slices in the model folder."""

import json
import sys

import pytest

from cxml.cli import main


@pytest.fixture
def cxml(monkeypatch, capsys, tmp_path):
    """Call ``cxml("history", "project.yaml")`` from a folder of its own; code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["cxml", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def churn_only(shop, tmp_path, **churn):
    """A project file beside the shop's that learns churn alone."""
    text = (shop / "project.yaml").read_text()
    text = text.replace("events.parquet", str(shop / "events.parquet"))
    text = text.replace("customers.parquet", str(shop / "customers.parquet"))
    start, end = text.index("satisfaction:"), text.index("tracking:")
    more = "".join(f"\n  {key}: {value}" for key, value in churn.items())
    text = (text[:start] + text[end:]).replace("horizons: [30d, 60d, 90d]", "horizons: [60d, 90d]" + more)
    file = tmp_path / "churn.yaml"
    file.write_text(text)
    return file


def test_the_learning_curve_says_what_more_customers_would_bring(cxml, shop, tmp_path):
    plot = tmp_path / "curve.png"
    code, printed, err = cxml("learning-curve", churn_only(shop, tmp_path), "--repeats", "1", "--plot", plot)
    assert code == 0, err
    assert "behind all" in printed
    assert "twice the customers" in printed or "too few sizes" in printed
    assert "learn churn from fewer customers" in err
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_history_answers_machines(cxml, shop, tmp_path):
    code, printed, err = cxml("history", churn_only(shop, tmp_path), "--keep", "8w", "--keep", "14d", "--json", "-q")
    assert (code, err) == (0, "")
    (told,) = json.loads(printed)
    assert [point["given"] for point in told["points"]][:2] == [14, 56]
    assert set(told) == {"target", "metric", "points", "enough_days", "tolerance"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--keep", "soon"), "--keep"),
        (("--plot", "curve.gif"), "curve.gif"),
        (("--tolerance", "-1"), "tolerance is 0 or more"),
    ],
)
def test_wrong_usage_is_refused_before_any_work(cxml, shop, tmp_path, words, says):
    code, printed, err = cxml("history", churn_only(shop, tmp_path), "-q", *words)
    assert (code, printed) == (2, "")
    assert says in err


def test_profit_is_reckoned_with_the_value_that_the_project_names(cxml, shop, tmp_path):
    file = churn_only(shop, tmp_path, profit="{value: sum__value__365d, offer: 10, contact: 1}")
    code, printed, err = cxml("train", file, "--no-track", "--out", tmp_path / "model", "--json", "-q")
    assert code == 0, err
    metrics = json.loads(printed)["metrics"]
    assert metrics["churn.expected_profit_60d"] >= 0
    assert 0.5 < metrics["churn.concordance"] < 1
    assert 0 < metrics["churn.integrated_brier"] < 0.25
    parts = [metrics[f"churn.brier_{part}_60d"] for part in ("reliability", "resolution", "uncertainty")]
    assert parts[0] - parts[1] + parts[2] == pytest.approx(metrics["churn.brier_60d"])
    card = (tmp_path / "model" / "card.md").read_text()
    assert "## For whom it is how good" in card
    assert "| plan | basic |" in card


def test_a_value_that_is_no_feature_is_refused_with_the_nearest_one(cxml, shop, tmp_path):
    file = churn_only(shop, tmp_path, profit="{value: sum_value_365d, offer: 10, contact: 1}")
    code, _, err = cxml("train", file, "--no-track", "--out", tmp_path / "model", "-q")
    assert code == 2
    assert "no numeric feature 'sum_value_365d'; did you mean 'sum__value__365d'?" in err
