"""The digest of a project: the same where nothing that matters was said."""

import pytest

from cxml.config import parse_config
from cxml.demo import PROJECT
from cxml.training.learn import config_digest


def test_keys_that_came_later_change_nothing_where_they_have_their_defaults():
    assert config_digest(parse_config(PROJECT)).startswith("b668d32099e316e1")  # as before there were any
    said = PROJECT.replace("journeys:\n", "journeys:\n  session_gap: 30m\n  repeat_within: 7d\n", 1)
    assert config_digest(parse_config(said)) == config_digest(parse_config(PROJECT))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("journeys:\n", "journeys:\n  session_gap: 1h\n"),
        ("journeys:\n", "journeys:\n  self_service: []\n"),
        ("snapshots:", "features: {modules: [mine.py]}\nsnapshots:"),
        ("snapshots:", "features: {max_columns: 100}\nsnapshots:"),
    ],
)
def test_what_is_said_otherwise_changes_it(old, new):
    assert config_digest(parse_config(PROJECT.replace(old, new, 1))) != config_digest(parse_config(PROJECT))
