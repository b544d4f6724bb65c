"""Laws of what becomes of finished parts: however rows were spread, they come out in one order, each once."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxml.files import sha256_file
from cxml.scoring import output
from cxml.scoring.changes import apply_changes, changes_since
from cxml.scoring.output import merged, regrouped
from cxml.scoring.shards import Shard, in_shard, partitions_of

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()), ("cutoff", pa.timestamp("us", "UTC")), ("churn_30d", pa.float64()),
        ("reason_1", pa.string()),
    ]
)  # fmt: skip
VALUES = st.tuples(st.sampled_from([0.0, -0.0, 0.25, 0.5, None]), st.sampled_from(["call", "", None]))
ROWS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3), VALUES, max_size=30)


@pytest.fixture(scope="module", autouse=True)
def little_at_a_time():
    """Let even a few rows be many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "GROUP_ROWS", 5)
        patch.setattr(output, "_BATCH_ROWS", 3)
        yield


def table(rows: dict, cutoff: int | dict = 0) -> pa.Table:
    """Rows of scores as a batch has them: by customer, ascending by code point."""
    ids = sorted(rows)
    cutoffs = [cutoff if isinstance(cutoff, int) else cutoff[i] for i in ids]
    columns = [ids, cutoffs, [rows[i][0] for i in ids], [rows[i][1] for i in ids]]
    return pa.table([pa.array(values, kind) for values, kind in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA)


def whole(tables) -> pa.Table:
    return pa.concat_tables(tables).combine_chunks()


@given(ROWS, st.integers(1, 6), st.randoms())
def test_however_rows_are_spread_over_files_they_come_in_one_order(rows, n_files, random):
    spread = [random.randrange(n_files) for _ in sorted(rows)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.parquet" for i in range(n_files)]
        for i, file in enumerate(files):
            pq.write_table(table({k: rows[k] for k, to in zip(sorted(rows), spread, strict=True) if to == i}), file)
        schema, tables = merged(files)
        groups = list(tables)
    assert schema.equals(SCHEMA)
    assert whole(groups).equals(table(rows))
    assert [len(group) for group in groups[:-1]] == [5] * (len(groups) - 1)
    assert len(groups[-1]) <= 5


@given(ROWS, ROWS, st.sampled_from(["one", "own"]), st.data())
def test_an_earlier_run_with_its_changes_is_the_full_run(old, new, kind, data):
    new |= {key: old[key] for key in sorted(old)[::2]}  # some rows are as they were
    if kind == "one":
        run, full, cutoff = table(old, 7), table(new, 9), 9
    else:
        moments = {key: data.draw(st.integers(1, 2)) for key in sorted({*old, *new})}
        run, full, cutoff = (
            table(old, moments),
            table(new, {key: moment % 2 + 1 for key, moment in moments.items()}),
            None,
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.parquet"
        pq.write_table(run, file)
        schema, tables = changes_since(regrouped([full], SCHEMA), SCHEMA, file, cutoff)
        changes = whole(tables).replace_schema_metadata(schema.metadata)
        again = apply_changes(run, changes, since=sha256_file(file))
    assert again.equals(full)
    signs = [np.signbit(one.column("churn_30d").fill_null(1.0).to_numpy()) for one in (again, full)]
    assert (signs[0] == signs[1]).all()
    ids = changes.column("customer_id").to_pylist()
    assert ids == sorted(set(ids))
    what = dict(zip(ids, changes.column("change").to_pylist(), strict=True))
    assert {key for key, change in what.items() if change == "gone"} == set(old) - set(new)
    assert {key for key, change in what.items() if change == "new"} == set(new) - set(old)
    if kind == "one":
        assert {key for key, change in what.items() if change == "changed"} == {
            key for key in set(old) & set(new) if repr(old[key]) != repr(new[key])
        }


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True), st.integers(1, 64))
def test_every_customer_is_in_one_shard_whatever_the_form_of_the_id(ids, n):
    numbers, texts = np.array(ids, np.int64), np.array([str(one) for one in ids], dtype=object)
    held = np.array([in_shard(numbers, Shard(i, n)) for i in range(1, n + 1)])
    assert (held.sum(axis=0) == 1).all()
    assert (partitions_of(numbers) == partitions_of(texts)).all()
