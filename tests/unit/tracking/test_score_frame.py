from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from cxml.errors import ConfigError, DataError
from cxml.scoring.scorer import load
from cxml.tracking.flavour import JourneyModel, example_events, find_model, score_frame


class CountingScorer:
    """Answers with what it was asked, so that the way from frame to journeys can be seen."""

    model = SimpleNamespace(
        settings={"journeys": {"columns": {"customer_id": ["user"]}}, "customer_attributes": ["plan"]},
        plan=SimpleNamespace(columns=["count__all__7d"]),
    )

    def score_many(self, journeys, at=None, *, customers=None, reasons=3):
        [(key, events)] = journeys.items()
        if any(e["page"] == "broken" for e in events):
            raise DataError("event 1: no such stamp")
        cutoff = "2024-01-01" if at is None else str(at)
        about = (customers or {}).get(key)
        return [{"customer_id": key, "cutoff": cutoff, "events": events, "about": about, "reasons": reasons}]


@pytest.fixture
def events():
    return pd.DataFrame(
        {
            "user": [2, 1, 2],
            "when": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"]),
            "page": ["call", "visit", "visit"],
            "amount": [1.5, None, 2.0],
        }
    )


def test_each_customer_gets_one_row_in_ascending_order(events):
    scores = score_frame(CountingScorer(), events)
    assert scores["customer_id"].tolist() == [1, 2]
    assert [len(e) for e in scores["events"]] == [1, 2]
    assert str(scores["cutoff"].dtype) == "datetime64[us, UTC]"


def test_missing_values_are_left_out_of_the_records(events):
    scores = score_frame(CountingScorer(), events)
    assert "amount" not in scores["events"][0][0]
    assert scores["events"][1][0]["amount"] == 1.5


def test_parameters_of_mlflow_reach_the_scorer(events):
    scores = JourneyModel(CountingScorer()).predict(events, {"at": "2024-02-01", "reasons": 0})
    assert scores["cutoff"].tolist() == [pd.Timestamp("2024-02-01", tz="UTC")] * 2
    assert scores["reasons"].tolist() == [0, 0]


def test_a_cutoff_column_speaks_for_each_customer_and_is_no_event_column(events):
    cutoff = pd.to_datetime(["2024-05-01", "2024-04-01", "2024-05-01"])
    scores = score_frame(CountingScorer(), events.assign(cutoff=cutoff))
    assert scores["cutoff"].dt.month.tolist() == [4, 5]
    assert "cutoff" not in scores["events"][0][0]


def test_the_last_known_attributes_describe_the_customer(events):
    scores = score_frame(CountingScorer(), events.assign(plan=["gold", None, None]))
    assert scores["about"].tolist() == [{}, {"plan": "gold"}]


def test_the_frame_is_not_changed(events):
    before = events.copy()
    score_frame(CountingScorer(), events)
    pd.testing.assert_frame_equal(events, before)


def test_no_events_give_no_scores(events):
    assert len(score_frame(CountingScorer(), events.iloc[:0])) == 0


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda e: e.rename(columns={"user": "who"}), ConfigError, "called customer_id or user; they have none"),
        (lambda e: e.assign(customer_id=1), ConfigError, "both 'customer_id' and 'user'"),
        (lambda e: e.assign(user=[1, None, 2]), DataError, "'user': empty in 1 of 3 rows"),
        (lambda e: e.assign(cutoff=[1, 2, 3]), ConfigError, "customer 2 has 2 cutoffs"),
        (lambda e: e.assign(page="broken"), DataError, "customer 1: event 1: no such stamp"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_place(events, change, error, says):
    with pytest.raises(error, match=says):
        score_frame(CountingScorer(), change(events))


def test_one_cutoff_for_all_and_one_for_each_contradict(events):
    with pytest.raises(ConfigError, match="use one of them"):
        score_frame(CountingScorer(), events.assign(cutoff="2024-05-01"), at="2024-06-01")


def test_a_model_is_found_however_mlflow_packed_it(tmp_path):
    (tmp_path / "data" / "shop").mkdir(parents=True)
    (tmp_path / "data" / "shop" / "model.json").write_text("{}")
    expected = tmp_path / "data" / "shop"
    assert find_model(tmp_path) == find_model(tmp_path / "data") == find_model(expected) == expected


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is no model of cxml"):
        find_model(tmp_path)


SHIPPED = Path(__file__).parents[3] / "models" / "telecom_demo"


def journeys(silent_since="2024-01-03"):
    days = pd.to_datetime(["2023-06-01", "2024-01-01", silent_since, "2024-09-01T10:00"], utc=True, format="ISO8601")
    return pd.DataFrame({"customer_id": [1, 1, 1, 2], "timestamp": days, "touchpoint": "login"})


def test_without_a_cutoff_all_are_scored_just_after_the_last_event_of_all():
    scorer = load(SHIPPED)
    scores = score_frame(scorer, journeys())
    assert scores["cutoff"].tolist() == [pd.Timestamp("2024-09-01T10:00:00.000001Z")] * 2
    assert scores["status"].tolist() == ["stale", "thin"]
    pd.testing.assert_frame_equal(scores, score_frame(scorer, journeys(), at="2024-09-01T10:00:00.000001Z"))


def test_a_single_customer_is_scored_just_after_their_own_last_event():
    scores = score_frame(load(SHIPPED), journeys().iloc[:3])
    assert scores["cutoff"].tolist() == [pd.Timestamp("2024-01-03T00:00:00.000001Z")]
    assert scores["status"].tolist() == ["ok"]


def test_the_example_is_of_a_customer_who_does_not_exist_and_can_be_scored():
    scorer = load(SHIPPED)
    example = example_events(scorer.model)
    assert example["customer_id"].unique().tolist() == ["example"]
    assert len(JourneyModel(scorer).predict(example)) == 1


def test_features_take_no_other_cutoff():
    scorer = load(SHIPPED)
    frame = pd.DataFrame([dict.fromkeys(scorer.model.plan.columns, 0.0)])
    with pytest.raises(ConfigError, match="computed at some cutoff already"):
        JourneyModel(scorer).predict(frame, {"at": "2024-01-01"})
