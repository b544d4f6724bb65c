"""Laws of selectors: what is written is read back, whatever the values; and it selects what logic says."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cxml.features.selectors import Atom, Group, compare, matching, parse_selector, plain_selector
from cxml.features.spec import Aggregate

columns = st.sampled_from(["touchpoint", "channel", "all", "größe"])
hostile = st.text(st.sampled_from(list("ab&|!()<>=' _@\t/1.é")), max_size=8) | st.text(max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0)
atoms = st.builds(Atom, columns, st.just("="), hostile) | st.builds(
    Atom, st.sampled_from(["value", "score"]), st.sampled_from(["<", "<=", ">", ">="]), numbers
)
selectors = st.recursive(
    atoms,
    lambda inner: (
        st.builds(Group, st.just("!"), st.tuples(inner))
        | st.builds(Group, st.sampled_from("&|"), st.lists(inner, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=8,
)


def flat(selector):
    """The same, parts of one sign in one group."""
    if isinstance(selector, Atom):
        return selector
    parts = [flat(part) for part in selector.parts]
    if selector.sign == "!":
        return Group("!", tuple(parts))
    inner = [part.parts if isinstance(part, Group) and part.sign == selector.sign else (part,) for part in parts]
    return Group(selector.sign, tuple(part for some in inner for part in some))


@given(selectors)
def test_a_selector_that_is_written_is_read_back(selector):
    assert parse_selector(str(selector)) == flat(selector)
    assert str(parse_selector(str(selector))) == str(flat(selector))


@given(selectors, st.sampled_from(["count", "ever", "days_since", "ratio", "decay", "p_alive", "longest_gap"]))
def test_a_feature_of_any_selector_survives_its_name(selector, statistic):
    window = {"ratio": "7d/30d", "ever": None, "days_since": None, "p_alive": None}.get(statistic, "30d")
    aggregate = Aggregate(statistic, str(selector), window)
    assert Aggregate.parse(aggregate.name) == aggregate
    assert aggregate.condition == flat(selector)
    assert aggregate.describe().endswith(".")


@given(selectors, st.sampled_from(["sum", "share", "std"]))
def test_a_measure_at_any_selector_survives_its_name(selector, statistic):
    aggregate = Aggregate(statistic, f"value@{selector}", "30d")
    assert (aggregate.measure, aggregate.condition) == ("value", flat(selector))
    assert Aggregate.parse(aggregate.name) == aggregate


@given(st.lists(hostile, unique=True, min_size=2, max_size=2))
def test_two_values_have_two_names(values):
    one, other = (Aggregate("count", plain_selector("touchpoint", value), "30d") for value in values)
    assert one.name != other.name


@given(
    selectors,
    st.lists(
        st.fixed_dictionaries(
            {
                "text": st.none() | hostile,
                "value": st.floats(allow_nan=True),
            }
        ),
        max_size=5,
    ),
)
def test_events_are_selected_as_logic_has_it(selector, events):
    values = np.array([event["value"] for event in events], np.float64)

    def met(atom):
        if isinstance(atom.value, str):
            return np.array([event["text"] == atom.value for event in events], bool)
        return compare(values, atom)

    def holds(part, event):
        if isinstance(part, Group):
            inner = [holds(p, event) for p in part.parts]
            return not inner[0] if part.sign == "!" else (all if part.sign == "&" else any)(inner)
        if isinstance(part.value, str):
            return event["text"] == part.value
        signs = {"<": float.__lt__, "<=": float.__le__, ">": float.__gt__, ">=": float.__ge__}
        return signs[part.sign](event["value"], part.value)

    assert matching(selector, met).tolist() == [holds(selector, event) for event in events]
