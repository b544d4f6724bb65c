"""One journey at one moment: the kernel without what a batch needs around it.

`cxml.features.matrix.fill_matrix` checks its arrays, shares work among threads and binds a plan to each block anew; for
one journey that costs several times what the kernel does. Here the binding is done once for a plan. What is rare goes
the general way: annotations, user features, rates among peers, conditions, events that became known late.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cxml.features.kernel import fill_extended, fill_rows, map_codes
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.selectors import EVERYTHING
from cxml.features.spec import OTHER
from cxml.journeys.block import Coded, CustomerTable, EventBlock

Float32 = NDArray[np.float32]

_NONE = np.empty(0, np.int64)
_ONE_ROW = np.array([0, 1], np.int64)


class SingleRow:
    """A feature plan bound for one journey at a time; holds no state between calls.

    Parameters
    ----------
    plan : FeaturePlan

    Examples
    --------
    >>> from cxml.features.spec import Aggregate
    >>> from cxml.journeys.block import Coded
    >>> plan = FeaturePlan((Aggregate("count", "touchpoint=call", "1d"),), {"touchpoint": ("call",)})
    >>> block = EventBlock(np.array([7]), np.array([0, 2]), np.array([0, 10]), None,
    ...                    {"touchpoint": Coded(np.zeros(2, np.int32), ("call",))})
    >>> SingleRow(plan).fill(block, 11)
    array([[2.]], dtype=float32)
    """

    def __init__(self, plan: FeaturePlan) -> None:
        self.plan = plan
        compiled = plan.compiled
        selected = any(selector != EVERYTHING for _, selector in compiled.apart.values())
        self._general = bool(selected or compiled.annotations or compiled.conditions or plan.custom or plan.peers)
        self._null = int(compiled.tables.null_slot)
        self._columns = [] if self._general else [self._binding(name) for name in compiled.columns[1:]]
        first = len(plan.columns) - len(plan.customer_attributes)
        self._attributes = []
        for column, name in enumerate(plan.customer_attributes, start=first):
            codes = {value: float(code) for code, value in enumerate(plan.vocabularies[name])}
            self._attributes.append((column, name, codes | {OTHER: float(len(codes))}))

    def _binding(self, name: str) -> tuple[str, Mapping[str, int], int]:
        """Say where a slot column comes from, the slots of its values, and that of any other value."""
        compiled = self.plan.compiled
        slot_of = compiled.slot_of[name]
        category, _ = compiled.apart.get(name, (name, EVERYTHING))
        if category != "stage" or not compiled.stages:
            return category, slot_of, slot_of[OTHER]
        slots = {touchpoint: slot_of.get(stage, self._null) for touchpoint, stage in compiled.stages.items()}
        return "touchpoint", slots, slot_of.get("", self._null)

    def fill(self, block: EventBlock, cutoff: int, about: Mapping[str, str | None] | None = None) -> Float32:
        """Compute the features of the block's one customer.

        Parameters
        ----------
        block : EventBlock
            Of one customer, in order, as `cxml.journeys.records` makes it.
        cutoff : int
            UTC microseconds.
        about : mapping of str to str or None, optional
            The attributes of the customer that the customer table would hold.

        Returns
        -------
        float32 array of shape (1, n_columns)
            The bits of `cxml.features.matrix.fill_matrix`.
        """
        cutoffs = np.array([cutoff], np.int64)
        if self._general or block.known is not None:
            table = self._table(block.customers, about)
            return fill_matrix(self.plan, block, _ONE_ROW, cutoffs, table, threads=1)
        compiled, time = self.plan.compiled, block.time
        out = np.empty((1, len(self.plan.columns)), np.float32)
        slots, values = self._slots(block), np.empty((len(time), len(compiled.measures)))
        for column, name in enumerate(compiled.measures):
            values[:, column] = block.measures.get(name, np.nan)
        rest = ((0, 1), block.starts, 0, time, time, _NONE, slots, values, None, _ONE_ROW, cutoffs, _NONE, out)
        fill_rows(compiled.tables, *rest)
        if compiled.extended is not None:
            fill_extended(compiled.extended, *rest)
        for column, name, code_of in self._attributes:
            text = None if about is None else about.get(name)
            out[0, column] = np.nan if text is None else code_of.get(text, code_of[OTHER])
        return out

    def _table(self, ids: NDArray[np.generic], about: Mapping[str, str | None] | None) -> CustomerTable | None:
        if about is None or not self.plan.customer_attributes:
            return None
        texts = {name: about.get(name) for name in self.plan.customer_attributes}
        coded = {
            name: Coded(np.array([-1 if text is None else 0], np.int32), () if text is None else (text,))
            for name, text in texts.items()
        }
        return CustomerTable(ids, np.full(1, np.iinfo(np.int64).min), coded)

    def _slots(self, block: EventBlock) -> NDArray[np.uint32]:
        slots = np.empty((block.n_events, len(self._columns) + 1), np.uint32)
        slots[:, 0] = 0
        for column, (source, slot_of, other) in enumerate(self._columns, start=1):
            coded = block.categories.get(source)
            if coded is None:
                slots[:, column] = self._null
                continue
            table = np.array([*[slot_of.get(value, other) for value in coded.vocabulary], self._null], np.uint32)
            map_codes(coded.codes, table, slots[:, column])
        return slots
