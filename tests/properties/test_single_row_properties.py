"""Laws of the features of one journey at a time: they have the bits of a block of many."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_features import DAY_US, coded, same_bits
from test_state_properties import (
    ANNOTATED,
    ANNOTATIONS,
    CUTOFFS,
    PLAIN,
    VOCABULARIES,
    WORDS,
    any_lateness,
    batch,
    journeys,
    plan_of,
)

from cxml.features.custom import OWN
from cxml.features.matrix import fill_matrix
from cxml.features.single import SingleRow
from cxml.journeys.block import CustomerTable

SIMPLE = tuple(
    name
    for name in PLAIN
    if not ("@level" in name or "&" in name or (name.startswith(("distinct", "entropy")) and "@" in name))
)
PLANS = {
    "bound once": plan_of(SIMPLE, custom=()),
    "without stages": plan_of(tuple(n for n in SIMPLE if "stage" not in n), custom=()),
    "with nothing wide": plan_of(SIMPLE, custom=(), wide={}),
    "with a category at a selector": plan_of((*SIMPLE, "distinct__touchpoint@channel=web__7d"), custom=()),
    "with conditions and user features": plan_of(PLAIN),
    "with annotations": plan_of(
        (*SIMPLE, *ANNOTATED), VOCABULARIES | WORDS, annotations=ANNOTATIONS, custom=(),
    ),
    "with what is said at a cutoff": plan_of(SIMPLE, annotations=ANNOTATIONS, custom=tuple(OWN)),
}  # fmt: skip


def test_one_of_the_plans_is_bound_once_and_others_are_not():
    general = {name: SingleRow(plan)._general for name, plan in PLANS.items()}
    assert not general["bound once"] and not general["without stages"] and not general["with nothing wide"]
    assert general["with a category at a selector"]
    assert general["with conditions and user features"] and general["with annotations"]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@settings(deadline=None, max_examples=60)
@given(
    journeys(any_lateness).filter(bool),
    st.sampled_from(CUTOFFS),
    st.one_of(
        st.none(), st.fixed_dictionaries({}, optional={"region": st.sampled_from(["n", "s", "x", "other", None])})
    ),
)
def test_a_row_alone_has_the_bits_of_the_batch(plan, events, cutoff, about):
    block, table = batch(events), None
    if about is not None:
        always = np.full(1, np.iinfo(np.int64).min)
        table = CustomerTable(block.customers, always, {"region": coded([about.get("region")])})
    expected = fill_matrix(plan, block, np.array([0, 1]), np.array([cutoff]), table)
    assert same_bits(SingleRow(plan).fill(block, cutoff, about), expected).all()


def test_a_binding_serves_one_journey_after_the_other():
    plan = PLANS["bound once"]
    row, one, other = (
        SingleRow(plan),
        batch([{"time": 0, "touchpoint": "call"}]),
        batch([{"time": 1, "touchpoint": "x"}]),
    )
    first = row.fill(one, DAY_US).copy()
    assert not same_bits(row.fill(other, DAY_US), first).all()
    assert same_bits(row.fill(one, DAY_US), first).all()
