"""Whose business a column is, and what it tells of the customer."""

import pytest

from cxml import JourneyFeatures
from cxml.config import JourneysConfig
from cxml.errors import ConfigError
from cxml.features.meaning import Meaning
from cxml.features.spec import Aggregate
from tests.unit.features.test_catalogue import EVERY, fitted, log  # noqa: F401 - a fixture

MEANING = Meaning(contacts=["hotline"], stages={"call": "support", "chat": "support", "invoice": "money"})


@pytest.mark.parametrize(
    ("column", "owner", "factor"),
    [
        ("count__touchpoint=call__30d", "service", "wants"),
        ("count__touchpoint=hotline__30d", "service", "does"),
        ("ratio__touchpoint=invoice_sent__30d/90d", "billing", "does"),
        ("days_since__touchpoint=late delivery", "logistics", "does"),
        ("count__touchpoint=email_open__7d", "marketing", "sees"),
        ("count__touchpoint=login__7d", "product", "does"),
        ("count__touchpoint=address_change__7d", "product", "does"),
        ("count__touchpoint=referral__7d", "product", "likes"),
        ("mean__score__90d", "product", "feels"),
        ("count__touchpoint=complaint__90d", "service", "feels"),
        ("count__stage=support__90d", "service", "wants"),
        ("count__stage=money__90d", "billing", "does"),
        ("entropy__channel__90d", "product", "likes"),
        ("last__open_cases__365d", "service", "does"),
        ("mean__value@touchpoint=payment&channel=web__30d", "billing", "does"),
        ("count__transition='login>chat'__30d", "service", "wants"),
        ("tenure_days", "product", "does"),
    ],
)
def test_words_tell_the_owner_and_the_factor(column: str, owner: str, factor: str) -> None:
    aggregate = Aggregate.parse(column)
    assert (MEANING.owner(aggregate), MEANING.factor(aggregate)) == (owner, factor)


def test_the_project_file_has_the_last_word() -> None:
    config = JourneysConfig.model_validate(
        {
            "sources": [{"path": "a.csv"}],
            "contacts": ["call"],
            "owners": {"billing": ["call"]},
            "factors": {"thinks": ["call"]},
        }
    )
    meaning = Meaning(dict(config.owners), dict(config.factors), config.contacts)
    column = Aggregate("count", "touchpoint=call", "30d")
    assert (meaning.owner(column), meaning.factor(column)) == ("billing", "thinks")


def test_every_column_stands_in_the_catalogue_with_a_sentence(log) -> None:  # noqa: F811
    features = fitted(log, EVERY)
    frame = features.catalogue(log)
    assert frame["column"].tolist() == features.plan_.columns
    assert (frame["sentence"].str.len() > 10).all()
    assert set(frame["owner"]) <= {"service", "billing", "logistics", "marketing", "product"}
    assert frame.groupby("factor").size().gt(0).all()


def test_an_unknown_owner_is_refused() -> None:
    with pytest.raises((ConfigError, ValueError), match="owners"):
        JourneysConfig.model_validate({"sources": [{"path": "a.csv"}], "owners": {"sales": ["call"]}})
    assert JourneyFeatures().families is None  # basic, unless a spec lists columns


def test_a_category_among_selected_events_is_the_business_of_these():
    column = Aggregate.parse("distinct__channel@touchpoint=call__30d")
    assert (Meaning().owner(column), Meaning().factor(column)) == ("service", "likes")
    assert Meaning().owner(Aggregate.parse("distinct__channel__30d")) == "product"
    assert Meaning().owner(Aggregate.parse("change__value@touchpoint=invoice__30d")) == "billing"
