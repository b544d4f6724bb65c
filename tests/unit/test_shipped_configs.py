"""The project files for real data: they parse, their words occur, and each keeps the promises of its top comment."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from cxml.config import REQUIRED_COLUMNS, ProjectConfig, SourceConfig, load_config, resolve_path
from cxml.journeys.read import read_journeys
from cxml.times import DAY_US, format_instant

FOLDER = Path(__file__).parents[2] / "configs"
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))

Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def asked() -> Callable[[str], Ask]:
    """Return a function from the name of a project to one that answers SQL over its tables and ``canonical`` events."""
    opened: dict[str, Ask] = {}

    def ask(name: str) -> Ask:
        if name not in opened:
            opened[name] = _open(load_config(FOLDER / f"{name}.yaml"))
        return opened[name]

    return ask


def _open(config: ProjectConfig) -> Ask:
    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'")
    events = []
    for i, source in enumerate(config.journeys.sources):
        connection.execute(f"create table events_{i} as {_query(connection, source, config.folder)}")
        events.append(f"from events_{i}")
    connection.execute("create view canonical as " + " union all by name ".join(events))
    if config.customers is not None:
        query = _query(connection, config.customers.source, config.folder)
        connection.execute(f"create view attributes_of as {query}")
    if config.churn is not None and config.churn.source is not None:
        connection.execute(f"create view leavers as {_query(connection, config.churn.source, config.folder)}")
    return lambda sql: connection.execute(sql).fetchall()


def _query(connection: duckdb.DuckDBPyConnection, source: SourceConfig, folder: Path) -> str:
    for name, path in (source.tables or {}).items():
        connection.execute(f"create or replace view {name} as from '{resolve_path(path, folder)}'")
    assert source.query
    return source.query


def _spoken_of(config: ProjectConfig) -> set[str]:
    """Return every touchpoint a project file names."""
    journeys, churn, satisfaction = config.journeys, config.churn, config.satisfaction
    words = {*journeys.activity, *journeys.contacts, *(name for names in journeys.stages.values() for name in names)}
    if churn is not None:
        words |= {*churn.touchpoints, *churn.starts, *churn.ends}
    if satisfaction is not None:
        words |= {satisfaction.touchpoint, satisfaction.asked or satisfaction.touchpoint}
    return words


def test_there_is_a_project_file_for_each_data_set() -> None:
    assert {"bpic2012", "oulad", "online_retail", "olist", "sfo_airport"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_project_file_parses_and_is_named_after_its_project(name: str) -> None:
    assert load_config(FOLDER / f"{name}.yaml").name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_project_file_begins_with_what_when_for_whom_and_the_traps(name: str) -> None:
    comment = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\nname:")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert all(word in comment for word in ("Predicted:", "When:", "For whom:", "Traps"))


@pytest.mark.parametrize("name", NAMES)
def test_data_are_found_where_cxml_data_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXML_DATA", "/elsewhere")
    config = load_config(FOLDER / f"{name}.yaml")
    paths = [path for source in config.journeys.sources for path in (source.tables or {}).values()]
    assert paths
    assert all(str(resolve_path(path, config.folder)).startswith("/elsewhere/") for path in paths)


@pytest.mark.needs_shared_data
@pytest.mark.parametrize("name", NAMES)
def test_a_query_gives_just_the_columns_that_its_project_knows(name: str, asked: Callable[[str], Ask]) -> None:
    config, ask = load_config(FOLDER / f"{name}.yaml"), asked(name)
    columns = {column for column, *_ in ask("describe canonical")}
    assert {*REQUIRED_COLUMNS, *config.journeys.measures, *config.journeys.attributes} <= columns
    assert columns <= set(config.journeys.columns)
    assert ask(f"from canonical where {' or '.join(f'{column} is null' for column in REQUIRED_COLUMNS)}") == []


@pytest.mark.needs_shared_data
@pytest.mark.parametrize("name", NAMES)
def test_every_touchpoint_that_a_project_file_names_occurs_and_every_one_that_occurs_has_a_stage(
    name: str, asked: Callable[[str], Ask]
) -> None:
    config = load_config(FOLDER / f"{name}.yaml")
    occurring = {touchpoint for (touchpoint,) in asked(name)("select distinct touchpoint from canonical")}
    assert _spoken_of(config) - occurring == set()
    assert occurring - {touchpoint for stage in config.journeys.stages.values() for touchpoint in stage} == set()
    assert len(occurring) <= config.features.max_values


@pytest.mark.needs_shared_data
@pytest.mark.parametrize("name", NAMES)
def test_customers_with_events_have_their_attributes_once(name: str, asked: Callable[[str], Ask]) -> None:
    config, ask = load_config(FOLDER / f"{name}.yaml"), asked(name)
    if config.customers is None:
        return
    assert {"customer_id", *config.customers.attributes} == {column for column, *_ in ask("describe attributes_of")}
    assert ask("select customer_id from attributes_of group by 1 having count(*) > 1") == []
    assert ask("select customer_id from canonical anti join attributes_of using (customer_id)") == []


@pytest.mark.needs_shared_data
@pytest.mark.parametrize("name", NAMES)
def test_the_log_that_is_read_lacks_nothing_and_holds_nothing_twice(name: str, asked: Callable[[str], Ask]) -> None:
    config = load_config(FOLDER / f"{name}.yaml")
    log = read_journeys(config.journeys, customers=config.customers, folder=config.folder)
    assert log.n_events == log.quality.rows_kept == asked(name)("select count(*) from canonical")[0][0]
    assert log.quality.duplicates == 0


@pytest.mark.needs_shared_data
def test_loan_applications_keep_the_order_of_the_file(asked: Callable[[str], Ask]) -> None:
    from pyarrow import parquet

    config = load_config(FOLDER / "bpic2012.yaml")
    path = resolve_path((config.journeys.sources[0].tables or {})["events"], config.folder)
    file = parquet.read_table(path, columns=["case_id", "lifecycle:transition"]).to_pydict()
    rows = zip(file["case_id"], file["lifecycle:transition"], strict=True)
    expected = [(case, i) for i, (case, step) in enumerate(rows, start=1) if step != "START"]
    assert asked("bpic2012")("select customer_id, sequence from canonical order by sequence") == expected


@pytest.mark.needs_shared_data
def test_loan_applications_have_one_event_for_each_completed_piece_of_work(asked: Callable[[str], Ask]) -> None:
    ask = asked("bpic2012")
    assert ask("select count(*) from canonical where touchpoint = 'W_Nabellen offertes'") == [(22_976,)]
    timed = "duration is not null"
    assert ask(f"select min(duration) >= 0, count(*) from canonical where {timed}") == [(True, 71_371)]
    assert ask(f"select touchpoint from canonical where {timed} and touchpoint not like 'W\\_%' escape '\\'") == []


@pytest.mark.needs_shared_data
def test_no_cutoff_falls_between_a_cancellation_and_what_comes_with_it(asked: Callable[[str], Ask]) -> None:
    split = asked("bpic2012")(
        """
        select customer_id from canonical as sign
        join canonical as outcome using (customer_id)
        where outcome.touchpoint = 'A_CANCELLED' and sign.timestamp <= outcome.timestamp
          and outcome.timestamp - sign.timestamp <= interval 10 minute
          and sign.timestamp::date <> outcome.timestamp::date
        """
    )
    assert split == []


@pytest.mark.needs_shared_data
def test_the_retail_test_cutoff_looks_at_2958_people_of_whom_46_percent_lapse(asked: Callable[[str], Ask]) -> None:
    snapshots = load_config(FOLDER / "online_retail.yaml").snapshots
    assert snapshots.start is not None and snapshots.test_start is not None
    assert snapshots.test_start == snapshots.end
    assert format_instant(snapshots.test_start) == "2011-10-01"
    assert (snapshots.test_start - snapshots.start) % snapshots.every.us == 0
    [(people, lapsed)] = asked("online_retail")(
        f"""
        with person as (
          select customer_id,
            bool_or(timestamp < '2011-10-01'
                    and timestamp >= '2011-10-01'::timestamp - interval {snapshots.lookback.us // DAY_US} day) as seen,
            bool_or(timestamp >= '2011-10-01' and timestamp < '2011-11-30') as came
          from canonical group by 1
        )
        select count(*), avg(if(came, 0, 1)) from person where seen
        """
    )
    assert people == 2_958
    assert lapsed == pytest.approx(0.464, abs=0.0005)


@pytest.mark.needs_shared_data
def test_a_retail_visit_is_one_order_and_at_most_one_return(asked: Callable[[str], Ask]) -> None:
    ask = asked("online_retail")
    assert ask("select count(*), count(distinct (customer_id, timestamp, touchpoint)) from canonical") == [
        (22_094,) * 2
    ]
    assert ask("from canonical where touchpoint = 'return' and value > 0") == []


@pytest.mark.needs_shared_data
def test_students_do_nothing_once_they_have_left(asked: Callable[[str], Ask]) -> None:
    ask = asked("oulad")
    late = "from canonical join leavers using (customer_id) where canonical.timestamp >= leavers.timestamp"
    assert ask(f"select count(*) {late}") == [(0,)]
    assert ask("select count(*), count(distinct customer_id) from leavers") == [(10_072, 10_072)]


@pytest.mark.needs_shared_data
def test_a_deadline_is_missed_only_without_work_by_then(asked: Callable[[str], Ask]) -> None:
    ask = asked("oulad")
    for kind in ("tma", "cma"):
        [(due, missed, both)] = ask(
            f"""
            with due as (
              select customer_id, timestamp as deadline, count(*) as n from canonical
              where touchpoint = '{kind}_due' group by all
            ), missed as (
              select customer_id, timestamp - interval 1 day as deadline, count(*) as n from canonical
              where touchpoint = '{kind}_missed' group by all
            ), in_time as (
              select customer_id, timestamp + to_days(days_early::int) as deadline, count(*) as n from canonical
              where touchpoint = '{kind}_submitted' and days_early >= 0 group by all
            )
            select sum(due.n), sum(missed.n),
              count(*) filter (coalesce(missed.n, 0) + coalesce(in_time.n, 0) > due.n)
            from due
            left join missed using (customer_id, deadline)
            left join in_time using (customer_id, deadline)
            """
        )
        assert due > missed > 0
        assert both == 0  # no deadline is met and missed


@pytest.mark.needs_shared_data
def test_no_student_with_an_unknown_day_of_withdrawal_is_learned_from(asked: Callable[[str], Ask]) -> None:
    unknown = """
        from student join registration using (code_module, code_presentation, id_student)
        where final_result = 'Withdrawn' and date_unregistration is null
    """
    ask = asked("oulad")
    assert ask(f"select count(*) {unknown}") == [(93,)]
    key = "concat_ws('-', code_module, code_presentation, id_student)"
    assert ask(f"select customer_id from canonical where customer_id in (select {key} {unknown})") == []
    assert "final_result" not in {column for column, *_ in ask("describe attributes_of")}


@pytest.mark.needs_shared_data
def test_each_order_survey_has_its_answer_before_the_next_is_sent(asked: Callable[[str], Ask]) -> None:
    steps = asked("olist")(
        """
        select customer_id, list(touchpoint order by timestamp) as step from canonical
        where touchpoint in ('survey_sent', 'survey_answer') group by 1
        """
    )
    assert len(steps) > 20_000
    assert all(step == ["survey_sent", "survey_answer"] * (len(step) // 2) for _, step in steps)
    assert asked("olist")("from canonical where touchpoint = 'survey_answer' and score not between 1 and 5") == []


@pytest.mark.needs_shared_data
def test_a_broken_promise_is_never_of_an_order_delivered_by_then(asked: Callable[[str], Ask]) -> None:
    ask = asked("olist")
    pair = """
        from canonical as promise join canonical as delivery using (customer_id, case_id)
        where promise.touchpoint = 'promise_broken' and delivery.touchpoint = 'delivered'
    """
    assert ask(f"select count(*) > 1000, bool_and(delivery.timestamp >= promise.timestamp) {pair}") == [(True, True)]


@pytest.mark.needs_shared_data
def test_the_airport_survey_gives_the_published_net_promoter_score(asked: Callable[[str], Ask]) -> None:
    [(answers, score)] = asked("sfo_airport")(
        """
        select count(*), 100 * (avg(if(score >= 9, 1, 0)) - avg(if(score <= 6, 1, 0)))
        from canonical where touchpoint = 'survey_answer'
        """
    )
    assert answers == 2_746
    assert score == pytest.approx(39.8, abs=0.05)


@pytest.mark.needs_shared_data
@pytest.mark.parametrize("name", ["sfo_airport", "sfo_overall"])
def test_an_airport_journey_ends_with_the_question_and_the_answer(name: str, asked: Callable[[str], Ask]) -> None:
    ends = asked(name)(
        """
        with journey as (select list(touchpoint order by timestamp) as step from canonical group by customer_id)
        select distinct if(list_contains(step, 'survey_answer'), step[-2:], step[-1:]) from journey
        """
    )
    assert sorted(end for (end,) in ends) == [["survey_sent"], ["survey_sent", "survey_answer"]]


@pytest.mark.needs_shared_data
@pytest.mark.parametrize("name", ["sfo_airport", "sfo_overall"])
def test_codes_that_are_no_ratings_are_no_ratings(name: str, asked: Callable[[str], Ask]) -> None:
    ask = asked(name)
    scores = ask("select distinct score from canonical where touchpoint <> 'survey_answer' order by all nulls last")
    assert scores == [(1,), (2,), (3,), (4,), (5,), (None,)]
    for measure in load_config(FOLDER / f"{name}.yaml").journeys.measures:
        assert ask(f"select min({measure}), max({measure}) from canonical") == [(1, 5)]


def test_the_overall_rating_and_the_net_promoter_question_are_never_in_one_project() -> None:
    queries = {
        name: " ".join(source.query or "" for source in load_config(FOLDER / f"{name}.yaml").journeys.sources)
        for name in ("sfo_airport", "sfo_overall")
    }
    assert "Q7ALL" not in queries["sfo_airport"]
    assert "NETPRO" not in queries["sfo_overall"]


@pytest.mark.needs_shared_data
def test_each_year_of_the_airport_survey_gives_all_its_overall_ratings(asked: Callable[[str], Ask]) -> None:
    ask = asked("sfo_overall")
    columns = {2012: "Q8N_WHOLE", 2013: "Q7O_WHOLE", 2014: "Q7ALL", 2015: "Q7ALL", 2016: "Q7ALL", 2017: "Q7ALL"}
    for year, column in columns.items():
        raw = ask(f"""select avg(try_cast("{column}" as int)), count(*) from y{year}
                      where try_cast("{column}" as int) between 1 and 5""")
        answers = f"canonical where touchpoint = 'survey_answer' and year(timestamp) = {year}"
        assert ask(f"select avg(score), count(*) from {answers}") == raw
