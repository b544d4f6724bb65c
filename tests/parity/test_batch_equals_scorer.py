"""The nightly job and the scorer inside a service give the same answer, in every bit, reasons included."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxml.demo import write_simulation
from cxml.models.store import load_model
from cxml.project import Project
from cxml.scoring.batch import score_log
from cxml.scoring.scorer import Scorer
from cxml.simulate import simulate
from cxml.times import format_instant, parse_instant

SHIPPED = Path(__file__).parents[2] / "models" / "telecom_demo"
CUTOFFS = ["2023-08-01", "2024-03-10T12:00:00Z", "2024-09-01", "2025-06-01"]
N_CUSTOMERS = 250


def rough(events: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Events as feeds deliver them: many at one moment, some late, some twice, some strange, with holes."""
    n = len(events)
    rough = events.sample(frac=1.0, random_state=1).reset_index(drop=True)
    rough["timestamp"] = rough["timestamp"].dt.floor("6h")
    late = pd.to_timedelta(np.where(rng.random(n) < 0.2, rng.integers(0, 30 * 24, n), 0), unit="h")
    rough["available_at"] = (rough["timestamp"] + late).where(rng.random(n) < 0.9)
    rough["touchpoint"] = rough["touchpoint"].astype(str)
    odd = (rough["customer_id"] % 10 == 3) & (rng.random(n) < 0.7)
    rough.loc[odd, "touchpoint"] = rng.choice(["teleported", "Ärger", "login "], int(odd.sum()))
    rough["channel"] = rough["channel"].astype(object).where(rng.random(n) < 0.8, None)
    for name in ("value", "duration", "score"):
        rough[name] = rough[name].where(rng.random(n) < 0.9)
    rough.loc[rng.random(n) < 0.05, "value"] = -0.0
    return pd.concat([rough, rough.sample(frac=0.05, random_state=2)], ignore_index=True)


@pytest.fixture(scope="module")
def simulation():
    return simulate(N_CUSTOMERS, n_replays=1, random_state=11)


@pytest.fixture(scope="module")
def events(simulation):
    return rough(simulation.events, np.random.default_rng(0))


@pytest.fixture(scope="module")
def read(simulation, tmp_path_factory):
    """Read a frame of events, with the simulation's customers, from files."""

    def read(frame: pd.DataFrame):
        folder = tmp_path_factory.mktemp("shop")
        write_simulation(simulation, folder)
        frame.to_parquet(folder / "events.parquet")
        return Project.from_file(folder / "project.yaml").read(quarantine=folder / "quarantine.parquet")

    return read


@pytest.fixture(scope="module")
def log(read, events):
    return read(events)


@pytest.fixture(scope="module")
def model():
    return load_model(SHIPPED)


@pytest.fixture(scope="module")
def journeys(events):
    """Each customer's events as a service gets them: dicts, some without the missing keys, some with None."""
    found = {}
    for customer, rows in events.groupby("customer_id"):
        records = rows.astype(object).where(rows.notna(), None).to_dict("records")
        found[customer] = records if customer % 2 else [{k: v for k, v in r.items() if v is not None} for r in records]
    return found


@pytest.fixture(scope="module")
def batch(model, log):
    """The nightly job at every cutoff."""
    return {at: score_log(model, log, parse_instant(at), reasons=5, threads=2) for at in CUTOFFS}


def attributes_at(simulation, at: str) -> dict[int, dict[str, str]]:
    about = simulation.customers
    about = about[about["valid_from"] < pd.Timestamp(parse_instant(at), unit="us", tz="UTC")].sort_values("valid_from")
    latest = about.groupby("customer_id").last()[["plan", "region", "acquisition"]]
    return {customer: dict(row) for customer, row in zip(latest.index, latest.to_dict("records"), strict=True)}


def test_the_log_has_what_makes_parity_hard(log, batch):
    assert log.block.known is not None
    customer = np.repeat(np.arange(log.n_customers), np.diff(log.block.starts))
    ties = (np.diff(log.block.time) == 0) & (np.diff(customer) == 0)
    assert ties.sum() > 500
    assert (log.block.known > log.block.time).sum() > 500
    statuses = {status for table in batch.values() for status in table.column("status").to_pylist()}
    assert statuses == {"ok", "thin", "stale", "unseen"}


@pytest.mark.parametrize("at", CUTOFFS)
def test_every_customer_gets_the_same_answer_from_both(simulation, model, journeys, batch, at):
    scorer, about = Scorer(model), attributes_at(simulation, at)
    rows = batch[at].to_pylist()
    assert len(rows) > 10
    for row in rows:
        customer = row.pop("customer_id")
        answer = scorer.score(journeys[customer], at, customer=about.get(customer), reasons=5)
        row["cutoff"] = format_instant(parse_instant(row["cutoff"]))
        assert list(answer) == list(row)
        assert {name: repr(value) for name, value in answer.items()} == {n: repr(v) for n, v in row.items()}, customer


@pytest.mark.parametrize("at", CUTOFFS)
def test_the_order_of_rows_and_the_number_of_threads_change_nothing(model, read, events, batch, at):
    shuffled = read(events.sample(frac=1.0, random_state=5))
    assert score_log(model, shuffled, parse_instant(at), reasons=5, threads=1).equals(batch[at])


def test_nobody_is_scored_by_one_and_refused_by_the_other(log, journeys, batch):
    from cxml import DataError, load

    scorer = load(SHIPPED)
    scored = set(batch[CUTOFFS[0]].column("customer_id").to_pylist())
    rest = [customer for customer in log.block.customers.tolist() if customer not in scored]
    assert rest
    for customer in rest:
        with pytest.raises(DataError, match="at or after the cutoff"):
            scorer.score(journeys[customer], CUTOFFS[0])
