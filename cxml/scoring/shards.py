"""A batch in shards: several machines or jobs score their share of the customers, and the shards make the whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError, DataError
from cxml.journeys.digest import add_column
from cxml.journeys.shuffle import N_PARTS, parts_of_integers, parts_of_texts

if TYPE_CHECKING:
    import pyarrow

    from cxml.journeys.log import JourneyLog

#: Key of what cxml says of a file, in the metadata of its Parquet schema.
NOTE = b"cxml"


@dataclass(frozen=True, slots=True)
class Shard:
    """Which share of the customers.

    Parameters
    ----------
    i, n : int
        Shard ``i`` of ``n``, from 1: the customers of the partitions ``p`` (by hash, see `partitions_of`) with
        ``p % n == i - 1``.

    Examples
    --------
    >>> Shard.parse("2/5")
    Shard(i=2, n=5)
    """

    i: int
    n: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``i/n``.

        Raises
        ------
        ConfigError
            If it is none, or there are more shards than partitions.
        """
        found = re.fullmatch(r"\s*(\d{1,4})\s*/\s*(\d{1,4})\s*", text)
        shard = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= shard.i <= shard.n <= N_PARTS:
            raise ConfigError(
                f"--shard '{text}': write I/N, the shard and how many there are, such as 2/5; N is at most {N_PARTS}"
            )
        return shard

    def holds(self, partition: Any) -> Any:
        """Tell whether a partition, or which of an array of them, belongs to the shard."""
        return partition % self.n == self.i - 1

    def __str__(self) -> str:
        return f"{self.i}/{self.n}"


def partitions_of(customers: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Say which partition, 0 to 63, each customer belongs to: by a hash of the id alone.

    Parameters
    ----------
    customers : int64 or object (str) array

    Returns
    -------
    uint8 array of the same shape

    Examples
    --------
    >>> bool(partitions_of(np.array([17]))[0] == partitions_of(np.array(["17"], dtype=object))[0])
    True
    """
    if customers.dtype == object:
        return parts_of_texts(customers.tolist(), N_PARTS)
    return parts_of_integers(np.ascontiguousarray(customers, np.int64), N_PARTS)


def in_shard(customers: NDArray[np.generic], shard: Shard) -> NDArray[np.bool_]:
    """Tell which customers belong to a shard.

    Parameters
    ----------
    customers : int64 or object (str) array
    shard : Shard

    Returns
    -------
    bool array of the same shape
    """
    return np.asarray(shard.holds(partitions_of(customers)), bool)


def shard_note(key: str, log: JourneyLog, shard: Shard) -> dict[str, str]:
    """Say what a shard is of: of which question, and of a log with how many events of which customers.

    Parameters
    ----------
    key : str
        Of the question.
    log : JourneyLog
    shard : Shard

    Returns
    -------
    dict of str to str
        To be kept in the file.
    """
    found = log.quality  # without the places of files, which are others on other machines
    facts = (
        found.rows_read,
        found.rows_kept,
        found.reasons,
        found.duplicates,
        found.late_events,
        found.first,
        found.last,
    )
    digest = hashlib.sha256(repr((key, facts)).encode())
    add_column(digest, log.events.customers)
    counts = log.events.facts.counts
    add_column(digest, np.sort(counts))  # in the order of the parts, which depends on how the log is held
    return {"kind": "shard", "shard": str(shard), "of": digest.hexdigest()[:16]}


def noted(schema: pyarrow.Schema, note: dict[str, Any] | None) -> pyarrow.Schema:
    """Give a schema that carries a note, and nothing else."""
    bare = schema.remove_metadata()
    return bare if note is None else bare.with_metadata({NOTE: json.dumps(note, sort_keys=True).encode()})


def note_of(path: Path) -> dict[str, Any]:
    """Read the note that a Parquet file carries; empty where it has none.

    Raises
    ------
    DataError
        If it is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except FileNotFoundError:
        raise ConfigError(f"no file '{path}'") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"'{path}' is no Parquet file: {error}") from None
    return dict(json.loads(metadata[NOTE])) if NOTE in metadata else {}


def n_rows(path: Path) -> int:
    """Say how many rows a Parquet file has."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def check_shards(paths: Sequence[Path]) -> None:
    """Refuse files that are not all the shards of one run, each once.

    Parameters
    ----------
    paths : sequence of Path

    Raises
    ------
    ConfigError
        If one is no shard, is there twice, or some are missing.
    DataError
        If they were made from other journeys, at another cutoff, with another model or other options.
    """
    notes = [note_of(path) for path in paths]
    seen: dict[str, Path] = {}
    for path, note in zip(paths, notes, strict=True):
        if note.get("kind") != "shard":
            raise ConfigError(f"'{path}' is no shard; shards are what cxml score --shard I/N writes to Parquet")
        if note["of"] != notes[0]["of"]:
            raise DataError(
                f"'{path}' and '{paths[0]}' are not of one run: journeys, model, cutoff or options differ. "
                "Score the shards anew, all from the same data, with the same cutoff."
            )
        if note["shard"] in seen:
            raise ConfigError(f"'{path}' and '{seen[note['shard']]}' are both shard {note['shard']}; name each once")
        seen[note["shard"]] = path
    sizes = {Shard.parse(shard).n for shard in seen}
    if len(sizes) > 1:
        raise ConfigError(f"the shards were cut in different ways: {', '.join(seen)}. Score all with one N.")
    n = max(sizes)
    missing = [f"{i}/{n}" for i in range(1, n + 1) if f"{i}/{n}" not in seen]
    if missing:
        raise ConfigError(f"{len(seen)} of {n} shards are there; missing: {', '.join(missing)}")
