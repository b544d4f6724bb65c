"""Scores into a real PostgreSQL server."""

import pytest

from cxml.errors import ConfigError, DataError
from cxml.project import Project
from cxml.scoring.night import Destination, merge_shards

pytestmark = pytest.mark.needs_postgres

AT, LATER = "2024-06-01", "2024-07-01"


@pytest.fixture
def ask(postgres_url):
    import adbc_driver_postgresql.dbapi

    def ask(sql: str):
        with adbc_driver_postgresql.dbapi.connect(postgres_url) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            found = cursor.fetch_arrow_table() if sql.startswith("select") else None
            connection.commit()
        return found

    return ask


@pytest.fixture
def project(shop, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Project.from_file(shop / "project.yaml")


def test_a_run_is_a_table_and_again_the_same(project, model, postgres_url, ask, tmp_path, monkeypatch):
    monkeypatch.setenv("CRM_URL", postgres_url.removeprefix("postgresql://"))
    ask('create schema "Crm"')
    url, table = "postgresql://${CRM_URL}", "Crm.the scores; drop"
    wanted = project.score(model, cutoff=AT).table
    for _ in range(2):
        result = project.score(model, cutoff=AT, out=url, table=table)
        found = ask('select * from "Crm"."the scores; drop" order by customer_id')
        assert found.cast(wanted.schema).equals(wanted)
    assert str(result.destination) == "Crm.the scores; drop at postgresql://${CRM_URL}"
    project.score(model, cutoff=LATER, out=url, table=table)
    (count,) = ask('select count(*) as n, count(distinct cutoff) as m from "Crm"."the scores; drop"').to_pylist()
    assert count["m"] == 2
    assert count["n"] > len(wanted)
    assert not list((tmp_path / "out").rglob("*.parts"))


def test_a_row_of_the_same_customer_and_cutoff_gives_way(project, model, postgres_url, ask):
    project.score(model, cutoff=AT, out=postgres_url, table="again")
    ask("update again set status = 'touched', churn_30d = null")
    project.score(model, cutoff=AT, out=postgres_url, table="again")
    assert ask("select count(*) as n from again where status = 'touched'").to_pylist() == [{"n": 0}]


def test_shards_may_go_straight_to_the_table(project, model, postgres_url, ask, tmp_path):
    for i in (1, 2):
        project.score(model, cutoff=AT, out=postgres_url, table="sharded", shard=f"{i}/2")
        project.score(model, cutoff=AT, out=tmp_path / f"{i}.parquet", shard=f"{i}/2")
    merge_shards(Destination.of(postgres_url, "merged"), [tmp_path / "1.parquet", tmp_path / "2.parquet"])
    wanted = project.score(model, cutoff=AT).table
    for table in ("sharded", "merged"):
        assert ask(f"select * from {table} order by customer_id").cast(wanted.schema).equals(wanted)


def test_changes_go_to_a_table_of_their_own(project, model, postgres_url, ask, tmp_path):
    project.score(model, cutoff=AT, out=tmp_path / "run.parquet")
    result = project.score(model, cutoff=LATER, out=postgres_url, table="changes", since=tmp_path / "run.parquet")
    found = ask("select change, count(*) as n from changes group by change")
    assert {row["change"]: row["n"] for row in found.to_pylist()} == result.to_dict()["change"]


def test_what_the_database_refuses_changes_nothing(project, model, postgres_url, ask, tmp_path):
    ask("create table keyless (customer_id bigint, cutoff timestamptz)")
    ask("create table narrow (customer_id bigint, cutoff timestamptz, primary key (customer_id, cutoff))")
    ask("insert into narrow values (1, '2024-01-01')")
    for table in ("keyless", "narrow", "no_such_schema.scores"):
        with pytest.raises(ConfigError, match=rf"refuses to write {table}.*Nothing was changed") as refused:
            project.score(model, cutoff=AT, out=postgres_url, table=table)
        assert "s3cr" not in str(refused.value)
    assert ask("select * from narrow").num_rows == 1
    assert len(list((tmp_path / "out").rglob("*.parts"))) == 3, "finished parts wait for the next try"


def test_a_database_that_is_not_there_is_told_without_its_password(project, model):
    with pytest.raises(DataError, match="cannot be reached") as refused:
        project.score(model, cutoff=AT, out="postgresql://ann:geheim@127.0.0.1:1/crm", table="scores")
    assert "geheim" not in str(refused.value)


def test_a_kill_between_parts_and_table_is_mended_by_the_same_line(project, model, postgres_url, ask, monkeypatch):
    from cxml.scoring import night

    with monkeypatch.context() as patch:
        patch.setattr(night, "upsert", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            project.score(model, cutoff=AT, out=postgres_url, table="resumed")
    project.score(model, cutoff=AT, out=postgres_url, table="resumed")
    wanted = project.score(model, cutoff=AT).table
    assert ask("select * from resumed order by customer_id").cast(wanted.schema).equals(wanted)
