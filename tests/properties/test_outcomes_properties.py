"""Laws of what is learned from outcomes, on random journeys: nobody's own outcome is in their own features."""

import json
import math
from collections import defaultdict
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from reference_annotations import DAY_US, Step, block_of_steps, past
from test_leakage_properties import snapshots

from cxml.config import parse_config
from cxml.features.annotations import AnnotationSettings
from cxml.features.folds import N_FOLDS, folds_of
from cxml.features.leakage import check_leakage
from cxml.features.matrix import fill_matrix
from cxml.features.outcomes import Outcomes, fit_likeness, learn_likeness, learn_peers, rates_of, tally
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate
from cxml.journeys.block import Coded, CustomerTable, slice_block
from cxml.training.hindsight import hindsight

TOUCHPOINTS = ("call", "play")
COLUMNS = (
    "mean__likeness__30d", "last__likeness__365d", "min__likeness__90d", "max__likeness__90d",
    "last__likeness_path__365d", "max__likeness_path__90d",
)  # fmt: skip
UNTIL = 300 * DAY_US
HORIZON = 20 * DAY_US
few_examples = settings(deadline=None, max_examples=60)
days = st.integers(0, 299).map(lambda day: day * DAY_US)


@st.composite
def journeys(draw, days=days):
    event = st.builds(
        Step,
        time=days,
        touchpoint=st.sampled_from(["call", "play", "visit", "cancel", "answer", "ask", None]),
        channel=st.sampled_from(["web", "phone", "shop", None]),
        score=st.sampled_from([0.0, 5.0, 10.0, float("nan")]),
        late=st.sampled_from([0, 0, 0, 1, DAY_US, 40 * DAY_US]),
    )
    return sorted(draw(st.lists(event, max_size=12)), key=lambda step: step.time)


@st.composite
def logs(draw):
    """Customers by id, a table of their plans, and outcomes: customer, cutoff, churned, score."""
    ids = draw(st.lists(st.integers(0, 40), min_size=2, max_size=7, unique=True))
    people = {customer: draw(journeys()) for customer in sorted(ids)}
    dated = draw(st.lists(st.tuples(st.integers(0, len(ids) - 1), days, st.integers(-1, 1)), max_size=6))
    customers, since, codes = zip(*sorted(dated), strict=True) if dated else ((), (), ())
    ids = np.array(sorted(ids), np.int64)[np.array(customers, np.int64)]
    plans = Coded(np.array(codes, np.int32), ("flat", "free"))
    table = CustomerTable(ids, np.array(since, np.int64), {"plan": plans})
    which = st.tuples(st.integers(0, len(people) - 1), days)
    ended = draw(st.dictionaries(which, st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 10)), max_size=25))
    return people, table, [(customer, cutoff, *ended[customer, cutoff]) for customer, cutoff in sorted(ended)]


def log_of(people, table=None, blocks=None):
    """What features look at in a log: its blocks, by default one."""
    block = block_of_steps(people)
    blocks = blocks or [block]
    return SimpleNamespace(
        map_blocks=lambda work: map(work, blocks),
        events=SimpleNamespace(n_parts=len(blocks)),
        customers=table,
        first=int(block.time.min(initial=UNTIL)),
    )


def known_of(people, ended, column):
    """Outcomes that become known a horizon after their cutoff."""

    def of_block(block):
        place = {customer: i for i, customer in enumerate(block.customers.tolist())}
        ours = [(place[who], *row[1:]) for row in ended if (who := list(people)[row[0]]) in place]

        def known(since, until):
            rows = [row for row in ours if since < row[1] + HORIZON <= until]
            arrays = np.array(rows, np.float64).reshape(-1, 4)
            return Outcomes(arrays[:, 0].astype(np.int64), arrays[:, 1].astype(np.int64), arrays[:, column])

        return known

    return of_block


def learned(people, table, ended, until=UNTIL, blocks=None):
    """A plan with everything that is learned from outcomes."""
    log = log_of(people, table, blocks)
    outcomes = {"churn": known_of(people, ended, 2), "score": known_of(people, ended, 3)}
    likeness = learn_likeness(log, outcomes, TOUCHPOINTS, until)
    plan = FeaturePlan(
        tuple(map(Aggregate.parse, ("count__all__90d", *(COLUMNS if likeness else ())))),
        {"channel": ("phone", "web"), "plan": ("flat", "free")},
        attributes=("channel",),
        customer_attributes=("plan",),
        annotations=AnnotationSettings(likeness=likeness),
    )
    peers = learn_peers(log, plan, outcomes, ("channel", "plan"), until)
    return FeaturePlan.from_dict(plan.to_dict() | {"peers": [one.to_dict() for one in peers]}), block_of_steps(people)


def rows_of(plan, block, table, cutoffs):
    row_starts = np.arange(block.n_customers + 1) * len(cutoffs)
    rows = fill_matrix(plan, block, row_starts, np.tile(np.sort(cutoffs), block.n_customers), table)
    return rows.reshape(block.n_customers, -1).view(np.uint32)


cutoff_lists = st.lists(st.integers(0, 400).map(lambda day: day * DAY_US), min_size=1, max_size=4)


@few_examples
@given(logs(), cutoff_lists, st.data())
def test_the_outcomes_of_a_customer_change_none_of_their_own_values(log, cutoffs, data):
    people, table, ended = log
    who = data.draw(st.integers(0, len(people) - 1))
    flipped = [(c, t, 1.0 - bad, 10.0 - score) if c == who else (c, t, bad, score) for c, t, bad, score in ended]
    (one, block), (other, _) = learned(people, table, ended), learned(people, table, flipped)
    assert one.columns == other.columns
    before, after = rows_of(one, block, table, cutoffs), rows_of(other, block, table, cutoffs)
    mates = folds_of(block.customers) == folds_of(block.customers)[who]
    np.testing.assert_array_equal(before[mates], after[mates])


def test_the_outcomes_of_others_do_change_values():
    people = {i: [Step(0, "call"), Step(DAY_US, "play", channel="web")] for i in range(20)}
    table = CustomerTable(np.empty(0, np.int64), np.empty(0, np.int64), {"plan": Coded(np.empty(0, np.int32), ())})
    ended = [(i, 2 * DAY_US, float(i == 0), 5) for i in range(20)]
    flipped = [(0, 2 * DAY_US, 0.0, 9), *ended[1:]]
    (one, block), (other, _) = learned(people, table, ended), learned(people, table, flipped)
    changed = (rows_of(one, block, table, [UNTIL]) != rows_of(other, block, table, [UNTIL])).any(axis=1)
    folds = folds_of(block.customers)
    np.testing.assert_array_equal(changed, folds != folds[0])


@few_examples
@given(logs(), cutoff_lists)
def test_one_customer_at_a_time_is_like_all_together_and_like_a_plan_that_was_written(log, cutoffs):
    people, table, ended = log
    plan, block = learned(people, table, ended)
    read = FeaturePlan.from_dict(json.loads(json.dumps(plan.to_dict(), allow_nan=False)))
    assert read == plan
    together = rows_of(plan, block, table, cutoffs)
    for i in range(block.n_customers):
        np.testing.assert_array_equal(rows_of(read, slice_block(block, i, i + 1), table, cutoffs)[0], together[i])


@few_examples
@given(logs(), st.data())
def test_blocks_of_some_customers_each_teach_what_one_of_all_does(log, data):
    people, table, ended = log
    whole, block = learned(people, table, ended)
    cuts = data.draw(st.sets(st.integers(1, block.n_customers - 1)))
    edges = [0, *sorted(cuts), block.n_customers]
    blocks = [slice_block(block, a, b) for a, b in pairwise(edges)]
    parted, _ = learned(people, table, ended, blocks=data.draw(st.permutations(blocks)))
    assert parted.to_dict() == whole.to_dict()


@settings(deadline=None, max_examples=15)
@given(logs(), st.lists(days, min_size=1, max_size=3, unique=True), st.integers(0, 5))
def test_no_value_knows_what_comes_after_its_cutoff(log, cutoffs, seed):
    people, table, ended = log
    plan, block = learned(people, table, ended)
    journey_log = SimpleNamespace(blocks=lambda: iter([block]), customers=table)
    assert check_leakage(journey_log, plan, snapshots(block, cutoffs), random_state=seed).clean


@few_examples
@given(logs(), st.integers(1, 9), st.data())
def test_rates_at_a_date_do_not_change_with_what_becomes_known_later(log, months, data):
    people, table, ended = log
    date = UNTIL - months * 30 * DAY_US
    later = [i for i, (_, cutoff, *_) in enumerate(ended) if cutoff + HORIZON > date]
    changed = data.draw(st.sets(st.sampled_from(later))) if later else set()
    other_ends = [(c, t, 1.0 - b, 10.0 - s) if i in changed else (c, t, b, s) for i, (c, t, b, s) in enumerate(ended)]
    (one, _), (other, _) = learned(people, table, ended), learned(people, table, other_ends)
    for before, after in zip(one.peers, other.peers, strict=True):
        assert before.dates == after.dates
        for i, when in enumerate(before.dates):
            if when <= date:
                assert [fold[i] for fold in before.rates] == [fold[i] for fold in after.rates]


@few_examples
@given(logs(), st.integers(1, 6))
def test_likeness_is_learned_as_it_is_defined(log, most):
    people, _, ended = log
    assume(ended)
    table = fit_likeness(
        log_of(people), lambda block: known_of(people, ended, 2)(block)(-UNTIL, 2 * UNTIL), TOUCHPOINTS, most
    )
    ids = list(people)
    for fold in range(N_FOLDS):
        expected = reference_likeness(people, [(ids[c], t, bad) for c, t, bad, _ in ended], fold, most)
        np.testing.assert_allclose(table.log_odds[fold], expected, atol=1e-6)


def reference_likeness(people, ended, fold, most):
    """Log-odds by row and column, from customers outside the fold."""
    names = [*TOUCHPOINTS, "other", "nothing before"]
    weight = defaultdict(float)
    for customer, cutoff, bad in ended:
        if folds_of(np.array([customer]))[0] == fold:
            continue
        steps = people[customer]
        seen = [i for i, step in enumerate(steps) if step.time < cutoff and step.known < cutoff][-most:]
        for i in seen:
            before = past(steps, i)
            row = before[-1].touchpoint if before else "nothing before"
            if row is not None and steps[i].touchpoint is not None:
                place = [name if name in names else "other" for name in (row, steps[i].touchpoint)]
                weight[*place, bad] += 1 / len(seen)

    def share(rows, columns, prior, strength):
        bad, good = (sum(weight[a, b, end] for a in rows for b in columns) for end in (1.0, 0.0))
        return (bad + prior * strength) / (bad + good + strength)

    everything = share(names, names, 0.5, 1.0)
    of_touchpoint = {b: share(names, [b], everything, 10.0) for b in names[:3]}
    return [[logit(share([a], [b], of_touchpoint[b], 10.0)) - logit(everything) for b in names[:3]] for a in names]


def logit(p):
    return math.log(p / (1 - p))


@few_examples
@given(logs())
def test_rates_are_those_of_customers_outside_the_fold(log):
    people, table, ended = log
    block, ids = block_of_steps(people), list(people)
    assume(len({folds_of(np.array([ids[c]]))[0] for c, *_ in ended}) > 1)
    plan = FeaturePlan(
        (),
        {"channel": ("phone", "web"), "plan": ("flat", "free")},
        attributes=("channel",),
        customer_attributes=("plan",),
    )
    found = known_of(people, ended, 3)(block)(-UNTIL, 2 * UNTIL)
    rates = {name: rates_of(one) for name, one in tally(block, table, plan, ("channel", "plan"), found).items()}
    for fold in range(N_FOLDS):
        others = [row for row in ended if folds_of(np.array([ids[row[0]]]))[0] != fold]
        overall = sum(row[3] for row in others) / len(others)
        for code, value in enumerate(["phone", "web", "other", None]):
            scores = [s for c, t, _, s in others if channel_at(people[ids[c]], t) == value]
            expected = (sum(scores) + 20 * overall) / (len(scores) + 20)
            assert math.isclose(rates["channel"][fold][code], expected)


def channel_at(steps, cutoff):
    seen = [s.channel for s in steps if s.time < cutoff and s.known < cutoff and s.channel is not None]
    return None if not seen else seen[-1] if seen[-1] in ("phone", "web") else "other"


PROJECT = """
name: shop
journeys: {sources: [events.csv], timezone: UTC}
snapshots: {every: 20d, lookback: 90d}
churn: {kind: KIND, horizons: [20d, 60d]}
satisfaction: {kind: nps, touchpoint: answer, asked: ask}
"""
#: Somebody who did everything at the very beginning, so that all words occur in any part of the log.
EVERYTHING = [Step(-DAY_US, name) for name in ("answer", "ask", "call", "cancel", "play", "visit")]


def told_between(people, kind, since, until):
    """Hindsight of some customers, by target: who, when, what."""
    config = parse_config(PROJECT.replace("KIND", kind))
    block = block_of_steps({**dict(enumerate(people)), 99: EVERYTHING})
    events = SimpleNamespace(touchpoints=block.categories["touchpoint"].vocabulary)
    log = SimpleNamespace(events=events, config=SimpleNamespace(activity=["play"]))
    found = hindsight(log, config, np.arange(0, 400, 20) * DAY_US).values()
    told = (known(block)(since, until) for known in found)
    return [tuple(x.tolist() for x in (o.customer, o.cutoff, o.value)) for o in told]


def test_hindsight_is_of_what_was_settled_from_one_moment_to_another():
    steps = [Step(0, "play"), *(Step(day * DAY_US, "answer", score=day / 10) for day in (30, 40, 50, 60, 70))]
    churned, scored = told_between([steps], "inactivity", 40 * DAY_US, 60 * DAY_US)
    assert (churned[1][0], churned[2][0]) == (40 * DAY_US, 1.0)  # of customer 0; a horizon of 20 days ends on day 60
    assert scored == ([0, 0], [40 * DAY_US, 50 * DAY_US], [4.0, 5.0])


@few_examples
@given(
    st.lists(journeys(st.integers(0, 12).map(lambda n: n * 5 * DAY_US)), min_size=1, max_size=4),
    st.sampled_from(["event, touchpoints: [cancel]", "inactivity"]),
    st.integers(4, 14).map(lambda n: 5 * n),
    st.integers(-2, 12).map(lambda n: 5 * n),
)
@example(
    [[Step(0, "ask"), Step(DAY_US, "answer", score=5.0, late=DAY_US * 40), Step(DAY_US * 2, "answer", score=0.0)]],
    "inactivity",
    20,
    0,
)
@example([[Step(0, "play"), Step(DAY_US * 25, "cancel", late=DAY_US * 40)]], "event, touchpoints: [cancel]", 40, 0)
def test_hindsight_is_what_the_log_of_that_day_tells(people, kind, until, since):
    until = until * DAY_US

    def told(people):
        return told_between(people, kind, since * DAY_US, until)

    early = [[step for step in steps if step.known < until] for steps in people]
    churned, scored = told(people)
    assert told(early) == [churned, scored]
    assert all(since * DAY_US < cutoff + HORIZON <= until for cutoff in churned[1])
    assert set(churned[2]) <= {0.0, 1.0}
