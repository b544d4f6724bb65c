import json
import pickle

import pytest

from cxml.errors import ConfigError
from cxml.features.annotations import (
    ANNOTATIONS,
    AnnotationSettings,
    LikenessTable,
    TransitionTable,
    check_annotations,
    score_bands,
)
from cxml.features.folds import N_FOLDS
from cxml.models.outcomes import score_groups, score_kind

FULL = AnnotationSettings(
    contacts=("call",), activity=("play",), interventions=("offer",), surveys=("answer",), self_service=("web",),
    timezone="Europe/Berlin", session_gap="45m", repeat_within="2w", respond_within="3d", scale=(0, 10),
    transitions=("call>play",), surprise=TransitionTable(("call",), ((-0.5, -1.8), (-0.1, -3.9))),
    usual_duration={"": 0.1, "call": 60.0},
    likeness=LikenessTable(("call",), (((0.1, -0.2), (0.3, 0.0), (-0.7, 0.4)),) * N_FOLDS),
    promises=("delivered",), asked=("sent",), rfm={"recency": (1.0, 2.5, 3.0, 90.0), "gap": (7.0,)},
)  # fmt: skip


@pytest.mark.parametrize("settings", [FULL, AnnotationSettings()])
def test_settings_survive_json_and_pickle(settings):
    assert AnnotationSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_what_a_file_leaves_out_has_its_default():
    assert AnnotationSettings.from_dict({"contacts": ["call"]}) == AnnotationSettings(contacts=("call",))


def test_settings_without_what_came_later_are_written_as_they_were_before_there_was_any():
    assert not {"likeness", "promises", "asked", "rfm"} & set(AnnotationSettings().to_dict())


def test_durations_are_written_one_way():
    assert AnnotationSettings(session_gap="60m") == AnnotationSettings(session_gap="1h")
    assert FULL.repeat_within_us == 14 * 86_400_000_000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contact": []}, "unknown setting 'contact'; did you mean 'contacts'"),
        ({"contacts": "call"}, "contacts: 'call' is no list of texts"),
        ({"contacts": [1]}, "contacts: .* is no list of texts"),
        ({"contacts": None}, "contacts: None is no list of texts"),
        ({"transitions": ["call"]}, "transitions: 'call' is no pair of touchpoints; write it as before>after"),
        ({"transitions": [">call"]}, "transitions: '>call' is no pair of touchpoints"),
        ({"transitions": ["call>"]}, "transitions: 'call>' is no pair of touchpoints"),
        ({"session_gap": "30"}, "session_gap: '30' is not a duration"),
        ({"respond_within": "0d"}, "respond_within: '0d' is not a positive duration"),
        ({"timezone": "Europe/Berln"}, "there is no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'"),
        ({"scale": [10, 0]}, "scale: .* does not ascend"),
        ({"scale": [0]}, "scale: .* does not ascend"),
        ({"scale": 10}, "scale: 10 does not ascend"),
        ({"usual_duration": {"call": 0.0}}, "usual_duration: 0.0 of 'call' is not a positive number"),
        ({"usual_duration": {"call": "60"}}, "usual_duration: '60' of 'call' is not a positive number"),
        ({"usual_duration": [60.0]}, r"usual_duration: \[60.0\] is no mapping"),
        ({"rfm": [1.0]}, r"rfm: \[1.0\] is no mapping"),
        ({"rfm": {"gap": "7"}}, "rfm: gap is '7', not a list of numbers"),
        ({"rfm": {"gap": [float("nan")]}}, "rfm: gap is .*, not a list of numbers"),
        ({"scale": ["0", "10"]}, "scale: .* does not ascend"),
        ({"surprise": {"touchpoints": ["a"]}}, "surprise: not a table of transitions"),
        ({"surprise": {"touchpoints": ["a"], "log2_probability": [[-1.0]]}}, "1 touchpoints, .* 2 rows and 2 columns"),
        ({"surprise": {"touchpoints": [], "log2_probability": [[1.0]]}}, "log2 of a probability"),
        ({"surprise": {"touchpoints": [], "log2_probability": [[float("nan")]]}}, "log2 of a probability"),
        ({"likeness": {"touchpoints": ["a"]}}, "likeness: not a table of log-odds"),
        (
            {"likeness": {"touchpoints": [], "log_odds": [[[0.0], [0.0]]]}},
            "0 touchpoints, .* 5 tables of 2 rows and 1 ",
        ),
        ({"likeness": {"touchpoints": [], "log_odds": [[[0.0], [float("inf")]]] * 5}}, "log-odds must be numbers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        AnnotationSettings.from_dict(settings)


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_an_annotation_is_refused_without_the_settings_it_needs(name):
    check_annotations([name], FULL)
    missing = [need for need in ANNOTATIONS[name].needs if hasattr(FULL, need)]
    for need in missing:
        data = {key: value for key, value in FULL.to_dict().items() if key != need}
        with pytest.raises(ConfigError, match=f"annotation '{name}' needs the setting '{need}', which is empty; "):
            check_annotations([name], AnnotationSettings.from_dict(data))
    if not missing:
        check_annotations([name], AnnotationSettings())


def test_an_annotation_needs_columns_of_the_log_and_settings_alone():
    columns = {"case_id", "channel", "duration", "score", "value", "promise"}
    assert {need for one in ANNOTATIONS.values() for need in one.needs} <= columns | set(FULL.to_dict())


def test_every_annotation_says_what_it_is():
    for name, annotation in ANNOTATIONS.items():
        assert annotation.name == name
        assert annotation.kind in ("measure", "category")
        assert annotation.sentence and annotation.sentence[-1] != "."


@pytest.mark.parametrize("scale", [(0, 10), (1, 5), (1, 7), (1, 3), (0, 100), (1, 10), (0, 1), (-3, 3)])
def test_bands_are_those_of_the_satisfaction_models(scale):
    assert score_bands(scale)[:2] == score_groups(score_kind(scale), *scale)
