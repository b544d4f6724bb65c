import numpy as np
import pytest
from reference_features import DAY_US, Event, block_of

from cxml.errors import ConfigError, DataError
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.selectors import EVERYTHING, Atom, Group, atoms, parse_selector, plain_selector
from cxml.features.spec import Aggregate, default_spec
from cxml.journeys.block import Coded

CALL, WEB = Atom("touchpoint", "=", "call"), Atom("channel", "=", "web")
VOCABULARIES = {"touchpoint": ("call", "chat"), "channel": ("phone", "web")}


def count(selector, events, **changes):
    """Count the events a selector selects."""
    plan = FeaturePlan((Aggregate("count", selector, "30d"),), VOCABULARIES, **changes)
    return fill_matrix(plan, block_of({1: events}), np.array([0, 1]), np.array([10 * DAY_US]))[0, 0]


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("all", EVERYTHING),
        ("touchpoint=call", CALL),
        ("touchpoint=", Atom("touchpoint", "=", "")),
        ("touchpoint=a=b", Atom("touchpoint", "=", "a=b")),
        ("touchpoint='a&b'", Atom("touchpoint", "=", "a&b")),
        ("touchpoint=' a'", Atom("touchpoint", "=", " a")),
        ("touchpoint='it''s'", Atom("touchpoint", "=", "it's")),
        ("value<0", Atom("value", "<", 0.0)),
        ("value>=-1.5e3", Atom("value", ">=", -1500.0)),
        ("value<.5", Atom("value", "<", 0.5)),
        ("value > -.25e1", Atom("value", ">", -2.5)),
        ("!channel=web", Group("!", (WEB,))),
        ("touchpoint=call&channel=web", Group("&", (CALL, WEB))),
        ("touchpoint=call|channel=web&value<=6", Group("|", (CALL, Group("&", (WEB, Atom("value", "<=", 6.0)))))),
        ("(touchpoint=call|channel=web)&value>6", Group("&", (Group("|", (CALL, WEB)), Atom("value", ">", 6.0)))),
        ("!(touchpoint=call|channel=web)", Group("!", (Group("|", (CALL, WEB)),))),
        ("!!channel=web", Group("!", (Group("!", (WEB,)),))),
    ],
)
def test_a_selector_is_read_and_written(text, selector):
    assert parse_selector(text) == selector
    assert parse_selector(str(selector)) == selector


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("touchpoint='call'", "touchpoint=call"),
        ("( touchpoint=call ) & channel = 'web'", "touchpoint=call&channel=web"),
        ("(touchpoint=call&channel=web)&value<0.0", "touchpoint=call&channel=web&value<0"),
        ("value<-0", "value<0"),
        ("value<+010.50", "value<10.5"),
        ("touchpoint= call", "touchpoint=' call'"),
    ],
)
def test_a_name_is_written_in_one_way_only(long, short):
    assert Aggregate("count", long, "30d").name == f"count__{short}__30d"
    assert Aggregate("count", long, "30d") == Aggregate("count", short, "30d")
    assert Aggregate("sum", f"value@{long}", "30d").name == f"sum__value@{short}__30d"


@pytest.mark.parametrize("value", ["R&D", "a|b", "!", "(x", "x)", "<3", "'", "it's", " a", "a ", "", "a__b", "a@b"])
def test_a_value_that_looks_like_a_condition_stands_in_quotes(value):
    aggregate = Aggregate("count", plain_selector("touchpoint", value), "30d")
    assert aggregate.value == value
    assert Aggregate.parse(aggregate.name) == aggregate
    assert Aggregate("count", f"touchpoint={value}", "30d") == aggregate  # as plans wrote it before there were quotes
    spec = default_spec({"touchpoint": [value]}, ["value"], ["30d"])
    assert aggregate in spec


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("(touchpoint=call", r"expected '\)' at its end"),
        ("touchpoint=call)&value<0", "has no value 'call\\)&value<0'"),
        ("value<x", "expected COLUMN=VALUE or MEASURE<NUMBER at 'value<x'"),
        ("value<1e999", "1e999 is too large a number"),
        ("value<0&", "at its end"),
        ("value<0 value<1", r"expected '&' or '\|' at 'value<1' \(character 9\)"),
        ("all&value<0", r"at 'all&value<0' \(character 1\)"),
        ("!(channel=web|value<.)", r"expected COLUMN=VALUE or MEASURE<NUMBER at 'value<.\)' \(character 15\)"),
        ("!(channel=web|value<.5", r"expected '\)' at its end \(character 23\)"),
        ("channel=web&&value<0", "as a combination, 'channel=web&&value<0' breaks at character 13: COLUMN=VALUE or"),
        ("channel=web|(value<0", r"breaks at character 21: '\)' expected"),
        ("channel=wep&value<0", "channel has no value 'wep'; did you mean 'web'"),
        ("channel=a>b", "channel has no value 'a>b'; known: other, phone, web$"),
        ("touchpoint=a>b & channel=web", "; within a combination 'a>b' stands in single quotes: touchpoint='a>b'$"),
        ("channel=web&!(touchpoint=it's|value<0)", "'it's' stands in single quotes: touchpoint='it''s'$"),
        ("touchpoint='call&channel=web", r"breaks at character 12: '&' or '\|' expected"),
        ("!channel=sms", "feature 'count__!channel=sms__30d': channel has no value 'sms'"),
        ("chanel=web&value<0", "unknown column 'chanel'; did you mean 'channel'"),
    ],
)
def test_what_is_no_selector_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        count(wrong, [])


def test_what_is_missing_meets_no_condition_and_meets_its_negation():
    events = [Event(0, None, None), Event(1, "call", "web", measures={"value": 1.0})]
    assert count("value<5", events) == 1
    assert count("!value<5", events) == 1
    assert count("!channel=web", events) == 1
    assert count("!touchpoint=other", events) == 2
    assert count("channel=web|!channel=web", events) == 2


def test_a_condition_on_what_a_log_lacks_is_met_by_nothing():
    assert count("price<5", [Event(0)]) == 0
    assert count("!price<5", [Event(0)]) == 1
    block = block_of({1: [Event(0)]})
    del block.categories["channel"]
    plan = FeaturePlan((Aggregate("count", "!channel=web", "30d"),), VOCABULARIES)
    assert fill_matrix(plan, block, np.array([0, 1]), np.array([DAY_US])).tolist() == [[1.0]]


def test_conditions_see_other_values_and_stages():
    events = [Event(0, "call"), Event(1, "fax"), Event(2, "chat", "web")]
    assert count("touchpoint=other|touchpoint=call", events) == 2
    assert count("!stage=support&!channel=web", events, stages={"call": "support", "fax": "sales"}) == 1


def test_a_code_outside_its_vocabulary_is_refused_in_a_condition_too():
    block = block_of({1: [Event(0)]})
    block.categories["channel"] = Coded(np.array([5], np.int32), ("web",))
    plan = FeaturePlan((Aggregate("count", "!channel=web", "30d"),), VOCABULARIES)
    with pytest.raises(DataError, match=r"column 'channel': 1 of 1 events .* outside its vocabulary"):
        fill_matrix(plan, block, np.array([0, 1]), np.array([DAY_US]))


def test_atoms_come_from_left_to_right():
    selector = parse_selector("(touchpoint=call|!channel=web)&value<0")
    assert [atom.column for atom in atoms(selector)] == ["touchpoint", "channel", "value"]


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("value>=3", "events with value at least 3"),
        ("!(channel=web|value<0)", "events with not (channel 'web' or value below 0)"),
        ("touchpoint=call&!channel=web", "events with touchpoint 'call' and not channel 'web'"),
    ],
)
def test_a_condition_is_said_in_words(selector, words):
    assert Aggregate("count", selector, "30d").describe() == f"Number of {words} in the 30 days before the cutoff."
