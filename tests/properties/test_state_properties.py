"""Laws of the incremental state: whatever the order in which events come, it has the bits of the batch."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference_features import DAY_US, coded, same_bits

from cxml.features.annotations import AnnotationSettings
from cxml.features.custom import OWN, register_feature
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate
from cxml.features.state import CustomerState
from cxml.journeys.block import Coded, CustomerTable, EventBlock

TEXTS = ("touchpoint", "channel", "case_id", "level")
NUMBERS = ("value", "duration", "score", "resolved", "length")
#: The total order, as the design has it: time, sequence, the canonical columns, then further measures and attributes.
ORDER = (
    "time", "sequence", "touchpoint", "channel", "value", "duration", "score", "case_id", "resolved", "available_at",
    "promised", "length", "level",
)  # fmt: skip
VOCABULARIES = {"touchpoint": ("call", "play"), "channel": ("web",), "level": ("gold", "silver"), "region": ("n", "s")}
WIDE = {"touchpoint": ("Call", "call", "chat", "play", "größe")}
STAGES = {"call": "support", "play": "usage"}
ANNOTATIONS = AnnotationSettings(
    contacts=("call", "chat"), interventions=("offer",), activity=("play",), repeat_within="2d", respond_within="3d",
    promises=("play", "größe"), asked=("offer",), surveys=("call",),
    rfm={"recency": (0.5, 1, 2, 3), "frequency": (0, 1, 2, 4), "monetary": (-1, 0, 0.1, 3), "gap": (1,)},
)  # fmt: skip
PLAIN = (
    "tenure_days", "days_since__touchpoint=call", "days_since__touchpoint=other", "count__all__1d",
    "count__stage=support__7d", "count__touchpoint=other__7d", "distinct__touchpoint__7d",
    "active_days__channel=web__7d", "sum__value__7d", "mean__value@channel=web__7d", "last__score__7d",
    "first__value__7d", "last2__value__7d",
    "last__length__7d", "first__length@level=gold__7d", "min__duration__1d", "count__!channel=web&value<1__7d",
    "decay__value__1d", "slope__value__7d", "share__value@touchpoint=call__7d", "ratio__all__1d/7d", "lag__all__1d/7d",
    "entropy__channel__7d", "longest_gap__all__7d", "burstiness__touchpoint=call__7d", "change__all__7d",
    "ever__level=other", "p_alive", "last5__value__7d", "change__value__7d", "lag__value__1d/7d",
    "rate__value@level=gold__7d", "acceleration__value__1d", "entropy__touchpoint__7d",
    "distinct__touchpoint@channel=web__7d", "entropy__level@stage=support__7d",
)  # fmt: skip
ANNOTATED = (
    "mean__gap__7d", "sum__repeat_contact__7d", "mean__first_contact_resolved__7d", "last__open_cases__7d",
    "last__case_age__7d", "last__handoff__7d", "mean__response__7d", "count__previous=call__7d", "max__loop__7d",
    "max__session__7d", "count__hour=00__7d", "ever__asked=yes",
    "max__session_position__7d", "mean__lateness__7d", "ever__late=yes", "sum__promise__7d",
)  # fmt: skip
#: Vocabularies of the categories among them.
WORDS = {"previous": ("call",), "late": ("no", "yes"), "hour": ("00", "12"), "asked": ("no", "yes")}


def order_of_everything(events, cutoff):
    """Depend on the order of the events and on all they hold."""
    words = [*events["touchpoint"], *events["level"], *events["case_id"]]
    numbers = np.nan_to_num(np.concatenate([events["value"], events["length"], events["resolved"]]))
    weights = np.arange(1, len(words) + 1)
    return weights @ [len(word or "") for word in words] + weights @ numbers + cutoff % 7


register_feature("order_of_everything", order_of_everything, "Something of every event and its place.")


def plan_of(names, vocabularies=VOCABULARIES, **parts):
    return FeaturePlan(
        tuple(map(Aggregate.parse, names)), vocabularies, STAGES, ("level",), ("region",), alive=(0.2, 4, 0.8, 2.4),
        **{"custom": ("order_of_everything",), "wide": WIDE, **parts},
    )  # fmt: skip


PLANS = {
    "plain": plan_of(PLAIN),
    "annotated": plan_of(
        (*PLAIN, *ANNOTATED),
        VOCABULARIES | WORDS,
        annotations=ANNOTATIONS,
        custom=("order_of_everything", *OWN),
    ),
}
few_examples = settings(deadline=None, max_examples=60)

days = st.sampled_from([0, 1, 1, 2, 7, 8]).map(lambda day: day * DAY_US)
moments = st.builds(lambda day, us: day + us, days, st.sampled_from([0, 0, 0, 1, 3_600_000_000]))
numbers = st.sampled_from([None, 0.0, 0.1, 3.0, -1e16, 1e16, float("nan")])
texts = {
    "touchpoint": ["call", "chat", "play", "offer", "other", "größe", "Call"],
    "channel": ["web", "phone", "fax", None],
    "case_id": ["1", "10", "2", None],
    "level": ["gold", "silver", "bronze", None],
}


def journeys(lateness):
    optional = {
        **{name: st.sampled_from(texts[name]) for name in TEXTS[1:]},
        **{name: numbers for name in NUMBERS if name != "resolved"},
        "resolved": st.sampled_from([0, 1, None]),
        "late": lateness,
        "promised": st.one_of(st.none(), moments),
    }
    event = st.fixed_dictionaries(
        {"time": moments, "touchpoint": st.sampled_from(texts["touchpoint"])}, optional=optional
    )
    return st.lists(event.map(with_knowledge), max_size=14)


def with_knowledge(event):
    """Turn a delay into the moment at which the event was available."""
    late = event.pop("late", None)
    return event if late is None else event | {"available_at": event["time"] + late}


def in_order(events):
    """Put events into their total order."""

    def key(event):
        return [(0, 0) if (value := event.get(name)) is None or value != value else (1, value) for name in ORDER]

    return sorted(events, key=key)


def batch(events, customer=7):
    """Make the block of one customer's events."""
    events = in_order(events)
    time = np.array([e["time"] for e in events], np.int64)
    known = np.array([max(e["time"], e.get("available_at", e["time"])) for e in events], np.int64)
    return EventBlock(
        customers=np.array([customer]),
        starts=np.array([0, len(events)]),
        time=time,
        known=known if (known > time).any() else None,
        categories={name: coded([e.get(name) for e in events]) for name in TEXTS},
        measures={m: np.array([np.nan if e.get(m) is None else e[m] for e in events], np.float64) for m in NUMBERS}
        | {"promise": np.array([ahead(e) for e in events], np.float64)},
    )


def ahead(event):
    """Give the days from an event to what it promises."""
    promised = event.get("promised")
    return np.nan if promised is None else (promised - event["time"]) / DAY_US


def widened(block):
    """Let a block share its vocabularies with other customers."""
    categories = {}
    for name, mine in block.categories.items():
        vocabulary = tuple(sorted({*mine.vocabulary, *filter(None, texts.get(name, ())), "", "zzz"}))
        codes = [-1 if code < 0 else vocabulary.index(mine.vocabulary[code]) for code in mine.codes]
        categories[name] = Coded(np.array(codes, np.int32), vocabulary)
    return replace(block, categories=categories)


TABLE = CustomerTable(
    np.array([3, 7, 7, 9]), np.array([0, 0, 2 * DAY_US, 0]), {"region": coded(["n", "s", "elsewhere", "n"])}
)
CUTOFFS = [0, 1, DAY_US, DAY_US + 1, 2 * DAY_US + 1, 8 * DAY_US, 9 * DAY_US, 30 * DAY_US]


def assert_like_the_batch(state, events):
    plan = state.plan
    expected = fill_matrix(plan, batch(events), np.array([0, len(CUTOFFS)]), np.array(CUTOFFS), TABLE)
    found = np.stack([state.vector(cutoff) for cutoff in CUTOFFS])
    different = ~same_bits(found, expected)
    assert state.n_events == len(events)
    assert not different.any(), [
        (plan.columns[c], CUTOFFS[r], found[r, c], expected[r, c]) for r, c in np.argwhere(different)[:5]
    ]


any_lateness = st.sampled_from([None, -DAY_US, -1, 0, 1, DAY_US, 20 * DAY_US])
sequences = st.one_of(st.none(), st.integers(-1, 2))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@few_examples
@given(journeys(any_lateness), st.data())
@example([{"time": 0, "touchpoint": "call", "level": level} for level in ("silver", "gold", "bronze")], None)
def test_events_one_by_one_in_any_order_equal_the_batch_at_every_step(plan, events, data):
    if data is not None and data.draw(st.booleans()):
        events = [event | {"sequence": data.draw(sequences)} for event in events]
    state = CustomerState(plan, None, TABLE, 7, measures=["length"])
    assert_like_the_batch(state, [])
    for n, event in enumerate(events, start=1):
        state.update(event)
        assert_like_the_batch(state, events[:n])


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@few_examples
@given(journeys(st.sampled_from([None, None, 1, DAY_US, 20 * DAY_US])), st.integers(0, 14))
def test_a_state_may_begin_with_a_block(plan, events, n_held):
    held = widened(batch(events[:n_held]))
    before = [held.time.copy(), *(c.codes.copy() for c in held.categories.values())]
    state = CustomerState(plan, held, TABLE)
    for n in range(len(events[:n_held]), len(events) + 1):
        assert_like_the_batch(state, events[:n])
        if n < len(events):
            state.update(events[n])
    after = [held.time, *(c.codes for c in held.categories.values())]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@few_examples
@given(journeys(any_lateness), st.randoms(use_true_random=False))
def test_the_order_in_which_events_come_does_not_matter(events, random):
    states = [CustomerState(PLANS["plain"]) for _ in range(2)]
    for state in states:
        random.shuffle(events)
        for event in events:
            state.update(event)
    assert all(same_bits(states[0].vector(cutoff), states[1].vector(cutoff)).all() for cutoff in CUTOFFS)
