import time as clock

import numpy as np
import pytest
from reference_annotations import DAY_US, Step, block_of_steps, reference_annotation

from cxml.errors import ConfigError, DataError
from cxml.features.annotate import annotate, fit_transitions, fit_usual_durations
from cxml.features.annotations import ANNOTATIONS, AnnotationSettings, LikenessTable
from cxml.features.folds import N_FOLDS
from cxml.features.kernel import ALWAYS
from cxml.journeys.block import Coded, EventBlock, slice_block
from cxml.times import parse_instant

NAN = float("nan")
HOUR_US = DAY_US // 24
WEEK_US = 7 * DAY_US
SETTINGS = AnnotationSettings(
    contacts=("call", "chat"), activity=("play",), interventions=("offer",), surveys=("answer",),
    self_service=("web",), scale=(0, 10), repeat_within="7d", respond_within="14d",
)  # fmt: skip


def ask(name, steps, settings=SETTINGS):
    """Annotate one customer; a list of numbers, or of words and None."""
    annotated = annotate(block_of_steps({1: steps}), [name], settings)
    if name in annotated.measures:
        return annotated.measures[name].tolist()
    coded = annotated.categories[name]
    return [None if code < 0 else coded.vocabulary[code] for code in coded.codes.tolist()]


def same(a, b):
    np.testing.assert_array_equal(np.array(a, float), np.array(b, float))


def test_days_between_events_are_fractional_and_ties_are_zero():
    steps = [Step(0), Step(0, "play"), Step(DAY_US // 2), Step(3 * DAY_US, None), Step(4 * DAY_US, None)]
    same(ask("gap", steps), [NAN, 0, 0.5, 2.5, 1])
    same(ask("gap_same", steps), [NAN, NAN, 0.5, NAN, NAN])


def test_the_past_of_an_event_is_what_was_known_when_it_was():
    steps = [Step(0), Step(DAY_US, "play", late=3 * DAY_US), Step(2 * DAY_US), Step(4 * DAY_US)]
    same(ask("gap", steps), [NAN, 1, 2, 2])
    assert ask("previous", steps) == [None, "call", "call", "call"]
    on_time = [Step(0), Step(DAY_US, "play", late=3 * DAY_US), Step(2 * DAY_US), Step(3 * DAY_US, late=DAY_US)]
    same(ask("streak", on_time), [1, 2, 1, 4])


def test_a_session_ends_when_nothing_happens_for_longer_than_the_gap():
    minute = DAY_US // 1440
    steps = [Step(t) for t in (0, 0, 30 * minute, 60 * minute + 1, 61 * minute)]
    assert ask("session_position", steps) == [1, 2, 3, 1, 2]


def test_a_contact_is_repeated_within_its_case_and_without_one_within_the_customer():
    steps = [
        Step(0, "call", case_id="1"),
        Step(DAY_US, "chat", case_id="2"),
        Step(2 * DAY_US, "call"),
        Step(WEEK_US, "call", case_id="1"),
        Step(WEEK_US, "play", case_id="1"),
        Step(2 * WEEK_US + 1, "call", case_id="1"),
    ]
    same(ask("repeat_contact", steps), [0, 0, 1, 1, NAN, 0])
    same(ask("first_contact_resolved", steps), [0, 1, 0, 1, NAN, 1])


def test_whether_a_contact_was_enough_is_known_at_the_next_one_or_once_time_is_over():
    steps = [Step(0), Step(DAY_US), Step(20 * DAY_US), Step(20 * DAY_US)]
    annotated = annotate(block_of_steps({1: steps}), ["first_contact_resolved"], SETTINGS)
    assert annotated.measures["first_contact_resolved"].tolist() == [0, 1, 0, 1]
    assert annotated.due["first_contact_resolved"].tolist() == [DAY_US, 8 * DAY_US, 20 * DAY_US, 27 * DAY_US]


def as_of(name, steps, cutoffs):
    """What is said of the first event, as of each cutoff."""
    annotated = annotate(block_of_steps({1: steps}), [name], SETTINGS)
    return [annotated.known_before(name, cutoff)[0] for cutoff in cutoffs]


def test_a_follower_that_becomes_known_after_the_wait_revises_the_value():
    week = 7 * DAY_US
    around = [week, week + 1, week + 2]
    same(as_of("first_contact_resolved", [Step(0), Step(week)], around), [NAN, 0, 0])
    same(as_of("first_contact_resolved", [Step(0), Step(week, late=1)], around), [NAN, 1, 0])
    same(as_of("first_contact_resolved", [Step(0), Step(week + 1)], around), [NAN, 1, 1])
    steps = [Step(0, "offer"), Step(DAY_US, "play", late=30 * DAY_US), Step(2 * DAY_US, "play", late=20 * DAY_US)]
    same(as_of("response", steps, [14 * DAY_US, 14 * DAY_US + 1, 22 * DAY_US, 22 * DAY_US + 1]), [NAN, 0, 0, 1])
    same(as_of("reaction", [Step(0, "answer"), Step(0, late=15 * DAY_US)], [15 * DAY_US, 15 * DAY_US + 1]), [0, 1])


def test_what_comes_after_the_wait_revises_nothing_however_late_it_is_known():
    steps = [Step(0), Step(7 * DAY_US + 1, late=DAY_US)]
    assert annotate(block_of_steps({1: steps}), ["first_contact_resolved"], SETTINGS).revised[
        "first_contact_resolved"
    ].tolist() == [ALWAYS, ALWAYS]


def test_the_past_of_an_event_stays_what_it_was_when_it_was_known():
    """What becomes known later than an event changes nothing of it; those of one nightly feed know each other."""
    settings = AnnotationSettings(contacts=("call",), promises=("delivered",))
    calls = [Step(0, late=2 * DAY_US), Step(DAY_US)]
    assert ask("repeat_contact", calls, settings) == [0, 0]
    assert ask("repeat_contact", [Step(0, late=2 * DAY_US), Step(DAY_US, late=DAY_US)], settings) == [0, 1]
    for late, days in [(0, 1), (2 * DAY_US, NAN)]:
        promised = [Step(0, "order", promise=1, late=late), Step(2 * DAY_US - 1, "delivered"), Step(2 * DAY_US, late=1)]
        same(ask("lateness", promised, settings), [NAN, days - (days > 0) / DAY_US, NAN])


def test_an_event_known_late_is_settled_when_it_is_known():
    steps = [Step(0, late=30 * DAY_US), Step(DAY_US, late=20 * DAY_US)]
    annotated = annotate(block_of_steps({1: steps}), ["first_contact_resolved"], SETTINGS)
    assert annotated.measures["first_contact_resolved"].tolist() == [0, 1]
    assert annotated.due["first_contact_resolved"].tolist() == [30 * DAY_US, 21 * DAY_US]


def test_responses_and_reactions_wait_for_what_the_customer_does():
    steps = [Step(0, "offer"), Step(0, "answer"), Step(14 * DAY_US, "play"), Step(14 * DAY_US + 1, "call")]
    same(ask("response", steps), [1, NAN, NAN, NAN])
    same(ask("reaction", steps), [NAN, 0, NAN, NAN])


def test_cases_open_and_close_and_open_again():
    steps = [
        Step(0, case_id="b"),
        Step(DAY_US, case_id="a", resolved=0),
        Step(2 * DAY_US, case_id="b", resolved=1),
        Step(3 * DAY_US, case_id="b"),
        Step(4 * DAY_US, case_id="b", resolved=0),
        Step(5 * DAY_US),
        Step(6 * DAY_US, case_id="c", resolved=1),
        Step(7 * DAY_US, case_id="b", resolved=1),
        Step(8 * DAY_US, case_id="a", resolved=1),
    ]
    assert ask("open_cases", steps) == [1, 2, 1, 1, 2, 2, 2, 1, 0]
    same(ask("oldest_open_case", steps), [0, 1, 1, 2, 4, 5, 6, 6, NAN])
    same(ask("case_age", steps), [0, 0, 2, 3, 4, NAN, 0, 7, 7])


def test_a_log_without_cases_has_none_open():
    assert ask("open_cases", [Step(0), Step(1)]) == [0, 0]
    same(ask("oldest_open_case", [Step(0)]), [NAN])


def test_a_handoff_is_a_change_of_channel_inside_a_case():
    steps = [
        Step(0, channel="web", case_id="1"),
        Step(1, channel="phone", case_id="2"),
        Step(2, channel="phone", case_id="1"),
        Step(3, channel="phone", case_id="1"),
        Step(4, case_id="1"),
        Step(5, channel="web", case_id="1"),
        Step(6, channel="shop"),
    ]
    same(ask("handoff", steps), [NAN, NAN, 1, 0, NAN, NAN, NAN])


def test_an_escalation_is_a_contact_with_a_person_soon_after_self_service():
    steps = [
        Step(0, "play", channel="web"),
        Step(1, "call", channel="phone", case_id="1"),
        Step(2, "chat", channel="web", case_id="1"),
        Step(WEEK_US, "call", channel="phone"),
        Step(WEEK_US + 2, "call", channel="phone", case_id="1"),
        Step(WEEK_US + 3, "call", channel="phone", case_id="1"),
        Step(WEEK_US + 4, "call", case_id="1"),
    ]
    same(ask("escalation", steps), [NAN, 0, NAN, 1, 1, 0, NAN])


def test_a_loop_goes_back_to_the_last_but_one():
    assert ask("loop", [Step(t, p) for t, p in enumerate("abaabbcb")]) == [0, 0, 1, 0, 0, 0, 0, 1]


def test_surprise_is_in_bits_and_the_first_event_has_none():
    _, table = fit_transitions([block_of_steps({1: [Step(t, p) for t, p in enumerate("aabab")]})])
    settings = AnnotationSettings(surprise=table)
    surprises = ask("surprise", [Step(0, "a"), Step(1, "b"), Step(2, "b"), Step(3, "new"), Step(4, "newer")], settings)
    # after a: b twice, a once; anywhere: a twice, b twice, three columns
    assert surprises[1] == pytest.approx(-np.log2((2 + 5 * 3 / 7) / 8))
    assert surprises[2] == pytest.approx(-np.log2((0 + 5 * 3 / 7) / 6))
    assert surprises[3] == pytest.approx(-np.log2((0 + 5 * 1 / 7) / 6))
    assert surprises[4] == pytest.approx(-np.log2(1 / 7))
    assert np.isnan(surprises[0])


def test_the_likeness_of_a_path_adds_up_its_last_five_steps_newest_first():
    odds = ((0.1, -0.2), (0.3, 0.0), (-0.7, 0.4))  # after a call, after something else, at first: to a call, elsewhere
    settings = AnnotationSettings(likeness=LikenessTable(("call",), (odds,) * N_FOLDS))
    touchpoints = ["call", "play", "call", None, "call", "call", "call", "call", "call", "call"]
    steps = [Step(t, touchpoint) for t, touchpoint in enumerate(touchpoints)]
    same(ask("likeness", steps, settings), [-0.7, -0.2, 0.3, NAN, NAN, 0.1, 0.1, 0.1, 0.1, 0.1])
    paths = [-0.7, -0.2 - 0.7, 0.3 - 0.2 - 0.7, 0.3 - 0.2 - 0.7, 0.3 - 0.2 - 0.7, 0.1 + 0.3 - 0.2, 0.1 + 0.1 + 0.3]
    same(ask("likeness_path", steps, settings), [*paths, 0.1 + 0.1 + 0.1, 0.1 + 0.1 + 0.1 + 0.1, 0.1 * 4 + 0.1])
    same(ask("likeness_path", [Step(0, None), Step(1, None)], settings), [NAN, NAN])


def test_the_path_is_the_one_known_when_the_event_was():
    odds = ((0.125, -0.25), (0.5, 1.0), (2.0, 4.0))
    settings = AnnotationSettings(likeness=LikenessTable(("call",), (odds,) * N_FOLDS))
    steps = [Step(0), Step(1, "play", late=3), Step(2), Step(3), Step(3, late=1)]
    # a call, a call, a call: what was played in between became known only with the last
    same(ask("likeness_path", steps, settings), [2, 1.75, 2.125, 2.25, 0.125 + 0.125 + 0.5 - 0.25 + 2])


def test_transitions_without_a_value_of_their_own_are_other():
    settings = AnnotationSettings(transitions=("call>play", "a>b>c"))
    steps = [Step(t, p) for t, p in enumerate(["call", "play", "call", "a>b", "c", "a", "b>c", None, "call"])]
    expected = [None, "call>play", "other", "other", "a>b>c", "other", "a>b>c", None, None]
    assert ask("transition", steps, settings) == expected


def test_handle_ratio_is_against_the_usual_of_the_touchpoint():
    settings = AnnotationSettings(usual_duration={"call": 60.0, "": 10.0})
    steps = [Step(0, "call", duration=90.0), Step(1, "chat", duration=5.0), Step(2, "call"), Step(3, None, duration=1)]
    same(ask("handle_ratio", steps, settings), [1.5, 0.5, NAN, 0.1])
    no_rest = AnnotationSettings(usual_duration={"call": 60.0})
    same(ask("handle_ratio", steps, no_rest), [1.5, NAN, NAN, NAN])


@pytest.mark.parametrize(
    ("moment", "part", "day"),
    [
        ("2024-03-31T00:59:59Z", "night", "sun"),  # 01:59:59, summer time begins next
        ("2024-03-31T03:59:59Z", "night", "sun"),
        ("2024-03-31T04:00:00Z", "morning", "sun"),  # 06:00
        ("2024-10-27T04:59:59Z", "night", "sun"),
        ("2024-10-27T05:00:00Z", "morning", "sun"),  # 06:00 in winter time
        ("2024-02-28T23:00:00Z", "night", "thu"),  # midnight of the leap day
        ("2024-02-29T22:59:59Z", "evening", "thu"),
        ("2024-06-14T21:59:59Z", "evening", "fri"),
        ("2024-06-14T22:00:00Z", "night", "sat"),
        ("1969-12-31T23:30:00Z", "night", "thu"),
    ],
)
def test_parts_of_the_day_and_days_of_the_week_are_local(moment, part, day):
    settings = AnnotationSettings(timezone="Europe/Berlin")
    steps = [Step(parse_instant(moment))]
    assert ask("daypart", steps, settings) == [part]
    assert ask("weekday", steps, settings) == [day]
    assert ask("weekend", steps, settings) == ["yes" if day in ("sat", "sun") else "no"]


def test_the_clock_changes_at_the_very_moment():
    settings = AnnotationSettings(timezone="America/St_Johns")  # where it was turned back from 00:01 to 23:01
    change = parse_instant("2006-10-29T02:31:00Z")
    assert ask("weekday", [Step(change - 1), Step(change), Step(change + 1)], settings) == ["sun", "sat", "sat"]


def test_streaks_count_local_days_over_the_change_of_the_clock_and_the_leap_day():
    settings = AnnotationSettings(timezone="Europe/Berlin")
    days = ["2024-03-29T23:30:00Z", "2024-03-30T23:30:00Z", "2024-03-31T21:30:00Z", "2024-03-31T22:30:00Z"]
    assert ask("streak", [Step(parse_instant(day)) for day in days], settings) == [1, 2, 2, 3]
    leap = [Step(parse_instant(day)) for day in ("2024-02-28", "2024-02-29", "2024-03-01", "2024-03-03")]
    assert ask("streak", leap) == [1, 2, 3, 1]


def test_scores_fall_into_bands():
    scores = [-1, 0, 6, 6.5, 7, 8, 9, 10, 11, NAN]
    low, mid, high = ["detractor"] * 2, ["passive"] * 3, ["promoter"] * 2
    steps = [Step(t, score=score) for t, score in enumerate(scores)]
    assert ask("score_band", steps) == [None, *low, *mid, *high, None, None]
    five = AnnotationSettings(scale=(1, 5))
    assert ask("score_band", steps[1:5], five) == [None, None, None, None]
    assert ask("score_band", [Step(t, score=t + 1) for t in range(5)], five) == ["low", "low", "mid", "high", "high"]


def test_the_sign_of_a_value():
    values = [-0.01, -0.0, 0.0, 1e-300, NAN]
    steps = [Step(t, value=value) for t, value in enumerate(values)]
    assert ask("value_sign", steps) == ["negative", "zero", "zero", "positive", None]


def everything():
    """Settings that leave out nothing."""
    transitions, table = fit_transitions([block_of_steps({1: [Step(0, "call"), Step(1, "play")]})])
    settings = SETTINGS.to_dict() | {"transitions": transitions, "usual_duration": {"": 1.0}, "asked": ("offer",)}
    likeness = {"touchpoints": ["call"], "log_odds": [[[0.1, -0.2], [0.3, 0.0], [-0.7, 0.4]]] * N_FOLDS}
    return AnnotationSettings.from_dict(
        settings | {"surprise": AnnotationSettings(surprise=table).to_dict()["surprise"], "likeness": likeness}
    )


@pytest.mark.parametrize("journeys", [{}, {1: []}, {1: [], 2: [Step(0)], 3: []}])
def test_blocks_without_events_are_fine(journeys):
    block = block_of_steps(journeys)
    for some in (block, slice_block(block, 0, 0)):
        annotated = annotate(some, list(ANNOTATIONS), everything())
        columns = [*annotated.measures.values(), *annotated.due.values(), *annotated.revised.values()]
        assert {len(column) for column in columns} == {some.n_events}
        assert {len(coded.codes) for coded in annotated.categories.values()} == {some.n_events}


def test_only_what_is_wanted_is_there():
    annotated = annotate(block_of_steps({1: [Step(0)]}), ["response", "gap", "weekday"], SETTINGS)
    assert (set(annotated.measures), set(annotated.due)) == ({"response", "gap"}, {"response"})
    assert set(annotated.revised) == {"response"}
    assert set(annotated.categories) == {"weekday"}


def test_vocabularies_ascend_and_codes_lie_within():
    annotated = annotate(
        block_of_steps({1: [Step(t, score=t, value=t - 3) for t in range(9)]}), ANNOTATIONS, everything()
    )
    assert annotated.categories.keys() == {name for name, one in ANNOTATIONS.items() if one.kind == "category"}
    for coded in annotated.categories.values():
        assert list(coded.vocabulary) == sorted(set(coded.vocabulary))
        assert coded.codes.dtype == np.int32
        assert coded.codes.max() < len(coded.vocabulary)


def test_many_cases_in_few_events_are_like_few():
    steps = [Step(t, case_id=str(t % 3), resolved=t % 2) for t in range(9)]
    block = block_of_steps({1: steps})
    case = block.categories["case_id"]
    wide = Coded(case.codes * 999_983, tuple(str(i) for i in range(2 * 999_983 + 1)))
    sparse = EventBlock(
        block.customers, block.starts, block.time, None, {**block.categories, "case_id": wide}, block.measures
    )
    for name in ("case_age", "open_cases", "oldest_open_case", "repeat_contact", "handoff", "first_contact_resolved"):
        one, other = annotate(block, [name], SETTINGS), annotate(sparse, [name], SETTINGS)
        np.testing.assert_array_equal(one.measures[name], other.measures[name])


def large(n, late):
    random = np.random.default_rng(0)
    steps_in = np.sort(random.integers(0, 700 * DAY_US, n))
    known = steps_in + (random.random(n) < late) * random.integers(0, 20 * DAY_US, n)
    cases = tuple(f"{i:06d}" for i in range(n // 4))
    return EventBlock(
        np.array([1]), np.array([0, n]), steps_in, known if late else None,
        {
            "touchpoint": Coded(random.integers(0, 4, n).astype(np.int32), ("answer", "call", "offer", "play")),
            "channel": Coded(random.integers(0, 2, n).astype(np.int32), ("phone", "web")),
            "case_id": Coded(random.integers(-1, n // 4, n).astype(np.int32), cases),
        },
        {"resolved": random.choice([NAN, 0.0, 1.0], n)},
    )  # fmt: skip


@pytest.mark.parametrize("late", [0.0, 0.3])
def test_the_time_grows_with_the_events_not_with_their_square(late):
    wanted, settings = list(ANNOTATIONS), everything()
    took = []
    annotate(large(100, late), wanted, settings)
    for n in (5_000, 100_000):
        block = large(n, late)
        begin = clock.process_time()
        annotate(block, wanted, settings)
        took.append(clock.process_time() - begin)
    assert took[1] < 100 * took[0] + 0.5  # linear is 20, quadratic 400 times as long


@pytest.mark.parametrize("late", [0.0, 0.3])
def test_a_long_journey_has_the_values_of_the_naive_reference(late):
    block = large(400, late)
    values = {
        name: [None if c < 0 else coded.vocabulary[c] for c in coded.codes] for name, coded in block.categories.items()
    }
    steps = [
        Step(int(t), *(values[name][i] for name in ("touchpoint", "channel", "case_id")), block.measures["resolved"][i])
        for i, t in enumerate(block.time)
    ]
    for step, known in zip(steps, block.time if block.known is None else block.known, strict=True):
        step.late = int(known) - step.time
    settings = everything()
    annotated, end = annotate(block, ANNOTATIONS, settings), 1_000 * DAY_US
    for name in annotated.measures:
        expected = reference_annotation(name, steps, settings, end)
        np.testing.assert_array_equal(annotated.known_before(name, end), expected, err_msg=name)


def test_an_unknown_annotation_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="unknown annotation 'repeat_contacts'; did you mean 'repeat_contact'"):
        annotate(block_of_steps({1: []}), ["repeat_contacts"], SETTINGS)


def test_codes_outside_their_vocabulary_are_refused():
    block = block_of_steps({1: [Step(0), Step(1)]})
    for codes in ([0, 1], [-2, 0]):
        bad = EventBlock(
            block.customers, block.starts, block.time, None, {"touchpoint": Coded(np.array(codes, np.int32), ("call",))}
        )
        with pytest.raises(
            DataError, match=r"column 'touchpoint': of 2 codes for 2 events 1 lie outside its vocab.* 1 v"
        ):
            annotate(bad, ["gap_same"], SETTINGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": np.array([0, 3])}, "starts do not ascend"),
        ({"starts": np.array([0, 1, 2])}, "starts do not ascend"),
        ({"known": np.array([0])}, "says of 1 of 2 events"),
        ({"categories": {"touchpoint": Coded(np.array([0], np.int32), ("call",))}}, "of 1 codes for 2 events"),
        ({"measures": {"duration": np.array([1.0])}}, "measure 'duration': 1 values for 2 events"),
    ],
)
def test_columns_that_do_not_fit_together_are_refused(changes, message):
    block = block_of_steps({1: [Step(0), Step(1)]})
    parts = {name: getattr(block, name) for name in ("customers", "starts", "time", "known", "categories", "measures")}
    with pytest.raises(DataError, match=message):
        annotate(EventBlock(**parts | changes), ["gap_same", "handle_ratio"], everything())


def test_the_most_frequent_transitions_are_named():
    block = block_of_steps({1: [Step(t, p) for t, p in enumerate("abababac")], 2: [Step(0, "c"), Step(1, "a")]})
    transitions, table = fit_transitions([block], max_transitions=2, max_touchpoints=2)
    assert transitions == ("a>b", "b>a")
    assert table.touchpoints == ("a", "b")
    assert fit_transitions([block], max_transitions=4)[0] == ("a>b", "a>c", "b>a", "c>a")


def test_usual_durations_are_medians_of_the_positive_ones():
    steps = [Step(t, "call", duration=float(t)) for t in range(26)]
    steps += [Step(30, "chat", duration=1000.4), Step(31, "chat"), Step(32, "chat", duration=float("inf"))]
    assert fit_usual_durations([block_of_steps({1: steps})]) == {"": 13.5, "call": 13.0}
    assert fit_usual_durations([block_of_steps({1: steps})], until=1) == {}
    assert fit_usual_durations([block_of_steps({1: steps}, without=("duration",))]) == {}
    assert fit_usual_durations([block_of_steps({1: [Step(0, duration=1234.0)]})]) == {"": 1230.0}
