"""The simulated world: who the customers are, how a day changes them, and what makes them leave.

Everything here is a law of the world and hidden from the log; `cxml.simulate.events` is what the log sees of it.
The page ``docs/simulator.md`` tells the same in words and formulas.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]
Real = TypeVar("Real", np.float32, np.float64)

PLANS, PRICES = ("basic", "standard", "premium"), np.array([12.0, 25.0, 45.0])
REGIONS = ("east", "north", "south", "west")
ACQUISITIONS = ("organic", "paid_search", "partner", "referral")
CONTACTS = ("call", "chat", "email", "messenger")  # the last one exists only in the drifted world
MESSENGER = CONTACTS.index("messenger")
CAUSES = ("late_delivery", "unresolved_contact", "price_increase", "payment_failed")
LATE, UNRESOLVED, PRICE, PAYMENT = range(4)
PAID_SEARCH, PARTNER = ACQUISITIONS.index("paid_search"), ACQUISITIONS.index("partner")

BILLING_DAYS = 30
OFFER_DAYS = 60  # an offer moves the hazard for so long
PROMISED_DAYS = 3  # from order to promised delivery
NO_ORDER = 127

_FADE = np.exp(-1.0 / np.array([50.0, 60.0, 90.0, 40.0]))[:, None].astype(np.float32)  # days of memory
_PUSH = np.array([2.8, 2.8, 3.2, 3.2], np.float32)  # logits of daily hazard per unit of grievance
_WAIT_HURTS, _UNSOLVED_HURTS, _CASE_HURTS, _FAILURE_HURTS = np.array([0.06, 0.45, 0.01, 0.45], np.float32)
_PRICE_HURTS = np.array([0.55, 0.45, 0.35], np.float32)  # by plan
_REFUND_SOFTENS, _RELIEF = np.array([0.6, 0.5], np.float32)  # share of the grievance that is taken away

_LATE_COMES, _REFUNDS, _RAISES, _MOVES, _GIVES_UP = np.array([0.30, 0.25, 1 / 400, 1 / 900, 0.04], np.float32)
_CALLS, _CALLS_OVERDUE, _CALLS_AGAIN, _CALLS_IRKED = np.array([0.006, 0.10, 0.20, 0.02], np.float32)
_FAILS = np.array([0.04, 0.08], np.float32)  # P(a payment fails), otherwise and through paid search

_MOOD_FADE, _MOOD_NOISE = np.array([np.exp(-1 / 40.0), 0.03], np.float32)
_GOOD_DELIVERY, _GOOD_CONTACT = np.array([0.06, 0.10], np.float32)  # what they add to the mood
_CONTENT = np.float32(2.2)  # logits of daily hazard taken away per unit of lasting satisfaction
_BASE_LOGIT = np.float32(-7.75)
_NEWCOMER_LOGIT, _NEWCOMER_DAYS = np.float32(0.9), np.float32(45.0)
_PLAN_LOGIT = np.array([0.8, 0.0, -0.7], np.float32)

_ANSWER_SLOPE = np.float32(2.4)
#: Cut points of the answer: P(score <= k) = sigmoid(cut_k - 2.4 satisfaction), k = 0..9.
_ANSWER_CUTS = np.array([-5.6, -5.0, -4.4, -3.8, -3.2, -2.5, -1.7, -0.8, 0.4, 1.6], np.float32)


@dataclass(frozen=True, slots=True)
class Traits:
    """What stays with a customer for life; every array has one entry a customer.

    Parameters
    ----------
    joined : day of signing up; negative for those who were there before the log begins.
    region, acquisition : codes into `REGIONS`, `ACQUISITIONS`.
    phase : billing falls on days with ``(day + phase) % 30 == 0``.
    lasting : satisfaction that grievances and moods come and go around.
    order_rate, login_rate : a day, at satisfaction 0.
    """

    joined: Ints
    region: Ints
    acquisition: Ints
    phase: Ints
    lasting: Floats
    order_rate: Floats
    login_rate: Floats


@dataclass(slots=True)
class State:
    """What a day changes; arrays with one entry a customer (``grievance``: one row a cause)."""

    plan: Ints
    tenure: Floats
    mood: Floats
    grievance: Floats
    due: Ints  # days to the promised delivery, negative when overdue, NO_ORDER when nothing is open
    case_open: Mask
    offer_left: Ints
    offer_logit: Floats


@dataclass(frozen=True, slots=True)
class Laws:
    """The part of the world that a drift changes."""

    late: Floats  # P(not delivered on the promised day), by region
    delay_hurt: float  # grievance of a late delivery
    contact_shares: Floats  # how customers get in touch, cumulated over CONTACTS
    solved: Floats  # P(a contact resolves the case), over CONTACTS


USUAL = Laws(
    late=np.array([0.08, 0.10, 0.24, 0.13], np.float32),
    delay_hurt=0.50,
    contact_shares=np.array([0.45, 0.80, 1.0, 1.0], np.float32),
    solved=np.array([0.72, 0.62, 0.50, 0.0], np.float32),
)
#: A worse courier (late more often, and worse when late) and a new channel that solves little.
DRIFTED = Laws(
    late=np.array([0.24, 0.28, 0.50, 0.34], np.float32),
    delay_hurt=0.90,
    contact_shares=np.array([0.25, 0.45, 0.55, 1.0], np.float32),
    solved=np.array([0.72, 0.62, 0.50, 0.30], np.float32),
)


@dataclass(frozen=True, slots=True)
class Day:
    """What happened to each customer on one day (masks, unless said)."""

    ordered: Mask
    delivered: Mask
    late: Mask  # delivered, but after the promised day
    days_late: Ints
    refunded: Mask
    contacted: Mask
    contact: Ints  # code into CONTACTS
    opened: Mask  # the contact opened a case
    resolved: Mask
    billed: Mask
    failed: Mask  # the payment of the bill
    raised: Mask  # the price
    replanned: Mask
    surprise: Floats  # of each cause: what came of it, less what the morning expected


@dataclass(frozen=True, slots=True)
class Chances:
    """What the morning knows of the day: probabilities, one a customer."""

    due: Ints  # the order's promise counted from today
    delivered: Floats
    ordered: Floats
    contacted: Floats
    failed: Floats


def draw_traits(n_customers: int, n_days: int, rng: np.random.Generator) -> Traits:
    """Draw customers: half were there before the log, the others join evenly and make up for those who leave."""
    region = rng.choice(4, n_customers, p=[0.3, 0.3, 0.2, 0.2]).astype(np.int8)
    acquisition = rng.choice(4, n_customers, p=[0.35, 0.30, 0.20, 0.15]).astype(np.int8)
    share_before = 1.0 / (1.0 + n_days / 690.0)
    before = rng.random(n_customers) < share_before
    joined = np.where(before, -1 - rng.exponential(500.0, n_customers), rng.integers(0, n_days, n_customers))
    lasting = np.array([0.30, -0.45, 0.0, 0.50])[acquisition] + rng.normal(0.0, 0.04, n_customers)
    order_rate = 0.022 * np.exp(rng.normal(0.0, 0.4, n_customers))
    return Traits(
        joined=joined.astype(np.int32),
        region=region,
        acquisition=acquisition,
        phase=rng.integers(0, BILLING_DAYS, n_customers).astype(np.int32),
        lasting=lasting.astype(np.float32),
        order_rate=order_rate.astype(np.float32),
        login_rate=(0.042 * np.exp(rng.normal(0.0, 0.3, n_customers))).astype(np.float32),
    )


def first_state(traits: Traits, rng: np.random.Generator) -> State:
    """Return everybody as they are on the day of joining: no grievance, nothing open."""
    n = len(traits.joined)
    return State(
        plan=rng.choice(3, n, p=[0.4, 0.4, 0.2]).astype(np.int8),
        tenure=np.maximum(-traits.joined, 0).astype(np.float32),
        mood=np.zeros(n, np.float32),
        grievance=np.zeros((len(CAUSES), n), np.float32),
        due=np.full(n, NO_ORDER, np.int16),
        case_open=np.zeros(n, np.bool_),
        offer_left=np.zeros(n, np.int16),
        offer_logit=np.zeros(n, np.float32),
    )


def take(arrays: Any, index: Ints | Mask) -> Any:
    """Return a `Traits` or `State` of some customers, as copies; the same customer may be taken many times."""
    return type(arrays)(*(getattr(arrays, field.name)[..., index] for field in fields(arrays)))


def start_anew(state: State, customers: Mask) -> None:
    """Wipe what the warm-up did to customers who only join now."""
    state.tenure[customers] = 0.0
    state.mood[customers] = 0.0
    state.grievance[:, customers] = 0.0
    state.due[customers] = NO_ORDER
    state.case_open[customers] = False


def satisfaction(state: State, traits: Traits) -> Floats:
    """Hidden satisfaction: what lasts, plus mood, minus every grievance; roughly -2 to 1."""
    late, unresolved, price, payment = state.grievance
    content: Floats = traits.lasting + state.mood - (late + unresolved + price + payment)
    return content


def churn_logit(state: State, traits: Traits) -> Floats:
    """Log-odds of cancelling today, an offer aside; read from the state of the morning."""
    logit: Floats = _BASE_LOGIT + _PLAN_LOGIT[state.plan] - _CONTENT * (traits.lasting + state.mood)
    logit += _NEWCOMER_LOGIT * np.exp(-state.tenure / _NEWCOMER_DAYS)
    logit += _PUSH @ state.grievance
    return logit


def offer_logit(state: State) -> Floats:
    """Log-odds that the running offer, if any, adds to cancelling today."""
    return state.offer_logit * (state.offer_left > 0)


def offer_effect(state: State, traits: Traits) -> Floats:
    """Change of the log-odds of cancelling that an offer made now would bring, for `OFFER_DAYS` days.

    A discount helps those who resent a price increase and those who came through paid search. It harms
    partner customers on the cheapest plan, whom it reminds that they still pay, and anybody whose case
    is being ignored. To all others it does nothing.
    """
    forgetful = (traits.acquisition == PARTNER) & (state.plan == 0)
    effect = -1.2 * (state.grievance[PRICE] > 0.2) - 0.6 * (traits.acquisition == PAID_SEARCH)
    effect = effect + 0.9 * forgetful + 1.0 * (state.grievance[UNRESOLVED] > 0.3)
    return np.asarray(effect, np.float32)


def make_offer(state: State, traits: Traits, customers: Mask) -> None:
    """Give an offer to some customers; it replaces one still running."""
    state.offer_logit[customers] = offer_effect(state, traits)[customers]
    state.offer_left[customers] = OFFER_DAYS


def hazard(state: State, traits: Traits) -> Floats:
    """P(cancelling today), from the state of the morning."""
    return sigmoid(churn_logit(state, traits) + offer_logit(state))


def sigmoid(x: NDArray[Real]) -> NDArray[Real]:
    """Logistic function."""
    return np.asarray(1 / (1 + np.exp(-x)), x.dtype)


def chances(state: State, traits: Traits, laws: Laws, day: int) -> Chances:
    """Return how likely today's events are, given the morning."""
    waiting = state.due != NO_ORDER
    due = state.due - waiting
    comes = np.where(due == 0, 1.0 - laws.late[traits.region], _LATE_COMES)
    irked = state.grievance[PRICE] + state.grievance[PAYMENT]
    fails = _FAILS[(traits.acquisition == PAID_SEARCH).astype(np.int8)]
    return Chances(
        due=due,
        delivered=np.where(waiting & (due <= 0), comes, np.float32(0.0)),
        ordered=np.where(waiting, np.float32(0.0), traits.order_rate * np.exp(0.4 * satisfaction(state, traits))),
        contacted=_CALLS + _CALLS_OVERDUE * (due < 0) + _CALLS_AGAIN * state.case_open + _CALLS_IRKED * irked,
        failed=np.where((day + traits.phase) % BILLING_DAYS == 0, fails, np.float32(0.0)),
    )


def live_a_day(state: State, traits: Traits, laws: Laws, day: int, rng: np.random.Generator) -> Day:
    """Let one day happen to everybody: changes ``state`` and tells what happened.

    The number of draws does not depend on the state, so two worlds under one seed stay in step until they differ.
    """
    chance = chances(state, traits, laws, day)
    u = rng.random((9, len(state.mood)), dtype=np.float32)
    happened = _happen(state, laws, chance, u)
    jump = _jump(state, laws, chance, happened)
    state.grievance = np.minimum(_FADE * state.grievance + jump, np.float32(2.0))
    state.mood = _MOOD_FADE * state.mood + _MOOD_NOISE * (u[8] - np.float32(0.5))
    state.mood += _GOOD_DELIVERY * (happened.delivered & ~happened.late) + _GOOD_CONTACT * happened.resolved
    state.due = chance.due
    state.due[happened.delivered] = NO_ORDER
    state.due[happened.ordered] = PROMISED_DAYS
    state.case_open = (state.case_open | happened.contacted) & ~happened.resolved & (u[4] < 1 - _GIVES_UP)
    movers = np.flatnonzero(happened.replanned)
    state.plan[movers] = (state.plan[movers] + 1 + (u[6, movers] < 0.5)) % len(PLANS)
    state.tenure = state.tenure + np.float32(1.0)
    state.offer_left = np.maximum(state.offer_left - 1, 0).astype(np.int16)
    return happened


def _happen(state: State, laws: Laws, chance: Chances, u: Floats) -> Day:
    """Throw the dice of one day."""
    delivered, contacted = u[0] < chance.delivered, u[2] < chance.contacted
    late = delivered & (chance.due < 0)
    contact = np.zeros(len(late), np.int8)
    contact[contacted] = np.searchsorted(laws.contact_shares[:-1], u[3, contacted], side="right")
    resolved = contacted & (u[5] < laws.solved[contact])
    failed, raised = u[6] < chance.failed, u[7] < _RAISES
    return Day(
        ordered=u[1] < chance.ordered,
        delivered=delivered,
        late=late,
        days_late=-chance.due,
        refunded=late & (u[4] < _REFUNDS),
        contacted=contacted,
        contact=contact,
        opened=contacted & ~state.case_open,
        resolved=resolved,
        billed=chance.failed > 0,
        failed=failed,
        raised=raised,
        replanned=u[7] > 1 - _MOVES,
        surprise=_surprise(laws, chance, delivered, contacted & ~resolved, failed, raised),
    )


def _jump(state: State, laws: Laws, chance: Chances, happened: Day) -> Floats:
    """Return what the day adds to each grievance; ``state`` is that of the morning."""
    overdue = (chance.due <= 0) & ~happened.delivered
    softened = np.float32(1.0) - _REFUND_SOFTENS * happened.refunded
    relief = happened.resolved * (_UNSOLVED_HURTS + _RELIEF * state.grievance[UNRESOLVED])
    jump = np.empty_like(state.grievance)
    jump[LATE] = np.float32(laws.delay_hurt) * happened.late * softened + _WAIT_HURTS * overdue
    jump[UNRESOLVED] = _UNSOLVED_HURTS * happened.contacted - relief + _CASE_HURTS * state.case_open
    jump[PRICE] = _PRICE_HURTS[state.plan] * happened.raised
    jump[PAYMENT] = _FAILURE_HURTS * happened.failed
    return jump


def _surprise(laws: Laws, chance: Chances, delivered: Mask, unresolved: Mask, failed: Mask, raised: Mask) -> Floats:
    """Tell how unlucky the day was, cause by cause; of expectation 0 whatever the morning was."""
    fails_to_solve = 1 - laws.solved @ np.diff(laws.contact_shares, prepend=np.float32(0.0))
    surprise = np.empty((len(CAUSES), len(delivered)), np.float32)
    surprise[LATE] = (chance.due == 0) * (chance.delivered - delivered)
    surprise[UNRESOLVED] = unresolved - fails_to_solve * chance.contacted
    surprise[PRICE] = raised - _RAISES
    surprise[PAYMENT] = failed - chance.failed
    return surprise


def reach(n_days: int) -> Floats:
    """How many days' worth of usual hazard a typical stroke of each cause adds over 0 ... n_days days.

    Returns
    -------
    float32 array of shape (n_days + 1, n_causes)
    """
    stroke = np.array([0.6, _UNSOLVED_HURTS, _PRICE_HURTS[1], _FAILURE_HURTS])
    ages = np.arange(n_days)[:, None]
    extra = np.expm1(_PUSH * stroke * _FADE[:, 0].astype(np.float64) ** ages).cumsum(axis=0)
    return np.concatenate([np.zeros((1, len(CAUSES))), extra]).astype(np.float32)


def score_distribution(content: Floats) -> NDArray[np.float64]:
    """P(score = 0) ... P(score = 10) if asked now and everybody answered; shape (n, 11).

    A cumulative-link (proportional odds) law, McCullagh 1980, J. R. Stat. Soc. B 42(2).
    """
    below = sigmoid(_ANSWER_CUTS.astype(np.float64) - _ANSWER_SLOPE * content[:, None])
    edges = np.concatenate([np.zeros((len(content), 1)), below, np.ones((len(content), 1))], axis=1)
    return np.diff(edges, axis=1)


def main_cause(state: State) -> NDArray[np.int64]:
    """Index of the grievance that adds most to the hazard; ``len(CAUSES)`` where none adds half a logit."""
    pushes = _PUSH[:, None] * state.grievance
    return np.where(pushes.max(axis=0) >= 0.5, pushes.argmax(axis=0), len(CAUSES))
