"""Every kind of source gives the same log, and says in one paragraph why it cannot."""

import gzip
import json
import socket
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxml.config import JourneysConfig, SourceConfig
from cxml.errors import ConfigError, CxmlError, DataError
from cxml.journeys import clean, ingest, merge
from cxml.journeys.clean import read_clean_parquet
from cxml.journeys.read import read_journeys
from cxml.journeys.sources import hide_secrets

ROWS = [
    {"customer_id": 7, "timestamp": "2024-01-02T10:00:00Z", "touchpoint": "call", "channel": "phone", "value": 1.5},
    {"customer_id": 7, "timestamp": "2024-01-01T10:00:00Z", "touchpoint": "play", "channel": None, "value": None},
    {"customer_id": 8, "timestamp": "2024-01-03T10:00:00+02:00", "touchpoint": "play", "channel": "web", "value": 2.0},
]


def frame() -> pd.DataFrame:
    return pd.DataFrame(ROWS)


def as_csv() -> str:
    return frame().to_csv(index=False)


def as_jsonl() -> str:
    return "".join(json.dumps(row) + "\n" for row in ROWS)


def write(folder: Path, name: str) -> Path:
    path = folder / name
    content = (as_csv() if ".csv" in name else as_jsonl()).encode()
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(content))
    elif name.endswith(".zst"):
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(content)
    else:
        path.write_bytes(content)
    return path


NAMES = ["e.parquet", "e.csv", "e.jsonl", "e.csv.gz", "e.jsonl.gz", "e.csv.zst", "e.jsonl.zst", "odd [1] na'me*.csv"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_and_compression_gives_the_same_log(name: str, tmp_path: Path) -> None:
    log = read_journeys(write(tmp_path, name))
    assert log.digest == read_journeys(frame()).digest
    assert log.block.customers.tolist() == [7, 8]
    assert log.block.categories["channel"].codes.tolist() == [-1, 0, 1]
    assert np.isnan(log.block.measures["value"][0])


def test_an_arrow_table_and_mixed_sources_merge_into_one_log(tmp_path: Path) -> None:
    parts = [frame().iloc[:1], pa.Table.from_pylist(ROWS[1:2]), write(tmp_path, "e.csv")]
    log = read_journeys(parts, where=None)
    assert log.n_events == 5
    assert [s.rows_read for s in log.quality.sources] == [1, 1, 3]
    assert read_journeys(parts, duplicates="drop_exact").digest == read_journeys(frame()).digest


def test_a_folder_and_a_glob_read_all_their_files_but_hidden_ones(tmp_path: Path) -> None:
    for i, row in enumerate(ROWS):
        (tmp_path / f"part{i}").mkdir()
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / f"part{i}" / "rows.parquet")
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".crc").write_text("x")
    expected = read_journeys(frame()).digest
    assert read_journeys(tmp_path).digest == expected
    assert read_journeys("part*/*.parquet", folder=tmp_path).digest == expected


def test_columns_may_differ_between_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("customer_id;timestamp;touchpoint\n1;2024-01-01;a\n")
    (tmp_path / "b.csv").write_text("touchpoint\tvalue\tcustomer_id\ttimestamp\nb\t3\t2\t2024-01-01\n")
    block = read_journeys(tmp_path, timezone="UTC").block
    assert block.customers.tolist() == [1, 2]
    np.testing.assert_array_equal(block.measures["value"], [np.nan, 3.0])


def test_sql_over_named_files_joins_them(tmp_path: Path) -> None:
    write(tmp_path, "e.csv")
    (tmp_path / "names.jsonl").write_text('{"touchpoint": "call", "long": "phone call"}\n')
    source = SourceConfig(
        tables={"events": "e.csv", "names": "names.jsonl"},
        query='select customer_id, "timestamp", coalesce("long", touchpoint) as touchpoint '
        "from events left join names using (touchpoint); ",
    )
    log = read_journeys(source, folder=tmp_path)
    assert log.touchpoints() == {"play": 2, "phone call": 1}


def test_sql_over_text_files_keeps_leading_zeros_and_knows_numbers(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("id,at,page,amount\n007,2024-01-01,a,5.5\n008,2024-01-02,a,50\n")
    query = (
        "select id as customer_id, t.at as timestamp, page as touchpoint from e t "
        "where amount > 6 and t.at > date '2024-01-01'"
    )
    log = read_journeys(SourceConfig(tables={"e": "e.csv"}, query=query), folder=tmp_path, timezone="UTC")
    assert log.block.customers.tolist() == ["008"]


@pytest.mark.parametrize("name", ["e.parquet", "e.csv", "e.jsonl"])
def test_where_speaks_of_the_sources_own_columns(name: str, tmp_path: Path) -> None:
    log = read_journeys(write(tmp_path, name), where="value > 1.6")
    assert log.n_events == 1
    assert log.quality.rows_read == 1


def test_both_wheres_must_hold() -> None:
    table = pa.Table.from_pylist(ROWS)
    assert read_journeys(table, where="value > 1 -- all that cost").n_events == 2
    path_free = JourneysConfig.model_validate({"sources": ["x.csv"], "where": "a > 1"})
    with pytest.raises(ConfigError, match="stands in the JourneysConfig already"):
        read_journeys(path_free, where="b")


@pytest.mark.parametrize("ext", ["csv", "jsonl", "parquet"])
def test_nasty_column_names_are_quoted(ext: str, tmp_path: Path) -> None:
    nasty = {"customer_id": 'we"ird:*name', "timestamp": "at", "touchpoint": "select from", "value": "it's; {x}"}
    renamed = frame()[list(nasty)].rename(columns=nasty)
    path = tmp_path / f"e.{ext}"
    if ext == "csv":
        renamed.to_csv(path, index=False)
    elif ext == "jsonl":
        renamed.to_json(path, orient="records", lines=True)
    else:
        renamed.to_parquet(path)
    expected = read_journeys(frame().drop(columns="channel"))
    assert read_journeys(path, columns=nasty).digest == expected.digest
    assert read_journeys(path, columns=nasty, where='"it\'s; {x}" > 1.6').n_events == 1


def test_customer_ids_are_integers_only_when_all_are_plain_ones() -> None:
    def ids(*values: object) -> list[object]:
        rows = [{"customer_id": v, "timestamp": "2024-01-01T00:00Z", "touchpoint": "a"} for v in values]
        return read_journeys([pd.DataFrame([row]) for row in rows]).block.customers.tolist()

    assert ids(10, "9", 3.0) == [3, 9, 10]
    assert ids("007", 7) == ["007", "7"]
    assert ids("-5", 7, 2**40) == [-5, 7, 2**40]
    assert ids("é", "Z", "a") == ["Z", "a", "é"]
    assert ids("9999999999999999999", 1) == ["1", "9999999999999999999"]


def test_mixed_python_objects_in_a_frame_are_checked_row_by_row() -> None:
    rows = pd.DataFrame(
        {
            "customer_id": [1, "x", 3],
            "timestamp": [
                pd.Timestamp("2024-01-01", tz="UTC"),
                "2024-01-02",
                pd.Timestamp("2024-01-03").to_pydatetime(),
            ],
            "touchpoint": ["a", 5, "b"],
        },
        dtype=object,
    )
    log = read_journeys(rows, timezone="Asia/Tokyo")
    assert log.block.customers.tolist() == ["1", "3", "x"]
    assert [str(t) for t in log.to_pandas()["timestamp"]] == [
        "2024-01-01 00:00:00+00:00",
        "2024-01-02 15:00:00+00:00",
        "2024-01-01 15:00:00+00:00",
    ]


def test_the_input_frame_is_not_changed() -> None:
    given = frame()
    before = given.copy(deep=True)
    read_journeys(given, columns={"value": "value"})
    pd.testing.assert_frame_equal(given, before)


def test_progress_hears_of_every_row() -> None:
    heard: list[int] = []

    class Listener:
        def step(self, what: str, total: int | None = None):  # noqa: ARG002
            assert what == "reading journeys"
            return nullcontext(heard.append)

        def say(self, what: str) -> None: ...

    read_journeys([frame(), frame()], progress=Listener())
    assert sum(heard) == 6


def refused(source: object, kind: type[CxmlError] = ConfigError, **settings: object) -> str:
    with pytest.raises(kind) as caught:
        read_journeys(source, **settings)
    message = str(caught.value)
    assert type(caught.value) is kind
    assert "Traceback" not in message
    assert len(message) < 900
    return message


def test_a_missing_file_offers_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path, "events.csv")
    assert "did you mean 'events.csv'?" in refused(tmp_path / "event.csv")
    assert "there is no folder" in refused(tmp_path / "no" / "event.csv")
    assert "no file matches" in refused(str(tmp_path / "*.parquet"))


def test_an_empty_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    assert "holds no files" in refused(tmp_path / "void")
    for name in ("e.csv", "e.parquet", "e.jsonl"):
        (tmp_path / name).touch()
        assert "is empty" in refused(tmp_path / name, DataError)
    (tmp_path / "h.csv").write_text("customer_id,timestamp,touchpoint\n")
    assert "no rows" in refused(tmp_path / "h.csv", DataError)
    assert "no rows" in refused(frame().iloc[:0], DataError, timezone="UTC")


def test_a_missing_column_says_what_there_is_and_how_to_map_it(tmp_path: Path) -> None:
    path = write(tmp_path, "e.csv")
    message = refused(path, columns={"value": "valu"})
    assert "no column 'valu'" in message
    assert "did you mean 'value'? It has" in message
    message = refused(frame().rename(columns={"touchpoint": "page"}))
    assert "no column 'touchpoint'" in message
    assert "columns: {touchpoint: ...}" in message


def test_an_unknown_canonical_name_or_setting_is_refused() -> None:
    assert "did you mean 'customer_id'?" in refused(frame(), columns={"customer": "customer_id"})
    assert "go together" in refused(frame(), survey="call")
    assert "not a int" in refused(5)
    assert "as_of" in refused(frame(), as_of="soon")
    assert "'sources' is empty" in refused([])


def test_a_column_of_the_wrong_type_is_refused() -> None:
    table = pa.Table.from_pylist(ROWS)
    epoch = table.set_column(1, "timestamp", pa.array([1, 2, 3]))
    assert "to_timestamp" in refused(epoch, DataError)
    nested = table.set_column(2, "touchpoint", pa.array([[1], [2], [3]]))
    assert "cannot be touchpoint" in refused(nested, DataError)
    dates = table.set_column(4, "value", pa.array([0, 1, 2], pa.date32()))
    assert "no number" in refused(dates, DataError)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    twice = pd.concat([frame(), frame()[["value"]]], axis=1)
    assert "two columns 'value'" in refused(twice, DataError)
    (tmp_path / "e.csv").write_text("customer_id,timestamp,touchpoint,Value,value\n")
    assert "two columns 'value'" in refused(tmp_path / "e.csv", DataError)


def test_unreadable_files_are_refused_without_a_foreign_exception(tmp_path: Path) -> None:
    path = write(tmp_path, "e.parquet")
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-20])
    message = refused(tmp_path / "cut.parquet", DataError)
    assert "cannot be read" in message
    assert "replace it, say its 'format', or take it out of 'sources'" in message
    (tmp_path / "fake.csv.gz").write_text("no gzip")
    assert "cannot be read" in refused(tmp_path / "fake.csv.gz", DataError)
    (tmp_path / "array.json").write_text("[1, 2]")
    assert "JSON Lines" in refused(tmp_path / "array.json", DataError)
    (tmp_path / "text.jsonl").write_text("hello\n")
    assert "no line that is a JSON object" in refused(tmp_path / "text.jsonl", DataError)


def test_a_damaged_page_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    n = 50_000
    table = pa.table(
        {
            "customer_id": np.arange(n),
            "timestamp": pa.array(np.arange(n), pa.timestamp("us", "UTC")),
            "touchpoint": ["a"] * n,
        }
    )
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    assert "cannot be read" in refused(path, DataError)


def test_a_file_the_system_does_not_open_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind("e.csv")  # refused to everybody, also to one who may read all files
        assert "No such device" in refused("e.csv", DataError)


def test_mixed_and_unknown_formats_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "e.csv")
    write(tmp_path, "e.parquet")
    assert "mixes formats (csv, parquet)" in refused(tmp_path)
    (tmp_path / "e.dat").write_text(as_csv())
    assert "format: csv" in refused(tmp_path / "e.dat")
    assert read_journeys({"path": str(tmp_path / "e.dat"), "format": "csv"}).n_events == 3


def test_faulty_sql_is_refused_in_one_line(tmp_path: Path) -> None:
    write(tmp_path, "e.csv")
    assert "nowhere" in refused(frame(), where="nowhere > 1")
    assert "SQL does not hold" in refused(frame(), where="value >")
    source = SourceConfig(tables={"e": "e.csv"}, query="select * from events")
    assert "events" in refused(source, folder=tmp_path)
    assert "cannot be read" in refused(frame(), DataError, where="cast(touchpoint as integer) > 0")


@pytest.mark.parametrize("column", ["touchpoint", "channel", "customer_id"])
@pytest.mark.parametrize("value", [["a"], {"name": "a"}], ids=["list", "structure"])
def test_nested_columns_are_refused_in_a_sentence(tmp_path: Path, column: str, value: object) -> None:
    row = {"customer_id": "c", "timestamp": "2024-01-01T00:00:00Z", "touchpoint": "t", "channel": "web"}
    rows = [{**row, column: value}] * 3
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    for name in ("e.parquet", "e.jsonl"):
        message = refused(tmp_path / name, DataError)
        assert f"column '{column}'" in message
        assert "Take it apart in a 'query'" in message


def test_json_lines_whose_touchpoint_is_nested_now_and_then_are_set_aside(tmp_path: Path) -> None:
    touchpoints = ["a", {"name": "a"}, "[a", ["a"], 5, "b"]
    row = {"customer_id": "c", "timestamp": "2024-01-01T00:00:00Z"}
    (tmp_path / "e.jsonl").write_text("".join(json.dumps({**row, "touchpoint": t}) + "\n" for t in touchpoints))
    log = read_journeys(JourneysConfig(sources=[SourceConfig(path=str(tmp_path / "e.jsonl"))], max_quarantined=0.5))
    assert log.quality.reasons == {"touchpoint is an object or a list": 2}
    assert log.events.touchpoints == ("5", "[a", "a", "b")


def test_sql_cannot_see_python_variables(tmp_path: Path) -> None:
    secret = frame()
    write(tmp_path, "e.csv")
    assert "secret" in refused(SourceConfig(tables={"e": "e.csv"}, query="select * from secret"), folder=tmp_path)
    assert len(secret) == 3


def test_malformed_json_lines_under_a_query_are_refused(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text(as_jsonl() + "{half\n")
    source = SourceConfig(tables={"e": "e.jsonl"}, query="select * from e")
    assert "1 lines" in refused(source, DataError, folder=tmp_path)


def test_a_url_of_another_database_is_refused() -> None:
    pytest.importorskip("adbc_driver_postgresql")
    assert "only PostgreSQL" in refused(SourceConfig(url="mysql://u:secret@h/db", table="t"))
    message = refused(SourceConfig(url="postgresql://u:s3cr%40t@127.0.0.1:1/db", table="t"), DataError)
    assert "cannot be reached" in message
    assert "127.0.0.1/db" in message
    assert "s3cr" not in message


@pytest.mark.parametrize("secret", ["s3cr%40t", "s3cr@t", "postgresql://u:s3cr%40t@h/db"])
def test_messages_of_a_driver_lose_what_is_secret(secret: str) -> None:
    told = hide_secrets(Exception(f"no way in\nwith {secret} at all."), "postgresql://u:s3cr%40t@h/db")
    assert told == "no way in with *** at all"


def clean_frame(n=500):
    rng = np.random.default_rng(5)
    stamps = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 600_000, n), unit="s")
    touchpoint = rng.choice(["call", "order", "survey"], n)
    return pd.DataFrame(
        {
            "customer_id": rng.integers(0, 40, n),
            "timestamp": stamps.astype("datetime64[ms]"),
            "touchpoint": touchpoint,
            "channel": rng.choice(["app", None, " ", "web"], n),
            "value": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)),
            "score": np.where(touchpoint == "survey", rng.integers(0, 11, n), np.nan),
        }
    )


def read_both_ways(frame, folder, **keys):
    """The quick way through a Parquet file, and the thorough one, which a ``where`` asks for."""
    frame.to_parquet(folder / "events.parquet")
    keys = {"score_scale": (0, 10), "survey": "survey", "timezone": "Europe/Berlin"} | keys
    return [read_journeys(folder / "events.parquet", where=where, **keys) for where in (None, "true")]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_the_quick_way_through_clean_parquet_gives_the_very_same_log(tmp_path, zone, monkeypatch):
    took = []
    monkeypatch.setattr(ingest, "read_clean_parquet", lambda *a: took.append(read_clean_parquet(*a)) or took[-1])
    quick, thorough = read_both_ways(clean_frame(), tmp_path, timezone=zone)
    assert len(took) == 1
    assert took[0] is not None
    assert quick.digest == thorough.digest
    assert quick.quality.rows_read == thorough.quality.rows_read == 500


@pytest.mark.parametrize(
    ("column", "bad"),
    [("score", 11.0), ("score", 2.5), ("value", np.inf), ("timestamp", pd.NaT), ("touchpoint", " "),
     ("touchpoint", None), ("timestamp", pd.Timestamp("1700-01-01")), ("timestamp", pd.Timestamp("2024-01-12"))],
)  # fmt: skip
def test_one_bad_row_sends_a_file_the_thorough_way(tmp_path, column, bad):
    frame = clean_frame()
    row = int(np.flatnonzero(frame["touchpoint"] == "survey")[3])
    frame.loc[row, column] = bad
    quick, thorough = read_both_ways(frame, tmp_path, as_of="2024-01-10T23:00:00Z")
    assert quick.quality.reasons == thorough.quality.reasons
    assert quick.quality.rows_quarantined == thorough.quality.rows_quarantined == 1
    assert quick.digest == thorough.digest


def test_batches_from_before_the_first_bad_row_are_forgotten_and_counted_once(tmp_path, monkeypatch):
    monkeypatch.setattr(clean, "_BATCH_ROWS", 50)
    monkeypatch.setattr(merge, "_SMALL", 0)
    frame = clean_frame()
    frame.loc[len(frame) - 1, "value"] = np.inf
    quick, thorough = read_both_ways(frame, tmp_path)
    expected = frame["touchpoint"][:-1].value_counts().to_dict()
    assert quick.count_values(["touchpoint"])["touchpoint"] == expected
    assert thorough.count_values(["touchpoint"])["touchpoint"] == expected
    assert quick.n_events == len(frame) - 1
    assert quick.digest == thorough.digest


def test_there_is_one_zero(tmp_path):
    rows = pd.DataFrame({"customer_id": [1, 1], "timestamp": pd.Timestamp("2024-01-01"), "touchpoint": "pay"})
    digests = set()
    for values in ([0.0, 0.0], [0.0, -0.0], [-0.0, 0.0]):
        for log in read_both_ways(rows.assign(value=values), tmp_path):
            assert log.quality.duplicates == 1
            assert not np.signbit(log.block.measures["value"]).any()
            digests.add(log.digest)
    assert len(digests) == 1


FOREIGN_ROWS = "customer_id,timestamp,touchpoint\n1,2024-01-01T00:00:00Z,Käufer\n2,2024-01-02T00:00:00Z,call\n"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le", "shift_jis_2004"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_text_file_is_read_in_the_encoding_the_source_names(tmp_path, encoding, packed):
    content = FOREIGN_ROWS.replace("Käufer", "カ" if encoding.startswith("shift") else "Käufer").encode(encoding)
    file = tmp_path / ("events.csv.gz" if packed else "events.csv")
    file.write_bytes(gzip.compress(content) if packed else content)
    log = read_journeys(SourceConfig(path=str(file), encoding=encoding))
    assert log.n_events == 2
    assert {"Käufer", "カ"} & set(log.touchpoints())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding):
    (tmp_path / "events.csv").write_bytes(FOREIGN_ROWS.encode(encoding))
    assert set(read_journeys(tmp_path / "events.csv").touchpoints()) == {"Käufer", "call"}


def test_json_lines_are_read_in_the_encoding_the_source_names_and_rows_keep_their_numbers(tmp_path):
    rows = '{"customer_id": 1, "timestamp": "2024-01-01T00:00:00Z", "touchpoint": "Käufer"}\n{"ä": \n'
    (tmp_path / "events.jsonl").write_bytes(rows.encode("latin-1"))
    with pytest.raises(DataError, match=r"is not UTF-8. Say what it is, e.g. 'encoding: latin-1'"):
        read_journeys(tmp_path / "events.jsonl")
    source = SourceConfig(path=str(tmp_path / "events.jsonl"), encoding="latin-1")
    log = read_journeys(source, quarantine=tmp_path / "bad.parquet")
    bad = pq.read_table(tmp_path / "bad.parquet").to_pylist()
    assert log.touchpoints() == {"Käufer": 1}
    assert [(row["row"], row["reason"], json.loads(row["raw"])) for row in bad] == [(2, "malformed line", '{"ä": ')]
    assert bad[0]["file"].endswith("events.jsonl")


def test_lines_that_are_no_utf8_are_set_aside_with_the_mend(tmp_path):
    (tmp_path / "events.csv").write_bytes(FOREIGN_ROWS.encode("latin-1"))
    (reason,) = read_journeys(tmp_path / "events.csv").quality.reasons
    assert reason == "line is not UTF-8 (say the source's encoding, e.g. encoding: latin-1)"


def test_a_wrong_encoding_is_refused_and_an_unknown_one_named(tmp_path):
    (tmp_path / "events.csv").write_bytes(FOREIGN_ROWS.encode("latin-1"))
    with pytest.raises(DataError, match=r"is not utf-8|is not utf-16"):
        read_journeys(SourceConfig(path=str(tmp_path / "events.csv"), encoding="utf-16-le"))
    with pytest.raises(ValueError, match="encoding 'klingon' is unknown; usual ones are"):
        SourceConfig(path="x.csv", encoding="klingon")


@pytest.mark.parametrize("key", ["measures", "attributes"])
def test_a_measure_or_attribute_that_no_source_has_is_refused(key, tmp_path):
    frame().to_parquet(tmp_path / "a.parquet")
    frame().assign(level="gold", length=1.0).to_csv(tmp_path / "b.csv", index=False)
    known = {"measures": "length", "attributes": "level"}[key]
    assert read_journeys([tmp_path / "a.parquet", tmp_path / "b.csv"], **{key: [known]}).n_events == 6
    with pytest.raises(ConfigError, match=rf"journeys.{key}: no source has a column 'lenght'. Correct it, say which"):
        read_journeys([tmp_path / "a.parquet", tmp_path / "b.csv"], **{key: ["lenght"]})


@pytest.mark.parametrize("kind", ["float64", "float32", "int32", "int16"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.6, 1.0])
def test_numbers_that_are_mostly_missing_are_read_as_all_others_are(tmp_path, kind, share):
    rng = np.random.default_rng(3)
    frame = clean_frame()
    gone = rng.random(len(frame)) >= share
    numbers = rng.integers(-300, 300, len(frame)).astype(kind)
    frame = frame.assign(value=pd.array(numbers, dtype=kind.capitalize() if kind.startswith("f") else "Int" + kind[3:]))
    frame.loc[gone, "value"] = pd.NA
    frame.loc[np.arange(len(frame)) < 100, "value"] = 7  # a row group that lacks none beside some that do
    frame.to_parquet(tmp_path / "events.parquet", row_group_size=100)
    frame.drop(columns="value").head(50).to_parquet(tmp_path / "fewer.parquet")
    keys = {"score_scale": (0, 10), "survey": "survey", "timezone": "UTC"}
    quick, thorough = (read_journeys(tmp_path / "*.parquet", where=where, **keys) for where in (None, "true"))
    assert quick.digest == thorough.digest
    counted = int(np.isfinite(quick.block.measures["value"]).sum())
    assert counted == int(frame["value"].notna().sum())


def test_an_infinite_number_in_half_precision_is_refused_too(tmp_path):
    frame = clean_frame().astype({"value": "float32"})
    frame.loc[3, "value"] = np.inf
    quick, thorough = read_both_ways(frame, tmp_path)
    assert quick.quality.reasons == thorough.quality.reasons == {"value not finite": 1}


def test_ids_beyond_32_bits_are_kept_whole(tmp_path):
    frame = clean_frame()
    frame["customer_id"] = frame["customer_id"].astype("category").cat.codes.astype("int64") + 2**33
    frame.loc[0, "customer_id"] = -(2**40)
    quick, thorough = read_both_ways(frame, tmp_path)
    assert quick.digest == thorough.digest
    assert quick.block.customers[0] == -(2**40)
    assert (quick.block.customers[1:] >= 2**33).all()


def further_columns(rng, n, unit, share):
    """Columns that not every row has: two moments, a number that orders, and whether it was resolved."""
    stamps = clean_frame(n)["timestamp"]
    late = stamps + pd.to_timedelta(rng.integers(-40, 90, n), unit="h")
    due = stamps + pd.to_timedelta(rng.integers(-900, 90_000, n), unit="m")
    gone = rng.random((4, n)) < share
    return {
        "available_at": late.mask(gone[0]).astype(f"datetime64[{unit}]"),
        "promised": due.mask(gone[1]).astype(f"datetime64[{unit}]"),
        "sequence": pd.array(np.where(gone[2], None, rng.integers(-3, 3, n)), dtype="Int64"),
        "resolved": pd.array(np.where(gone[3], None, rng.random(n) < 0.5), dtype="boolean"),
    }


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", None])
@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_quick_way_takes_every_canonical_column(tmp_path, zone, unit, share, monkeypatch):
    took = []
    monkeypatch.setattr(ingest, "read_clean_parquet", lambda *a: took.append(read_clean_parquet(*a)) or took[-1])
    monkeypatch.setattr(clean, "_BATCH_ROWS", 70)  # so that bits do not begin at whole bytes
    frame = clean_frame().assign(**further_columns(np.random.default_rng(1), 500, unit, share), case_id="c")
    if zone is None:  # stamps that carry their zone
        stamps = ["timestamp", "available_at", "promised"]
        frame[stamps] = frame[stamps].apply(lambda column: column.dt.tz_localize("Asia/Tokyo"))
    quick, thorough = read_both_ways(frame, tmp_path, timezone=zone)
    assert took == [500]
    assert quick.digest == thorough.digest
    assert (quick.block.known is None) == (share == 1.0)
    assert quick.quality.late_events == thorough.quality.late_events
    for name in ("promise", "resolved"):
        there = np.isfinite(quick.block.measures[name])
        assert there.all() == (share == 0.0)
        assert there.any() == (share < 1.0)


@pytest.mark.parametrize("name", ["available_at", "promised"])
@pytest.mark.parametrize("year", ["1850", "2250", "1969"])
@pytest.mark.parametrize("unit", ["s", "us"])
def test_moments_out_of_reach_are_what_the_thorough_way_makes_of_them(tmp_path, name, year, unit):
    frame = clean_frame().assign(**further_columns(np.random.default_rng(1), 500, unit, 0.3))
    frame.loc[3, name] = pd.Timestamp(f"{year}-01-01 03:00")
    quick, thorough = read_both_ways(frame, tmp_path)
    assert quick.digest == thorough.digest
    assert quick.quality.reasons == thorough.quality.reasons


def test_stamps_in_the_hours_that_come_twice_and_never_are_read_alike(tmp_path):
    hours = pd.date_range("2023-10-28 22:00", "2023-10-29 05:00", freq="10min")
    never = pd.date_range("2024-03-30 22:00", "2024-03-31 05:00", freq="10min")
    stamps = hours.append(never)
    rows = pd.DataFrame({"customer_id": 1, "timestamp": stamps, "touchpoint": "call"})
    rows = rows.assign(available_at=stamps[::-1], promised=np.roll(stamps, 7))
    quick, thorough = read_both_ways(rows, tmp_path)
    assert quick.digest == thorough.digest


def test_one_column_may_be_two_canonical_ones(tmp_path):
    frame = clean_frame().assign(due=pd.Timestamp("2024-01-20"))
    names = {"available_at": "due", "promised": "due", "channel": "touchpoint"}
    quick, thorough = read_both_ways(frame, tmp_path, columns=names)
    assert quick.digest == thorough.digest
    assert quick.block.known is not None


@pytest.mark.parametrize("name", ["measures", "attributes", "activity", "contacts", "self_service", "promises"])
def test_one_text_where_a_list_belongs_is_refused_rather_than_taken_letter_by_letter(name: str) -> None:
    rows = pd.DataFrame({"customer_id": [1], "timestamp": ["2024-01-01"], "touchpoint": ["call"]})
    with pytest.raises(ConfigError, match=f"{name} must be a list"):
        read_journeys(rows, timezone="UTC", **{name: "call"})
    with pytest.raises(ConfigError, match="stages: support must be a list"):
        read_journeys(rows, timezone="UTC", stages={"support": "call"})
