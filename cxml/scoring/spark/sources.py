"""What is to be read: pieces of files for workers to read, tables of Spark's, and side tables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import DataError
from cxml.scoring.spark.job import CUSTOMERS, LEAVERS, Job, Piece
from cxml.scoring.spark.read import chunks

if TYPE_CHECKING:
    from cxml.config import ProjectConfig
    from cxml.journeys.block import CustomerTable

Int64 = NDArray[np.int64]

#: A Parquet file of more rows than this is read by several tasks.
PIECE_ROWS = 1_000_000
_ROW_BYTES = 50  # of a text file, about


def pieces_of(number: int, source: Any, folder: str | os.PathLike[str]) -> tuple[list[Piece], int]:
    """Cut a source into pieces.

    Parameters
    ----------
    number : int
        Which source of the config.
    source : SourceConfig
    folder : path
        Where relative paths start.

    Returns
    -------
    pieces : list of Piece
    n_rows : int
        About how many rows; 0 for a query or a database, of which nobody knows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cxml.journeys.formats import find_files

    if source.path is None:
        return [Piece(number)], 0
    kind, files = find_files(source.path, folder, source.format)
    pieces, n_rows = [], 0
    for file in (file.resolve() for file in files):
        alone = Piece(number) if len(files) == 1 else Piece(number, str(file), kind)
        try:
            metadata = pq.read_metadata(file) if kind == "parquet" else None
        except (pa.ArrowException, OSError):
            metadata = None  # whoever reads it says what is wrong with it
        if metadata is None:
            pieces.append(alone)
            n_rows += file.stat().st_size // _ROW_BYTES
            continue
        n_rows += metadata.num_rows
        runs = list(_runs(metadata))
        pieces += [alone] if len(runs) == 1 else [Piece(number, str(file), kind, *run) for run in runs]
    return pieces, n_rows


def _runs(metadata: Any) -> Iterator[tuple[tuple[int, ...], int]]:
    """Cut the row groups of a file into runs of about `PIECE_ROWS`; give each run and the rows before it."""
    groups: tuple[int, ...] = ()
    first = n = 0
    for i in range(metadata.num_row_groups):
        rows = metadata.row_group(i).num_rows
        if groups and n + rows > PIECE_ROWS:
            yield groups, first
            groups, first, n = (), first + n, 0
        groups, n = (*groups, i), n + rows
    yield groups, first


def needed(frame: Any, job: Job) -> Any:
    """Select the columns of a table that are needed: all, where a predicate may speak of any."""
    from cxml.journeys.canonical import map_columns

    source = job.sources[0]
    found = map_columns(job.layout.columns, job.layout.required, source.columns, frame.columns, "the table")
    if source.where or job.journeys.where:
        return frame
    return frame.select(*("`" + name.replace("`", "``") + "`" for name in dict.fromkeys(found.values())))


@dataclass(frozen=True)
class Side:
    """The tables beside the events, read on the driver: they are small beside them."""

    customers: CustomerTable | None
    leavers: tuple[NDArray[np.generic], Int64] | None

    @classmethod
    def read(cls, config: ProjectConfig) -> Side:
        """Read those that the project file names."""
        from cxml.journeys.customers import read_churn_table, read_customers

        zone, churn = config.journeys.timezone, config.churn
        customers = None if config.customers is None else read_customers(config.customers, config.folder, zone)
        is_table = churn is not None and churn.kind == "table"
        return cls(customers, read_churn_table(churn, config.folder, zone) if churn is not None and is_table else None)

    @property
    def vocabularies(self) -> dict[str, tuple[str, ...]] | None:
        """Give those of the attributes of customers; None where there is no such table."""
        if self.customers is None:
            return None
        return {name: coded.vocabulary for name, coded in self.customers.attributes.items()}

    def chunks(self, n_parts: int) -> list[tuple[int, str, bytearray]]:
        """Cut both into chunks, as rows for Spark."""
        batches = []
        if self.customers is not None and len(self.customers.customers):
            codes = {name: coded.codes for name, coded in self.customers.attributes.items()}
            columns = {"customer_id": self.customers.customers, "valid_from": self.customers.valid_from, **codes}
            batches += chunks(CUSTOMERS, columns, n_parts)
        if self.leavers is not None and len(self.leavers[0]):
            columns = {"customer_id": self.leavers[0], "timestamp": self.leavers[1]}
            batches += chunks(LEAVERS, columns, n_parts)
        rows = [one for batch in batches for one in batch.to_pylist()]
        return [(row["part"], row["kind"], bytearray(row["payload"])) for row in rows]

    def demand_matches(self, facts: list[dict[str, Any]]) -> None:
        """Refuse tables that speak of other customers, as one machine does."""
        from cxml.journeys.customers import align_customers

        one = facts[0]["customer"]
        known = np.array([one], object if isinstance(one, str) else np.int64)
        if self.customers is not None and not any(part["customer_rows"] for part in facts):
            align_customers(self.customers, known)
        if self.leavers is not None and len(self.leavers[0]) and not any(part["leavers"] for part in facts):
            raise DataError(
                f"churn: none of the {len(self.leavers[0]):,} leavers is a customer of the journeys (first leaver "
                f"'{self.leavers[0][0]}', first customer '{one}'). Give both the same ids."
            )
