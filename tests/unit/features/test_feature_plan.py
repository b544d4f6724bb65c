import json
import pickle

import numpy as np
import pytest
from reference_features import DAY_US, Event, block_of

from cxml.errors import ConfigError
from cxml.features.annotations import AnnotationSettings
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


def test_a_plan_with_annotations_and_an_alive_model_survives_json():
    settings = AnnotationSettings(contacts=("call",), transitions=("call>buy",), usual_duration={"": 60.0})
    names = ("p_alive", "mean__gap__30d", "mean__repeat_contact@!channel='it''s'__30d", "ratio__all__7d/30d")
    rich = FeaturePlan(
        tuple(map(Aggregate.parse, names)), {"channel": ("it's",)}, alive=(0.2, 4, 0.8, 2.4), annotations=settings
    )
    again = FeaturePlan.from_dict(json.loads(json.dumps(rich.to_dict())))
    assert again == rich
    assert (again.columns, again.alive, again.annotations) == (list(names), (0.2, 4, 0.8, 2.4), settings)
    assert pickle.loads(pickle.dumps(again)).compiled.annotations == ("gap", "repeat_contact")


def test_a_plan_with_alive_models_by_selector_and_wide_values_survives_json():
    names = tuple(map(Aggregate.parse, ("p_alive", "p_alive__channel=web", "distinct__touchpoint__7d")))
    models = {"all": (0.2, 4, 0.8, 2.4), "channel=web": (0.1, 3, 0.7, 2.3)}
    wide = {"touchpoint": ("call", "chat", "größe")}
    rich = FeaturePlan(names, VOCABULARIES, alive=models, wide=wide)
    written = json.loads(json.dumps(rich.to_dict()))
    assert (written["alive"]["channel=web"], written["wide"]) == (
        [0.1, 3, 0.7, 2.3],
        {"touchpoint": [*wide["touchpoint"]]},
    )
    assert FeaturePlan.from_dict(written) == rich
    assert pickle.loads(pickle.dumps(rich)).compiled.columns == rich.compiled.columns


def test_four_numbers_are_the_model_of_every_selector():
    names = tuple(map(Aggregate.parse, ("p_alive", "p_alive__channel=web")))
    old = FeaturePlan(names, VOCABULARIES, alive=(0.2, 4, 0.8, 2.4))
    assert old.to_dict()["alive"] == [0.2, 4, 0.8, 2.4]
    assert old.alive_of == {"all": (0.2, 4, 0.8, 2.4), "channel=web": (0.2, 4, 0.8, 2.4)}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"alive": {"all": (1, 1, 1, 1)}}, "'p_alive__channel=web' needs the four parameters"),
        ({"alive": None}, "'p_alive__channel=web' needs the four parameters"),
        ({"alive": {"channel=web": (1, 1, 1)}}, "must be four positive numbers"),
        ({"alive": {"channel=web": (1, 1, 1, 1), "all": (1, 1, 1, 0)}}, "must be four positive numbers"),
        ({"wide": {"chanel": ("web",)}}, "unknown column 'chanel'; did you mean 'channel'"),
        ({"wide": {"channel": ("app",)}}, "wide values of 'channel' must .* hold its vocabulary"),
        ({"wide": {"channel": ("web", "other")}}, "must differ from each other and from 'other'"),
    ],
)
def test_models_and_wide_values_that_do_not_fit_are_refused(parts, message):
    asked = (Aggregate("p_alive", "channel=web"),)
    with pytest.raises(ConfigError, match=message):
        FeaturePlan(asked, VOCABULARIES, **{"alive": (1, 1, 1, 1), **parts})


def test_without_more_values_nothing_is_counted_apart():
    shared = FeaturePlan(tuple(map(Aggregate.parse, ("distinct__channel__7d", "count__channel=web__7d"))), VOCABULARIES)
    assert shared.compiled.columns == ("all", "channel")
    assert not shared.compiled.apart


def test_a_plan_without_them_is_written_as_ever():
    assert list(plan().to_dict()) == ["features", "vocabularies", "stages", "attributes", "customer_attributes"]
    assert plan().compiled.extended is None


@pytest.mark.parametrize("alive", [None, (1, 2, 3), (1, 2, 3, 0), (1, 2, 3, float("nan"))])
def test_p_alive_needs_the_parameters_of_its_model(alive):
    with pytest.raises(ConfigError, match=r"'p_alive' needs the four parameters|alive must be four positive numbers"):
        FeaturePlan((Aggregate("p_alive", ""),), {}, alive=alive)


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


def test_a_column_of_an_annotation_says_what_that_is():
    names = ("std__gap__30d", "entropy__daypart__7d", "count__!daypart=night__7d", "count__all__7d")
    spec, vocabularies = tuple(map(Aggregate.parse, names)), {"daypart": ("night",)}
    said = FeaturePlan(spec, vocabularies, annotations=AnnotationSettings()).describe()
    assert said["std__gap__30d"] == (
        "Standard deviation of gap of events in the 30 days before the cutoff (of two or more values); gap: days since "
        "the customer's previous event."
    )
    assert said["entropy__daypart__7d"].endswith("; daypart: part of the day by local time.")
    assert said["count__!daypart=night__7d"].endswith("; daypart: part of the day by local time.")
    assert said["count__all__7d"] == spec[-1].describe()
    own = FeaturePlan(spec, vocabularies).describe()
    assert own["std__gap__30d"] == spec[0].describe()


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
        (["entropy__channel__7d"], {"touchpoint": ()}, "unknown column 'channel'"),
        (["ever__!touchpoint=cal"], {"touchpoint": ("call",)}, "no value 'cal'; did you mean 'call'"),
        (["share__value@channel=web&value<0__7d"], {}, "unknown column 'channel'"),
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
