import pytest

from cxml.evaluate.bootstrap import Interval
from cxml.evaluate.card import MEANINGS, model_card
from cxml.evaluate.metrics import CHURN_METRICS, SCORE_METRICS
from cxml.evaluate.slices import Slice

NAN = float("nan")


@pytest.fixture
def facts():
    return {
        "name": "telecom",
        "version": "0a1b2c3d4e5f",
        "targets": {"churn": "P(cancelled) within 30d, 60d of the cutoff", "satisfaction": "NPS answer, 0 to 10"},
        "training": {"rows": 120_000, "customers": 10_000, "churn within 30d": 0.043219, "data digest": "abc|def"},
        "split": [
            {"part": "train", "first cutoff": "2024-01-01", "rows": 100_000},
            {"part": "test", "first cutoff": "2024-09-01", "rows": 20_000},
        ],
        "results": {
            "churn": {
                "model": {"brier_30d": Interval(0.04, 0.035, 0.045), "auroc_30d": Interval(0.81, 0.79, 0.83)},
                "base rate": {"auroc_30d": Interval(0.5, NAN, NAN), "brier_30d": 0.041},
            },
            "satisfaction": {"model": {"rps": 0.07, "nps_error": Interval(-12.3, -14.0, -10.1)}},
        },
        "packages": {"lightgbm": "4.7.0", "cxml": "0.1.0"},
        "limits": ["Only customers with a contract."],
        "folder": "models/telecom",
    }


def test_the_same_facts_make_the_same_bytes(facts):
    assert model_card(**facts) == model_card(**facts)


def test_figures_stand_beside_those_of_the_baselines(facts):
    card = model_card(**facts)
    assert "| metric | model | base rate |" in card
    assert "| `auroc_30d` | 0.810 (0.790 to 0.830) | 0.500 |" in card
    assert "| `nps_error` | -12.3 (-14.0 to -10.1) |" in card
    assert card.index("`auroc_30d`") < card.index("`brier_30d`")


def test_the_card_says_what_a_reader_must_know(facts):
    card = model_card(**facts)
    for text in (
        "P(cancelled) within 30d, 60d of the cutoff", "| customers | 10,000 |", "| churn within 30d | 0.04322 |",
        "| test | 2024-09-01 | 20,000 |", "Only customers with a contract.", 'cxml.load("models/telecom")',
        "- lightgbm 4.7.0", "`0a1b2c3d4e5f`",
    ):  # fmt: skip
        assert text in card


def test_a_bar_in_a_value_does_not_break_the_table(facts):
    assert "abc\\|def" in model_card(**facts)


def test_what_could_not_be_measured_is_called_unknown(facts):
    facts["results"] = {"churn": {"model": {"auroc_30d": Interval(NAN, NAN, NAN)}, "base rate": {"ece_30d": 0.1}}}
    card = model_card(**facts)
    assert "| `auroc_30d` | unknown |  |" in card


def test_only_the_metrics_shown_are_explained(facts):
    card = model_card(**facts)
    assert "`brier`: " in card
    assert "`quadratic_kappa`: " not in card


def test_every_metric_has_a_meaning():
    others = {"nps_error", "balance_error", "expected_profit", "concordance", "integrated_brier"}
    assert {*CHURN_METRICS, *SCORE_METRICS, *others} == set(MEANINGS)


def test_a_metric_is_explained_by_its_own_words_not_by_those_of_a_shorter_name(facts):
    facts["results"] = {"churn": {"model": {"brier_reliability_30d": 0.001}}}
    card = model_card(**facts)
    assert "- `brier_reliability`: " in card
    assert "- `brier`: " not in card


def test_slices_stand_by_target_and_only_where_there_are_some(facts):
    assert "For whom" not in model_card(**facts)
    gold = Slice("plan", "gold", 120, 60, {"auroc_30d": Interval(0.7, 0.6, 0.8)})
    card = model_card(**facts, slices={"churn": [gold], "satisfaction": []})
    assert "| attribute | value | customers | auroc_30d |" in card
    assert "| plan | gold | 60 | 0.700 (0.600 to 0.800) |" in card
    assert card.index("## For whom it is how good") < card.index("## Limits")


def test_the_verdict_stands_above_the_figures(facts):
    card = model_card(**facts, verdicts=["**churn: does NOT beat every baseline**"])
    assert card.index("## How good it is") < card.index("- **churn: does NOT beat") < card.index("| metric | model")
