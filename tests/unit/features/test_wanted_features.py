"""What one can ask of features: settings of words, a spec, a cap on columns, what is said of a customer."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from cxml import JourneyFeatures, read_journeys
from cxml.config import parse_config, to_yaml
from cxml.errors import ConfigError
from cxml.features.leakage import check_leakage
from cxml.features.plan import FeaturePlan
from cxml.features.rfm import RFM
from cxml.features.spec import Aggregate

CUTOFF = pd.Timestamp("2024-03-01", tz="UTC")


def rows(*events, customer="ann"):
    """Make events of (day, touchpoint), (day, touchpoint, channel) or (day, touchpoint, channel, value)."""
    frame = pd.DataFrame(
        [(*event, *(None,) * (4 - len(event))) for event in events],
        columns=["day", "touchpoint", "channel", "value"],
    )
    frame["timestamp"] = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(frame.pop("day").astype(float), "D")
    return frame.assign(customer_id=customer, value=frame["value"].astype(float))


def values(log, columns, customer="ann", **more):
    features = JourneyFeatures(columns, **more).fit(log)
    snapshots = pd.DataFrame({"customer_id": [customer], "cutoff": [CUTOFF]})
    return features.transform(log, snapshots)[columns].iloc[0].tolist()


# ---------------------------------------------------------------- settings of the words


EVENTS = rows(
    (0, "offer"), (0.02, "visit", "web"), (3, "call", "phone"), (6, "call", "phone"), (20, "call", "phone"),
    (20.5, "visit", "web"), (21, "call", "phone"), (30, "buy"),
)  # fmt: skip
WORDS = {"contacts": ["call"], "activity": ["buy"], "interventions": ["offer"]}


@pytest.mark.parametrize(
    ("setting", "column", "usual", "changed"),
    [
        ({"session_gap": "20m"}, "max__session__90d", 7, 8),
        ({"session_gap": "4d"}, "max__session_position__90d", 2, 4),
        ({"repeat_within": "2d"}, "sum__repeat_contact__90d", 2, 1),
        ({"repeat_within": "2d"}, "sum__first_contact_resolved__90d", 2, 3),
        ({"respond_within": "30d"}, "sum__response__90d", 0, 1),
        ({"self_service": ["phone"]}, "count__escalation__90d", 4, 0),
        ({"self_service": []}, "sum__escalation__90d", 3, None),
    ],
)
def test_each_setting_changes_what_it_should(setting, column, usual, changed):
    assert values(read_journeys(EVENTS, **WORDS), [column]) == [usual]
    log = read_journeys(EVENTS, **WORDS, **setting)
    if changed is None:
        with pytest.raises(ConfigError, match=r"sum__escalation__90d' looks at .* journeys\.self_service"):
            values(log, [column])
        return
    assert values(log, [column]) == [changed]


def test_a_project_file_sets_them_and_writes_them_back():
    text = (
        "{name: a, churn: {kind: inactivity}, features: {families: [service]}, journeys: {sources: [a.csv], "
        "session_gap: 1h, repeat_within: 30d, respond_within: 7d, self_service: [kiosk]}}"
    )
    config = parse_config(text)
    assert parse_config(to_yaml(config)) == config
    log = read_journeys(EVENTS.assign(channel="kiosk"))
    log = replace(log, config=config.journeys.model_copy(update={"contacts": ["call"]}))
    settings = JourneyFeatures.from_config(config).fit(log).plan_.annotations
    assert settings is not None
    said = settings.session_gap, settings.repeat_within, settings.respond_within, settings.self_service
    assert said == ("1h", "30d", "7d", ("kiosk",))
    with pytest.raises(ConfigError, match=r"journeys\.session_gap: .*'soon' is not a duration"):
        parse_config(text.replace("1h", "soon"))
    with pytest.raises(ConfigError, match=r"session_gap: .*'soon' is not a duration"):
        read_journeys(EVENTS, session_gap="soon")


def test_a_plan_of_before_has_the_same_settings():
    annotations = JourneyFeatures(families=["service", "rhythm"]).fit(read_journeys(EVENTS, **WORDS)).plan_.to_dict()
    said = annotations["annotations"]
    assert (said["session_gap"], said["repeat_within"], said["respond_within"]) == ("30m", "7d", "14d")
    assert said["self_service"] == ["web"]
    assert not {"asked", "rfm"} & said.keys()
    assert "annotations" not in JourneyFeatures().fit(read_journeys(EVENTS, **WORDS)).plan_.to_dict()


def test_the_hour_is_that_of_the_clock_there():
    log = read_journeys(rows((0.0, "call"), (0.5, "call"), (1.0, "call")), timezone="Asia/Kolkata")
    assert values(log, ["count__hour=05__90d", "count__hour=17__90d", "count__hour=00__90d"]) == [2, 1, 0]


def test_an_attribute_of_the_log_comes_before_an_annotation_of_its_name():
    frame = EVENTS.assign(hour=["early", "late"] * 4, session=np.arange(8.0))
    log = read_journeys(frame, attributes=["hour"], measures=["session"], **WORDS)
    columns = ["count__hour=late__90d", "max__session__90d", "max__streak__90d"]
    assert values(log, columns) == [4, 7, 2]
    assert "annotations" not in JourneyFeatures(columns[1:2]).fit(log).plan_.to_dict()


# ---------------------------------------------------------------- spec


LOG = read_journeys(EVENTS, **WORDS)
NAMES = ["count__all__30d", "mean__gap__90d"]


@pytest.mark.parametrize(
    "spec",
    [
        NAMES,
        tuple(NAMES),
        [Aggregate("count", "all", "30d"), NAMES[1]],
        [{"statistic": "count", "what": "all", "window": "30d"}, NAMES[1]],
        {"columns": NAMES},
        {"columns": NAMES, "families": []},
        "[count__all__30d, mean__gap__90d]",
        "- count__all__30d\n- {statistic: mean, what: gap, window: 90d}\n",
        "columns: [count__all__30d, mean__gap__90d]",
    ],
)
def test_a_spec_of_columns_gives_these_and_no_others(spec, tmp_path):
    features = JourneyFeatures(spec)
    assert features.spec is spec
    assert clone(features).fit(LOG).plan_.columns == NAMES
    assert pickle.loads(pickle.dumps(features)).fit(LOG).plan_.columns == NAMES
    if isinstance(spec, str):
        file = tmp_path / "features.yaml"
        file.write_text(spec)
        for path in (file, str(file)):
            assert JourneyFeatures(path).fit(LOG).plan_.columns == NAMES


def test_families_and_windows_may_stand_beside_or_within_a_spec():
    plan = JourneyFeatures(NAMES, families=["mix"], windows=["30d"]).fit(LOG).plan_
    assert plan == JourneyFeatures({"columns": NAMES, "families": ["mix"], "windows": ["30d"]}).fit(LOG).plan_
    assert plan.columns[-2:] == NAMES and "entropy__touchpoint__30d" in plan.columns
    assert JourneyFeatures({"windows": ["30d"]}).fit(LOG).plan_ == JourneyFeatures(windows=["30d"]).fit(LOG).plan_
    assert JourneyFeatures(NAMES[:1], columns=NAMES[1:]).fit(LOG).plan_.columns == NAMES[::-1]
    assert JourneyFeatures([]).fit(LOG).plan_ == JourneyFeatures(families=["basic"]).fit(LOG).plan_


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"spec": "count__all__30d"}, r"spec: 'count__all__30d' is no list; write \[count__all__30d\]"),
        ({"spec": ""}, "spec: '' is no list"),
        ({"spec": Aggregate("count", "all", "30d")}, "spec: .* is no list"),
        ({"spec": 7}, "spec: 7 is no list"),
        ({"spec": {"familys": ["basic"]}}, "spec: unknown key 'familys'; did you mean 'families'"),
        ({"spec": {"columns": "count__all__30d"}}, "columns: 'count__all__30d' is no list; write"),
        ({"spec": "nowhere.yaml"}, "spec: cannot read 'nowhere.yaml'"),
        ({"spec": "[a: b: c]"}, "spec, line 1"),
        ({"columns": "count__all__30d"}, r"columns: 'count__all__30d' is no list; write \['count__all__30d'\]"),
        ({"custom": "lifecycle"}, "custom: 'lifecycle' is no list"),
        ({"interventions": "offer"}, "interventions: 'offer' is no list"),
        ({"surveys": "answer"}, "surveys: 'answer' is no list"),
        ({"asked": "sent"}, "asked: 'sent' is no list"),
        ({"max_columns": 0}, "max_columns must be a whole number from 1; it is 0"),
        ({"max_columns": True}, "max_columns must be a whole number from 1; it is True"),
        ({"columns": ["lifecycel"]}, "no feature is called 'lifecycel'; did you mean 'lifecycle'"),
        ({"columns": ["survey_response_rate"]}, "'survey_response_rate' needs to know how customers are asked"),
        ({"custom": ["rfm_monetary"]}, "'rfm_monetary' needs values, and the log holds none"),
    ],
)
def test_what_is_no_spec_is_refused(wrong, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        JourneyFeatures(**wrong).fit(LOG)


def test_parameters_other_than_the_spec_go_by_name():
    with pytest.raises(TypeError):
        JourneyFeatures(["count__all__30d"], ["30d"])


# ---------------------------------------------------------------- a cap on columns


def test_the_columns_of_the_least_frequent_values_are_left_out_and_told():
    every = JourneyFeatures(windows=["30d"]).fit(LOG)
    assert JourneyFeatures(windows=["30d"], max_columns=None).fit(LOG).plan_ == every.plan_
    assert not any("left out" in note for note in every.notes_)
    n = every.n_features_out_
    fewer = JourneyFeatures(windows=["30d"], max_columns=n - 1).fit(LOG)
    gone = [name for name in every.plan_.columns if name not in fewer.plan_.columns]
    assert gone == ["days_since__touchpoint=buy", "count__touchpoint=buy__30d"]
    said = f"features: 2 columns are left out, of the least frequent values, as max_columns is {n - 1}: touchpoint=buy"
    assert fewer.notes_ == [said]
    kept = JourneyFeatures(windows=["30d"], max_columns=n - 2).fit(LOG)
    assert kept.plan_ == fewer.plan_
    fewest = JourneyFeatures(windows=["30d"], max_columns=n - 3).fit(LOG)
    assert fewest.notes_[0].endswith(": touchpoint=buy, touchpoint=offer")
    named = JourneyFeatures(windows=["30d"], max_columns=n - 3, columns=["count__touchpoint=buy__30d"]).fit(LOG)
    assert "count__touchpoint=buy__30d" in named.plan_.columns


def test_a_cap_that_no_value_can_make_room_for_is_refused():
    with pytest.raises(ConfigError, match=r"\d+ columns speak of no single touchpoint .* max_columns is 3\. Raise it"):
        JourneyFeatures(max_columns=3).fit(LOG)
    config = "{name: a, churn: {kind: inactivity}, journeys: {sources: [a.csv]}, features: {max_columns: %s}}"
    assert JourneyFeatures.from_config(parse_config(config % 3)).max_columns == 3
    assert JourneyFeatures.from_config(parse_config(config % "null")).max_columns is None
    for wrong in (0, "many", "true"):
        with pytest.raises(ConfigError, match=r"features\.max_columns"):
            parse_config(config % wrong)


# ---------------------------------------------------------------- columns in a project file


def test_a_project_names_columns_or_writes_them_in_parts():
    text = "{name: a, churn: {kind: inactivity}, journeys: {sources: [a.csv]}, features: {families: [], columns: %s}}"
    parts = "[count__all__30d, {statistic: count, what: touchpoint=a__b, window: 7d}, {statistic: tenure_days}]"
    names = ["count__all__30d", "count__touchpoint=a__b__7d", "tenure_days"]
    config = parse_config(text % parts)
    assert config.features.columns == names
    assert parse_config(to_yaml(config)).features.columns == names
    assert [a.name for a in JourneyFeatures.from_config(config).columns] == names
    for wrong, said in [
        ("[{statistc: count}]", "'statistc': 'count'.* is no column; write a name or .statistic: count"),
        ("[{what: all, window: 7d}]", "is no column; write a name or"),
        ("[{statistic: count, what: all, window: 7}]", "statistic, what and window are texts"),
        ("[7]", "columns.0"),
    ]:
        with pytest.raises(ConfigError, match=said):
            parse_config(text % wrong)


# ---------------------------------------------------------------- what fit refuses, lest transform has to


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("count__first_contact_resolved>0__30d", "journeys.contacts"),
        ("count__contact=yes__30d", "journeys.contacts"),
        ("mean__response__30d", "journeys.interventions"),
        ("p_alive__active=yes", "journeys.activity"),
        ("count__asked=yes__30d", "satisfaction.asked"),
        ("mean__reaction__90d", "satisfaction.touchpoint"),
        ("count__score_band=passive__30d", "satisfaction.kind"),
    ],
)
def test_a_column_of_words_that_nobody_explained_is_refused_by_fit(column, key):
    with pytest.raises(ConfigError, match=rf"feature '{column}' looks at .* in the project file: {key} \(in Python"):
        JourneyFeatures([column]).fit(read_journeys(EVENTS))


def test_a_column_that_nothing_in_the_log_tells_is_refused_by_fit():
    with pytest.raises(ConfigError, match=r"'mean__handle_ratio__30d' looks at .*, and the log has no duration"):
        JourneyFeatures(["mean__handle_ratio__30d"]).fit(LOG)
    once = read_journeys(rows((0, "visit")))
    with pytest.raises(ConfigError, match=r"'count__transition=other__30d' looks at .*, and the log has no event"):
        JourneyFeatures(["count__transition=other__30d"]).fit(once)


def test_what_the_log_says_itself_needs_no_explanation():
    log = read_journeys(EVENTS.assign(reaction=1.0), measures=["reaction"])
    assert values(log, ["sum__reaction__90d"]) == [len(EVENTS)]


def test_an_hour_is_offered_with_its_nought():
    with pytest.raises(ConfigError, match="hour has no value '7'; did you mean '07'"):
        JourneyFeatures(["count__hour=7__30d"]).fit(LOG)


def test_self_service_in_channels_that_do_not_occur_is_told():
    words = WORDS | {"self_service": ["kiosk"]}
    features = JourneyFeatures(families=["service"]).fit(read_journeys(EVENTS, **words))
    assert "of contacts after self-service (journeys.self_service names no channel that occurs)" in features.notes_[0]
    assert not any("escalation" in name for name in features.plan_.columns)
    for words in (WORDS, WORDS | {"self_service": ["web", "kiosk"]}):  # web is rare, and has no columns of its own
        rare = JourneyFeatures(families=["service"], max_values=1).fit(read_journeys(EVENTS, **words))
        assert any("escalation" in name for name in rare.plan_.columns)


# ---------------------------------------------------------------- trace, in the order one likes


def test_a_trace_takes_the_log_first_or_by_its_name():
    features = JourneyFeatures(NAMES).fit(LOG)
    first = features.trace(LOG, "ann", CUTOFF, NAMES[0])
    assert first == features.trace("ann", CUTOFF, NAMES[0], log=LOG)
    assert first == features.trace("ann", column=NAMES[0], cutoff=CUTOFF, log=LOG)
    assert first == features.trace(log=LOG, customer_id="ann", cutoff=CUTOFF, column=NAMES[0])
    for wrong in (("ann", CUTOFF, NAMES[0]), (LOG, "ann", CUTOFF), (LOG, "ann", CUTOFF, NAMES[0], 7), ()):
        with pytest.raises(TypeError, match="trace takes a log, a customer, a cutoff and a column"):
            features.trace(*wrong)
    with pytest.raises(TypeError, match="trace takes"):
        features.trace(LOG, "ann", CUTOFF, NAMES[0], log=LOG)


# ---------------------------------------------------------------- surveys, service, recency, frequency, money


def shop(n=400, days=500, seed=0):
    """Customers who order, are asked and answer; some never, some rarely, some late known."""
    rng = np.random.default_rng(seed)
    size = n * 12
    touchpoint = rng.choice(["order", "visit", "call", "sent", "answer"], size, p=[0.3, 0.4, 0.1, 0.15, 0.05])
    when = pd.Timestamp("2022-12-01", tz="UTC") + pd.to_timedelta(rng.uniform(0, days, size), "D")
    frame = pd.DataFrame({"customer_id": rng.integers(0, n, size), "timestamp": when, "touchpoint": touchpoint})
    frame["value"] = np.where(touchpoint == "order", rng.gamma(2, 20, size).round(2), np.nan)
    frame["score"] = np.where(touchpoint == "answer", rng.integers(0, 11, size), np.nan)
    frame["duration"] = np.where(touchpoint == "call", rng.gamma(2, 100, size).round(), np.nan)
    frame["available_at"] = frame["timestamp"] + pd.to_timedelta(rng.choice([0, 0, 1, 60], size), "D")
    return read_journeys(frame, activity=["order"], contacts=["call"])


@pytest.fixture(scope="module")
def orders():
    return shop()


def everyone(log):
    return pd.DataFrame({"customer_id": log.block.customers, "cutoff": CUTOFF})


def test_the_fifths_of_the_customers_of_training_are_fifths(orders):
    features = JourneyFeatures(families=["rfm"]).fit(orders, until=CUTOFF)
    assert features.plan_.columns == list(RFM)
    frame = features.transform(orders, everyone(orders))
    active = frame[frame["rfm_recency"].notna()]
    for name in ("recency", "frequency", "monetary"):
        fifth, value = active[f"rfm_{name}_quintile"], active[f"rfm_{name}"]
        means = value.groupby(fifth).mean()
        assert means.index.tolist() == [1, 2, 3, 4, 5]
        assert means.is_monotonic_decreasing if name == "recency" else means.is_monotonic_increasing
    assert active["rfm_recency_quintile"].value_counts().between(0.19 * len(active), 0.21 * len(active)).all()
    assert frame["lifecycle"].dropna().isin([1, 2, 3, 4, 5]).all()
    assert frame["lifecycle"].nunique() >= 4
    plan = features.plan_
    assert FeaturePlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert plan == JourneyFeatures(families=["rfm"]).fit(orders.upto(CUTOFF), until=CUTOFF).plan_
    catalogue = features.catalogue(orders).set_index("column")
    assert catalogue.loc["lifecycle", "sentence"].startswith("Where the customer stands")
    of_year = {"rfm_frequency", "rfm_monetary", "rfm_frequency_quintile", "rfm_monetary_quintile"}
    assert catalogue.loc[list(RFM), "window"].to_dict() == {name: "365d" if name in of_year else "" for name in RFM}


def test_columns_of_rfm_may_be_named_and_only_their_own_part_is_learned(orders):
    alone = JourneyFeatures(["rfm_recency"]).fit(orders).plan_
    assert alone.annotations is not None
    assert alone.annotations.rfm == {}
    with_stage = JourneyFeatures(["lifecycle", "count__all__30d"]).fit(orders).plan_
    assert with_stage.columns == ["count__all__30d", "lifecycle"]
    assert with_stage.annotations is not None
    assert "gap" in with_stage.annotations.rfm


def test_a_family_without_activity_or_value_says_so(orders):
    frame = orders.to_pandas().drop(columns="value")
    features = JourneyFeatures(families=["rfm"]).fit(read_journeys(frame))
    assert not [name for name in features.plan_.columns if "monetary" in name]
    assert features.notes_ == ["features: the family rfm has no columns of monetary value (no value)"]
    idle = JourneyFeatures(families=["basic", "rfm"]).fit(read_journeys(frame, activity=["fly"]))
    assert not set(RFM) & set(idle.plan_.columns)
    assert "of activity (journeys.activity names no touchpoint that occurs)" in idle.notes_[0]


def test_a_stage_that_nobody_tells_is_left_out():
    log = read_journeys(rows((0, "order"), (9, "order")))
    features = JourneyFeatures(families=["rfm"]).fit(log)
    assert "lifecycle" not in features.plan_.columns
    assert "rfm_recency_quintile" in features.plan_.columns
    assert any("lifecycle left out: too few customers" in note for note in features.notes_)
    with pytest.raises(ConfigError, match="'lifecycle' cannot be learned: too few customers"):
        JourneyFeatures(["lifecycle"]).fit(log)


def test_feedback_tells_who_was_never_asked_and_who_never_answered(orders):
    features = JourneyFeatures(families=["feedback"], surveys=["answer"], scale=(0, 10), asked=["sent"]).fit(orders)
    assert {"ever__asked=yes", "days_since__asked=yes", "survey_response_rate"} <= set(features.plan_.columns)
    frame = features.transform(orders, everyone(orders))
    asked, rate = frame["ever__asked=yes"], frame["survey_response_rate"]
    assert ((asked == 0) == rate.isna()).all()
    assert (asked == 0).any() and ((asked > 0) & (rate == 0)).any() and (rate > 0).any()
    assert ((asked == 0) == frame["days_since__asked=yes"].isna()).all()
    catalogue = features.catalogue(orders).set_index("column")
    assert catalogue.loc[["survey_response_rate", "ever__asked=yes"], "factor"].tolist() == ["feels", "feels"]
    without = JourneyFeatures(families=["feedback"], surveys=["answer"], scale=(0, 10)).fit(orders)
    assert not any("asked" in name or "survey" in name for name in without.plan_.columns)
    assert "of being asked (no satisfaction.asked that occurs)" in without.notes_[0]


def test_a_project_says_who_asks():
    config = parse_config(
        "{name: a, journeys: {sources: [a.csv]}, features: {families: [feedback]}, "
        "satisfaction: {kind: nps, touchpoint: answer, asked: sent}}"
    )
    assert JourneyFeatures.from_config(config).asked == ("sent",)


def test_service_holds_the_average_handle_time_of_contacts(orders):
    plan = JourneyFeatures(families=["service"]).fit(orders).plan_
    assert {"mean__duration@contact=yes__90d", "mean__duration@contact=yes__365d"} <= set(plan.columns)
    frame = JourneyFeatures.from_plan(plan).transform(orders, everyone(orders))
    events = orders.to_pandas()
    seen = events[(events["timestamp"] < CUTOFF) & (events["available_at"] < CUTOFF) & (events["touchpoint"] == "call")]
    seen = seen[seen["timestamp"] >= CUTOFF - pd.Timedelta(days=365)]
    expected = seen.groupby("customer_id")["duration"].mean().reindex(orders.block.customers)
    np.testing.assert_allclose(frame["mean__duration@contact=yes__365d"], expected, rtol=1e-6)


def test_nothing_that_comes_later_changes_what_is_said_of_a_customer(orders):
    settings = {"surveys": ["answer"], "scale": (0, 10), "asked": ["sent"]}
    columns = ["max__session__90d", "count__hour=05__90d"]
    features = JourneyFeatures(columns, families=["rfm", "feedback"], **settings).fit(orders, until=CUTOFF)
    snapshots = pd.concat([everyone(orders), everyone(orders).assign(cutoff=CUTOFF - pd.Timedelta(days=100))])
    report = check_leakage(orders, features.plan_, snapshots, max_customers=120)
    assert report.clean, report.columns


def test_a_warm_customer_has_the_bits_of_the_batch(orders):
    features = JourneyFeatures(families=["rfm", "feedback"], surveys=["answer"], asked=["sent"]).fit(orders)
    batch = features.matrix(orders, everyone(orders))
    for place in (0, 7, 100):
        customer = orders.block.customers[place].item()
        state = features.state(customer_id=customer, log=orders)
        np.testing.assert_array_equal(state.vector(CUTOFF), batch[place])
        traced = features.trace(orders, customer, CUTOFF, "rfm_frequency")
        assert traced.value == batch[place][features.plan_.columns.index("rfm_frequency")]


def test_the_shipped_schema_of_the_project_knows_the_new_words():
    from cxml.config import json_schema

    text = json.dumps(json_schema())
    for word in ("session_gap", "repeat_within", "respond_within", "self_service", "modules", "max_columns"):
        assert f'"{word}"' in text
