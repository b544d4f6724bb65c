"""Parts of whole customers: in memory or on disk, however many, the log is the same."""

import gc
import pickle
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxml.config import JourneysConfig
from cxml.errors import ConfigError, DataError
from cxml.journeys import merge as merging
from cxml.journeys.log import JourneyLog, Whole
from cxml.journeys.merge import PartedEvents, merge
from cxml.journeys.read import read_journeys
from cxml.journeys.shuffle import Shuffle

DAY_US = 86_400_000_000


@pytest.fixture(autouse=True)
def _in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep small logs in parts too."""
    monkeypatch.setattr(merging, "_SMALL", 0)


def frame(n: int = 4_000, seed: int = 0, text_ids: bool = False) -> pd.DataFrame:
    """Events with ties, exact repeats, missing values and late knowledge."""
    rng = np.random.default_rng(seed)
    when = rng.integers(0, 40, n) * DAY_US + 1_700_000_000_000_000
    ids = rng.integers(0, 150, n)
    return pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in ids] if text_ids else ids,
            "timestamp": pd.to_datetime(when, unit="us", utc=True).as_unit("us"),
            "touchpoint": rng.choice(["call", "visit", "é", "buy"], n),
            "channel": rng.choice(np.array(["web", "app", None], object), n),
            "value": rng.choice([np.nan, 1.0, 2.5], n),
            "available_at": pd.to_datetime(when + rng.integers(0, 2, n) * DAY_US, unit="us", utc=True).as_unit("us"),
        }
    )


def merged(data: pd.DataFrame, n_parts: int, budget: int | None, tmp_path: Path, batch: int = 500) -> PartedEvents:
    shuffle = Shuffle(n_parts, budget, str(tmp_path))
    for first in range(0, len(data), batch):
        shuffle.add(shuffle.split(as_columns(data.iloc[first : first + batch])))
    config = JourneysConfig.model_validate({"sources": [{"path": "frame"}]})
    return merge(shuffle, config)


def as_columns(rows: pd.DataFrame) -> dict[str, Any]:
    ids = rows["customer_id"]
    texts = {name: pa.array(rows[name], pa.string()).dictionary_encode() for name in ("touchpoint", "channel")}
    stamps = {n: pd.DatetimeIndex(rows[n]).as_unit("us").asi8.copy() for n in ("timestamp", "available_at")}
    is_number = ids.dtype == np.int64
    return {
        "customer_id": ids.to_numpy() if is_number else pa.array(ids, pa.string()).dictionary_encode(),
        **stamps, **texts, "value": rows["value"].to_numpy(),
    }  # fmt: skip


def write(data: pd.DataFrame, path: Path, **options: Any) -> None:
    columns = as_columns(data)
    stamps = {n: pa.array(columns[n], pa.timestamp("us", "UTC")) for n in ("timestamp", "available_at")}
    pq.write_table(pa.table(columns | stamps), path, **options)


def digest(events: PartedEvents | Whole) -> str:
    config = JourneysConfig.model_validate({"sources": [{"path": "frame"}]})
    return JourneyLog(events, config, None, None).digest  # type: ignore[arg-type]


@pytest.mark.parametrize("text_ids", [False, True])
@pytest.mark.parametrize("budget", [None, 0, 20_000])
@pytest.mark.parametrize("n_parts", [1, 7, 64])
def test_the_log_does_not_depend_on_how_many_parts_there_are_or_where_they_lie(
    n_parts: int, budget: int | None, text_ids: bool, tmp_path: Path
) -> None:
    data = frame(text_ids=text_ids)
    expected = digest(Whole(merged(data, 1, None, tmp_path, batch=len(data)).whole()))
    events = merged(data.sample(frac=1, random_state=1), n_parts, budget, tmp_path)
    blocks = [events.block(part) for part in range(events.n_parts)]
    assert sum(block.n_events for block in blocks) == len(data) == events.facts.counts.sum()
    assert len(blocks) == min(n_parts, len([b for b in blocks if b.n_customers]))
    for block in blocks:
        assert list(block.customers) == sorted(block.customers)
    on_disk = events.on_disk
    assert digest(events) == expected
    assert events.on_disk == on_disk, "the digest of events on disk reads them column by column"
    assert digest(Whole(events.whole())) == expected


def test_blocks_read_back_from_disk_are_those_made_in_memory(tmp_path: Path) -> None:
    data = frame()
    kept, spilled = merged(data, 5, None, tmp_path), merged(data, 5, 0, tmp_path)
    assert list(tmp_path.iterdir()), "nothing was put on disk"
    assert kept.n_parts == spilled.n_parts == 5
    for part in range(5):
        one, other = kept.block(part), spilled.block(part)
        np.testing.assert_array_equal(one.customers, other.customers)
        np.testing.assert_array_equal(one.starts, other.starts)
        np.testing.assert_array_equal(one.time, other.time)
        np.testing.assert_array_equal(one.known, other.known)
        for name, coded in one.categories.items():
            assert coded.vocabulary == other.categories[name].vocabulary
            np.testing.assert_array_equal(coded.codes, other.categories[name].codes)
        for name, values in one.measures.items():
            np.testing.assert_array_equal(values, other.measures[name])
    for mine, theirs in zip(vars_of(kept), vars_of(spilled), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def vars_of(events: PartedEvents) -> list[Any]:
    return [getattr(events.facts, name) for name in events.facts.__slots__]


def test_what_lies_on_disk_goes_with_the_log(tmp_path: Path) -> None:
    events = merged(frame(), 5, 0, tmp_path)
    folder = next(tmp_path.iterdir())
    assert {path.name[:6] for path in folder.iterdir()} == {"block-", "lock"}
    del events
    assert not folder.exists()


@pytest.mark.parametrize("duplicates", ["keep", "drop_exact"])
def test_a_memory_limit_changes_nothing_but_where_rows_lie(duplicates: str, tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    write(frame(20_000, text_ids=True), path)
    whole = read_journeys(path, duplicates=duplicates)  # type: ignore[arg-type]
    small = read_journeys(path, duplicates=duplicates, memory_limit="10kB")  # type: ignore[arg-type]
    assert isinstance(small.events, PartedEvents)
    assert small.quality == whole.quality
    assert small.quality.duplicates > 0
    assert small.quality.late_events > 0
    assert (small.quality.duplicates_dropped > 0) == (duplicates == "drop_exact")
    assert small.touchpoints() == whole.touchpoints()
    assert (small.first, small.last, small.n_events) == (whole.first, whole.last, whole.n_events)
    assert small.digest == whole.digest


def test_rows_of_a_file_that_turns_out_bad_are_taken_back_from_disk_too(tmp_path: Path) -> None:
    good, bad = frame(8_000), frame(80_000, seed=1)
    bad["touchpoint"] = bad["touchpoint"].where(bad.index != 79_000, " ")
    write(good, tmp_path / "a.parquet")
    write(bad, tmp_path / "b.parquet")
    logs = [read_journeys(tmp_path, memory_limit=limit) for limit in ("1GB", "3MB", "1kB")]
    assert {log.n_events for log in logs} == {87_999}
    assert logs[0].quality.rows_quarantined == 1
    assert len({log.digest for log in logs}) == 1


def test_integers_and_texts_of_one_customer_meet_in_one_part(tmp_path: Path) -> None:
    numbers, texts = frame(3_000), frame(3_000, seed=1)
    texts["customer_id"] = texts["customer_id"].astype(str)
    both = [read_journeys([numbers, texts], memory_limit=limit) for limit in ("1GB", "1kB")]
    assert both[0].events.customers.dtype == np.int64
    assert both[0].digest == both[1].digest == read_journeys(pd.concat([numbers, frame(3_000, seed=1)])).digest
    texts.loc[0, "customer_id"] = "017"
    mixed = [read_journeys([numbers, texts], memory_limit=limit) for limit in ("1GB", "1kB")]
    assert {"17", "017"} < set(mixed[0].events.customers.tolist())
    numbers["customer_id"] = numbers["customer_id"].astype(str)
    assert mixed[0].digest == mixed[1].digest == read_journeys(pd.concat([numbers, texts])).digest


def test_parquet_with_text_ids_is_read_like_csv(tmp_path: Path) -> None:
    data = frame(text_ids=True)
    write(data, tmp_path / "a.parquet")
    data.to_csv(tmp_path / "a.csv", index=False)
    assert read_journeys(tmp_path / "a.parquet").digest == read_journeys(tmp_path / "a.csv").digest


def test_a_truncated_page_is_found_and_named(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    write(frame(50_000), path, compression="none", use_dictionary=False, row_group_size=10_000)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    try:
        log = read_journeys(path)
    except (DataError, ConfigError) as error:
        assert "events.parquet" in str(error)
    else:  # the zeros fell on values, not on the structure
        assert log.n_events + log.quality.rows_quarantined == 50_000


def test_no_room_on_disk_is_told_with_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(frame(5_000), tmp_path / "events.parquet")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"could not be put on disk in .*nowhere.*journeys\.memory_limit"):
        read_journeys(tmp_path / "events.parquet", memory_limit="1kB")


def test_a_memory_limit_is_read_and_refused_like_other_settings() -> None:
    config = JourneysConfig.model_validate({"sources": [{"path": "a.csv"}], "memory_limit": "2GB"})
    assert config.memory_limit == 2_000_000_000


@pytest.mark.parametrize("limit", ["1GB", "1kB"])
@pytest.mark.parametrize("duplicates", ["keep", "drop_exact"])
def test_some_columns_in_no_order_are_the_same_events(limit: str, duplicates: str) -> None:
    log = read_journeys(frame(), memory_limit=limit, duplicates=duplicates)  # type: ignore[arg-type]
    loose = list(log.loose(["touchpoint", "value"]))
    assert len(loose) == log.events.n_parts == 64
    whole = log.block
    for name in ("touchpoint", "channel"):
        counts = [np.bincount(b.categories[name].codes + 1, minlength=5) for b in loose if name in b.categories]
        if name == "touchpoint":
            np.testing.assert_array_equal(sum(counts), np.bincount(whole.categories[name].codes + 1, minlength=5))
    values = np.sort(np.concatenate([block.measures["value"] for block in loose]))
    np.testing.assert_array_equal(values, np.sort(whole.measures["value"]))
    np.testing.assert_array_equal(np.sort(np.concatenate([b.known for b in loose])), np.sort(whole.known))


def test_work_on_blocks_comes_back_in_their_order_whatever_the_threads() -> None:
    log = read_journeys(frame())
    one, many = (list(log.map_blocks(lambda block: block.time.sum(), threads)) for threads in (1, 7))
    assert one == many == [block.time.sum() for block in log.blocks()]
    part = next(log.blocks(["touchpoint"]))
    assert set(part.categories) == {"touchpoint"}
    assert part.measures == {}


def test_a_fault_in_the_work_comes_through() -> None:
    def work(_block: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(read_journeys(frame()).map_blocks(work))


@pytest.mark.parametrize("limit", ["1GB", "1kB"])
@pytest.mark.parametrize("duplicates", ["keep", "drop_exact"])
def test_values_counted_while_reading_are_those_of_the_events(limit: str, duplicates: str, tmp_path: Path) -> None:
    bad = frame(8_000, seed=1)
    bad["touchpoint"] = bad["touchpoint"].where(bad.index != 7_000, " ").replace("buy", "only in the bad file")
    write(frame(), tmp_path / "a.parquet")
    write(bad, tmp_path / "b.parquet")
    log = read_journeys(tmp_path, memory_limit=limit, duplicates=duplicates)  # type: ignore[arg-type]
    assert (log.quality.rows_quarantined, log.quality.duplicates_dropped > 0) == (1, duplicates == "drop_exact")
    counted = log.count_values(["touchpoint", "channel", "case_id"])
    assert counted["case_id"] == {}
    for name in ("touchpoint", "channel"):
        coded = log.block.categories[name]
        n = np.bincount(coded.codes[coded.codes >= 0], minlength=len(coded.vocabulary))
        assert counted[name] == dict(zip(coded.vocabulary, n.tolist(), strict=True))
    assert log.events.counts("touchpoint") == (None if duplicates == "drop_exact" else counted["touchpoint"])


@pytest.mark.parametrize("limit", ["1GB", "1B"])
def test_long_integers_and_their_texts_are_one_customer(limit: str) -> None:
    """Ids of 19 digits stay texts where a source has them as texts, and still meet."""
    numbers, texts = frame(2_000), frame(2_000, seed=1)
    numbers["customer_id"] += 1_234_567_890_123_456_000
    texts["customer_id"] = (texts["customer_id"] + 1_234_567_890_123_456_000).astype(str)
    log = read_journeys([numbers, texts], memory_limit=limit)
    ids = {str(one) for one in numbers["customer_id"]} | set(texts["customer_id"])
    assert log.events.customers.tolist() == sorted(ids)
    assert log.digest == read_journeys([texts, numbers.astype({"customer_id": str})]).digest


def test_there_is_one_zero(tmp_path: Path) -> None:
    data = frame(3_000).assign(value=0.0)
    write(data, tmp_path / "a.parquet")
    write(data.assign(value=-0.0), tmp_path / "b.parquet")
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    digests = {read_journeys(order).digest for order in (files, files[::-1])} | {read_journeys([data, data]).digest}
    assert len(digests) == 1


@pytest.mark.parametrize("wrong", ["a lot", "-5MB", "0", "0kB", True, 0])
def test_what_is_no_amount_of_memory_is_refused_in_plain_words(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"is no amount of memory; write for example 2GB"):
        read_journeys(frame(10), memory_limit=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("fails", [False, True])
def test_reading_leaves_the_settings_of_the_process_as_they_were(fails: bool) -> None:
    before = sys.getswitchinterval(), gc.isenabled()
    with pytest.raises(ConfigError) if fails else nullcontext():
        read_journeys(frame(50).rename(columns={"touchpoint": "what"}) if fails else frame(50))
    assert (sys.getswitchinterval(), gc.isenabled()) == before


@pytest.mark.parametrize("limit", [None, 30_000])
def test_a_log_may_be_sent_to_another_process(limit: int | None, tmp_path: Path) -> None:
    write(frame(), tmp_path / "events.parquet")
    log = read_journeys(tmp_path / "events.parquet", memory_limit=limit)
    assert log.events.on_disk == (limit is not None)
    copy = pickle.loads(pickle.dumps(log))
    assert copy.digest == log.digest
    assert copy.quality == log.quality
