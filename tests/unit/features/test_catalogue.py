"""Families of columns: what is chosen for what a log holds, and that every column can be computed and explained."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cxml import JourneyFeatures, read_journeys
from cxml.config import parse_config
from cxml.errors import ConfigError, DataError
from cxml.features.alive import fit_alive, rhythms
from cxml.features.catalogue import FAMILIES, FROM_OUTCOMES, Holdings, annotations_of, choose_columns
from cxml.features.learn import Choice
from cxml.features.meaning import Meaning
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate
from cxml.journeys.block import EventBlock
from cxml.journeys.log import JourneyLog

#: Those that a log alone is enough for.
EVERY = [name for name in FAMILIES if name not in FROM_OUTCOMES]
CUTOFF = pd.Timestamp("2024-06-01", tz="UTC")


@pytest.fixture(scope="module")
def log() -> JourneyLog:
    """Two years of a company with service, surveys, cases and money; names that need quoting among them."""
    rng = np.random.default_rng(5)
    n = 6_000
    touchpoint = rng.choice(["call", "chat", "buy", "visit", "survey", "R&D (day)"], n)
    rows = pd.DataFrame(
        {
            "customer_id": rng.integers(0, 200, n),
            "timestamp": pd.Timestamp("2022-09-01") + pd.to_timedelta(rng.uniform(0, 700 * 86_400, n), unit="s"),
            "touchpoint": touchpoint,
            "channel": rng.choice(np.array(["phone", "web app", None], object), n),
            "value": np.where(touchpoint == "buy", rng.normal(20, 15, n).round(2), np.nan),
            "duration": np.where(np.isin(touchpoint, ["call", "chat"]), rng.exponential(300, n).round(), np.nan),
            "score": np.where(touchpoint == "survey", rng.integers(0, 11, n), np.nan),
            "case_id": np.where(touchpoint == "call", rng.integers(0, 900, n).astype(str), None),
            "resolved": np.where(touchpoint == "call", rng.choice([0.0, 1.0], n), np.nan),
        }
    )
    rows["timestamp"] = rows["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%S")
    return read_journeys(
        rows, timezone="Europe/Berlin", contacts=["call", "chat"], activity=["buy", "visit"],
        stages={"support": ["call", "chat"], "sales": ["buy"]},
    )  # fmt: skip


def fitted(log: JourneyLog, families: list[str], **more: object) -> JourneyFeatures:
    settings = {"surveys": ["survey"], "scale": (0, 10), **more}
    return JourneyFeatures(families=families, **settings).fit(log, until=CUTOFF)  # type: ignore[arg-type]


def snapshots(log: JourneyLog) -> pd.DataFrame:
    return pd.DataFrame({"customer_id": log.events.customers, "cutoff": CUTOFF})


@pytest.mark.parametrize("family", EVERY)
def test_every_family_gives_columns_that_say_something(log: JourneyLog, family: str) -> None:
    features = fitted(log, [family])
    frame = features.transform(log, snapshots(log))
    varies = frame.nunique(dropna=True) > 1
    assert len(frame.columns) >= 5
    assert varies.mean() > 0.9, f"constant: {list(frame.columns[~varies])}"
    for sentence in features.plan_.describe().values():
        assert sentence.endswith(".")
        assert "{" not in sentence


def test_the_families_hold_no_column_twice_and_come_in_a_fixed_order(log: JourneyLog) -> None:
    plan = fitted(log, EVERY).plan_
    assert len(set(plan.columns)) == len(plan.columns) > 250
    assert fitted(log, EVERY).plan_ == plan
    basic = fitted(log, ["basic"]).plan_
    assert plan.columns[: len(basic.columns)] == basic.columns


def test_a_plan_of_everything_is_plain_data_and_reads_back(log: JourneyLog) -> None:
    plan = fitted(log, EVERY).plan_
    assert FeaturePlan.from_dict(plan.to_dict()) == plan
    assert plan.annotations is not None
    assert plan.alive is not None


def test_basic_alone_learns_nothing_else(log: JourneyLog) -> None:
    plan = fitted(log, ["basic"]).plan_
    assert plan.annotations is None
    assert plan.alive is None
    assert set(plan.vocabularies) == {"touchpoint", "channel", "stage"}


def test_only_what_columns_look_at_is_learned(log: JourneyLog) -> None:
    plan = fitted(log, ["rhythm"]).plan_
    assert plan.annotations is not None
    assert plan.annotations.surprise is None
    assert plan.annotations.usual_duration == {}
    assert "transition" not in plan.vocabularies


def test_columns_may_be_named_beside_the_families_or_alone(log: JourneyLog) -> None:
    name = "mean__duration@touchpoint=call&channel=phone__30d"
    asked: list[object] = [name, Aggregate("ever", "touchpoint='R&D (day)'"), {"statistic": "tenure_days"}]
    alone = fitted(log, [], columns=asked)
    assert alone.plan_.columns == [name, "ever__touchpoint='R&D (day)'", "tenure_days"]
    beside = fitted(log, ["basic"], columns=asked).plan_.columns
    assert beside[-2:] == alone.plan_.columns[:2]
    assert beside.count("tenure_days") == 1
    pd.testing.assert_frame_equal(
        alone.transform(log, snapshots(log)),
        fitted(log, EVERY, columns=asked).transform(log, snapshots(log))[alone.plan_.columns],
    )


def test_what_is_learned_is_learned_from_before_the_cutoff_only(log: JourneyLog) -> None:
    early = log.upto(CUTOFF)
    assert fitted(early, EVERY).plan_ == fitted(log, EVERY).plan_


def test_words_that_first_occur_later_are_not_known_yet() -> None:
    rng = np.random.default_rng(0)
    customer, day = rng.integers(0, 300, 9_000), rng.uniform(0, 300, 9_000)
    stays = day < rng.exponential(150, 300)[customer] + 5
    n = int(stays.sum())
    rows = pd.DataFrame(
        {
            "customer_id": customer[stays],
            "timestamp": pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(day[stays], unit="D"),
            "touchpoint": rng.choice(["call", "visit"], n),
            "channel": rng.choice(["phone", "web"], n),
        }
    )
    later = rows["timestamp"] >= CUTOFF
    rows.loc[later, "touchpoint"] = rng.choice(["play", "call"], later.sum())  # which is what counts as activity
    rows.loc[later, "channel"] = "chatbot"
    log = read_journeys(rows, contacts=["call"], activity=["play"])
    now = fitted(log, EVERY).plan_
    assert now == fitted(log.upto(CUTOFF), EVERY).plan_
    assert now.annotations is not None
    assert now.annotations.self_service == ("web",)
    assert [one.what for one in now.aggregates if one.statistic == "p_alive"] == [""]


def test_a_log_without_contacts_scores_or_cases_gets_no_columns_of_them() -> None:
    log = Holdings({"touchpoint": ["a", "b"]}, {"touchpoint": ["b", "a"]}, windows=["30d"])
    assert choose_columns(log, ["service", "feedback", "amount"]) == ()
    assert annotations_of(choose_columns(log, ["trend"])) == set()


def test_no_odds_of_being_there_without_enough_customers_who_came_back() -> None:
    rows = pd.DataFrame({"customer_id": [1, 2], "timestamp": "2024-01-01T00:00Z", "touchpoint": "a"})
    plan = JourneyFeatures(families=["rhythm"]).fit(read_journeys(rows)).plan_
    assert not [name for name in plan.columns if name.startswith("p_alive")]


def test_the_rhythm_of_simulated_customers_is_found_again() -> None:
    rng = np.random.default_rng(1)
    n, (r, alpha, a, b) = 6_000, (0.8, 30.0, 1.2, 4.0)
    rate, drop, age = rng.gamma(r, 1 / alpha, n), rng.beta(a, b, n), rng.uniform(100, 700, n)
    found = np.zeros((n, 3))
    for i in range(n):
        moment, times, latest = 0.0, 0, 0.0
        while (moment := moment + rng.exponential(1 / rate[i])) < age[i]:
            times, latest = times + 1, moment
            if rng.random() < drop[i]:
                break
        found[i] = times, latest, age[i]
    fit = fit_alive(found)
    assert fit is not None
    assert fit[0] == pytest.approx(r, rel=0.15)
    assert fit[1] == pytest.approx(alpha, rel=0.2)
    assert fit[2] / (fit[2] + fit[3]) == pytest.approx(a / (a + b), rel=0.1)


def test_the_rhythm_does_not_depend_on_the_order_of_more_customers_than_are_looked_at() -> None:
    rng = np.random.default_rng(7)
    days = rng.poisson(2.0, 60_000)
    found = np.stack([days, np.where(days, rng.uniform(1, 80, 60_000), 0.0), np.full(60_000, 90.0)], axis=1)
    assert fit_alive(found) == fit_alive(found[rng.permutation(60_000)])


def test_rhythms_count_days_of_chosen_touchpoints_known_in_time() -> None:
    day = 86_400_000_000
    rows = pd.DataFrame(
        {
            "customer_id": [1, 1, 1, 1, 2],
            "timestamp": pd.to_datetime([0, 1, day + 5, 3 * day, 0], unit="us", utc=True),
            "touchpoint": ["buy", "buy", "buy", "look", "look"],
            "available_at": pd.to_datetime([None, None, 9 * day, None, None], unit="us", utc=True),
        }
    )
    log = read_journeys(rows.assign(timestamp=rows["timestamp"] + pd.Timedelta(days=20_000)))
    assert log.n_events == 5
    start = log.first
    everything = rhythms(log.blocks(), start + 10 * day)

    def buys(block: EventBlock) -> NDArray[np.bool_]:
        touchpoint = block.categories["touchpoint"]
        return touchpoint.codes == touchpoint.vocabulary.index("buy")

    np.testing.assert_allclose(everything, [[2, 3, 10], [0, 0, 10]])
    np.testing.assert_allclose(rhythms(log.blocks(), start + 10 * day, buys), [[1, 1 + 5 / day, 10]])


def test_a_word_for_a_family_in_the_project_file_is_checked() -> None:
    with pytest.raises(ConfigError, match="families must be a list"):
        JourneyFeatures(families="all").fit(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("sum__vlaue__30d", "the log has no measure 'vlaue'; did you mean 'value'"),
        ("count__vlaue<0__30d", "the log has no measure 'vlaue'"),
        ("sum__all__30d", "the log has no measure 'all'"),
        ("last__touchpoint__30d", "the log has no measure 'touchpoint'"),
        ("count__all__", "behind the last '__' stands a window, or nothing"),
    ],
)
def test_a_column_of_nothing_the_log_has_is_refused(log: JourneyLog, column: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fitted(log, [], columns=[column])


def test_every_annotation_can_be_taken_by_name(log: JourneyLog) -> None:
    asked = ["count__previous=call__30d", "entropy__previous__90d", "count__contact=yes__30d", "mean__gap__30d"]
    frame = fitted(log, [], columns=asked).transform(log, snapshots(log))
    assert (frame.nunique() > 1).all()


def test_what_was_asked_for_by_name_is_not_dropped_in_silence() -> None:
    rows = pd.DataFrame({"customer_id": [1, 2], "timestamp": "2024-01-01T00:00Z", "touchpoint": "a"})
    log = read_journeys(rows)
    with pytest.raises(ConfigError, match="p_alive: too few customers came back"):
        JourneyFeatures(families=[], columns=["p_alive"]).fit(log)
    with pytest.raises(ConfigError, match="no features: the log holds nothing that the families service look at"):
        JourneyFeatures(families=["service"]).fit(log)
    with pytest.raises(ConfigError, match="is no column"):
        JourneyFeatures(columns=[{"statistic": "count", "what": "all", "window": 5}]).fit(log)  # type: ignore[dict-item]
    features = JourneyFeatures().fit(log)
    with pytest.raises(ConfigError, match="customer_id must be a whole number or a text; it is None"):
        features.trace(log, None, "2024-02-01", "count__all__30d")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="customer_id '7': in the journeys ids are whole numbers"):
        features.trace(log, "7", "2024-02-01", "count__all__30d")


def notes_of(log: JourneyLog, *families: str, **more: object) -> list[str]:
    return fitted(log, list(families), **more).notes_


def test_what_a_family_cannot_look_at_is_said_once(log: JourneyLog) -> None:
    rows = log.to_pandas()
    assert notes_of(log, "basic", "rhythm", "rfm", "amount", "shape", "trend", "mix") == []
    never_asked = "features: the family feedback has no columns of being asked (no satisfaction.asked that occurs)"
    assert notes_of(log, "feedback") == [never_asked]
    bare = read_journeys(rows[["customer_id", "timestamp", "touchpoint"]])
    assert notes_of(bare, "basic", "rhythm", "shape") == []
    assert notes_of(bare, "basic", "feedback", "amount", "service") == [
        "features: the family feedback has no columns: of scores (no score)",
        "features: the family amount has no columns: of amounts (no value, no duration and no further measure)",
        "features: the family service has no columns: of contacts (journeys.contacts names no touchpoint that occurs), "
        "of what was left unresolved (no resolved), of open cases and hand-offs (no case_id), of promises (no promised "
        "time), of responses to interventions (journeys.interventions and journeys.activity name no touchpoint that "
        "occurs)",
    ]
    with pytest.raises(ConfigError, match=r"no features: .* look at; add basic, or name columns \(the family feedback"):
        fitted(bare, ["feedback", "amount"])
    only_calls = read_journeys(rows.drop(columns=["case_id", "channel"]), contacts=["call"])
    (note,) = notes_of(only_calls, "service")
    assert note.startswith("features: the family service has no columns of ")
    assert "of open cases and hand-offs (no case_id)" in note
    assert "of contacts (" not in note


@pytest.mark.parametrize(
    ("column", "note"),
    [
        ("mean__lateness__30d", "mean__lateness__30d is empty throughout: no promise, of which lateness is told"),
        ("ever__late=yes", "ever__late=yes is empty throughout: no promise, of which late is told"),
        ("max__case_age__30d", "max__case_age__30d is empty throughout: no case_id, of which case_age is told"),
    ],
)
def test_a_named_column_of_what_the_log_lacks_is_said_to_be_empty(log: JourneyLog, column: str, note: str) -> None:
    without = read_journeys(log.to_pandas().drop(columns="case_id"))
    assert notes_of(without, "basic", columns=[column]) == [f"features: {note}"]


def test_too_few_customers_who_came_back_are_said(log: JourneyLog) -> None:
    rows = pd.DataFrame({"customer_id": [1, 2], "timestamp": "2024-01-01T00:00Z", "touchpoint": "a"})
    (note,) = JourneyFeatures(families=["rhythm"]).fit(read_journeys(rows)).notes_
    assert note.startswith("features: p_alive is left out: too few customers came back")


def test_responses_to_interventions_need_only_their_names(log: JourneyLog) -> None:
    assert "mean__response__365d" not in fitted(log, ["service"]).plan_.columns
    assert "(journeys.interventions names no touchpoint that occurs)" in notes_of(log, "service")[0]
    named = fitted(log, ["service"], interventions=["visit"])
    assert {"mean__response__365d", "last__response__365d"} <= set(named.plan_.columns)
    rows = log.to_pandas()
    own = read_journeys(rows, contacts=["call"], activity=["buy"], interventions=["chat"])
    settings = fitted(own, ["service"], interventions=["visit"]).plan_.annotations
    assert settings is not None
    assert settings.interventions == ("chat",), "what the journeys name comes first"


def test_interventions_are_those_of_the_playbook_unless_named(tmp_path: Path) -> None:
    (tmp_path / "playbook.yaml").write_text(
        "actions: [{name: ring, touchpoint: call}, {name: gift, touchpoint: voucher}, {name: ring again, "
        "touchpoint: call}, {name: nothing}]"
    )
    text = (
        "{name: a, playbook: playbook.yaml, journeys: {sources: [a.csv]%s}, churn: {kind: inactivity}, "
        "features: {families: [%s]}}"
    )
    assert Choice.from_config(parse_config(text % ("", "service"), folder=tmp_path)).interventions == (
        "call",
        "voucher",
    )
    named = parse_config(text % (", interventions: [visit]", "service"), folder=tmp_path)
    assert Choice.from_config(named).interventions == ("visit",)
    (tmp_path / "playbook.yaml").write_text("steps: []")
    with pytest.raises(ConfigError, match=r"playbook\.yaml: a playbook has a list 'actions:'"):
        Choice.from_config(parse_config(text % ("", "service"), folder=tmp_path))
    (tmp_path / "playbook.yaml").unlink()
    with pytest.raises(ConfigError, match=r"cannot read the playbook.*journeys\.interventions"):
        Choice.from_config(parse_config(text % ("", "service"), folder=tmp_path))
    assert Choice.from_config(parse_config(text % ("", "basic"), folder=tmp_path)).interventions == ()


def test_contacts_that_are_rare_among_many_pages_are_contacts_all_the_same():
    rng = np.random.default_rng(0)
    pages = [f"page {i:02d}" for i in range(45)]
    touchpoint = np.where(rng.random(4_000) < 0.01, "call", rng.choice(pages, 4_000))
    when = pd.to_datetime(rng.integers(0, 300 * 86_400, 4_000) + 1_700_000_000, unit="s", utc=True)
    events = pd.DataFrame({"customer_id": rng.integers(0, 90, 4_000), "timestamp": when, "touchpoint": touchpoint})
    log = read_journeys(events, contacts=["call"], activity=["call"])
    features = JourneyFeatures(families=["basic", "service", "rhythm"], max_values=40).fit(log)
    names = features.plan_.columns
    assert "call" not in features.plan_.vocabularies["touchpoint"], "it is not rare enough to try this"
    assert "days_since__contact=yes" in names
    assert "days_since__active=yes" in names
    assert not [note for note in features.notes_ if "journeys.contacts" in note]
    last = events.loc[events["touchpoint"] == "call"].groupby("customer_id")["timestamp"].max()
    cutoff = events["timestamp"].max() + pd.Timedelta(days=1)
    frame = features.transform(log, pd.DataFrame({"customer_id": last.index, "cutoff": cutoff}))
    days = (cutoff - last).dt.total_seconds() / 86_400
    np.testing.assert_allclose(frame["days_since__contact=yes"], days, rtol=1e-6)


def test_what_an_event_must_not_be_is_not_what_a_column_is_about():
    meaning = Meaning(contacts=("call",))
    assert meaning.owner(Aggregate("count", "touchpoint=call", "30d")) == "service"
    assert meaning.owner(Aggregate("count", "!touchpoint=call", "30d")) == "product"
    assert meaning.factor(Aggregate("count", "!touchpoint=call", "30d")) == "does"
