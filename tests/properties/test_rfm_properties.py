"""Laws of what is said of a customer at a cutoff: recency, frequency, money, stage of life, answers to surveys."""

from dataclasses import replace

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference_annotations import (
    DAY_US,
    Step,
    block_of_steps,
    reference_behind,
    reference_response_rate,
    reference_rfm,
    reference_rhythm,
)
from reference_features import same_bits

from cxml.features.annotations import AnnotationSettings
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.rfm import RFM, fit_rfm
from cxml.features.surveys import SURVEYS
from cxml.features.trace import trace

SETTINGS = AnnotationSettings(
    activity=("order", "play"), asked=("sent",), surveys=("answer",),
    rfm={"recency": (1, 2.5, 7, 400), "frequency": (0, 1, 1, 3), "monetary": (-1, 0, 0.1, 5), "gap": (4,)},
)  # fmt: skip
EVERYTHING_COUNTS = replace(SETTINGS, activity=())
few_examples = settings(deadline=None, max_examples=100)

days = st.sampled_from([0, 1, 2, 3, 5, 9, 30, 364, 365, 366, 400])
moments = st.builds(lambda day, us: day * DAY_US + us, days, st.sampled_from([0, 0, 1, -1, DAY_US // 2]))
steps = st.lists(
    st.builds(
        Step,
        time=moments,
        touchpoint=st.sampled_from(["order", "play", "sent", "answer", "call", None]),
        value=st.sampled_from([float("nan"), -0.0, 0.1, 0.2, 3.0, -1e16, 1e16]),
        late=st.sampled_from([0, 0, 0, 1, DAY_US, 40 * DAY_US]),
    ),
    max_size=14,
).map(lambda found: sorted(found, key=lambda step: step.time))
people = st.lists(steps, min_size=1, max_size=4)
cutoffs = st.lists(moments, min_size=1, max_size=4).map(sorted)


def filled(people, at, chosen, names):
    plan = FeaturePlan((), {}, custom=tuple(names), annotations=chosen)
    block = block_of_steps(dict(enumerate(people)))
    return fill_matrix(plan, block, np.arange(len(people) + 1) * len(at), np.array(at * len(people), np.int64))


def exactly(rows):
    with np.errstate(over="ignore"):
        return np.array(rows, np.float64).astype(np.float32)


@few_examples
@given(people, cutoffs, st.sampled_from([SETTINGS, EVERYTHING_COUNTS]))
@example([[Step(0, "order"), Step(365 * DAY_US, "order")]], [365 * DAY_US, 365 * DAY_US + 1], SETTINGS)
@example([[Step(day * DAY_US, "play") for day in (0, 1, 2, 30)]], [30 * DAY_US + 1, 32 * DAY_US, 90 * DAY_US], SETTINGS)
@example([[Step(day * DAY_US, "play") for day in (0, 10, 20)]], [d * DAY_US for d in (21, 35, 36, 50, 51)], SETTINGS)
def test_recency_frequency_money_and_stage_equal_the_naive_reference(people, at, chosen):
    expected = exactly([reference_rfm(steps, cutoff, chosen) for steps in people for cutoff in at])
    assert same_bits(filled(people, at, chosen, RFM), expected).all()


@few_examples
@given(people, cutoffs)
def test_the_rate_of_answers_equals_the_naive_reference(people, at):
    expected = exactly([[reference_response_rate(steps, cutoff, SETTINGS)] for steps in people for cutoff in at])
    assert same_bits(filled(people, at, SETTINGS, SURVEYS), expected).all()


@few_examples
@given(steps, moments, st.sampled_from([SETTINGS, EVERYTHING_COUNTS]))
@example([Step(0, "order"), Step(0, "play"), Step(365 * DAY_US, "call", value=0.1)], 365 * DAY_US, SETTINGS)
@example([Step(0, "order"), Step(0, "play"), Step(365 * DAY_US, "call", value=0.1)], 366 * DAY_US, SETTINGS)
def test_a_trace_lists_the_events_behind_each_column(steps, cutoff, chosen):
    names = (*RFM, *SURVEYS)
    plan = FeaturePlan((), {}, custom=names, annotations=chosen)
    for column, name in enumerate(names):
        traced = trace(plan, block_of_steps({7: steps}), cutoff, name)
        assert list(traced.events) == reference_behind(name, steps, cutoff, chosen), name
        if name not in ("rfm_frequency_quintile", "rfm_monetary_quintile"):  # missing for whoever was never active
            alone = filled([[steps[i] for i in traced.events]], [cutoff], chosen, names)[0, column]
            assert same_bits(alone, np.float32(traced.value)), name


@few_examples
@given(people, moments, st.sampled_from([("order", "play"), ()]))
def test_cut_points_part_the_customers_of_training_into_fifths(people, until, activity):
    found = fit_rfm([block_of_steps(dict(enumerate(people)))], until, activity)
    told = [reference_rhythm(steps, until, replace(SETTINGS, activity=activity)) for steps in people]
    told = [one for one in told if one[4]]
    rhythms = sorted((one[4][-1] - one[4][0]) / (len(one[4]) - 1) for one in told if len(one[4]) >= 3)
    assert ("recency" in found) == bool(told)
    assert ("gap" in found) == bool(rhythms)
    for column, name in enumerate(("recency", "frequency", "monetary")):
        values = sorted(one[column] for one in told)
        for fifth, cut in enumerate(found.get(name, ()), start=1):
            assert cut == next(v for k, v in enumerate(values, start=1) if 5 * k >= fifth * len(values))
    if rhythms:
        middle = (rhythms[(len(rhythms) - 1) // 2] + rhythms[len(rhythms) // 2]) / 2
        assert found["gap"] == (middle,)


@few_examples
@given(st.lists(steps, min_size=2, max_size=4), moments)
def test_what_is_learned_depends_neither_on_the_blocks_nor_on_what_comes_later(people, until):
    whole = fit_rfm([block_of_steps(dict(enumerate(people)))], until, ("order",))
    assert fit_rfm([block_of_steps({i: steps}) for i, steps in enumerate(people)], until, ("order",)) == whole
    kept = [[step for step in steps if step.time < until and step.known < until] for steps in people]
    assert fit_rfm([block_of_steps(dict(enumerate(kept)))], until, ("order",)) == whole
