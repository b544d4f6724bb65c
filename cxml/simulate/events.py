"""What the log sees of the simulated world: events with stamps, channels, money, durations and survey answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.simulate import world
from cxml.times import DAY_US, SECOND_US

if TYPE_CHECKING:
    import pandas as pd

_HOUR = 3600
_WORKING, _EVENING, _ANY = (6 * _HOUR, 20 * _HOUR), (20 * _HOUR, 24 * _HOUR), (0, 24 * _HOUR)
_BILLING_RUN, _PRICE_RUN, _SURVEY_RUN = (2 * _HOUR, 2 * _HOUR), (7 * _HOUR, 7 * _HOUR), (9 * _HOUR, 9 * _HOUR)
_OFFER_RUN, _AFTERNOON = (10 * _HOUR, 12 * _HOUR), (12 * _HOUR, 24 * _HOUR)

_QUIET_DAYS = 30  # no customer is surveyed twice within
_RELATION_DAYS = 120  # without any survey for so long, one is sent for the relation's sake
_ANSWER_LOGIT, _ANSWER_CANDOUR = -0.9, 2.0  # P(answered) = sigmoid(-0.9 + 2 satisfaction): the unhappy are silent


@dataclass(frozen=True, slots=True)
class Look:
    """How a touchpoint looks in the log.

    Parameters
    ----------
    seconds : part of the day its stamps fall in; equal ends mean a batch run that stamps everybody alike.
    channels : the channels it comes through, with their shares.
    duration : median seconds it lasts.
    value : median amount of money.
    """

    seconds: tuple[int, int] = _WORKING
    channels: Mapping[str, float] = field(default_factory=dict)
    duration: float | None = None
    value: float | None = None


# Follow-ups fall in the evening, so that they come after what they follow; nobody cancels before the day's offers.
LOOKS: dict[str, Look] = {
    "signup": Look(channels={"app": 0.3, "web": 0.5, "store": 0.2}),
    "login": Look(_ANY, {"app": 0.6, "web": 0.4}, duration=240.0),
    "self_service": Look(_ANY, {"app": 0.4, "web": 0.6}, duration=150.0),
    "order": Look(channels={"app": 0.4, "web": 0.45, "store": 0.15}, value=38.0),
    "delivered": Look(),
    "delivered_late": Look(),
    "refund": Look(_EVENING, value=14.0),
    "invoice": Look(_BILLING_RUN),
    "payment_failed": Look(_BILLING_RUN),
    "price_increase": Look(_PRICE_RUN, {"email": 1.0}),
    "plan_changed": Look(_WORKING, {"app": 0.4, "web": 0.4, "phone": 0.2}),
    "call": Look(_WORKING, {"phone": 1.0}, duration=420.0),
    "chat": Look(_WORKING, {"app": 0.5, "web": 0.5}, duration=600.0),
    "email": Look(_WORKING, {"email": 1.0}, duration=300.0),
    "complaint": Look(_EVENING, {"email": 0.6, "phone": 0.4}),
    "survey_sent": Look(_SURVEY_RUN, {"email": 1.0}),
    "survey_answer": Look(_SURVEY_RUN, {"email": 0.6, "web": 0.4}),
    "campaign_offer": Look(_OFFER_RUN, {"email": 1.0}, value=10.0),
    "cancelled": Look(_AFTERNOON, {"web": 0.6, "phone": 0.4}),
}
TOUCHPOINTS = tuple(LOOKS)
CHANNELS = ("app", "email", "messenger", "phone", "store", "web")


@dataclass(slots=True)
class Notes:
    """What was noted, touchpoint by touchpoint: day, customers and whatever is known beyond."""

    of: dict[str, list[tuple[int, world.Ints, dict[str, Any]]]] = field(
        default_factory=lambda: {name: [] for name in TOUCHPOINTS}
    )

    def write(self, touchpoint: str, day: int, customers: world.Ints | world.Mask, **known: Any) -> None:
        """Note that something happened to some customers (indices or a mask) on a day."""
        rows: world.Ints = np.flatnonzero(customers) if customers.dtype == np.bool_ else customers  # type: ignore[assignment]
        if len(rows):
            self.of[touchpoint].append((day, rows, known))


@dataclass(slots=True)
class Desk:
    """The company's own books, one entry a customer: they follow the customer and change nobody."""

    surveyed: world.Ints  # day of the last survey
    case: world.Ints  # number of the last case
    price: NDArray[np.float64]  # a month
    first_plan: world.Ints
    n_cases: int = 0


def open_desk(traits: world.Traits, state: world.State, rng: np.random.Generator) -> Desk:
    """Return the books on the first day."""
    n = len(traits.joined)
    surveyed = np.maximum(traits.joined, 0) - rng.integers(0, _RELATION_DAYS, n)
    return Desk(surveyed.astype(np.int32), np.full(n, -1, np.int64), world.PRICES[state.plan], state.plan.copy())


def welcome(notes: Notes, desk: Desk, day: int, joining: world.Mask, state: world.State) -> None:
    """Note who signs up, and for what."""
    desk.first_plan[joining] = state.plan[joining]
    desk.price[joining] = world.PRICES[state.plan[joining]]
    notes.write("signup", day, joining)


def note_day(
    notes: Notes, desk: Desk, day: int, happened: world.Day, here: world.Mask,
    state: world.State, traits: world.Traits, rng: np.random.Generator,
) -> None:  # fmt: skip
    """Note a day of the customers who are ``here``; ``state`` is that of the evening."""
    content = world.satisfaction(state, traits)
    u = rng.random((5, len(here)), dtype=np.float32)
    _note_goods(notes, day, happened, here)
    _note_money(notes, desk, day, happened, here, state)
    _note_contacts(notes, desk, day, happened, here, u[0])
    notes.write("login", day, here & (u[1] < traits.login_rate * np.exp(0.8 * content)))
    waiting = (state.due <= 0) | state.case_open
    notes.write("self_service", day, here & (u[2] < 0.006 + 0.05 * waiting))
    _note_surveys(notes, desk, day, happened, here, content, u[3:], rng)


def _note_goods(notes: Notes, day: int, happened: world.Day, here: world.Mask) -> None:
    notes.write("order", day, here & happened.ordered)
    notes.write("delivered", day, here & happened.delivered & ~happened.late)
    late = np.flatnonzero(here & happened.late)
    notes.write("delivered_late", day, late, duration=happened.days_late[late] * 86_400.0)
    notes.write("refund", day, here & happened.refunded)


def _note_money(notes: Notes, desk: Desk, day: int, happened: world.Day, here: world.Mask, state: world.State) -> None:
    for name, mask in (("invoice", happened.billed), ("payment_failed", happened.failed)):
        rows = np.flatnonzero(here & mask)
        notes.write(name, day, rows, value=desk.price[rows])
    raised = np.flatnonzero(here & happened.raised)
    rise = np.round(0.08 * desk.price[raised], 2)
    notes.write("price_increase", day, raised, value=rise)
    desk.price[raised] += rise
    moved = np.flatnonzero(here & happened.replanned)
    desk.price[moved] = world.PRICES[state.plan[moved]]
    notes.write("plan_changed", day, moved, value=desk.price[moved], plan=state.plan[moved])


def _note_contacts(notes: Notes, desk: Desk, day: int, happened: world.Day, here: world.Mask, u: world.Floats) -> None:
    # A case from before the first day has no number yet: the first contact that pursues it gives one.
    fresh = np.flatnonzero(here & happened.contacted & (happened.opened | (desk.case < 0)))
    desk.case[fresh] = desk.n_cases + np.arange(len(fresh))
    desk.n_cases += len(fresh)
    for name in ("call", "chat", "email"):
        code, by_messenger = world.CONTACTS.index(name), name == "chat" and happened.contact == world.MESSENGER
        rows = np.flatnonzero(here & happened.contacted & ((happened.contact == code) | by_messenger))
        channel = np.where(happened.contact[rows] == world.MESSENGER, CHANNELS.index("messenger"), -1)
        notes.write(name, day, rows, case=desk.case[rows], resolved=happened.resolved[rows], channel=channel)
    cross = np.flatnonzero(here & happened.contacted & ~happened.resolved & (u < 0.35))
    notes.write("complaint", day, cross, case=desk.case[cross])


def _note_surveys(
    notes: Notes, desk: Desk, day: int, happened: world.Day, here: world.Mask,
    content: world.Floats, u: world.Floats, rng: np.random.Generator,
) -> None:  # fmt: skip
    """Note the surveys that today's events bring about; they go out next morning."""
    quiet = day - desk.surveyed
    chance = 0.30 * (happened.delivered | happened.contacted) + 0.03 * (quiet > _RELATION_DAYS)
    asked = np.flatnonzero(here & (quiet > _QUIET_DAYS) & (u[0] < chance))
    desk.surveyed[asked] = day
    notes.write("survey_sent", day + 1, asked)
    answered = asked[u[1][asked] < world.sigmoid(_ANSWER_LOGIT + _ANSWER_CANDOUR * content[asked])]
    cumulated = world.score_distribution(content[answered]).cumsum(axis=1)[:, :-1]
    score = (rng.random(len(answered))[:, None] >= cumulated).sum(axis=1)
    lag = np.clip(rng.lognormal(np.log(8.0 * _HOUR), 1.2, len(answered)), 60, 6 * 24 * _HOUR)
    notes.write("survey_answer", day + 1, answered, score=score, lag=lag)


def to_columns(notes: Notes, start: int, end: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Lay all notes out as arrays sorted by (time, customer, touchpoint): one entry an event, codes for texts.

    Events at or after ``end``, and after the customer's cancellation, are not there.
    """
    streams = dict(zip(TOUCHPOINTS, rng.spawn(len(TOUCHPOINTS)), strict=True))
    parts = [_dress(name, notes.of[name], start, streams[name]) for name in TOUCHPOINTS if notes.of[name]]
    table = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} if parts else {}
    if not table:
        return {}
    gone = np.full(table["customer"].max() + 1, end, np.int64)
    cancelled = table["touchpoint"] == TOUCHPOINTS.index("cancelled")
    gone[table["customer"][cancelled]] = table["time"][cancelled]
    stays = (table["time"] < end) & ((table["time"] < gone[table["customer"]]) | cancelled)
    order = np.lexsort((table["touchpoint"], table["customer"], table["time"]))
    order = order[stays[order]]
    return {key: column[order] for key, column in table.items()}


def _dress(
    name: str, noted: list[tuple[int, world.Ints, dict[str, Any]]], start: int, rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Give the events of one touchpoint what `LOOKS` says they look like.

    One row of draws an event, in order of days: events look the same whatever comes after them.
    """
    look = LOOKS[name]
    sizes = [len(rows) for _, rows, _ in noted]
    n = sum(sizes)
    known = {key: np.concatenate([extra[key] for _, _, extra in noted]) for key in noted[0][2]}
    u = rng.random((n, 5)).T
    day = np.repeat([day for day, _, _ in noted], sizes)
    seconds = _seconds(look.seconds, u[0], u[1]) + known.get("lag", np.zeros(n)).astype(np.int64)
    channel = _channel(look.channels, u[2])
    away = np.sqrt(-2.0 * np.log1p(-u[3]))  # Box and Muller 1958: two normals from two uniforms
    longer, dearer = away * np.cos(2 * np.pi * u[4]), away * np.sin(2 * np.pi * u[4])
    unsolved = 1.4 - 0.4 * known.get("resolved", np.ones(n))  # what is not solved takes longer
    unknown = np.full(n, np.nan)
    duration = np.round(look.duration * unsolved * np.exp(0.6 * longer)) if look.duration else unknown
    value = np.round(look.value * np.exp(0.5 * dearer), 2) if look.value else unknown
    return {
        "customer": np.concatenate([rows for _, rows, _ in noted]),
        "time": start + day * DAY_US + seconds * SECOND_US,
        "touchpoint": np.full(n, TOUCHPOINTS.index(name), np.int8),
        "channel": np.where(known.get("channel", channel) < 0, channel, known.get("channel", channel)).astype(np.int8),
        "value": known.get("value", value),
        "duration": known.get("duration", duration),
        "score": known.get("score", unknown).astype(np.float64),
        "case": known.get("case", np.full(n, -1, np.int64)),
        "resolved": known.get("resolved", np.full(n, -1)).astype(np.int8),
        "plan": known.get("plan", np.full(n, -1)).astype(np.int8),
    }


def _seconds(span: tuple[int, int], u: NDArray[np.float64], cut: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return seconds of the day, busiest in the middle of the span; one in ten is cut to the minute."""
    low, high = span
    share = np.where(u < 0.5, np.sqrt(u / 2), 1.0 - np.sqrt((1.0 - u) / 2))  # triangular law
    seconds = np.minimum(low + (share * (high - low)).astype(np.int64), max(high - 1, low))
    return np.where(cut < 0.1, seconds // 60 * 60, seconds)


def _channel(shares: Mapping[str, float], u: NDArray[np.float64]) -> NDArray[np.int8]:
    """Pick a channel for each event; -1 where the touchpoint has none."""
    if not shares:
        return np.full(len(u), -1, np.int8)
    codes = np.array([CHANNELS.index(name) for name in shares], np.int8)
    return codes[np.searchsorted(np.cumsum(list(shares.values()))[:-1], u, side="right")]


def to_frame(columns: Mapping[str, NDArray[Any]], customer_id: NDArray[np.int64]) -> pd.DataFrame:
    """Turn arrays from `to_columns` into a frame of canonical journey columns."""
    import pandas as pd

    case = columns["case"]
    names = np.array([f"K{number:07d}" for number in range(int(case.max(initial=-1)) + 1)] + [None], dtype=object)
    resolved = columns["resolved"]
    return pd.DataFrame(
        {
            "customer_id": customer_id[columns["customer"]],
            "timestamp": pd.to_datetime(columns["time"], unit="us", utc=True).as_unit("us"),
            "touchpoint": category(columns["touchpoint"], TOUCHPOINTS),
            "channel": category(columns["channel"], CHANNELS),
            "value": columns["value"],
            "duration": columns["duration"],
            "score": columns["score"],
            "case_id": pd.array(names[case], dtype="string"),
            "resolved": pd.arrays.BooleanArray(resolved == 1, resolved < 0),
        }
    )


def category(codes: world.Ints, names: tuple[str, ...]) -> Any:
    """Turn codes into a pandas Categorical of the names that occur; -1 is missing."""
    import pandas as pd

    return pd.Categorical.from_codes(codes, categories=pd.Index(names)).remove_unused_categories()
