import json
import pickle

import numpy as np
import pytest
from reference_features import DAY_US, Event, block_of

from cxml.errors import ConfigError
from cxml.features.matrix import fill_matrix
from cxml.features.plan import FeaturePlan
from cxml.features.spec import Aggregate, default_spec

VOCABULARIES = {"touchpoint": ("call", "größe"), "channel": ("web",), "level": ("gold",), "region": ("north", "south")}
STAGES = {"call": "support", "chat": "support", "buy": "sales"}


def plan():
    shown = {"touchpoint": VOCABULARIES["touchpoint"], "channel": ("web",), "stage": ("sales", "support")}
    return FeaturePlan(
        default_spec(shown, ["value", "score"], ["7d", "90d"]), VOCABULARIES, STAGES, ("level",), ("region",)
    )


def test_a_plan_survives_json_and_computes_the_same():
    again = FeaturePlan.from_dict(json.loads(json.dumps(plan().to_dict())))
    assert again == plan()
    block = block_of({1: [Event(0, "call", "web", "gold", measures={"value": 2.5}), Event(DAY_US, "chat")]})
    at = np.array([DAY_US, 2 * DAY_US])
    rows = [fill_matrix(p, block, np.array([0, 2]), at) for p in (plan(), again)]
    np.testing.assert_array_equal(*rows)


def test_a_plan_survives_pickle_after_it_was_used():
    used = plan()
    assert used.compiled
    assert pickle.loads(pickle.dumps(used)) == used


def test_categorical_columns_come_last_and_say_what_their_codes_mean():
    assert plan().columns[-2:] == ["last__level", "last__region"]
    assert plan().categorical == ("last__level", "last__region")
    assert plan().categories("last__region") == ("north", "south", "other")


def test_categories_of_a_numeric_column_are_refused():
    with pytest.raises(ConfigError, match="no categorical feature; did you mean 'last__region'"):
        plan().categories("last__regoin")


def test_every_column_has_its_sentence():
    said = plan().describe()
    assert list(said) == plan().columns
    assert said["last__level"] == "Last known level in the events before the cutoff."
    assert all(sentence.endswith(".") for sentence in said.values())


def test_windows_ascend_by_length_and_not_by_text():
    assert plan().windows == ("7d", "90d")
    spec = tuple(Aggregate("count", "all", w) for w in ("30d", "12h", "2w"))
    assert FeaturePlan(spec, {}).windows == ("12h", "2w", "30d")


def test_the_stages_are_a_vocabulary_of_their_own():
    assert plan().vocabularies["stage"] == ("sales", "support")


@pytest.mark.parametrize(
    ("aggregates", "vocabularies", "message"),
    [
        (
            ["count__touchpoint=cal__7d"],
            {"touchpoint": ("call",)},
            "no value 'cal'; did you mean 'call'",
        ),
        (["count__chanel=web__7d"], {"channel": ("web",)}, "unknown column 'chanel'; did you mean 'channel'"),
        (["distinct__channel__7d"], {"touchpoint": ()}, "unknown column 'channel'"),
        (["count__all__7d", "count__all__7d"], {}, "two features are called 'count__all__7d'"),
        ([], {"touchpoint": ("call", "other")}, "must differ from each other and from 'other'"),
        ([], {"touchpoint": ("call", "call")}, "must differ from each other"),
    ],
)
def test_a_plan_that_cannot_be_computed_is_refused(aggregates, vocabularies, message):
    with pytest.raises(ConfigError, match=message):
        FeaturePlan(tuple(map(Aggregate.parse, aggregates)), vocabularies)


def test_an_attribute_cannot_take_the_name_of_another_column():
    spec = (Aggregate("last", "score", "30d"),)
    with pytest.raises(ConfigError, match="two features are called 'last__score__30d'"):
        FeaturePlan(spec, {"score__30d": ("a",)}, attributes=("score__30d",))


def test_data_that_are_no_plan_are_refused():
    with pytest.raises(ConfigError, match="not a feature plan"):
        FeaturePlan.from_dict({"features": []})
