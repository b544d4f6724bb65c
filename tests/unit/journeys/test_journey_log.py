"""The log: order, what was known when, digests, side tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxml.config import CANONICAL_COLUMNS, ChurnConfig, CustomersConfig, JourneysConfig
from cxml.errors import ConfigError, DataError
from cxml.journeys.block import CustomerTable
from cxml.journeys.customers import match_ids, read_churn_table, read_customers
from cxml.journeys.log import JourneyLog
from cxml.journeys.read import read_journeys
from cxml.journeys.schema import NUMBER_COLUMNS, PROMISE, TEXT_COLUMNS, TIE_ORDER
from cxml.journeys.sorting import total_order


def log_of(text: str, **settings: object) -> JourneyLog:
    """Rows are ``customer day touchpoint``, days of January 2024."""
    rows = [line.split() for line in text.strip().split(",")]
    frame = pd.DataFrame(
        {
            "customer_id": [int(row[0]) for row in rows],
            "timestamp": [f"2024-01-{int(row[1]):02d}T00:00Z" for row in rows],
            "touchpoint": [row[2] for row in rows],
        }
    )
    return read_journeys(frame, **settings)


def test_events_stand_customer_by_customer_in_time() -> None:
    block = log_of("9 5 c, 2 3 b, 9 1 a, 2 2 a, 9 5 a").block
    assert block.customers.tolist() == [2, 9]
    assert block.starts.tolist() == [0, 2, 5]
    coded = block.categories["touchpoint"]
    assert [coded.vocabulary[c] for c in coded.codes] == ["a", "b", "a", "a", "c"]


def test_ties_are_broken_by_sequence_then_canonical_columns_with_missing_first() -> None:
    rows = pd.DataFrame(
        {
            "customer_id": 1,
            "timestamp": "2024-01-01T00:00Z",
            "touchpoint": ["z", "b", "a", "a", "a", "a"],
            "sequence": [None, 1, 2, 2, 2, 2],
            "value": [0.0, 0.0, 5.0, 5.0, -1.0, None],
            "level": ["x", "x", "b", None, "a", "a"],
        }
    )
    log = read_journeys(rows, attributes=["level"])
    shown = log.to_pandas()
    assert shown["touchpoint"].tolist() == ["z", "b", "a", "a", "a", "a"]
    np.testing.assert_array_equal(log.block.measures["value"], [0, 0, np.nan, -1, 5, 5])
    assert log.block.categories["level"].codes.tolist()[-2:] == [-1, 1]


def test_long_journeys_are_sorted_like_short_ones() -> None:
    rng = np.random.default_rng(0)
    n = 3_000
    customers = rng.integers(0, 4, n)
    time, key = rng.integers(0, 50, n), rng.choice([np.nan, -1.5, -0.0, 0.0, 2.0], n)
    found, starts, order, repeats = total_order(customers, time, [key])
    assert found.tolist() == [0, 1, 2, 3]
    expected = np.lexsort((np.where(np.isnan(key), -np.inf, key), time, customers))
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(starts, np.searchsorted(customers[order], np.arange(5)))
    again = np.column_stack([customers, time, np.where(np.isnan(key), -np.inf, key)])[order]
    np.testing.assert_array_equal(repeats, 1 + np.flatnonzero((again[1:] == again[:-1]).all(axis=1)))


def test_ids_far_apart_are_grouped_like_close_ones() -> None:
    near, far = log_of("3 1 a, 1 1 a, 2 1 b"), log_of(f"{3 * 10**15} 1 a, 1 1 a, 2 1 b")
    assert far.block.customers.tolist() == [1, 2, 3 * 10**15]
    assert near.block.categories["touchpoint"].codes.tolist() == far.block.categories["touchpoint"].codes.tolist()


def test_upto_keeps_what_was_known_and_is_the_log_read_then() -> None:
    rows = pd.DataFrame(
        {
            "customer_id": [1, 1, 2, 3],
            "timestamp": pd.to_datetime(["2024-01-01", "2024-01-05", "2024-01-02", "2024-01-01"], utc=True),
            "touchpoint": ["b", "c", "b", "a"],
            "available_at": pd.to_datetime([None, None, None, "2024-01-09"], utc=True),
        }
    )
    log = read_journeys(rows)
    early = log.upto("2024-01-05")
    assert early.digest == read_journeys(rows.iloc[[0, 2]]).digest
    assert early.block.customers.tolist() == [1, 2]
    assert early.touchpoints() == {"b": 2}
    assert early.block.known is None
    assert log.upto("2030-01-01").digest == log.digest
    with pytest.raises(DataError, match="no event was known before 2024-01-01"):
        log.upto("2024-01-01")


def test_an_event_at_the_cutoff_is_the_future() -> None:
    log = log_of("1 1 a, 1 2 b, 2 2 a")
    early = log.upto("2024-01-02")
    assert (early.n_events, early.block.customers.tolist()) == (1, [1])
    assert log.upto("2024-01-02T00:00:00.000001Z").n_events == 3


def test_ties_are_broken_in_the_order_of_the_canonical_columns() -> None:
    read = [PROMISE if name == "promised" else name for name in CANONICAL_COLUMNS]
    assert ["customer_id", "timestamp", *TIE_ORDER] == read
    others = {"sequence", "resolved", "available_at", PROMISE}
    assert set(TEXT_COLUMNS) | set(NUMBER_COLUMNS) | others == set(TIE_ORDER)


def test_the_frame_reads_back_to_the_same_log() -> None:
    rows = pd.DataFrame(
        {
            "customer_id": ["x", "x", "y"],
            "timestamp": pd.to_datetime(["2024-01-01", "2024-01-01", "2024-01-03"], utc=True),
            "touchpoint": ["b", "a", "b"],
            "value": [1.0, np.nan, 2.0],
            "available_at": pd.to_datetime(["2024-02-01", None, None], utc=True),
            "promised": pd.to_datetime(["2024-01-01T00:00:00.000001", None, "1950-07-03T11:13:17.000003"], utc=True),
        }
    )
    log = read_journeys(rows)
    frame = log.to_pandas()
    assert list(frame) == ["customer_id", "timestamp", "touchpoint", "value", "available_at", "promised"]
    assert sorted(frame["promised"].dropna()) == sorted(rows["promised"].dropna())
    assert read_journeys(frame).digest == log.digest


def test_the_digest_tells_any_change_of_content() -> None:
    base = log_of("1 1 a, 2 2 b")
    others = [log_of(t).digest for t in ("1 1 a, 2 2 c", "1 1 a, 3 2 b", "1 1 a, 2 3 b", "1 1 a, 1 2 b", "1 1 a")]
    assert len({base.digest, *others}) == 6
    assert base.digest == log_of("2 2 b, 1 1 a").digest
    assert len(base.digest) == 64


def test_a_log_tells_about_itself() -> None:
    log = log_of("1 1 b, 2 2 b, 2 3 a, 3 3 c")
    assert log.touchpoints() == {"b": 2, "a": 1, "c": 1}
    assert list(log.touchpoints()) == ["b", "a", "c"]
    assert (log.n_events, log.n_customers) == (4, 3)
    assert repr(log) == "JourneyLog(4 events of 3 customers, 2024-01-01 to 2024-01-03, 3 touchpoints)"
    assert sorted(one for block in log.blocks() for one in block.customers.tolist()) == [1, 2, 3]
    assert [part.n_events for part in log.parts()] == [block.n_events for block in log.blocks()]
    whole = log.block
    assert list(log.blocks()) == [whole]
    assert isinstance(log.config, JourneysConfig)


def customers_config(**more: object) -> CustomersConfig:
    return CustomersConfig.model_validate({"source": "c.csv", "attributes": ["plan"], **more})


def test_customers_are_read_beside_the_log_with_ids_of_its_kind(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(
        "id,since,plan\n2,2024-01-01,gold\nx,2024-01-01,tin\n1,,tin\n2,2023-01-01,tin\n2,2024-01-01,gold\n"
    )
    config = customers_config(columns={"customer_id": "id", "valid_from": "since"}, timezone="UTC")
    table = read_customers(config, tmp_path)
    assert table.customers.tolist() == ["1", "2", "2", "x"]
    log = log_of("2 1 a, 1 1 a, 5 1 a", customers=config, folder=tmp_path)
    assert log.customers is not None
    assert log.customers.customers.tolist() == [1, 2, 2]
    plan = log.customers.attributes["plan"]
    assert [plan.vocabulary[c] for c in plan.codes] == ["tin", "tin", "gold"]
    assert log.customers.valid_from.tolist()[0] == np.iinfo(np.int64).min
    ready = CustomerTable(np.array(["5"], dtype=object), np.array([0]), {})
    again = log_of("5 1 a", customers=ready).customers
    assert again is not None
    assert again.customers.tolist() == [5]


def test_customers_that_contradict_themselves_or_have_no_id_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("customer_id,plan\n1,gold\n1,tin\n2,tin\n")
    with pytest.raises(DataError, match=r"contradict .* \(customers 1\)"):
        read_customers(customers_config(), tmp_path)
    (tmp_path / "c.csv").write_text("customer_id,plan\n1,gold\n,tin\n")
    with pytest.raises(DataError, match="customer_id missing: 1"):
        read_customers(customers_config(), tmp_path)
    with pytest.raises(ConfigError, match="no column 'plan'"):
        read_customers(customers_config(), tmp_path, source=pd.DataFrame({"customer_id": [1]}))


def test_the_churn_table_gives_who_left_and_when(tmp_path: Path) -> None:
    (tmp_path / "left.csv").write_text("user,day\n9,2024-01-02\n10,\n2,2024-01-05\n2,2024-01-01\n")
    config = ChurnConfig.model_validate(
        {"kind": "table", "source": "left.csv", "columns": {"customer_id": "user", "timestamp": "day"}}
    )
    ids, times = read_churn_table(config, tmp_path, timezone="UTC")
    assert ids.tolist() == [2, 2, 9]
    assert (np.diff(times) // 86_400_000_000).tolist() == [4, -3]
    (tmp_path / "left.csv").write_text("user,day\n9,soon\n")
    with pytest.raises(DataError, match="timestamp not readable: 1"):
        read_churn_table(config, tmp_path, timezone="UTC")


def test_ids_are_matched_across_kinds() -> None:
    assert match_ids(np.array([3, 1, 9]), np.array([1, 3])).tolist() == [1, 0, -1]
    assert match_ids(np.array([3]), np.array(["1", "3"], dtype=object)).tolist() == [1]
    assert match_ids(np.array([3]), np.array([], dtype=np.int64)).tolist() == [-1]
