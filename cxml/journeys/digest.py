"""Digests of events and tables: they tell a job that goes on whether finished parts are still what it asks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cxml.journeys.block import CustomerTable, EventBlock


def block_digest(block: EventBlock) -> str:
    """SHA-256 of the content of a block, 64 hexadecimal digits.

    Parameters
    ----------
    block : EventBlock

    Returns
    -------
    str
    """
    digest = hashlib.sha256(b"cxml block 1")
    for column in (block.customers, block.starts, block.time):
        add_column(digest, column)
    if block.known is not None:
        digest.update(b"known")
        add_column(digest, block.known)
    for name, coded in sorted(block.categories.items()):
        digest.update(repr((name, coded.vocabulary)).encode())
        add_column(digest, coded.codes)
    for name, values in sorted(block.measures.items()):
        digest.update(name.encode())
        add_column(digest, values)
    return digest.hexdigest()


def add_column(digest: Any, values: NDArray[Any]) -> None:
    """Add an array to a digest: its kind, its length, its content; texts without a loop over them.

    Parameters
    ----------
    digest : hashlib object
    values : array of shape (n,)
        Of numbers or of texts.
    """
    digest.update(f"\n{values.dtype.str} {len(values)}\n".encode())
    if values.dtype == object:
        import pyarrow as pa

        texts = pa.array(values, pa.large_string())
        for buffer in texts.buffers()[1:]:
            digest.update(buffer)
    else:
        digest.update(np.ascontiguousarray(values).view(np.uint8).data)


def add_customers(digest: Any, table: CustomerTable | None) -> None:
    """Add the table of customers to a digest; nothing where there is none.

    Parameters
    ----------
    digest : hashlib object
    table : CustomerTable or None
    """
    if table is None:
        return
    add_column(digest, table.customers)
    add_column(digest, table.valid_from)
    for name, coded in table.attributes.items():
        digest.update(repr((name, coded.vocabulary)).encode())
        add_column(digest, coded.codes)
