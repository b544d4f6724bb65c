"""Laws of the leakage check, on random journeys: the kernel passes with everything a plan can hold."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference_annotations import DAY_US, Step, block_of_steps
from test_annotation_properties import SETTINGS, SUMMER, journeys, moments
from test_derived_properties import ALIVE
from test_derived_properties import NAMES as STATISTICS_NAMES

from cxml.features.annotations import ANNOTATIONS
from cxml.features.folds import N_FOLDS
from cxml.features.leakage import TAMPERINGS, _tamper_events, _tamper_table, _widen, _widen_events, check_leakage
from cxml.features.peers import PeerTable
from cxml.features.plan import FeaturePlan
from cxml.features.promises import OVERDUE
from cxml.features.spec import STATISTICS, Aggregate
from cxml.journeys.block import Coded, CustomerTable

MEASURES = [name for name, annotation in ANNOTATIONS.items() if annotation.kind == "measure"]
CATEGORIES = [name for name, annotation in ANNOTATIONS.items() if annotation.kind == "category"]
OF_ANNOTATIONS = (
    *(f"{s}__{name}__7d" for name in MEASURES for s in ("count", "sum", "mean", "min", "max", "last", "std", "decay")),
    *(f"{s}__{name}__7d" for name in CATEGORIES for s in ("distinct", "entropy")),
    *(f"{s}__{name}=other" for name in CATEGORIES for s in ("days_since", "ever")),
    "count__gap<1&case_id=other__7d", "share__gap@previous=call__7d", "ratio__reaction__1d/7d",
)  # fmt: skip
PLAN = FeaturePlan(
    tuple(map(Aggregate.parse, dict.fromkeys((*STATISTICS_NAMES, "tenure_days", *OF_ANNOTATIONS)))),
    {
        "touchpoint": ("call", "help", "play"), "channel": ("app", "phone", "web"), "case_id": ("1",),
        "level": ("gold", "silver"), "plan": ("flat", "free"),
        **dict.fromkeys(CATEGORIES, ("call", "morning")),
    },
    stages={"call": "support", "play": "usage", "shop": "usage"},
    attributes=("channel", "transition"),
    customer_attributes=("plan",),
    alive=ALIVE,
    annotations=SETTINGS,
    custom=tuple(OVERDUE),
    peers=(
        PeerTable("plan", "churn", (SUMMER - DAY_US, SUMMER), (((0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 1)),) * N_FOLDS),
        PeerTable("channel", "score", (SUMMER,), (((1.0, 2.0, 3.0, 4.0, 5.0),),) * N_FOLDS),
    ),
)  # fmt: skip
few_examples = settings(deadline=None, max_examples=25)


@st.composite
def tables(draw, n_customers):
    rows = draw(st.lists(st.tuples(st.integers(0, n_customers - 1), moments, st.integers(-1, 1)), max_size=6))
    customers, since, codes = zip(*sorted(rows), strict=True) if rows else ((), (), ())
    coded = Coded(np.array(codes, np.int32), ("flat", "free"))
    return CustomerTable(np.array(customers, np.int64), np.array(since, np.int64), {"plan": coded})


@st.composite
def logs(draw):
    """A block with ties, cases and, by chance, late knowledge; and a customer table."""
    late = draw(st.booleans())
    people = draw(st.lists(journeys(late=late), min_size=1, max_size=4))
    return block_of_steps(dict(enumerate(people))), draw(tables(len(people)))


cutoffs = st.lists(moments, min_size=1, max_size=3, unique=True)


def snapshots(block, at):
    index = pd.MultiIndex.from_product([block.customers, pd.to_datetime(at, unit="us", utc=True)])
    return index.to_frame(index=False, name=["customer_id", "cutoff"])


def test_the_plan_of_these_tests_holds_everything_there_is():
    assert {a.statistic for a in PLAN.aggregates} == set(STATISTICS)
    assert set(PLAN.compiled.annotations) == set(ANNOTATIONS)


@few_examples
@given(logs(), cutoffs, st.integers(0, 5))
@example((block_of_steps({0: [Step(9)], 1: []}), None), [5, 9], 0)
@example((block_of_steps({0: [Step(0, "offer"), Step(0, "call", late=3 * DAY_US)]}), None), [3 * DAY_US], 1)
def test_the_kernel_with_all_statistics_and_annotations_knows_nothing_of_the_future(log, at, seed):
    block, table = log
    journey_log = SimpleNamespace(blocks=lambda: iter([block]), customers=table)
    report = check_leakage(journey_log, PLAN, snapshots(block, at), random_state=seed)
    assert report.clean, report.columns


def rows_of(block):
    """Every event as plain values: customer, when, when known, what."""
    owner = np.repeat(block.customers, np.diff(block.starts))
    known = block.time if block.known is None else block.known
    columns = [[[*c.vocabulary, None][code] for code in c.codes.tolist()] for _, c in sorted(block.categories.items())]
    columns += [[str(value) for value in values] for _, values in sorted(block.measures.items())]
    return list(zip(owner.tolist(), block.time.tolist(), known.tolist(), *columns, strict=True))


@few_examples
@given(logs(), moments, st.sampled_from(TAMPERINGS), st.integers(0, 5))
def test_tampering_leaves_the_past_as_it_is_and_in_its_order(log, cutoff, how, seed):
    block, _ = log
    tampered = _tamper_events(_widen_events(block, PLAN), cutoff, how, np.random.default_rng(seed))
    before, after = ([r for r in rows_of(b) if r[1] < cutoff and r[2] < cutoff] for b in (block, tampered))
    assert before == after
    steps = np.diff(tampered.time)
    inner = np.setdiff1d(np.arange(len(steps)), tampered.starts[1:-1] - 1)
    assert (steps[inner] >= 0).all()


@few_examples
@given(logs(), moments, st.sampled_from(TAMPERINGS), st.integers(0, 5))
def test_tampering_leaves_the_past_of_the_customer_table_as_it_is(log, cutoff, how, seed):
    block, table = log

    def past(table):
        coded = table.attributes["plan"]
        texts, rows = [*coded.vocabulary, None], zip(table.customers, table.valid_from, coded.codes, strict=True)
        return [(int(who), int(since), texts[code]) for who, since, code in rows if since < cutoff]

    wide = CustomerTable(table.customers, table.valid_from, _widen(table.attributes, {}))
    tampered = _tamper_table(wide, block.customers, cutoff, how, np.random.default_rng(seed))
    assert past(tampered) == past(table)
    assert list(zip(tampered.customers, tampered.valid_from, strict=True)) == sorted(
        zip(tampered.customers, tampered.valid_from, strict=True)
    )
