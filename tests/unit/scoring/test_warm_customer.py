"""A customer kept warm: events come one by one, and every answer is that of all events at once, in every bit."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cxml import ConfigError, DataError, load

SHIPPED = Path(__file__).parents[3] / "models" / "telecom_demo"
ABOUT = {"plan": "basic", "region": "north", "acquisition": "search"}


@pytest.fixture(scope="module")
def scorer():
    return load(SHIPPED)


def journey(seed, n=25):
    """Events in no order, many at one moment, some late, with holes; the id sometimes left out."""
    rng = random.Random(seed)
    events = []
    for _ in range(n):
        day, hour = rng.randint(1, 28), rng.choice([0, 0, 12])
        event = {
            "timestamp": f"2024-0{rng.randint(1, 6)}-{day:02}T{hour:02}:00:00Z",
            "touchpoint": rng.choice(["login", "order", "call", "survey_answer", "complaint", "teleported"]),
            "channel": rng.choice(["app", "web", None]),
            "value": rng.choice([None, 0.1, 49.9, -0.0]),
            "sequence": rng.choice([None, 1, 2]),
        }
        if rng.random() < 0.2:
            event["available_at"] = "2024-07-01T00:00:00Z"
        if event["touchpoint"] == "survey_answer":
            event["score"] = rng.randint(0, 10)
        if rng.random() < 0.7:
            event["customer_id"] = 7
        events.append({name: value for name, value in event.items() if value is not None or rng.random() < 0.5})
    return events


def bits(answer):
    return {name: repr(value) for name, value in answer.items()}


@pytest.mark.parametrize("seed", range(6))
def test_every_step_gives_the_answer_of_all_events_so_far(scorer, seed):
    events = journey(seed)
    warm = scorer.customer(7, customer=ABOUT)
    for n, event in enumerate(events, start=1):
        warm.add(event)
        known = [one | {"customer_id": 7} if i < n else one for i, one in enumerate(events[:n])]
        for at in (None, "2024-03-05", "2024-08-01"):
            try:
                expected = bits(scorer.score(known, at, customer=ABOUT))
            except DataError as error:
                with pytest.raises(DataError) as refused:
                    warm.score(at)
                assert str(refused.value) == str(error)
            else:
                assert bits(warm.score(at)) == expected
    assert warm.n_events == len(events)


def test_it_may_begin_with_events_or_with_columns(scorer):
    events = [event | {"customer_id": "7"} for event in journey(1)]
    columns = {name: [event.get(name) for event in events] for name in {name for event in events for name in event}}
    expected = bits(scorer.score(events, "2024-08-01"))
    assert bits(scorer.customer(7, events).score("2024-08-01")) == expected
    assert bits(scorer.customer("7", columns).score("2024-08-01")) == expected


def test_reasons_are_asked_for(scorer):
    warm = scorer.customer(7, journey(2))
    assert "reason_1" not in warm.score(reasons=0)
    assert warm.score(reasons=2)["reason_1"]


def test_an_event_that_is_refused_leaves_the_customer_as_it_was(scorer):
    events = [event | {"customer_id": 7} for event in journey(3)]
    warm = scorer.customer(7, events)
    before = bits(warm.score("2024-08-01"))
    bad = [
        ({"timestamp": "soon"}, "timestamp is not readable"),
        ({"touchpoint": None}, "touchpoint is missing"),
        ({"customer_id": 8}, "customer_id is 8; this is customer 7"),
        ({"value": "much"}, "value is not a number"),
        ({"touchpoint": "survey_answer", "score": 77}, "no whole number from 0 to 10"),
    ]
    for change, says in bad:
        with pytest.raises(DataError, match=says):
            warm.add(events[0] | change)
    with pytest.raises(DataError, match="dict"):
        warm.add("call")
    assert bits(warm.score("2024-08-01")) == before
    with pytest.raises(DataError, match="record 25: touchpoint is missing"):
        scorer.customer(7, [*events[:-1], events[-1] | {"touchpoint": ""}])


def test_without_events_there_is_nothing_to_score(scorer):
    with pytest.raises(DataError, match="at least one event"):
        scorer.customer(7).score()
    with pytest.raises(ConfigError, match="unknown attribute"):
        scorer.customer(7, customer={"plann": "basic"})
    with pytest.raises(DataError, match="customer_id is missing"):
        scorer.customer(None)


def test_threads_that_add_and_score_at_once_lose_nothing(scorer):
    events = journey(4, 200)
    warm = scorer.customer(7, events[:1])
    late = "2025-01-01"
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(warm.score, late, reasons=0) for _ in range(50)]
        added = [pool.submit(warm.add, event) for event in events[1:]]
        assert all(answer.result()["status"] for answer in answers)
        assert all(one.result() is None for one in added)
    expected = scorer.score([event | {"customer_id": 7} for event in events], late)
    assert bits(warm.score(late)) == bits(expected)


def test_memory_is_what_the_manual_says(scorer):
    warm = scorer.customer(7, journey(5, 200))
    assert 24 * 200 < warm.n_bytes < 2 * (24 + 4 * 4 + 8 * 5) * 256
