import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxml.errors import ConfigError
from cxml.features.selectors import plain_selector
from cxml.features.spec import Aggregate, default_spec

TOUCHPOINTS = [f"touchpoint {i}" for i in range(20)]
CHANNELS = ["app", "mail", "phone", "shop", "web"]
MEASURES = ["value", "duration", "score"]


@pytest.mark.parametrize(
    ("name", "statistic", "what", "window", "measure", "selector"),
    [
        ("count__touchpoint=call__30d", "count", "touchpoint=call", "30d", None, "touchpoint=call"),
        ("count__all__90d", "count", "all", "90d", None, "all"),
        ("count__score__90d", "count", "score", "90d", "score", "all"),
        ("sum__value__30d", "sum", "value", "30d", "value", "all"),
        ("mean__duration@stage=support__30d", "mean", "duration@stage=support", "30d", "duration", "stage=support"),
        ("count__touchpoint=a@b__7d", "count", "touchpoint=a@b", "7d", None, "touchpoint=a@b"),
        ("last__score__365d", "last", "score", "365d", "score", "all"),
        ("days_since__touchpoint=call", "days_since", "touchpoint=call", None, None, "touchpoint=call"),
        ("days_since__touchpoint=x__30d", "days_since", "touchpoint=x__30d", None, None, "touchpoint=x__30d"),
        ("count__touchpoint=x__30d__7d", "count", "touchpoint=x__30d", "7d", None, "touchpoint=x__30d"),
        ("tenure_days", "tenure_days", "", None, None, "all"),
        ("active_days__all__30d", "active_days", "all", "30d", None, "all"),
        ("distinct__touchpoint__90d", "distinct", "touchpoint", "90d", None, "all"),
        ("last2__score@channel=web__90d", "last2", "score@channel=web", "90d", "score", "channel=web"),
        ("ratio__value__30d/90d", "ratio", "value", "30d/90d", "value", "all"),
        ("lag__touchpoint=a/b__30d/365d", "lag", "touchpoint=a/b", "30d/365d", None, "touchpoint=a/b"),
        ("share__value@value<0__30d", "share", "value@value<0", "30d", "value", "value<0"),
        ("decay__all__30d", "decay", "all", "30d", None, "all"),
        ("entropy__channel__30d", "entropy", "channel", "30d", None, "all"),
        ("distinct__channel@stage=a@b__30d", "distinct", "channel@stage=a@b", "30d", None, "stage=a@b"),
        ("entropy__touchpoint@value<0__30d", "entropy", "touchpoint@value<0", "30d", None, "value<0"),
        ("change__value@channel=web__30d", "change", "value@channel=web", "30d", "value", "channel=web"),
        ("lag__value__30d/365d", "lag", "value", "30d/365d", "value", "all"),
        ("ever__touchpoint=x__30d", "ever", "touchpoint=x__30d", None, None, "touchpoint=x__30d"),
        ("p_alive", "p_alive", "", None, None, "all"),
        ("p_alive__touchpoint=buy", "p_alive", "touchpoint=buy", None, None, "touchpoint=buy"),
    ],
)
def test_a_name_says_all_of_a_column(name, statistic, what, window, measure, selector):
    aggregate = Aggregate.parse(name)
    assert (aggregate.statistic, aggregate.what, aggregate.window) == (statistic, what, window)
    assert (aggregate.measure, aggregate.selector) == (measure, selector)
    assert aggregate.name == name


@given(st.text(max_size=12), st.sampled_from(["count", "active_days", "days_since"]))
def test_any_touchpoint_name_survives_the_round_trip(touchpoint, statistic):
    aggregate = Aggregate(
        statistic, plain_selector("touchpoint", touchpoint), None if statistic == "days_since" else "30d"
    )
    assert Aggregate.parse(aggregate.name) == aggregate
    assert aggregate.value == touchpoint


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("median", "value", "30d"), "unknown statistic 'median'"),
        (("coutn", "all", "30d"), "did you mean 'count'"),
        (("count", "all", None), "needs a window"),
        (("days_since", "all", "30d"), "has no window"),
        (("count", "all", "soon"), "'soon' is not a duration"),
        (("sum", "touchpoint=call", "30d"), "'touchpoint=call' is nothing that 'sum' can be taken of"),
        (("sum", "value@", "30d"), "nothing that 'sum'"),
        (("mean", "value@stage", "30d"), "nothing that 'mean'"),
        (("distinct", "all", "30d"), "nothing that 'distinct'"),
        (("distinct", "touchpoint=call", "30d"), "nothing that 'distinct'"),
        (("tenure_days", "all", None), "nothing that 'tenure_days'"),
        (("days_since", "value", None), "nothing that 'days_since'"),
        (("slop", "value", "30d"), "unknown statistic 'slop'; did you mean 'slope'"),
        (
            ("slope", "touchpoint=call", "30d"),
            "nothing that 'slope' can be taken of. Write MEASURE or MEASURE@SELECTOR",
        ),
        (("burstiness", "value", "30d"), "nothing that 'burstiness'"),
        (("gap_mean", "value@channel=web", "30d"), "nothing that 'gap_mean'"),
        (("last10", "value", "30d"), "unknown statistic 'last10'"),
        (("last1", "value", "30d"), "unknown statistic 'last1'"),
        (("distinct", "channel@", "30d"), "nothing that 'distinct'"),
        (("distinct", "@channel=web", "30d"), "nothing that 'distinct'"),
        (("distinct", "all@channel=web", "30d"), "nothing that 'distinct'"),
        (("entropy", "channel@touchpoint", "30d"), "Write a category such as channel, or CATEGORY@SELECTOR"),
        (("share", "value", "30d"), "A share of a measure needs the selector of the part"),
        (("entropy", "touchpoint=call", "30d"), "nothing that 'entropy' can be taken of. Write a category"),
        (("ever", "all", "30d"), "'ever' has no window"),
        (("count", "value<", "30d"), "expected COLUMN=VALUE or MEASURE<NUMBER at 'value<'"),
        (("ratio", "all", "30d"), "'ratio' takes a window such as 30d/90d, not '30d'"),
        (("ratio", "all", None), "needs a window, such as 30d/90d"),
        (("ratio", "all", "90d/30d"), "write the shorter window first"),
        (("ratio", "all", "30d/30d"), "write the shorter window first"),
        (("lag", "all", "30d/soon"), "'soon' is not a duration"),
        (("count", "all", "30d/90d"), "'count' takes a window such as 30d, not '30d/90d'"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Aggregate(*wrong)


def test_a_usual_log_gets_about_two_hundred_columns():
    names = [a.name for a in default_spec({"touchpoint": TOUCHPOINTS, "channel": CHANNELS}, MEASURES)]
    assert len(set(names)) == len(names)
    assert 150 <= len(names) <= 250


def test_what_the_log_lacks_gets_no_columns():
    names = " ".join(a.name for a in default_spec({"touchpoint": ["call"]}, [], ["30d"]))
    assert "channel" not in names
    assert "stage" not in names
    assert "value" not in names


def test_stages_get_counts_and_means_of_measures():
    names = {a.name for a in default_spec({"touchpoint": ["call"], "stage": ["support"]}, MEASURES, ["30d"])}
    assert {"count__stage=support__30d", "mean__duration@stage=support__30d", "days_since__stage=support"} <= names


def test_the_remaining_values_share_a_column_only_where_there_are_any():
    vocabularies = {"touchpoint": ["call"], "channel": ["web"]}
    names = {a.name for a in default_spec(vocabularies, [], ["30d"], with_other={"touchpoint"})}
    assert "count__touchpoint=other__30d" in names
    assert "count__channel=other__30d" not in names


def test_a_measure_cannot_be_called_all():
    with pytest.raises(ConfigError, match="cannot be called 'all'"):
        default_spec({"touchpoint": ["call"]}, ["all"])


def test_windows_written_differently_are_one_window():
    assert default_spec({}, [], ["1w", "7d"]) == default_spec({}, [], ["7d"])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tenure_days", "Days from the customer's first known event to the cutoff."),
        ("days_since__all", "Days from the customer's latest event to the cutoff."),
        ("days_since__channel=web", "Days from the customer's latest event with channel 'web' to the cutoff."),
        ("count__touchpoint=call__1d", "Number of events with touchpoint 'call' in the 1 day before the cutoff."),
        ("count__score__30d", "Number of events that carry a score in the 30 days before the cutoff."),
        ("active_days__all__12h", "Number of calendar days (UTC) with events in the 12 hours before the cutoff."),
        (
            "distinct__channel__30d",
            "Number of different values of channel in the 30 days before the cutoff; those unknown to training count "
            "as one.",
        ),
        (
            "entropy__touchpoint@stage=support__30d",
            "How evenly the events spread over the values of touchpoint among events with stage 'support' in the 30 "
            "days before the cutoff (Shannon entropy, bits); those unknown to training count as one.",
        ),
        (
            "std__value__30d",
            "Standard deviation of value of events in the 30 days before the cutoff (of two or more values).",
        ),
        ("last9__value__30d", "Last but eight value of events in the 30 days before the cutoff."),
        (
            "lag__value@touchpoint=call__30d/365d",
            "Sum of value of events with touchpoint 'call' in the 30 days that ended 365 days before the cutoff.",
        ),
        ("rate__value__30d", "Sum of value of events per active day in the 30 days before the cutoff."),
        ("last2__score__30d", "Last but one score of events in the 30 days before the cutoff."),
        ("slope__score__30d", "Change per day of score of events in the 30 days before the cutoff (least squares)."),
        ("ever__channel=web", "Number of events with channel 'web' at any time before the cutoff."),
        (
            "share__value@value<0__30d",
            "Share of value of events with value below 0 in the sum of value of all events in the 30 days before the "
            "cutoff.",
        ),
        ("share__channel=web__1d", "Share of events with channel 'web' in all events in the 1 day before the cutoff."),
        (
            "ratio__all__30d/90d",
            "Number of events per day in the 30 days before the cutoff, over that in the 90 days before it.",
        ),
        (
            "decay__value__2w",
            "Sum of value of events before the cutoff, each counting half as much for every 2 weeks of its age.",
        ),
        ("rate__all__30d", "Number of events per active day in the 30 days before the cutoff."),
        ("sum__value__30d", "Sum of value of events in the 30 days before the cutoff."),
    ],
)
def test_a_column_is_described_in_one_plain_sentence(name, sentence):
    assert Aggregate.parse(name).describe() == sentence
