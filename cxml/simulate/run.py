"""Run the world: the log it leaves, and the truth about every customer at one cutoff."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError
from cxml.files import write_aside
from cxml.progress import SILENT, Progress
from cxml.simulate import events, world
from cxml.simulate.replay import replay_futures
from cxml.times import DAY_US, format_instant, parse_instant

if TYPE_CHECKING:
    import pandas as pd

_FIRST_ID = 100_001
_WARM_UP_DAYS = 90
_FIRST_WAVE, _WAVE_EVERY = 105, 90


@dataclass(frozen=True)
class Simulation:
    """Journeys with their truth.

    Parameters
    ----------
    events : DataFrame
        Canonical journey columns, sorted by timestamp.
    customers : DataFrame
        ``customer_id``, ``valid_from``, ``plan``, ``region``, ``acquisition``; a further row at each change of plan.
    truth : DataFrame
        One row a customer active at the cutoff; see `simulate`.
    waves : tuple of int
        UTC microseconds of the midnights before each campaign wave: every customer active then got a
        ``campaign_offer`` that day with probability 0.5, whatever else is true of them.
    """

    events: pd.DataFrame
    customers: pd.DataFrame
    truth: pd.DataFrame
    waves: tuple[int, ...]

    def write(self, folder: str | os.PathLike[str]) -> dict[str, Path]:
        """Write ``events.parquet``, ``customers.parquet``, ``truth.parquet``; each is whole or not there.

        Parameters
        ----------
        folder : path
            Made when missing; files of these names in it are replaced.

        Returns
        -------
        dict of str to Path
            ``events``, ``customers``, ``truth``.

        Raises
        ------
        ConfigError
            If the folder cannot be written to.
        """
        paths = {name: Path(folder) / f"{name}.parquet" for name in ("events", "customers", "truth")}
        for name, path in paths.items():
            with write_aside(path) as aside:
                getattr(self, name).to_parquet(aside, index=False, compression="zstd")
        return paths


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is asked, in days from the start and checked."""

    n_customers: int
    start: int
    n_days: int
    drift_day: int | None
    truth_day: int
    horizons: tuple[int, ...]
    n_replays: int

    def laws(self, day: int) -> world.Laws:
        return world.USUAL if self.drift_day is None or day < self.drift_day else world.DRIFTED

    def waves(self) -> range:
        """Days of the campaign; the last wave has run its course before the last quarter."""
        return range(_FIRST_WAVE, self.n_days - 90 - world.OFFER_DAYS, _WAVE_EVERY)


def simulate(
    n_customers: int = 10_000,
    *,
    start: Any = "2023-07-01",
    n_days: int = 540,
    random_state: int = 0,
    drift_from: Any = None,
    truth_at: Any = None,
    horizons: Sequence[int] = (30, 60, 90),
    n_replays: int = 128,
    progress: Progress = SILENT,
) -> Simulation:
    """Simulate the journeys of a subscription shop's customers, and what is true of them.

    A hidden satisfaction is moved by deliveries, waiting, contacts, prices and payments. It moves the
    daily hazard of cancelling, orders and logins, the survey's answers, and who answers at all. A
    campaign is randomised; its effects differ, and some are harmful. ``docs/simulator.md`` has the formulas.

    Parameters
    ----------
    n_customers : int
        Customers in all; about half of them are active on any one day.
    start : moment
        First day, a midnight UTC.
    n_days : int
        Length of the log in days.
    random_state : int
        Same seed, same simulation. Neither ``truth_at``, ``horizons`` nor ``n_replays`` changes an event.
    drift_from : moment, optional
        From this midnight the courier is worse (late more often, and later deliveries hurt more) and
        customers write by a new channel, ``messenger``, that solves little. Events before are the
        same as without.
    truth_at : moment, optional
        The cutoff of the truth, a midnight within the log. By default the last one whose longest
        horizon closes a whole day before the log does, so that every outcome can be seen.
    horizons : sequence of int
        Days, ascending.
    n_replays : int
        Futures played for each customer.
    progress : Progress
        Told of the days and of the customers replayed.

    Returns
    -------
    Simulation
        Its ``truth`` has ``customer_id``, ``cutoff``, ``satisfaction`` (hidden, higher is better),
        ``churn_{h}d`` (P(cancelled within h days) given everything, with no further offer),
        ``expected_score``, ``p_detractor``, ``p_passive``, ``p_promoter`` (the answer if asked now
        and everybody answered), ``effect`` (what a ``campaign_offer`` now adds to P(churn) at the
        longest horizon: negative saves, positive harms) and ``cause`` (the grievance that adds most
        to the hazard: late_delivery, unresolved_contact, price_increase, payment_failed, or none).

    Raises
    ------
    ConfigError
        If an argument is out of its range.

    Examples
    --------
    >>> shop = simulate(50, n_days=200, n_replays=4)
    >>> shop.events.columns.tolist()[:3]
    ['customer_id', 'timestamp', 'touchpoint']
    >>> bool((shop.truth["churn_30d"] <= shop.truth["churn_90d"]).all())
    True
    """
    plan = _check(n_customers, start, n_days, random_state, drift_from, truth_at, horizons, n_replays)
    seeds = np.random.SeedSequence(random_state).spawn(5)
    people, life, offers, record, replay = (np.random.default_rng(seed) for seed in seeds)
    traits = world.draw_traits(n_customers, n_days, people)
    lived = _live(plan, traits, life, offers, record, progress)
    columns = events.to_columns(lived.notes, plan.start, plan.start + n_days * DAY_US, record)
    return Simulation(
        events=events.to_frame(columns, np.arange(n_customers) + _FIRST_ID),
        customers=_customers(plan, traits, lived.desk, columns),
        truth=_truth(plan, lived.then, world.take(traits, lived.present), lived.present, replay, progress),
        waves=tuple(plan.start + day * DAY_US for day in plan.waves()),
    )


def _check(
    n_customers: int, start: Any, n_days: int, random_state: int, drift_from: Any, truth_at: Any,
    horizons: Sequence[int], n_replays: int,
) -> _Plan:  # fmt: skip
    least = {"n_customers": (n_customers, 1), "n_days": (n_days, world.BILLING_DAYS)}
    for name, (value, low) in {**least, "n_replays": (n_replays, 1), "random_state": (random_state, 0)}.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
            raise ConfigError(f"{name}={value!r} is not a whole number of at least {low}")
    whole = all(isinstance(horizon, int | np.integer) for horizon in horizons)
    days = tuple(int(horizon) for horizon in horizons) if whole else ()
    if not days or any(late <= early for early, late in pairwise((0, *days))):
        raise ConfigError(f"horizons={tuple(horizons)} are not ascending whole numbers of days; write (30, 60, 90)")
    first = _midnight("start", start)
    truth_day = n_days - days[-1] - 1 if truth_at is None else (_midnight("truth_at", truth_at) - first) // DAY_US
    if truth_at is None and truth_day < 1:
        raise ConfigError(
            f"n_days={n_days} is too short for a horizon of {days[-1]} days to close before the log ends. "
            f"Simulate at least {days[-1] + 2} days, ask for shorter horizons, or name truth_at."
        )
    if not 1 <= truth_day <= n_days:
        span = f"{format_instant(first + DAY_US)} to {format_instant(first + n_days * DAY_US)}"
        raise ConfigError(f"truth_at={truth_at} is outside the log; choose a midnight from {span}")
    drift_day = None if drift_from is None else (_midnight("drift_from", drift_from) - first) // DAY_US
    return _Plan(int(n_customers), first, int(n_days), drift_day, truth_day, days, int(n_replays))


def _midnight(name: str, moment: Any) -> int:
    try:
        us = parse_instant(moment)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None
    if us % DAY_US:
        raise ConfigError(f"{name}={moment} is not a midnight UTC; days are what the world is made of")
    return us


@dataclass(frozen=True, slots=True)
class _Lived:
    """What remains of a run: the notes, the books, and the morning of the truth."""

    notes: events.Notes
    desk: events.Desk
    then: world.State  # of those present
    present: world.Mask


def _live(
    plan: _Plan, traits: world.Traits, life: np.random.Generator, offers: np.random.Generator,
    record: np.random.Generator, progress: Progress,
) -> _Lived:  # fmt: skip
    """Live through the days of the log."""
    state = world.first_state(traits, life)
    _warm_up(state, traits, life)
    notes, desk = events.Notes(), events.open_desk(traits, state, record)
    gone = np.zeros(plan.n_customers, np.bool_)
    waves = set(plan.waves())
    with progress.step("simulate days", plan.n_days) as advance:
        for day in range(plan.n_days):
            here = (traits.joined < day) & ~gone
            if day == plan.truth_day:
                then, present = world.take(state, here), here
            if day in waves:
                treated = here & (offers.random(plan.n_customers) < 0.5)
                world.make_offer(state, traits, treated)
                notes.write("campaign_offer", day, treated)
            leaving = here & (life.random(plan.n_customers) < world.hazard(state, traits))
            happened = world.live_a_day(state, traits, plan.laws(day), day, life)
            events.note_day(notes, desk, day, happened, here, state, traits, record)
            joining = traits.joined == day
            world.start_anew(state, joining)
            events.welcome(notes, desk, day, joining, state)
            notes.write("cancelled", day, leaving)
            gone |= leaving
            advance(1)
    if plan.truth_day == plan.n_days:
        present = (traits.joined < plan.n_days) & ~gone
        then = world.take(state, present)
    return _Lived(notes, desk, then, present)


def _warm_up(state: world.State, traits: world.Traits, life: np.random.Generator) -> None:
    """Let days pass before the first, so that the log begins in a world in full swing."""
    for day in range(-_WARM_UP_DAYS, 0):
        world.live_a_day(state, traits, world.USUAL, day, life)
    state.tenure = np.maximum(-traits.joined, 0).astype(np.float32)


def _customers(plan: _Plan, traits: world.Traits, desk: events.Desk, columns: dict[str, NDArray[Any]]) -> pd.DataFrame:
    """Lay out the customers' attributes, a further row from each change of plan on."""
    import pandas as pd

    since = plan.start + traits.joined.astype(np.int64) * DAY_US
    signed = columns["touchpoint"] == events.TOUCHPOINTS.index("signup")
    since[columns["customer"][signed]] = columns["time"][signed]
    moved = columns["touchpoint"] == events.TOUCHPOINTS.index("plan_changed")
    customer = np.concatenate([np.arange(plan.n_customers), columns["customer"][moved]])
    valid_from = np.concatenate([since, columns["time"][moved]])
    code = np.concatenate([desk.first_plan, columns["plan"][moved]])
    order = np.lexsort((valid_from, customer))
    customer = customer[order]
    return pd.DataFrame(
        {
            "customer_id": customer + _FIRST_ID,
            "valid_from": pd.to_datetime(valid_from[order], unit="us", utc=True).as_unit("us"),
            "plan": events.category(code[order], world.PLANS),
            "region": events.category(traits.region[customer], world.REGIONS),
            "acquisition": events.category(traits.acquisition[customer], world.ACQUISITIONS),
        }
    )


def _truth(
    plan: _Plan, then: world.State, traits: world.Traits, present: world.Mask, replay: np.random.Generator,
    progress: Progress,
) -> pd.DataFrame:  # fmt: skip
    """Tell what is true of those present at the cutoff."""
    import pandas as pd

    content = world.satisfaction(then, traits)
    probability = world.score_distribution(content)
    churn, effect = replay_futures(
        then, traits, first_day=plan.truth_day, laws=plan.laws, horizons=plan.horizons,
        n_replays=plan.n_replays, rng=replay, progress=progress,
    )  # fmt: skip
    cutoff = pd.Timestamp(plan.start + plan.truth_day * DAY_US, unit="us", tz="UTC").as_unit("us")
    n = len(content)
    return pd.DataFrame(
        {
            "customer_id": np.flatnonzero(present) + _FIRST_ID,
            "cutoff": pd.Series([cutoff] * n, dtype="datetime64[us, UTC]"),
            "satisfaction": content.astype(np.float64),
            **{f"churn_{days}d": churn[:, i] for i, days in enumerate(plan.horizons)},
            "expected_score": probability @ np.arange(11.0),
            "p_detractor": probability[:, :7].sum(axis=1),
            "p_passive": probability[:, 7:9].sum(axis=1),
            "p_promoter": probability[:, 9:].sum(axis=1),
            "effect": effect,
            "cause": events.category(world.main_cause(then), (*world.CAUSES, "none")),
        }
    )
