"""What the driver of `cxml train --engine spark` does, without Spark."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cxml.snapshots.splits import Split, Splits
from cxml.training import spark


def test_parts_are_read_a_few_rows_at_a_time(tmp_path):
    for i in range(2):
        pq.write_table(pa.table({"row": np.arange(250) + 250 * i, "other": np.zeros(250)}), tmp_path / f"{i}.parquet")
    batches = list(spark._read_parts(None, str(tmp_path), 100, ["row"]))
    assert max(batch.num_rows for batch in batches) == 100
    assert batches[0].schema.names == ["row"]
    assert np.concatenate([batch.column("row").to_numpy() for batch in batches]).tolist() == list(range(500))


def test_wide_features_are_cut_into_more_parts():
    session = SimpleNamespace(sparkContext=SimpleNamespace(defaultParallelism=2))
    splits = Splits(Split(1, 2, 3), np.arange(24), Split(1, 2, 3))
    log = SimpleNamespace(n_customers=200_000, n_events=10_000_000)
    few, many = (spark._n_parts(session, log, SimpleNamespace(columns=range(n)), splits) for n in (1, 2_000))
    assert few == 10  # a million events each
    assert 200_000 / many * 25 * 2_000 * 4 < 2**31 / 8  # snapshots x columns x bytes
    small = SimpleNamespace(n_customers=10, n_events=100)
    assert spark._n_parts(session, small, SimpleNamespace(columns=range(9)), splits) == 4
