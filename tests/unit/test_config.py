# ruff: noqa: E501 - a table of faults is read row by row
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cxml.config import (
    ChurnConfig,
    ProjectConfig,
    SatisfactionConfig,
    SourceConfig,
    check_part,
    expand,
    json_schema,
    load_config,
    parse_config,
    resolve_path,
    to_yaml,
)
from cxml.errors import ConfigError
from cxml.faults import hide_secrets, read_yaml
from cxml.times import format_instant

EVERYTHING = """\
name: telecom
journeys:
  sources:
    - path: ../data/events.parquet
      columns: {customer_id: user, timestamp: when, touchpoint: page, channel: device, value: amount}
    - tables: {orders: ../data/orders.parquet, reviews: ../data/reviews.csv}
      query: select customer_unique_id as customer_id, review_creation_date as timestamp, 'survey_sent' as touchpoint
    - url: postgresql://cxml:${CRM_PASSWORD}@localhost/crm
      table: contacts
      timezone: Europe/Berlin
    - more/*.csv.gz
  measures: [length]
  attributes: [level]
  where: "user <> ''"
  timezone: UTC
  stages: {usage: [play], support: [help, call], loyalty: [refer]}
  activity: [play, order]
  contacts: [call, chat]
customers:
  source: ../data/customers.parquet
  columns: {customer_id: user, valid_from: since}
  attributes: [plan, region]
snapshots: {every: 30d, lookback: 180d, start: 2024-01-01, end: 2024-12-31}
features: {windows: [7d, 30d, 90d, 365d]}
churn:
  kind: event
  touchpoints: [cancelled]
  horizons: [30d, 60d, 90d]
satisfaction:
  kind: nps
  touchpoint: survey_answer
  asked: survey_sent
needs: {touchpoints: [call, refund], horizon: 14d}
playbook: playbook.yaml
tracking: {uri: "sqlite:///mlflow.db", experiment: telecom}
"""

START = "name: shop\njourneys:\n  sources: [events.csv]\n"
CHURN = "churn: {kind: inactivity}\n"
SURVEY = "satisfaction: {kind: custom, touchpoint: answer, scale: [1, 5]}\n"


def test_the_whole_project_file_is_understood():
    config = parse_config(EVERYTHING)
    assert [source.label for source in config.journeys.sources] == [
        "../data/events.parquet",
        "query over orders, reviews",
        "postgresql table contacts",
        "more/*.csv.gz",
    ]
    assert config.journeys.columns[-2:] == ("length", "level")
    assert config.customers.source.path == "../data/customers.parquet"
    assert format_instant(config.snapshots.end) == "2024-12-31"
    assert [str(window) for window in config.features.windows] == ["7d", "30d", "90d", "365d"]
    assert [horizon.days for horizon in config.churn.horizons] == [30, 60, 90]
    assert config.satisfaction.bounds == (0, 10)
    assert config.needs.horizon.days == 14


def test_a_small_project_file_gets_the_defaults():
    config = parse_config(START + CHURN)
    assert (str(config.snapshots.every), str(config.snapshots.lookback)) == ("30d", "180d")
    assert [str(horizon) for horizon in config.churn.horizons] == ["30d", "60d", "90d"]
    assert config.tracking.uri == "sqlite:///mlflow.db"
    assert config.journeys.duplicates == "keep"


@pytest.mark.parametrize("text", [EVERYTHING, START + CHURN, START + SURVEY])
def test_a_project_file_survives_being_written_and_read(text):
    config = parse_config(text)
    assert parse_config(to_yaml(config)) == config


# what is wrong -> the text, and what the message says after the file's name
FAULTS = {
    "unknown key at the top": (START + CHURN + "trakcing: {}", "line 5: trakcing: unknown key; did you mean 'tracking'?"),
    "unknown key within": (START + "churn:\n  kind: event\n  touchpoint: [x]", "line 6: churn.touchpoint: unknown key; did you mean 'touchpoints'?"),
    "unknown key in a list": (
        "name: shop\njourneys:\n  sources:\n    - a.csv\n    - path: b.csv\n      colums: {}\n" + CHURN,
        "line 6: journeys.sources.1.colums: unknown key; did you mean 'columns'?",
    ),
    "unknown key unlike any": (START + CHURN + "needs: {qqq: 1}", "line 5: needs.qqq: unknown key; known: horizon, touchpoints"),
    "missing key": (START + "satisfaction:\n  kind: nps\n", "line 4: satisfaction.touchpoint: missing; this key is required"),
    "missing part": ("name: shop\n" + CHURN, "line 1: journeys: missing; this key is required"),
    "nothing to learn": (START, "line 1: nothing to learn: add 'churn' or 'satisfaction'"),
    "written twice": (START + "churn:\n  kind: event\n  kind: table\n", "line 6: churn.kind: written twice; keep one"),
    "empty part": ("name: shop\njourneys:\n" + CHURN, "line 2: journeys: is empty; write a value, or take it out"),
    "empty item": (START + "churn:\n  kind: event\n  touchpoints:\n    - a\n    -\n", "line 8: churn.touchpoints.1: is empty; write a value, or take it out"),
    "true for text": (START + "churn: {kind: event, touchpoints: [true]}", 'line 4: churn.touchpoints.0: must be text; if it is, put it in quotes: "true" (got True)'),
    "number for text": ("name: 2024\n" + START.partition("\n")[2] + CHURN, 'line 1: name: must be text; if it is, put it in quotes: "2024" (got 2024)'),
    "text for a list": (START + "churn: {kind: event, touchpoints: left}", "line 4: churn.touchpoints: must be a list, such as [a, b] (got 'left')"),
    "text for a part": (START + CHURN + "snapshots: 30d", "line 5: snapshots: must be a mapping of keys, such as every, lookback, start (got '30d')"),
    "text for a mapping": (START + "  stages: support\n" + CHURN, "line 4: journeys.stages: must be a mapping, such as {name: value} (got 'support')"),
    "true for a number": (START + CHURN + "random_state: true", "line 5: random_state: Input should be a valid integer (got True)"),
    "number too large": (START + CHURN + "features: {max_values: 5000}", "line 5: features.max_values: Input should be less than or equal to 1000 (got 5000)"),
    "unknown kind": (START + "churn: {kind: evnet}", "line 4: churn.kind: cannot be 'evnet'; did you mean 'event'?"),
    "capital kind": (START + "satisfaction: {kind: NPS, touchpoint: x}", "line 4: satisfaction.kind: cannot be 'NPS'; did you mean 'nps'?"),
    "bad name": ("name: my shop\n" + START.partition("\n")[2] + CHURN, "line 1: name: may hold only letters, digits"),
    "bare number as duration": (START + CHURN + "snapshots:\n  every: 30", "line 6: snapshots.every: '30' is not a duration: write a whole number and a unit"),
    "words as duration": (START + "churn: {kind: inactivity, horizons: [30d, 2 months]}", "line 4: churn.horizons.1: '2 months' is not a duration"),
    "no such date": (START + CHURN + "snapshots: {start: 2024-13-01}", "line 5: snapshots.start: '2024-13-01' is not a moment in time"),
    "bare number as date": (START + CHURN + "snapshots: {start: 20240101}", "line 5: snapshots.start: '20240101' is a bare number, not a moment in time"),
    "cutoffs out of order": (START + CHURN + "snapshots:\n  end: 2024-01-01\n  start: 2024-02-01\n", "line 7: snapshots.start: 'start' (2024-02-01) is after 'end' (2024-01-01)"),
    "no such zone": (START + "  timezone: Europe/Berln\n" + CHURN, "line 4: journeys.timezone: 'Europe/Berln' is no time zone; did you mean 'Europe/Berlin'?"),
    "zone that climbs": (START + "  timezone: ../UTC\n" + CHURN, "line 4: journeys.timezone: '../UTC' is no time zone"),
    "two kinds of source": ("name: shop\njourneys:\n  sources: [{path: a.csv, url: x}]\n" + CHURN, "line 3: journeys.sources.0: a source has exactly one of 'path', 'tables', 'url'; this has ['path', 'url']"),
    "no kind of source": ("name: shop\njourneys:\n  sources: [{columns: {}}]\n" + CHURN, "line 3: journeys.sources.0: a source has exactly one of 'path', 'tables', 'url'; none"),
    "tables without query": ("name: shop\njourneys:\n  sources: [{tables: {a: a.csv}}]\n" + CHURN, "line 3: journeys.sources.0: 'tables' needs a 'query'"),
    "url without table": ("name: shop\njourneys:\n  sources: [{url: postgresql://h/d}]\n" + CHURN, "line 3: journeys.sources.0: 'url' needs either a 'table' or a 'query'"),
    "query over a path": ("name: shop\njourneys:\n  sources: [{path: a.csv, query: select 1}]\n" + CHURN, "line 3: journeys.sources.0: 'path' reads the file as it is"),
    "no source": ("name: shop\njourneys: {sources: []}\n" + CHURN, "line 2: journeys.sources: List should have at least 1 item"),
    "unknown canonical column": (
        "name: shop\njourneys:\n  sources:\n    - path: b.csv\n      columns:\n        custmer_id: x\n" + CHURN,
        "line 6: journeys.sources.0.columns.custmer_id: unknown canonical name; did you mean 'customer_id'?",
    ),
    "measure that is canonical": (START + "  measures:\n    - size\n    - value\n" + CHURN, "line 6: journeys.measures.1: 'value' is a canonical column already; take it out"),
    "measure that is no name": (START + "  measures: [a b]\n" + CHURN, "line 4: journeys.measures.0: 'a b' cannot name a measure or attribute"),
    "measure and attribute": (START + "  measures: [x]\n  attributes: [x]\n" + CHURN, "line 5: journeys.attributes: 'x' is both a measure and an attribute"),
    "two stages": (START + "  stages:\n    a: [x]\n    b: [y, x]\n" + CHURN, "line 6: journeys.stages.b.1: touchpoint 'x' is in two stages, 'a' and 'b'"),
    "unknown customers column": (START + CHURN + "customers:\n  source: c.csv\n  attributes: [plan]\n  columns:\n    plna: x\n", "line 9: customers.columns.plna: unknown name; did you mean 'plan'?"),
    "attribute in both": (START + "  attributes: [plan]\n" + CHURN + "customers:\n  source: c.csv\n  attributes: [plan]\n", "line 8: customers.attributes: attribute 'plan' is in both"),
    "event without touchpoints": (START + "churn: {kind: event}", "line 4: churn.touchpoints: 'touchpoints' go with kind 'event'"),
    "table without source": (START + "churn: {kind: table}", "line 4: churn.source: 'source' goes with kind 'table'"),
    "a reason for lapses": (START + "churn: {kind: inactivity, reasons: {a: [x], b: [y]}}", "line 4: churn.reasons: go with kind 'event'"),
    "one reason only": (START + "churn: {kind: event, touchpoints: [x], reasons: {a: [x]}}", "line 4: churn.reasons: go with kind 'event', and two reasons or more compete"),
    "reason that is no name": (START + "churn: {kind: event, touchpoints: [x, y], reasons: {a: [x], B__c: [y]}}", "line 4: churn.reasons.B__c: 'B__c' cannot name a reason"),
    "reason without churn": (START + "churn: {kind: event, touchpoints: [left, dunned], reasons: {a: [left], b: [duned]}}", "line 4: churn.reasons.b.0: 'duned' is not churn; did you mean 'dunned'?"),
    "two reasons at once": (START + "churn: {kind: event, touchpoints: [x, y], reasons: {a: [x], b: [y, x]}}", "line 4: churn.reasons.a.0: 'x' has more than one reason"),
    "churn without reason": (START + "churn: {kind: event, touchpoints: [x, y, z], reasons: {a: [x], b: [y]}}", "line 4: churn.reasons: every one of 'touchpoints' needs its reason, and 'z' has none"),
    "calibrated by nothing": (START + "  attributes: [plan]\nchurn: {kind: inactivity, calibrate_by: plann}", "line 5: churn.calibrate_by: 'plann' is no attribute; did you mean 'plan'?"),
    "answers calibrated by nothing": (START + "  attributes: [plan]\nsatisfaction: {kind: nps, touchpoint: a, calibrate_by: plann}", "line 5: satisfaction.calibrate_by: 'plann' is no attribute; did you mean 'plan'?"),
    "corrections sometimes": (START + "churn: {kind: inactivity, corrections: sometimes}", "line 4: churn.corrections: cannot be 'sometimes'; known: apart, auto, false, true"),
    "unknown churn column": (START + "churn: {kind: table, source: c.csv, columns: {when: x}}", "line 4: churn.columns.when: unknown name; known: customer_id, timestamp"),
    "scale that falls": (START + SURVEY.replace("[1, 5]", "[5, 1]"), "line 4: satisfaction.scale: must ascend"),
    "half a scale": (START + SURVEY.replace("[1, 5]", "[1]"), "line 4: satisfaction.scale.1: missing; this value is required"),
    "scale of a known kind": (START + SURVEY.replace("custom", "nps"), "line 4: satisfaction.scale: 'scale: [lowest, highest]' goes with kind 'custom'"),
    "asked by the answer": (START + "satisfaction: {kind: nps, touchpoint: x, asked: x}", "line 4: satisfaction.asked: must differ from 'touchpoint'"),
    "key that is no text": (START + CHURN + "1: x", "line 5: 1: Keys should be strings (got 1)"),
    "no YAML": ("name: shop\njourneys: sources: [x]\n", "line 2, column 18: not valid YAML: mapping values are not allowed here"),
    "tab": ("name: shop\n\tx: 1", "line 2, column 1: not valid YAML: found character '\\t' that cannot start any token"),
    "code": ("name: !!python/name:os.system\n", "line 1, column 7: not valid YAML: could not determine a constructor"),
    "no mapping": ("- name: shop", "a project file is a mapping that begins with 'name:' and 'journeys:'"),
    "nothing at all": ("", "a project file is a mapping that begins with 'name:' and 'journeys:'"),
    "a loop of aliases": ("name: shop\njourneys: &a {sources: [*a]}\n", "line 2: journeys.sources.0.sources: unknown key"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told_with_file_line_key_and_mend(tmp_path, text, message):
    file = tmp_path / "shop.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    told = str(caught.value).splitlines()
    assert any(line.startswith((f"{file}, {message}", f"{file}: {message}")) for line in told), told


def test_every_fault_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_config(START + "churn: {kind: x, horizon: 3}\nsnapshots: {evry: 3d}\n")
    assert sorted(line.split(": ")[1] for line in str(caught.value).splitlines()) == [
        "churn.horizon",
        "churn.kind",
        "snapshots.evry",
    ]


def test_every_part_refuses_unknown_keys():
    parts = json_schema()["$defs"].values()
    shapes = [shape for part in parts for shape in part.get("anyOf", [part]) if "properties" in shape]
    assert len(shapes) >= 8
    assert all(shape["additionalProperties"] is False for shape in shapes)


@pytest.mark.parametrize(
    ("place", "message"),
    [("absent.yaml", "No such file"), (".", "Is a directory")],
)
def test_a_file_that_cannot_be_read_is_told_with_the_mend(tmp_path, place, message):
    with pytest.raises(ConfigError, match=rf"cannot read the project file .*{message}.*cxml init DATA"):
        load_config(tmp_path / place)


def test_a_file_in_another_encoding_is_told_with_the_mend(tmp_path):
    (tmp_path / "shop.yaml").write_bytes("name: café".encode("utf-16"))
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load_config(tmp_path / "shop.yaml")


def test_words_that_old_yaml_took_for_something_else_are_text():
    config = parse_config(START + "churn: {kind: event, touchpoints: [off, no, on, yes, 2024-01-31]}")
    assert config.churn.touchpoints == ["off", "no", "on", "yes", "2024-01-31"]
    assert parse_config(to_yaml(config)) == config


def test_horizons_and_windows_ascend_and_do_not_repeat():
    config = parse_config(
        START + "churn: {kind: inactivity, horizons: [60d, 30d, 720h]}\nfeatures: {windows: [2w, 1w]}"
    )
    assert [str(horizon) for horizon in config.churn.horizons] == ["30d", "60d"]
    assert [str(window) for window in config.features.windows] == ["7d", "14d"]


def test_a_part_can_be_made_from_python_values_with_the_same_messages():
    assert check_part(ChurnConfig, {"kind": "inactivity"}).horizons[0].days == 30
    with pytest.raises(ConfigError, match=r"^make_snapshots\(\) horizon: unknown key; did you mean 'horizons'\?$"):
        check_part(ChurnConfig, {"kind": "inactivity", "horizon": ["30d"]}, "make_snapshots()")
    with pytest.raises(ConfigError, match=r"^source: a source has exactly one of"):
        check_part(SourceConfig, {}, "source")


def test_a_config_does_not_change():
    config = parse_config(START + SURVEY)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"
    assert isinstance(config.satisfaction, SatisfactionConfig)


def test_paths_start_at_the_project_file_but_those_of_a_variable_where_the_user_stands(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "shop.yaml").write_text(START + CHURN)
    folder = load_config(tmp_path / "configs" / "shop.yaml").folder
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CXML_DATA", raising=False)
    assert folder == tmp_path / "configs"
    assert resolve_path("a.csv", folder) == folder / "a.csv"
    assert resolve_path("/a.csv", folder) == Path("/a.csv")
    assert resolve_path("${CXML_DATA:-data}/a.csv", folder) == folder / "data" / "a.csv"
    monkeypatch.setenv("CXML_DATA", "elsewhere")
    assert resolve_path("${CXML_DATA:-data}/a.csv", folder) == tmp_path / "elsewhere" / "a.csv"


def test_a_variable_is_filled_from_the_environment_or_its_default(monkeypatch):
    monkeypatch.setenv("CXML_HOST", "db")
    monkeypatch.delenv("CXML_USER", raising=False)
    assert expand("postgresql://${CXML_USER:-me}@${CXML_HOST}/crm") == "postgresql://me@db/crm"
    assert expand("costs $5 {a}") == "costs $5 {a}"


def test_a_variable_that_is_not_set_is_named_and_no_secret_with_it(monkeypatch):
    monkeypatch.delenv("CXML_HOST", raising=False)
    with pytest.raises(ConfigError, match="needs the environment variable CXML_HOST, which is not set") as caught:
        expand("postgresql://me:s3cret@${CXML_HOST}/crm")
    assert "s3cret" not in str(caught.value)


def test_what_is_written_and_shown_holds_no_secret(monkeypatch):
    monkeypatch.setenv("CRM_PASSWORD", "s3cret")
    literal = "- {url: 'postgresql://ann:s3cr@s3cret@host/crm', table: calls}\n    - more/"
    tracked = "postgresql://ml:s3cret@host/mlflow?sslpassword=s3cret"
    config = parse_config(EVERYTHING.replace("- more/", literal).replace("sqlite:///mlflow.db", tracked))
    assert config.journeys.sources[3].url == "postgresql://ann:s3cr@s3cret@host/crm"
    shown = [to_yaml(config), repr(config), str(config), config.model_dump_json(), str(config.model_dump())]
    shown += [source.label for source in config.journeys.sources]
    assert not [text for text in shown if "s3cr" in text]
    assert "postgresql://cxml:${CRM_PASSWORD}@localhost/crm" in to_yaml(config)


def test_a_fault_about_a_url_shows_no_secret():
    with pytest.raises(ConfigError) as caught:
        parse_config("name: shop\njourneys: {sources: 'postgresql://ann:s3cret@host/crm'}\n" + CHURN)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["data/a.csv", "https://host/a.csv", "postgresql://ann@host/crm", "sqlite:///a:b.db"])
def test_what_holds_no_secret_is_left_as_it_is(text):
    assert hide_secrets(text) == text


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("text", [EVERYTHING, START + CHURN, START + SURVEY])
def test_an_editor_accepts_what_the_package_accepts(validator, text):
    assert list(validator.iter_errors(read_yaml(text, "example")[0])) == []
    assert list(validator.iter_errors(yaml.safe_load(to_yaml(parse_config(text))))) == []


@pytest.mark.parametrize(
    "fault",
    ["unknown key at the top", "unknown key in a list", "missing key", "unknown kind", "bare number as duration",
     "words as duration", "no such date", "text for a list", "true for text", "half a scale"],
)  # fmt: skip
def test_an_editor_underlines_what_the_package_refuses(validator, fault):
    assert list(validator.iter_errors(read_yaml(FAULTS[fault][0], "example")[0]))


def test_the_defaults_in_the_schema_are_valid_themselves(validator):
    schema = json_schema()
    assert schema["properties"]["snapshots"]["default"]["every"] == "30d"
    assert schema["$defs"]["SnapshotsConfig"]["properties"]["every"]["default"] == "30d"
    assert json.loads(json.dumps(schema)) == schema


@settings(max_examples=60)
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_whatever_text_comes_the_answer_is_a_config_or_a_config_error(text):
    try:
        config = parse_config(text)
    except ConfigError as error:
        assert str(error).startswith("project file")
    else:
        assert isinstance(config, ProjectConfig)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("30d")
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3))  # fmt: skip


@settings(max_examples=150)
@given(st.sampled_from(sorted(ProjectConfig.model_fields)), trees)
def test_whatever_value_stands_at_a_key_the_answer_is_a_config_or_a_config_error(key, value):
    content = read_yaml(START + CHURN, "start")[0] | {key: value}
    try:
        config = parse_config(yaml.safe_dump(content))
    except ConfigError as error:
        assert f": {key}" in str(error) or "nothing to learn" in str(error) or "not valid YAML" in str(error)
    else:
        assert parse_config(to_yaml(config)) == config


@pytest.mark.parametrize(
    ("profit", "says"),
    [
        ("{value: 200}", "churn.profit.value: with a value of your own, give 'offer' and 'contact' in the same unit"),
        ("{value: -1, offer: 1, contact: 1}", "churn.profit.value: must be above 0"),
        ("{accepts: [6, 0]}", "churn.profit.accepts: both numbers must be above 0"),
        ("{offer: -1}", "churn.profit.offer"),
        ("{worth: 3}", "churn.profit.worth: unknown key; known: accepts, contact, offer, value"),
    ],
)
def test_a_campaign_that_cannot_be_reckoned_with_is_refused(profit, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        parse_config(START + f"churn: {{kind: inactivity, profit: {profit}}}")


def test_the_value_of_a_customer_is_a_number_or_a_feature():
    def value(text):
        config = parse_config(START + f"churn: {{kind: inactivity, profit: {{{text}offer: 10, contact: 1}}}}")
        assert parse_config(to_yaml(config)) == config
        return config.churn.profit.value

    assert [value("value: 200, "), value("value: sum__value__365d, "), value("")] == [200.0, "sum__value__365d", 1.0]
