"""What `cxml define-churn` says, writes and draws."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import cxml
from cxml.config import ChurnConfig, SnapshotsConfig
from cxml.errors import ConfigError
from cxml.evaluate.bootstrap import Interval
from cxml.evaluate.definition import define_churn
from cxml.evaluate.definition_plot import plot_definition, save_definition_plot
from cxml.times import Duration


def visits(n=400, days=500, back=0.0, seed=0, step=1, start="2023-01-01"):
    """Customers who come every one to nine steps until they leave; a share of those is back two months later."""
    rng = np.random.default_rng(seed)
    rows = []
    for customer in range(n):
        at = rng.uniform(0, days)
        while at < days:
            rows.append((customer, at))
            gone = rng.random() < 0.1
            if gone and rng.random() >= back:
                break
            at += 60 if gone else step * rng.uniform(1, 9)
    frame = pd.DataFrame(rows, columns=["customer_id", "day"])
    frame["timestamp"] = pd.Timestamp(start, tz="UTC") + pd.to_timedelta(frame.pop("day"), unit="D")
    return frame.assign(touchpoint="visit")


def shop(**options):
    return cxml.read_journeys(visits(**options), activity=["visit"])


@pytest.fixture(scope="module")
def clear():
    return define_churn(shop(), gaps=[3, 5, 10, 30, 60], within=60)


@pytest.fixture(scope="module")
def weak():
    return define_churn(shop(back=0.45), gaps=[3, 10, 30], within=60)


@pytest.fixture(scope="module")
def hopeless():
    return define_churn(shop(back=0.9), gaps=[3, 10, 30], within=60)


def test_where_silence_tells_the_reason_names_the_gap_and_its_wrong_calls(clear):
    assert clear.definition.choice.gap_days == 10
    assert clear.reason().startswith("Recommended gap: 10 days.")
    assert "no more than the 20% put up with" in clear.reason()
    assert "of those silent for 5 days it is still" in clear.reason()
    assert clear.yaml() == "snapshots: {lookback: 10d}\nchurn: {kind: inactivity, horizons: [10d]}\n"
    assert clear.lines()[-2:] == clear.yaml().splitlines()


def test_where_many_come_back_the_reason_says_that_it_is_a_lapse(weak):
    assert weak.definition.choice.tolerance == 0.5
    assert "fewer than stay away" in weak.reason()
    assert "No gap keeps to the 20% put up with" in weak.reason()
    assert "lapse" in weak.reason()


def test_where_most_come_back_no_gap_is_recommended_and_no_line_is_given(hopeless):
    assert hopeless.definition.choice.gap_days is None
    assert hopeless.reason().startswith("No gap is recommended")
    assert hopeless.yaml() == ""
    assert not any("For the project file" in line for line in hopeless.lines())
    assert not hopeless.table().column("recommended").to_numpy(zero_copy_only=False)[:3].any()
    plot_definition(hopeless.definition)


def test_the_line_for_the_project_file_is_one_that_a_project_takes(clear):
    from cxml.config import parse_config

    config = parse_config(f"name: shop\njourneys: {{sources: [e.csv], timezone: UTC}}\n{clear.yaml()}")
    assert config.churn is not None
    assert [h.days for h in config.churn.horizons] == [config.snapshots.lookback.days] == [10]


def test_a_gap_that_leaves_no_room_to_train_gives_a_shorter_horizon_and_says_so():
    log = shop(days=200)
    snapshots = SnapshotsConfig(every=Duration.parse("30d"), test_start=log.last - 8 * 86_400_000_000)
    report = define_churn(log, None, snapshots, gaps=[3, 5, 10], within=60)
    assert (report.definition.choice.gap_days, report.horizon_days) == (10, 5)
    assert "horizons: [5d]" in report.yaml()
    assert any("no room" in note and "asks for a lapse" in note for note in report.notes)


def test_notes_tell_what_the_measurement_cannot():
    log = shop(days=300)
    notes = define_churn(log, ChurnConfig(kind="event", touchpoints=["left"])).notes
    assert any("says who left" in note for note in notes)
    assert any("less than a year" in note for note in notes)
    assert not any("every touchpoint" in note for note in notes)


def test_every_touchpoint_as_activity_is_warned_of():
    frame = pd.DataFrame({
        "customer_id": np.repeat(np.arange(60), 40), "touchpoint": "visit",
        "timestamp": np.tile(pd.date_range("2023-01-01", periods=40, freq="5D", tz="UTC"), 60),
    })  # fmt: skip
    assert any("every touchpoint" in note for note in define_churn(cxml.read_journeys(frame)).notes)


def test_a_log_that_cannot_compare_rules_says_why_and_gives_the_rest():
    report = define_churn(shop(days=100), gaps=[10], within=45)
    assert report.rules is None
    assert any(line.startswith("personal rhythm was not compared: ") for line in report.lines())
    assert len(report.tables()) == 2
    assert report.to_dict()["rules"] is None


def test_rules_are_told_apart_by_the_interval_and_not_where_false_alarms_are_rare(clear):
    def said(alarms, *gain):
        rules = replace(clear.rules, false_alarms_global=alarms, gain=Interval(*gain))
        return replace(clear, rules=rules).lines()[2]

    assert said(0.1, 0.05, 0.01, 0.09).startswith("Personal rhythm is better")
    assert "5.0 points fewer" in said(0.1, -0.05, -0.09, -0.01)
    assert said(0.1, 0.05, -0.01, 0.09).startswith("One gap for all will do")
    assert said(0.0, 0.0, 0.0, 0.0).startswith("Personal rhythm was not compared at equal false alarms")


def test_the_json_is_json_and_holds_what_the_tables_show(clear):
    told = json.loads(json.dumps(clear.to_dict(), allow_nan=False))
    assert told["recommended"]["gap_days"] == 10
    assert [row["gap_days"] for row in told["gaps"]] == [3, 5, 10, 30, 60]
    assert told["rules"]["gain"]["low"] <= told["rules"]["gain"]["value"] <= told["rules"]["gain"]["high"]
    assert told["cohorts"][0]["name"].startswith("silences begun before 2023-")
    for (_, head, rows), n in zip(clear.tables(), (5, 2, len(told["cohorts"])), strict=True):
        assert len(rows) == n
        assert {len(row) for row in rows} == {len(head)}


def test_the_file_holds_a_row_for_each_group_and_gap(clear, tmp_path):
    clear.write(tmp_path / "gaps.parquet")
    clear.write(tmp_path / "gaps.csv")
    table = pq.read_table(tmp_path / "gaps.parquet").to_pandas()
    assert len(table) == 5 * (1 + len(clear.definition.cohorts))
    assert table.loc[table["recommended"] & (table["group"] == "all"), "gap_days"].tolist() == [10]
    assert table.loc[table["group"] != "all", "hidden"].isna().all()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "gaps.csv"), table, check_dtype=False)


def test_the_cohort_that_moves_is_named(clear):
    assert "lead to 10 days or its neighbours" in clear.lines()[1]
    later = visits(seed=2, step=6, start="2024-06-01")
    frame = pd.concat([visits(seed=1), later.assign(customer_id=later["customer_id"] + 1_000)])
    moved = define_churn(cxml.read_journeys(frame, activity=["visit"]), within=120).lines()[1]
    assert "the gap moves in" in moved
    assert "for silences begun before 2024-05-" in moved


@pytest.mark.parametrize("name", ["gap.png", "gap.svg"])
def test_the_picture_is_the_same_every_time(clear, tmp_path, name):
    save_definition_plot(clear.definition, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    save_definition_plot(clear.definition, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first
    assert len(first) > 10_000


def test_the_picture_says_the_gap_and_marks_it(clear):
    figure = plot_definition(clear.definition)
    assert "After 10 days of silence" in figure.get_suptitle()
    assert all("10" in [t.get_text() for t in axis.get_xticklabels()] for axis in figure.axes)


def test_another_format_of_picture_is_refused(clear, tmp_path):
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        save_definition_plot(clear.definition, tmp_path / "gap.pdf")
