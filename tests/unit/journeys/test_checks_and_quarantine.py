"""Every bad row is set aside with its reason and found again in the quarantine."""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxml.config import JourneysConfig
from cxml.errors import ConfigError, DataError
from cxml.journeys.canonical import FOREIGN
from cxml.journeys.read import read_journeys

GOOD = {"customer_id": "c1", "timestamp": "2024-01-01T10:00:00Z", "touchpoint": "survey", "score": "9", "value": "1"}
BAD = [
    ({"customer_id": None}, "customer_id missing"),
    ({"customer_id": "  "}, "customer_id missing"),
    ({"timestamp": None}, "timestamp missing"),
    ({"timestamp": ""}, "timestamp missing"),
    ({"timestamp": "01/02/2024"}, "timestamp not readable"),
    ({"timestamp": "2024-02-30"}, "timestamp not readable"),
    ({"timestamp": "2024-01-01T25:00Z"}, "timestamp not readable"),
    ({"timestamp": "infinity"}, "timestamp not readable"),
    ({"timestamp": "1704067200"}, "timestamp not readable"),
    ({"timestamp": "1899-12-31T23:59:59Z"}, "timestamp outside 1900 to 2200"),
    ({"timestamp": "2200-01-01T00:00:00Z"}, "timestamp outside 1900 to 2200"),
    ({"timestamp": "2024-06-01T00:00:01Z"}, "timestamp in the future"),
    ({"touchpoint": None}, "touchpoint missing"),
    ({"touchpoint": " "}, "touchpoint missing"),
    ({"value": "ten"}, "value not a number"),
    ({"value": "1_000"}, "value not a number"),
    ({"value": "inf"}, "value not finite"),
    ({"value": "1e999"}, "value not finite"),
    ({"length": "0x10"}, "length not a number"),
    ({"score": "11"}, "score off the scale"),
    ({"score": "7.5"}, "score off the scale"),
    ({"score": "-1"}, "score off the scale"),
    ({"resolved": "maybe"}, "resolved not yes or no"),
    ({"sequence": "1.5"}, "sequence not a whole number"),
    ({"available_at": "later"}, "available_at not readable"),
]
RULES = {"score_scale": (0, 10), "survey": "survey", "as_of": "2024-06-01"}


@pytest.mark.parametrize(("change", "reason"), BAD, ids=[f"{c}" for c, _ in BAD])
def test_each_bad_row_is_set_aside_with_its_reason(change: dict, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.parquet"
    rows = [GOOD, {**GOOD, **change}, GOOD]
    fields = list(dict.fromkeys([*GOOD, *change]))
    table = pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in fields})
    log = read_journeys(table, quarantine=path, measures=[name for name in change if name == "length"], **RULES)
    assert log.n_events == 2
    assert log.quality.reasons == {reason: 1}
    (set_aside,) = pq.read_table(path).to_pylist()
    assert (set_aside["source"], set_aside["row"], set_aside["reason"]) == ("frame 1", 2, reason)
    assert json.loads(set_aside["raw"])[next(iter(change))] == next(iter(change.values()))


def test_scores_are_held_to_the_scale_only_where_they_answer_the_survey() -> None:
    rows = pd.DataFrame([GOOD, GOOD | {"touchpoint": "other", "score": "99"}, GOOD | {"score": None}])
    log = read_journeys(rows, **RULES)
    assert log.n_events == 3


def test_numbers_of_typed_columns_are_checked_too() -> None:
    rows = pd.DataFrame(
        {
            "customer_id": [1.0, 2.5, np.nan, 4.0, 5.0],
            "timestamp": pd.to_datetime(["2024-01-01"] * 5, utc=True),
            "touchpoint": "a",
            "value": [1.0, 1.0, 1.0, np.inf, np.nan],
            "resolved": [1, 0, 1, 1, 0],
        }
    )
    log = read_journeys(rows)
    assert log.quality.reasons == {"customer_id missing": 1, "customer_id not a whole number": 1, "value not finite": 1}
    assert log.block.customers.tolist() == [1, 5]
    np.testing.assert_array_equal(log.block.measures["value"], [1.0, np.nan])
    np.testing.assert_array_equal(log.block.measures["resolved"], [1.0, 0.0])


def test_yes_and_no_are_read_in_the_usual_spellings() -> None:
    spellings = ["yes", "No", "TRUE", "f", "1", "0", "1.0", "", None]
    rows = pd.DataFrame({"customer_id": range(9), "timestamp": "2024-01-01T00:00Z", "touchpoint": "a"})
    log = read_journeys(rows.assign(resolved=spellings))
    np.testing.assert_array_equal(log.block.measures["resolved"], [1, 0, 1, 0, 1, 0, 1, np.nan, np.nan])


@pytest.mark.parametrize("where", [None, "customer_id <> 'gone'"])
def test_ragged_csv_lines_land_in_the_quarantine_under_their_own_row_numbers(where: str | None, tmp_path: Path) -> None:
    lines = [
        "customer_id,timestamp,touchpoint,note",
        '1,2024-01-01,a,"two\nlines"',  # row 1
        "2,2024-01-01",  # row 2, too short
        "gone,2024-01-01,a,",  # row 3
        "4,2024-01-01,,x",  # row 4, no touchpoint
        "5,2024-01-01,a,b,c,d",  # row 5, too long
        "6,soon,a,",  # row 6, no stamp
        "7,2024-01-01,a,",  # row 7
    ]
    (tmp_path / "e.csv").write_text("\n".join(lines) + "\n")
    log = read_journeys(tmp_path / "e.csv", timezone="UTC", quarantine=tmp_path / "q.parquet", where=where)
    found = {(row["row"], row["reason"]): row["raw"] for row in pq.read_table(tmp_path / "q.parquet").to_pylist()}
    assert set(found) == {
        (2, "malformed line"), (5, "malformed line"), (4, "touchpoint missing"), (6, "timestamp not readable"),
    }  # fmt: skip
    assert json.loads(found[2, "malformed line"]) == "2,2024-01-01"
    assert json.loads(found[6, "timestamp not readable"])["customer_id"] == "6"
    assert log.quality.rows_read == (7 if where is None else 6)
    assert log.n_events == (3 if where is None else 2)


def test_lines_that_are_not_utf8_are_set_aside(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_bytes(b"customer_id,timestamp,touchpoint\n1,2024-01-01,caf\xe9\n2,2024-01-01,ok\n")
    log = read_journeys(tmp_path / "e.csv", timezone="UTC")
    assert log.quality.reasons == {FOREIGN: 1}
    assert log.block.customers.tolist() == [2]


def test_lines_that_are_no_json_object_land_in_the_quarantine_as_they_are(tmp_path: Path) -> None:
    good = json.dumps({"customer_id": 1, "timestamp": "2024-01-01", "touchpoint": "a"})
    (tmp_path / "e.jsonl").write_text(f"{good}\n\n{{half\n[1, 2]\n{good}\n")
    log = read_journeys(tmp_path / "e.jsonl", timezone="UTC", quarantine=tmp_path / "q.parquet")
    rows = pq.read_table(tmp_path / "q.parquet").to_pylist()
    assert [(row["row"], json.loads(row["raw"])) for row in rows] == [(2, "{half"), (3, "[1, 2]")]
    assert log.quality.rows_read == 4


def test_malformed_csv_lines_under_a_query_are_counted(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("customer_id,timestamp,touchpoint\n1,2024-01-01,a\n2\n")
    source = {"tables": {"e": "e.csv"}, "query": "select * from e union all select * from e"}
    log = read_journeys(source, folder=tmp_path, timezone="UTC")
    assert log.quality.reasons == {"malformed line": 1}
    assert log.n_events == 2


def test_parquet_quarantines_the_whole_row_though_only_some_columns_are_read(tmp_path: Path) -> None:
    rows = [
        {"customer_id": i, "timestamp": "2024-01-01T00:00Z", "touchpoint": "a" if i % 4 else "", "more": i}
        for i in range(9)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet", row_group_size=2)
    read_journeys(tmp_path / "e.parquet", quarantine=tmp_path / "q.parquet", where="more > 0")
    found = pq.read_table(tmp_path / "q.parquet").to_pylist()
    assert [(row["row"], json.loads(row["raw"])["more"]) for row in found] == [(5, 4), (9, 8)]


def test_an_older_quarantine_gives_way_to_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "q.parquet"
    read_journeys(pd.DataFrame([GOOD]), quarantine=path)
    assert not path.exists()
    read_journeys(pd.DataFrame([GOOD, GOOD | {"touchpoint": ""}]), quarantine=path)
    assert pq.read_table(path).num_rows == 1
    log = read_journeys(pd.DataFrame([GOOD]), quarantine=path)
    assert pq.read_table(path).num_rows == 0
    assert log.quality.quarantine is None


def test_nothing_but_bad_rows_is_refused_with_counts_rows_and_place(tmp_path: Path) -> None:
    rows = pd.DataFrame([GOOD | {"timestamp": "1/2/2024"}] * 3 + [GOOD | {"touchpoint": None}])
    with pytest.raises(DataError) as caught:
        read_journeys(rows, quarantine=tmp_path / "q.parquet")
    message = str(caught.value)
    assert "4 of 4 rows are bad" in message
    assert "timestamp not readable: 3; touchpoint missing: 1" in message
    assert "row 1 of frame 1 (timestamp not readable)" in message
    assert "strptime" in message
    assert str(tmp_path / "q.parquet") in message
    assert pq.read_table(tmp_path / "q.parquet").num_rows == 4


def test_more_bad_rows_than_allowed_are_refused(tmp_path: Path) -> None:
    pd.DataFrame([GOOD] * 9 + [GOOD | {"touchpoint": None}]).to_csv(tmp_path / "e.csv", index=False)
    allowed = {"sources": ["e.csv"], "max_quarantined": 0.1}
    assert read_journeys(JourneysConfig.model_validate(allowed), folder=tmp_path).n_events == 9
    with pytest.raises(DataError, match=r"max_quarantined \(5.00%\)"):
        read_journeys(JourneysConfig.model_validate(allowed | {"max_quarantined": 0.05}), folder=tmp_path)


def test_the_report_counts_what_looks_odd() -> None:
    rows = pd.DataFrame(
        {
            "customer_id": [1, 1, 1, 2],
            "timestamp": "2024-01-01T00:00Z",
            "touchpoint": ["call", "call", "play", "play"],
            "duration": [3.0, 3.0, -1.0, 2.0],
            "available_at": ["2024-01-05T00:00Z", "2024-01-05T00:00Z", "2023-01-01T00:00Z", None],
        }
    )
    log = read_journeys(rows, stages={"support": ["call"]}, activity=["plays"], contacts=["call"])
    quality = log.quality
    assert (quality.duplicates, quality.duplicates_dropped) == (1, 0)
    assert (quality.late_events, quality.negative_durations) == (2, 1)
    assert quality.touchpoints_in_no_stage == ("play",)
    assert quality.words_that_never_occur == {"activity: plays": "; did you mean 'play'?"}
    assert quality.events_per_customer == {"min": 1.0, "median": 2.0, "mean": 2.0, "p99": 2.98, "max": 3.0}
    text = "\n".join(quality.lines())
    for part in (
        "4 rows read, 4 kept",
        "1 fully equal rows",
        "in no stage: play",
        "did you mean 'play'?",
        "2024-01-01",
    ):
        assert part in text
    assert json.loads(json.dumps(quality.to_dict()))["first"] == "2024-01-01"


def test_exact_duplicates_are_dropped_only_when_asked() -> None:
    rows = pd.DataFrame([GOOD, GOOD, GOOD | {"value": "2"}, GOOD])
    assert read_journeys(rows).n_events == 4
    log = read_journeys(rows, duplicates="drop_exact")
    assert log.n_events == 2
    assert (log.quality.duplicates, log.quality.duplicates_dropped) == (2, 2)


def test_stamps_without_a_zone_need_one() -> None:
    rows = pd.DataFrame([GOOD | {"timestamp": "2024-01-01"}])
    with pytest.raises(ConfigError, match="timezone: Europe/Berlin"):
        read_journeys(rows)
    typed = rows.assign(timestamp=pd.to_datetime(rows["timestamp"]))
    with pytest.raises(ConfigError, match="column 'timestamp' carry no time zone"):
        read_journeys(typed)
    with pytest.raises(ConfigError, match="did you mean 'Europe/Berlin'"):
        read_journeys(rows, timezone="Europe/Berln")


def test_a_quote_that_is_never_closed_is_told_with_every_line_it_swallows(tmp_path: Path) -> None:
    rows = [f"{i},2024-01-01,a" for i in range(40)]
    rows[3] = '3,2024-01-01,"a'
    (tmp_path / "e.csv").write_text("customer_id,timestamp,touchpoint\n" + "\n".join(rows) + "\n")
    log = read_journeys(tmp_path / "e.csv", timezone="UTC", quarantine=tmp_path / "q.parquet")
    assert log.quality.rows_read == 40
    assert log.quality.reasons == {"malformed line": 37}
    bad = pq.read_table(tmp_path / "q.parquet").to_pylist()
    assert [(row["row"], json.loads(row["raw"])) for row in bad] == list(enumerate(rows[3:], start=4))


def test_rows_behind_a_swallowing_quote_keep_their_numbers(tmp_path: Path) -> None:
    lines = ["customer_id,timestamp,touchpoint", "1,2024-01-01,a", '2,2024-01-01,"b', '3,2024-01-01,d" x', "4,bad,f"]
    (tmp_path / "e.csv").write_text("\n".join(lines) + "\n")
    log = read_journeys(tmp_path / "e.csv", timezone="UTC", quarantine=tmp_path / "q.parquet")
    bad = pq.read_table(tmp_path / "q.parquet").to_pylist()
    assert log.quality.rows_read == 4
    assert {row["row"]: row["reason"] for row in bad} == {
        2: "malformed line", 3: "malformed line", 4: "timestamp not readable",
    }  # fmt: skip


@pytest.mark.parametrize(("scores", "refused"), [([9, 8, 10, 3], True), ([9, 8, 3, 2], False)])
def test_a_scale_that_most_answers_are_off_is_refused(scores: list[int], refused: bool) -> None:
    rows = pd.DataFrame({"customer_id": range(4), "timestamp": "2024-01-01", "touchpoint": "nps", "score": scores})
    told = (
        pytest.raises(DataError, match=r"3 of 4 answers \('nps'\) are off the scale 1 to 5\. Say the right")
        if refused
        else nullcontext()
    )
    with told:
        assert read_journeys(rows, timezone="UTC", survey="nps", score_scale=(1, 5)).n_events == 2
