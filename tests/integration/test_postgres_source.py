"""Journeys out of a real PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from cxml.config import SourceConfig
from cxml.errors import ConfigError, DataError
from cxml.journeys.read import read_journeys

pytestmark = pytest.mark.needs_postgres

TABLE = """
create schema if not exists shop;
create type page as enum ('call', 'play');
create table shop."Events" (
    "we""ird:*id" bigint, happened timestamptz, local timestamp, page page, amount numeric(12, 2), seconds real,
    solved boolean, note jsonb, who uuid
);
insert into shop."Events"
select i % 3, timestamptz '2024-01-01 00:00+00' + i * interval '1 hour', timestamp '2024-07-01 12:00',
       (array['call', 'play'])[1 + i % 2]::page, i * 1.25, i, i % 2 = 0, '{"a": 1}', gen_random_uuid()
from generate_series(1, 10) as i;
insert into shop."Events" values (5, null, null, 'play', 1, 1, true, null, null);
"""
COLUMNS = {"customer_id": 'we"ird:*id', "timestamp": "happened", "touchpoint": "page"}


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[str]:
    import adbc_driver_postgresql.dbapi

    with adbc_driver_postgresql.dbapi.connect(postgres_url) as connection, connection.cursor() as cursor:
        for statement in TABLE.strip().split(";\n"):
            cursor.execute(statement)
        connection.commit()
    yield postgres_url


def source(url: str, **more: Any) -> SourceConfig:
    return SourceConfig(url=url, **{"table": "shop.Events", "columns": COLUMNS, **more})


def test_a_table_is_read_whole_and_its_bad_rows_set_aside(shop: str, tmp_path: Path) -> None:
    more = {"value": "amount", "duration": "seconds", "resolved": "solved"}
    log = read_journeys(source(shop, columns=COLUMNS | more), quarantine=tmp_path / "q.parquet")
    frame = log.to_pandas()
    assert frame["customer_id"].tolist() == [0] * 3 + [1] * 4 + [2] * 3
    assert frame["value"].sum() == 55 * 1.25
    assert frame["duration"].sum() == 55
    assert frame["resolved"].sum() == 5
    assert frame["timestamp"].min() == pd.Timestamp("2024-01-01T01:00Z")
    assert log.touchpoints() == {"call": 5, "play": 5}
    (bad,) = pq.read_table(tmp_path / "q.parquet").to_pylist()
    assert (bad["source"], bad["row"], bad["reason"]) == ("postgresql table shop.Events", 11, "timestamp missing")
    assert '"amount"' in bad["raw"]


def test_a_query_runs_on_the_server_and_where_on_top_of_it(shop: str) -> None:
    query = "select who::text as customer_id, local as timestamp, 'visit' as touchpoint, amount from shop.\"Events\";"
    asked = SourceConfig(url=shop, query=query, where="amount between 2.5 and 5 -- euros")
    log = read_journeys(asked, timezone="Europe/Berlin")
    assert log.n_events == 3
    assert log.to_pandas()["timestamp"].unique().tolist() == [pd.Timestamp("2024-07-01T10:00Z")]


def test_a_database_merges_with_files(shop: str) -> None:
    rows = pd.DataFrame({"customer_id": [1], "timestamp": ["2024-01-01"], "touchpoint": ["call"]})
    asked = SourceConfig(
        url=shop, query='select 7 as customer_id, happened as timestamp, page::text as touchpoint from shop."Events"'
    )
    log = read_journeys([rows, asked], timezone="UTC")
    assert log.block.customers.tolist() == [1, 7]
    assert [s.rows_read for s in log.quality.sources] == [1, 11]


def test_the_url_may_come_from_the_environment(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXML_TEST_URL", shop)
    log = read_journeys(source("${CXML_TEST_URL}"))
    assert log.n_events == 10
    assert "127.0.0.1" not in log.config.model_dump_json()


def test_large_tables_stream_in_the_order_of_the_server(shop: str) -> None:
    query = (
        "select i % 1000 as customer_id, timestamptz '2024-01-01 00:00+00' + i * interval '1 second' as timestamp, "
        "case when i = 150000 then '' else 'p' || i % 7 end as touchpoint from generate_series(1, 200000) as i"
    )
    log = read_journeys(SourceConfig(url=shop, query=query))
    assert (log.n_events, log.n_customers) == (199_999, 1000)
    assert log.quality.reasons == {"touchpoint missing": 1}


def test_what_postgresql_refuses_is_told_without_the_password(shop: str) -> None:
    for faulty in (source(shop, table="nowhere"), source(shop, where="no_column > 1")):
        with pytest.raises(ConfigError, match="PostgreSQL refuses the query") as caught:
            read_journeys(faulty)
        assert "no" in str(caught.value)
        assert "s3cr" not in str(caught.value)
    with pytest.raises(DataError, match="cannot be reached") as refused:
        read_journeys(source(shop.replace("s3cr%20et", "wr0ng")))
    assert "password authentication failed" in str(refused.value)
    assert "wr0ng" not in str(refused.value)


def test_a_query_that_fails_on_its_way_is_refused(shop: str) -> None:
    query = (
        "select i as customer_id, now() as timestamp, (1 / (90000 - i))::text as touchpoint "
        "from generate_series(1, 100000) as i"
    )
    with pytest.raises((ConfigError, DataError), match="division by zero"):
        read_journeys(SourceConfig(url=shop, query=query))
