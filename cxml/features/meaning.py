"""What a column speaks of, and who in the company can act on it: read from the words touchpoints are made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cxml.features.custom import OWN
from cxml.features.promises import OVERDUE
from cxml.features.rfm import DAYS, OF_DAYS
from cxml.features.selectors import Atom, Selector
from cxml.features.spec import Aggregate
from cxml.features.surveys import SURVEYS
from cxml.journeys.schema import PROMISE

if TYPE_CHECKING:
    from cxml.config import JourneysConfig
    from cxml.features.plan import FeaturePlan

#: Who can act, with the words their touchpoints are known by; the first that fits counts.
OWNERS: Mapping[str, tuple[str, ...]] = {
    "service": ("call", "chat", "support", "help", "complain", "ticket", "contact", "case", "agent", "service", "info"),
    "billing": (
        "invoice",
        "bill",
        "payment",
        "pay",
        "paid",
        "charge",
        "debit",
        "price",
        "fee",
        "dunning",
        "refund",
        "tariff",
    ),
    "logistics": ("deliver", "ship", "parcel", "return", "dispatch", "courier", "promise", "stock", "pickup"),
    "marketing": ("email", "mail", "campaign", "offer", "promo", "ad", "ads", "newsletter", "sms", "push", "coupon"),
    "product": (),
}
#: What a customer does, feels, likes, sees, thinks or wants, with the words that tell.
FACTORS: Mapping[str, tuple[str, ...]] = {
    "feels": ("survey", "score", "rating", "review", "feedback", "complain", "nps", "csat", "ces", "mark"),
    "likes": ("refer", "referral", "favourite", "favorite", "wishlist", "like", "recommend", "loyalty", "follow"),
    "sees": (
        "email",
        "mail",
        "campaign",
        "offer",
        "promo",
        "ad",
        "ads",
        "newsletter",
        "sms",
        "push",
        "impression",
        "banner",
    ),
    "thinks": ("compare", "faq", "article", "read", "guide", "question", "forum"),
    "wants": ("search", "cart", "request", "call", "chat", "contact", "ticket", "help", "quote", "application"),
    "does": (),
}
_WORDS = re.compile(r"[a-z]+")
_FEELINGS = ("score", "score_band", "reaction", "asked")
_TASTES = ("share", "entropy", "distinct")


@dataclass(frozen=True)
class Meaning:
    """Which touchpoint is whose business, and what it tells of the customer.

    Parameters
    ----------
    owners, factors : mapping of str to sequence of str
        Owner or factor -> touchpoints, where the words of a touchpoint would mislead.
    contacts : sequence of str
        Touchpoints that are contacts with service.
    stages : mapping of str to str
        Touchpoint -> stage.
    promises : sequence of str
        Touchpoints by which a promise is kept.

    Examples
    --------
    >>> meaning = Meaning(owners={"product": ["call"]})
    >>> column = Aggregate.parse("count__touchpoint=call__30d")
    >>> meaning.owner(column), Meaning().owner(column), meaning.factor(column)
    ('product', 'service', 'wants')
    """

    owners: Mapping[str, Sequence[str]] = field(default_factory=dict)
    factors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    contacts: Sequence[str] = ()
    stages: Mapping[str, str] = field(default_factory=dict)
    promises: Sequence[str] = ()

    def owner(self, column: Aggregate) -> str:
        """Say who can act on a column: service, billing, logistics, marketing or product."""
        if column.measure in ("duration", "repeat_contact", "first_contact_resolved", "handle_ratio", "escalation"):
            return "service"
        if column.measure in ("open_cases", "oldest_open_case", "case_age", "handoff", "resolved"):
            return "service"
        return self._vote(column, self._owner_of, "logistics" if _is_of_promises(column) else "product")

    def factor(self, column: Aggregate) -> str:
        """Say what a column tells of the customer: does, feels, likes, sees, thinks or wants."""
        if column.measure in _FEELINGS or column.column in _FEELINGS:
            return "feels"
        if column.statistic in _TASTES and column.measure is None:
            return "likes"
        return self._vote(column, self._factor_of, "does")

    def _vote(self, column: Aggregate, of_touchpoint: Callable[[str], str], usual: str) -> str:
        votes = Counter(of_touchpoint(touchpoint) for touchpoint in self._touchpoints(column))
        return votes.most_common(1)[0][0] if votes else usual

    def _touchpoints(self, column: Aggregate) -> Iterable[str]:
        if _is_of_promises(column) and column.category is None:
            yield from self.promises
        for atom in _affirmed(column.condition):
            if atom.column == "touchpoint":
                yield str(atom.value)
            elif atom.column == "stage":
                yield from (touchpoint for touchpoint, stage in self.stages.items() if stage == atom.value)
            elif atom.column == "contact":
                yield from self.contacts
            elif atom.column == "transition":
                yield str(atom.value).rpartition(">")[2]

    def _owner_of(self, touchpoint: str) -> str:
        if touchpoint in self.contacts and touchpoint not in {one for names in self.owners.values() for one in names}:
            return "service"
        return _found(touchpoint, self.owners, OWNERS)

    def _factor_of(self, touchpoint: str) -> str:
        return _found(touchpoint, self.factors, FACTORS)


def _affirmed(selector: Selector) -> Iterator[Atom]:
    """Give the conditions that an event must or may meet, not those that it must not: it is not about these."""
    if isinstance(selector, Atom):
        yield selector
    elif selector.sign != "!":
        for part in selector.parts:
            yield from _affirmed(part)


def describe_columns(plan: FeaturePlan, config: JourneysConfig) -> list[dict[str, str]]:
    """Tell of every column what it is.

    Parameters
    ----------
    plan : FeaturePlan
    config : JourneysConfig
        May say whose business a touchpoint is.

    Returns
    -------
    list of dict
        ``column``, ``statistic``, ``window``, ``sentence``, ``factor``, ``owner`` of each; empty where it has none.
    """
    owners = {str(name): touchpoints for name, touchpoints in config.owners.items()}
    factors = {str(name): touchpoints for name, touchpoints in config.factors.items()}
    meaning = Meaning(owners, factors, config.contacts, plan.stages, config.promises)
    known = {aggregate.name: aggregate for aggregate in plan.aggregates}
    rows = []
    for column, sentence in plan.describe().items():
        aggregate = known.get(column)
        like = _like(column) if column in OWN else aggregate  # whose business it is
        rows.append(
            {
                "column": column,
                "statistic": aggregate.statistic if aggregate else "last" if column in plan.categorical else "",
                "window": (aggregate.window or "") if aggregate else f"{DAYS}d" if column in OF_DAYS else "",
                "sentence": sentence,
                "factor": meaning.factor(like) if like else "",
                "owner": meaning.owner(like) if like else "",
            }
        )
    return rows


def _like(column: str) -> Aggregate:
    """Give an aggregate that speaks of the same as one of the package's own columns."""
    if column in OVERDUE:
        return Aggregate("last", "lateness", "1d")
    return Aggregate("last", "score", "1d") if column in SURVEYS else Aggregate("count", "active=yes", "1d")


def _is_of_promises(column: Aggregate) -> bool:
    return column.measure in (PROMISE, "lateness") or column.column == "late"


def _found(touchpoint: str, named: Mapping[str, Sequence[str]], words: Mapping[str, tuple[str, ...]]) -> str:
    for name, touchpoints in named.items():
        if touchpoint in touchpoints:
            return name
    parts = _WORDS.findall(touchpoint.lower())
    for name, known in words.items():
        if any(part.startswith(word) if len(word) > 3 else part == word for part in parts for word in known):
            return name
    return list(words)[-1]
