"""What training learns for single columns: odds of being there by selector, values told apart, values asked by name."""

import numpy as np
import pandas as pd
import pytest

from cxml import JourneyFeatures, read_journeys
from cxml.errors import ConfigError
from cxml.features import learn
from cxml.features.alive import fit_alive, rhythms
from cxml.features.plan import FeaturePlan
from cxml.journeys.log import JourneyLog

CUTOFF = pd.Timestamp("2024-01-01", tz="UTC")


def make(touchpoints, n=3_000, **options) -> JourneyLog:
    """A year of customers, touchpoints drawn from a list, one channel for each third of them."""
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(
        {
            "customer_id": rng.integers(0, 100, n),
            "timestamp": pd.Timestamp("2023-01-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 365 * 24, n), unit="h"),
            "touchpoint": rng.choice(touchpoints, n),
            "channel": rng.choice(["phone", "web", "app"], n),
            "value": rng.normal(size=n),
        }
    )
    rows.loc[rows["customer_id"] > 50, "touchpoint"] = touchpoints[0]
    return read_journeys(rows, **options)


def fit(log, columns, families=(), **options) -> FeaturePlan:
    return JourneyFeatures(families=list(families), columns=list(columns), **options).fit(log).plan_


def restricted(log: JourneyLog, touchpoints) -> JourneyLog:
    rows = log.to_pandas()
    return read_journeys(rows[rows["touchpoint"].isin(touchpoints)])


@pytest.fixture(scope="module")
def log() -> JourneyLog:
    return make(["visit", "call", "order"], activity=["order"], contacts=["call"])


# ---------------------------------------------------------------- p_alive


def expected(log: JourneyLog, *touchpoints: str):
    """The model of a log that holds the events of these touchpoints alone."""
    return fit_alive(rhythms(restricted(log, touchpoints).blocks(), log.last + 1))


def test_each_p_alive_is_learned_from_the_events_it_looks_at(log):
    plan = fit(log, ["p_alive__touchpoint=call", "p_alive__touchpoint=order|touchpoint=call", "p_alive"])
    assert plan.alive == {
        "touchpoint=call": expected(log, "call"),
        "touchpoint=order|touchpoint=call": expected(log, "call", "order"),
        "all": expected(log, "visit", "call", "order"),
    }
    assert len(set(plan.alive.values())) == 3
    assert FeaturePlan.from_dict(plan.to_dict()) == plan


def test_the_model_of_activity_alone_is_four_numbers(log):
    plan = fit(log, [], ["rhythm"])
    assert [a.name for a in plan.aggregates if a.statistic == "p_alive"] == ["p_alive__active=yes"]
    assert plan.alive == expected(log, "order")
    assert fit(log, ["p_alive__touchpoint=call"], ["rhythm"]).alive == {
        "active=yes": plan.alive,
        "touchpoint=call": expected(log, "call"),
    }


def test_without_activity_the_model_of_all_events_is_four_numbers():
    log = make(["visit", "call"])
    assert fit(log, [], ["rhythm"]).alive == expected(log, "visit", "call")
    assert fit(log, ["p_alive__touchpoint=call"]).alive == {"touchpoint=call": expected(log, "call")}


def test_an_annotation_or_a_measure_may_select_for_p_alive(log):
    plan = fit(log, ["p_alive__contact=yes", "p_alive__value<0"])
    assert plan.alive["contact=yes"] == expected(log, "call")
    rows = log.to_pandas()
    negative = read_journeys(rows[rows["value"] < 0])
    assert plan.alive["value<0"] == fit_alive(rhythms(negative.blocks(), log.last + 1))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            "p_alive__touchpoint=cal",
            "feature 'p_alive__touchpoint=cal': touchpoint has no value 'cal'; did you mean 'call'",
        ),
        ("p_alive__chanel=web", "feature 'p_alive__chanel=web': unknown column 'chanel'; did you mean 'channel'"),
        ("p_alive__valu<0", "the log has no measure 'valu'"),
        ("p_alive__first_contact_resolved<1", "known only later"),
        ("p_alive__value>1e9", "p_alive__value>1000000000: too few customers came back"),
    ],
)
def test_p_alive_of_what_there_is_not_is_refused_as_other_columns_are(log, column, message):
    with pytest.raises(ConfigError, match=message):
        fit(log, [column])


def test_one_that_cannot_be_learned_leaves_the_others_there():
    log = make(["visit", "call"], activity=["rare"])
    rows = pd.concat(
        [log.to_pandas(), pd.DataFrame({"customer_id": [1], "timestamp": [CUTOFF], "touchpoint": ["rare"]})]
    )
    features = JourneyFeatures(families=["rhythm"], columns=["p_alive"]).fit(read_journeys(rows, activity=["rare"]))
    assert [a.selector for a in features.plan_.aggregates if a.statistic == "p_alive"] == ["all"]
    assert [note for note in features.notes_ if note.startswith("features: p_alive__active=yes is left out: too few")]


# ---------------------------------------------------------------- values told apart

MANY = [f"page {i:02}" for i in range(30)]


def snapshots(log):
    return pd.DataFrame({"customer_id": sorted(set(log.to_pandas()["customer_id"])), "cutoff": CUTOFF})


def test_values_without_columns_are_told_apart_where_they_are_counted():
    log = make(MANY)
    features = JourneyFeatures(max_values=10, windows=["365d"]).fit(log)
    plan = features.plan_
    assert plan.wide == {"touchpoint": tuple(MANY)}
    assert len(plan.vocabularies["touchpoint"]) == 10
    assert "count__touchpoint=other__365d" in plan.columns
    frame = features.transform(log, snapshots(log))
    rows = log.to_pandas()
    rows = rows[rows["timestamp"] < CUTOFF]
    found = rows.groupby("customer_id")["touchpoint"].nunique()
    assert frame["distinct__touchpoint__365d"].tolist() == found.reindex(snapshots(log)["customer_id"]).tolist()
    assert found.max() > 20
    others = rows[~rows["touchpoint"].isin(plan.vocabularies["touchpoint"])].groupby("customer_id").size()
    assert frame["count__touchpoint=other__365d"].sum() == others.sum()


def test_a_log_with_few_values_has_the_plan_it_always_had(log):
    data = fit(log, [], ["basic", "mix"], max_values=3).to_dict()
    assert "wide" not in data


def test_only_what_is_counted_is_written_and_no_more_than_a_limit(monkeypatch):
    log = make(MANY)
    assert fit(log, ["count__all__30d"], max_values=10).wide == {}
    assert fit(log, ["entropy__touchpoint@channel=web__30d"], max_values=10).wide == {"touchpoint": tuple(MANY)}
    assert fit(log, ["distinct__channel__30d"], max_values=2).wide == {"channel": ("app", "phone", "web")}
    assert fit(log, ["distinct__previous__30d"], max_values=10).wide == {"previous": tuple(MANY)}
    monkeypatch.setattr(learn, "_TOLD_APART", 12)
    wide = fit(log, ["distinct__touchpoint__30d"], max_values=10)
    assert len(wide.wide["touchpoint"]) == 12
    assert set(wide.vocabularies["touchpoint"]) < set(wide.wide["touchpoint"])


def test_attributes_are_told_apart_too():
    rows = make(MANY).to_pandas().assign(level=lambda r: [f"level {i % 9}" for i in range(len(r))])
    plan = fit(read_journeys(rows, attributes=["level"]), ["distinct__level__30d"], max_values=4)
    assert len(plan.wide["level"]) == 9
    assert len(plan.categories("last__level")) == 5


# ---------------------------------------------------------------- values asked for by name


def test_a_rare_value_that_is_asked_for_by_name_is_counted_by_itself():
    log = make([*MANY[:5] * 6, "rare"])
    names = ["count__touchpoint=rare__365d", "count__touchpoint=other__365d"]
    plan = fit(log, names, max_values=2)
    assert "rare" in plan.vocabularies["touchpoint"]
    assert len(plan.vocabularies["touchpoint"]) == 3
    frame = JourneyFeatures(families=[], columns=names, max_values=2).fit(log).transform(log, snapshots(log))
    rows = log.to_pandas()
    rows = rows[rows["timestamp"] < CUTOFF]
    assert frame[names[0]].sum() == (rows["touchpoint"] == "rare").sum() > 0
    assert frame[names[1]].sum() == (~rows["touchpoint"].isin(plan.vocabularies["touchpoint"])).sum() > 0


@pytest.mark.parametrize(
    "column",
    [
        "mean__value@!touchpoint=rare__30d",
        "p_alive__touchpoint='page 00'|touchpoint=rare",
        "distinct__channel@touchpoint=rare__7d",
    ],
)
def test_it_may_stand_anywhere_in_a_selector(column):
    plan = fit(make([*MANY[:5] * 6, "rare"]), [column], max_values=2)
    assert "rare" in plan.vocabularies["touchpoint"]


def test_with_all_values_asked_for_there_is_no_other():
    log = make(["visit", "call", "rare", "rare too"])
    names = [f"count__touchpoint={name}__30d" for name in ("call", "rare", "rare too")]
    plan = fit(log, names, ["basic"], max_values=1)
    assert plan.vocabularies["touchpoint"] == ("call", "rare", "rare too", "visit")
    assert "count__touchpoint=other__30d" not in plan.columns


def test_a_value_that_does_not_occur_is_refused_as_ever():
    log = make(MANY)
    with pytest.raises(ConfigError, match="touchpoint has no value 'rare'"):
        fit(log, ["count__touchpoint=rare__30d"], max_values=2)
    until = JourneyFeatures(families=[], columns=["count__touchpoint=late__30d"], max_values=2)
    rows = pd.concat(
        [log.to_pandas(), pd.DataFrame({"customer_id": [1], "timestamp": [CUTOFF], "touchpoint": ["late"]})]
    )
    with pytest.raises(ConfigError, match="touchpoint has no value 'late'"):
        until.fit(read_journeys(rows), until=CUTOFF)


def test_other_is_never_a_value_of_its_own():
    plan = fit(make(["visit", "call", "other"]), ["count__touchpoint=other__30d"], max_values=1)
    assert "other" not in plan.vocabularies["touchpoint"]
