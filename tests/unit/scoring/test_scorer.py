"""The shipped model inside another program: what it answers, what it refuses, and what it does not load."""

import copy
import dataclasses
import datetime as dt
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxml import ConfigError, DataError, load
from cxml.scoring.scorer import Scorer

SHIPPED = Path(__file__).parents[3] / "models" / "telecom_demo"
ABOUT = {"plan": "basic", "region": "north", "acquisition": "search"}
UNWANTED = {"mlflow", "pandas", "matplotlib", "sklearn", "lightgbm", "duckdb", "pyarrow", "pydantic"}
AT = "2024-09-07"


@pytest.fixture(scope="module")
def scorer():
    return load(SHIPPED)


@pytest.fixture
def journey():
    """Eleven events of one customer, two of them at the same moment."""
    stamps = [
        ("2024-03-01T08:00:00Z", "signup", {"channel": "app"}),
        ("2024-03-02T09:30:00Z", "login", {"channel": "app"}),
        ("2024-05-11T19:00:00Z", "order", {"channel": "web", "value": 49.9}),
        ("2024-05-15T12:00:00Z", "delivered_late", {"duration": 3.0 * 86_400}),
        ("2024-05-15T12:00:00Z", "invoice", {"value": 49.9}),
        ("2024-05-16T10:00:00Z", "call", {"channel": "phone", "duration": 840.0, "case_id": "c1", "resolved": False}),
        ("2024-05-20T10:00:00Z", "call", {"channel": "phone", "duration": 300.0, "case_id": "c1", "resolved": True}),
        ("2024-06-20T09:00:00Z", "survey_sent", {}),
        ("2024-06-21T20:00:00Z", "survey_answer", {"score": 4}),
        ("2024-09-05T17:30:00Z", "complaint", {"channel": "email"}),
        ("2024-09-06T10:12:00Z", "login", {"channel": "app"}),
    ]
    return [{"customer_id": 7, "timestamp": at, "touchpoint": what, **more} for at, what, more in stamps]


# ---------------------------------------------------------------- what it loads


def test_scoring_with_reasons_loads_no_training_package(journey):
    code = f"""
import json, sys
import cxml
scorer = cxml.load({str(SHIPPED)!r}, warm=True)
answer = scorer.score(json.loads({json.dumps(json.dumps(journey))}), at={AT!r}, customer={ABOUT!r}, reasons=3)
assert answer["reason_1"]
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert not set(json.loads(answer.stdout)) & UNWANTED


# ---------------------------------------------------------------- what it answers


def test_an_answer_has_the_columns_of_a_score_as_plain_values(scorer, journey):
    answer = scorer.score(journey, AT, customer=ABOUT)
    assert list(answer) == [
        "cutoff", "churn_30d", "churn_60d", "churn_90d", "risk_band", "expected_score", "p_detractor", "p_passive",
        "p_promoter", "expected_nps", "status", "reason_1", "reason_2", "reason_3", "model_version",
        "churn_expected_days",
    ]  # fmt: skip
    assert json.loads(json.dumps(answer)) == answer
    assert {type(value) for value in answer.values()} <= {str, float, type(None)}
    assert 0 < answer["churn_30d"] < answer["churn_60d"] < answer["churn_90d"] < 1
    assert answer["p_detractor"] + answer["p_passive"] + answer["p_promoter"] == pytest.approx(1)
    assert answer["expected_nps"] == pytest.approx(100 * (answer["p_promoter"] - answer["p_detractor"]))
    assert answer["status"] == "ok"
    assert answer["model_version"] == json.loads((SHIPPED / "model.json").read_text())["version"]


def test_the_order_of_events_does_not_matter(scorer, journey):
    expected = scorer.score(journey, AT, customer=ABOUT)
    for seed in range(20):
        shuffled = random.Random(seed).sample(journey, len(journey))
        assert scorer.score(shuffled, AT, customer=ABOUT) == expected


def test_what_comes_at_or_after_the_cutoff_changes_nothing(scorer, journey):
    expected = scorer.score(journey, AT, customer=ABOUT)
    later = [
        {"customer_id": 7, "timestamp": f"{AT}T00:00:00Z", "touchpoint": "cancelled"},
        {"customer_id": 7, "timestamp": "2024-09-08T00:00:00Z", "touchpoint": "complaint", "value": 1e6},
    ]
    unknown_yet = {**journey[-1], "touchpoint": "complaint", "available_at": "2024-09-09T00:00:00Z"}
    assert scorer.score(journey + later, AT, customer=ABOUT) == expected
    assert scorer.score([*journey, unknown_yet], AT, customer=ABOUT) == expected


def test_one_microsecond_decides_whether_an_event_counts(scorer, journey):
    last = dt.datetime.fromisoformat(journey[-1]["timestamp"])
    at_it, after_it = last, last + dt.timedelta(microseconds=1)
    assert scorer.score(journey, at_it, customer=ABOUT) == scorer.score(journey[:-1], at_it, customer=ABOUT)
    assert scorer.score(journey, after_it, customer=ABOUT) != scorer.score(journey[:-1], after_it, customer=ABOUT)


def test_the_default_cutoff_is_just_after_the_last_event(scorer, journey):
    last = dt.datetime.fromisoformat(journey[-1]["timestamp"])
    assert scorer.score(journey) == scorer.score(journey, last + dt.timedelta(microseconds=1))


def test_naive_stamps_are_read_in_the_timezone_of_the_model(scorer, journey):
    settings = copy.deepcopy(scorer.model.settings)
    settings["journeys"]["timezone"] = "America/New_York"
    there = Scorer(dataclasses.replace(scorer.model, settings=settings))
    naive = [event | {"timestamp": event["timestamp"].removesuffix("Z")} for event in journey]
    zoned = [event | {"timestamp": event["timestamp"].replace("Z", "-04:00")} for event in journey]
    zoned[0]["timestamp"] = zoned[0]["timestamp"].replace("-04:00", "-05:00")  # before the clocks changed
    zoned[1]["timestamp"] = zoned[1]["timestamp"].replace("-04:00", "-05:00")
    moment = "2024-09-06T12:00:00Z"  # before the last event as New York reads it, after it as UTC does
    assert there.score(naive, moment) == scorer.score(zoned, moment)
    assert there.score(naive, moment) != scorer.score(journey, moment)
    assert scorer.score(naive, moment) == scorer.score(journey, moment)


def test_own_column_names_of_the_model_are_understood(scorer, journey):
    settings = copy.deepcopy(scorer.model.settings)
    settings["journeys"]["columns"] |= {"customer_id": ["user", "customer_id"], "touchpoint": ["page", "touchpoint"]}
    renamed = Scorer(dataclasses.replace(scorer.model, settings=settings))
    own = [{"user": e["customer_id"], "page": e["touchpoint"], **e} for e in journey]
    for event in own:
        del event["customer_id"], event["touchpoint"]
    assert renamed.score(own, AT) == renamed.score(journey, AT) == scorer.score(journey, AT)


def test_what_is_known_of_the_customer_counts(scorer, journey):
    texts = [scorer.score(journey, AT, customer=ABOUT | {"plan": plan}, reasons=0) for plan in ("basic", "premium")]
    assert texts[0] != texts[1]
    assert scorer.score(journey, AT, customer={}) == scorer.score(journey, AT)


def test_fewer_reasons_are_the_first_of_more(scorer, journey):
    three = scorer.score(journey, AT, reasons=3)
    for n in range(3):
        fewer = scorer.score(journey, AT, reasons=n)
        assert [name for name in fewer if name.startswith("reason_")] == [f"reason_{i + 1}" for i in range(n)]
        assert fewer.items() <= three.items()


def test_many_journeys_are_scored_as_one_by_one(scorer, journey):
    other = [event | {"customer_id": "b-8"} for event in journey[:4]]
    answers = scorer.score_many({7: journey, "b-8": other}, AT, customers={7: ABOUT})
    assert answers == [
        {"customer_id": 7} | scorer.score(journey, AT, customer=ABOUT),
        {"customer_id": "b-8"} | scorer.score(other, AT),
    ]


# ---------------------------------------------------------------- how sure it is


def test_touchpoints_that_training_never_saw_give_the_status_unseen(scorer, journey):
    strange = [event | {"touchpoint": "teleported"} for event in journey]
    assert scorer.score(strange, AT)["status"] == "unseen"
    assert scorer.score(journey[:-1] + strange[-1:], AT)["status"] == "ok"


def test_little_history_gives_the_status_thin(scorer, journey):
    assert scorer.score(journey[-2:], AT)["status"] == "thin"
    assert scorer.score(journey[-3:], AT)["status"] == "ok"


def test_long_silence_gives_the_status_stale(scorer, journey):
    last = dt.datetime.fromisoformat(journey[-1]["timestamp"])
    assert scorer.score(journey, last + dt.timedelta(days=180))["status"] == "ok"
    assert scorer.score(journey, last + dt.timedelta(days=180, microseconds=1))["status"] == "stale"


# ---------------------------------------------------------------- what it refuses


def test_a_cutoff_before_all_events_is_refused(scorer, journey):
    with pytest.raises(DataError, match=r"all 11 events are at or after the cutoff 2024-03-01.*later moment"):
        scorer.score(journey, at="2024-03-01T08:00:00Z")


def test_events_that_are_known_too_late_are_refused_alike(scorer, journey):
    late = [event | {"available_at": "2024-10-01T00:00:00Z"} for event in journey]
    with pytest.raises(DataError, match=r"all 11 events are at or after the cutoff 2024-09-07"):
        scorer.score(late, at=AT)


def test_no_events_are_refused(scorer):
    with pytest.raises(DataError, match="at least one event"):
        scorer.score([])


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("timestamp", "yesterday", r"record 3: timestamp is not readable.*'yesterday'"),
        ("timestamp", None, r"record 3: timestamp is missing"),
        ("touchpoint", None, r"record 3: touchpoint is missing"),
        ("value", "much", r"record 3: value is not a number.*'much'"),
        ("duration", float("inf"), r"record 3: duration is not finite"),
        ("resolved", "perhaps", r"record 3: resolved is neither yes nor no.*'perhaps'"),
        ("customer_id", 8, r"record 3: customer_id is not that of record 1.*one customer"),
        ("value", 10**400, r"record 3: value is not finite"),
        ("timestamp", 1704067200000000, r"record 3: timestamp is not readable"),
    ],
)
def test_a_wrong_field_is_named_in_the_error(scorer, journey, field, value, says):
    journey[2][field] = value
    with pytest.raises(DataError, match=says):
        scorer.score(journey, AT)


def test_an_unknown_attribute_of_the_customer_is_named_with_the_nearest_there_is(scorer, journey):
    with pytest.raises(ConfigError, match="unknown attribute 'plann'; did you mean 'plan'"):
        scorer.score(journey, AT, customer={"plann": "basic"})


def test_an_unreadable_cutoff_is_refused(scorer, journey):
    with pytest.raises(ConfigError, match="at: 'tomorrow' is not a moment"):
        scorer.score(journey, at="tomorrow")


@pytest.mark.parametrize("score", [77, -1, 7.5])
@pytest.mark.parametrize("shape", ["events", "columns"])
def test_an_answer_off_the_scale_is_refused_at_the_survey_alone(scorer, journey, score, shape):
    journey[8]["score"] = score
    elsewhere = [*journey[:8], journey[8] | {"score": 10}, journey[9] | {"score": score}, journey[10]]
    ask = (lambda events: columns_of(events)) if shape == "columns" else list
    with pytest.raises(DataError, match=rf"record 9: score of 'survey_answer' is no whole number.*'{score}'"):
        scorer.score(ask(journey), AT)
    assert scorer.score(ask(elsewhere), AT)["status"] == "ok"


def test_a_model_that_does_not_tell_its_survey_takes_any_score(scorer, journey):
    settings = copy.deepcopy(scorer.model.settings)
    del settings["satisfaction"]["touchpoint"]
    journey[8]["score"] = 77
    assert Scorer(dataclasses.replace(scorer.model, settings=settings)).score(journey, AT)["status"] == "ok"


# ---------------------------------------------------------------- columns instead of events


def columns_of(events):
    return {name: [event.get(name) for event in events] for name in {name for event in events for name in event}}


def test_columns_give_the_answer_of_events(scorer, journey):
    expected = scorer.score(journey, AT, customer=ABOUT)
    columns = columns_of(journey)
    assert scorer.score(columns, AT, customer=ABOUT) == expected
    frame = pd.DataFrame(journey)
    arrays = {
        "customer_id": frame["customer_id"].to_numpy(),
        "timestamp": pd.to_datetime(frame["timestamp"]).dt.tz_convert(None).to_numpy("datetime64[us]"),
        "touchpoint": frame["touchpoint"].to_numpy(),
        "channel": frame["channel"],
        "value": frame["value"].to_numpy(np.float64),
        "duration": frame["duration"].to_numpy(np.float32),
        "score": frame["score"].to_numpy(),
        "case_id": tuple(columns["case_id"]),
        "resolved": columns["resolved"],
    }
    assert scorer.score(arrays, AT, customer=ABOUT) == expected
    del columns["customer_id"]
    assert scorer.score_many({7: columns}, AT, customers={7: ABOUT}) == [{"customer_id": 7} | expected]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"value": [1.0]}, "column 'value' has 1 values, others have 11"),
        ({"touchpoint": "call"}, "column 'touchpoint' is a str"),
        ({"value": {"a": 1}}, "column 'value' is a dict"),
        ({"value": [float("inf")] * 11}, "record 1: value is not finite"),
        ({"value": np.full(11, np.inf)}, "record 1: value is not finite"),
        ({"value": np.zeros((11, 1))}, r"record 1: value is not a number|column 'value'"),
    ],
)
def test_columns_that_do_not_fit_are_refused_by_name(scorer, journey, change, says):
    with pytest.raises(DataError, match=says):
        scorer.score(columns_of(journey) | change, AT)


# ---------------------------------------------------------------- what it leaves alone


def test_neither_the_journey_nor_the_customer_is_changed(scorer, journey):
    events, about = copy.deepcopy(journey), dict(ABOUT)
    scorer.score(events, AT, customer=about)
    assert events == journey
    assert about == ABOUT


def test_eight_threads_at_once_give_the_same_numbers(scorer, journey):
    journeys = [journey[: n + 1] for n in range(len(journey))] * 20
    one_by_one = [scorer.score(events, AT, customer=ABOUT) for events in journeys]
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(lambda events: scorer.score(events, AT, customer=ABOUT), journeys))
    assert at_once == one_by_one
    assert len({json.dumps(answer) for answer in one_by_one}) > 5


def test_a_child_that_was_forked_after_scoring_scores_as_its_parent(journey):
    """In a process of its own: one that has started threads, as pytest may have, must not fork."""
    code = f"""
import json, os, sys
import cxml
scorer = cxml.load({str(SHIPPED)!r}, warm=True)
events = json.loads(sys.stdin.read())
warm = scorer.customer(7, events[:-1])
expected = [scorer.score(events, at={AT!r}), scorer.score_many({{7: events}}, at={AT!r})]
for _ in range(4):
    back, there = os.pipe()
    child = os.fork()
    if child == 0:
        warm.add(events[-1])
        answers = [scorer.score(events, at={AT!r}), scorer.score_many({{7: events}}, at={AT!r}), warm.score(at={AT!r})]
        os.write(there, json.dumps(answers).encode())
        os._exit(0)
    os.close(there)
    with os.fdopen(back) as answers:
        assert json.load(answers) == [*expected, expected[0]]
    assert os.waitpid(child, 0)[1] == 0
assert scorer.score(events, at={AT!r}) == expected[0]
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(journey),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_a_warm_scorer_compiles_nothing_more(journey):
    late = journey[5] | {"touchpoint": "teleported", "available_at": "2024-08-01T00:00:00Z"}
    code = f"""
import json, sys
import cxml
from numba.core import event
scorer = cxml.load({str(SHIPPED)!r}, warm=True)
journey, late = json.loads(sys.stdin.read())
with event.install_recorder("numba:compile") as compiled:
    columns = {{name: [one[name] for one in journey[:2]] for name in journey[0]}}
    for events in (journey, journey[::-1], [*journey, late], columns):
        scorer.score(events, customer={ABOUT!r})
        scorer.score(events)
    warm = scorer.customer(7, journey)
    warm.add(late)
    warm.score()
assert not compiled.buffer, compiled.buffer
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps([journey, late]), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("events", ["abc", {"touchpoint": "call"}, [["call"]], 7])
def test_events_that_are_no_list_of_dicts_are_refused_as_such(scorer, events):
    with pytest.raises(DataError, match="dict"):
        scorer.score(events)
