"""Play the futures of customers many times over: how likely each is to leave, and what an offer would change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxml.progress import Progress
from cxml.simulate import world

_PATHS_AT_ONCE = 16_384  # what one step works on should stay in the processor's cache
_FEWEST_FOR_LUCK = 16  # replays; with fewer the slope is not worth estimating

Floats = NDArray[np.float64]


def replay_futures(
    then: world.State, traits: world.Traits, *, first_day: int, laws: Callable[[int], world.Laws],
    horizons: tuple[int, ...], n_replays: int, rng: np.random.Generator, progress: Progress,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Average over replayed futures, for customers as they are on a morning.

    Parameters
    ----------
    then, traits : what there is to know of ``n`` customers on the morning of ``first_day``.
    first_day : int
    laws : function of the day
        The world's laws on it.
    horizons : tuple of int
        Days, ascending.
    n_replays : int
        Futures played for each customer.
    rng : numpy Generator
    progress : Progress
        Told of the customers done.

    Returns
    -------
    churn : array of shape (n, n_horizons)
        P(cancelled within the horizon), with no further offer; never falls along a row.
    effect : array of shape (n,)
        What an offer on that morning adds to P(cancelled within the longest horizon).
    """
    n = len(then.mood)
    churn, effect = np.empty((n, len(horizons))), np.empty(n)
    at_once = max(1, _PATHS_AT_ONCE // n_replays)
    with progress.step("replay futures", n) as advance:
        for first in range(0, n, at_once):
            some = np.arange(first, min(first + at_once, n))
            paths = np.repeat(some, n_replays)
            stays, bad_luck = _play(world.take(then, paths), world.take(traits, paths), first_day, laws, horizons, rng)
            stays = stays.reshape(len(stays), len(some), n_replays)
            bad_luck = bad_luck.reshape(len(bad_luck), len(some), n_replays)
            for i, luck in enumerate(bad_luck):
                churn[some, i] = 1.0 - _mean_less_luck(stays[i], luck, lambda mean: mean**2 * (1.0 - mean))
            effect[some] = 0.0 - _mean_less_luck(stays[-1] - stays[-2], bad_luck[-1], lambda mean: mean)
            advance(len(some))
    # Taking luck away may overshoot a little.
    return np.maximum.accumulate(np.clip(churn, 0.0, 1.0), axis=1), effect


def _play(
    state: world.State, traits: world.Traits, first_day: int, laws: Callable[[int], world.Laws],
    horizons: tuple[int, ...], rng: np.random.Generator,
) -> tuple[Floats, world.Floats]:  # fmt: skip
    """Play one future on each path.

    Nobody leaves on a path: each carries the product of its days' survival instead, which averages to the
    same probability with far less noise than counting leavers (Rao and Blackwell). An offer moves the hazard
    alone, so both arms share the path and their difference has the noise of neither.

    Returns
    -------
    stays : array of shape (n_horizons + 1, n_paths)
        P(still there | path) by each horizon, and by the longest after an offer.
    bad_luck : array of shape (n_horizons, n_paths)
        How much worse than expected the path went by each horizon; of expectation 0.
    """
    effect = world.offer_effect(state, traits)
    stays = np.ones((len(horizons) + 1, len(effect)))
    bad_luck = np.zeros((len(horizons), len(effect)), np.float32)
    reach = world.reach(horizons[-1])
    for ahead in range(horizons[-1]):
        day = first_day + ahead
        logit = world.churn_logit(state, traits)
        stay = 1.0 - world.sigmoid(logit + world.offer_logit(state))
        stays[-1] *= 1.0 - world.sigmoid(logit + effect if ahead < world.OFFER_DAYS else logit)
        surprise = world.live_a_day(state, traits, laws(day), day, rng).surprise
        for i, horizon in enumerate(horizons):
            if ahead < horizon:
                stays[i] *= stay
                bad_luck[i] += reach[horizon - ahead - 1] @ surprise
    return stays, bad_luck


def _mean_less_luck(outcome: Floats, bad_luck: NDArray[Any], scale: Callable[[Floats], Floats]) -> Floats:
    """Mean of each customer's paths, less what their luck, which is 0 in expectation, puts in it.

    Luck is a control variate (Glasserman 2003, Monte Carlo Methods in Financial Engineering, section 4.1).
    One slope serves all customers; it takes away about six tenths of the variance. Each half of the paths is
    scaled by the other half: on the same paths scale and luck would go together, and the mean be biased.

    Parameters
    ----------
    outcome, bad_luck : array of shape (n_customers, n_replays)
    scale : function
        Mean outcome of a customer to how far luck can move it, in proportion.

    Returns
    -------
    array of shape (n_customers,)
    """
    mean: Floats = outcome.mean(axis=1)
    if outcome.shape[1] < _FEWEST_FOR_LUCK:
        return mean
    halves = slice(0, None, 2), slice(1, None, 2)
    scales = [scale(outcome[:, half].mean(axis=1))[:, None] for half in reversed(halves)]
    scaled = np.empty_like(outcome)
    for half, of_other_half in zip(halves, scales, strict=True):
        scaled[:, half] = of_other_half * bad_luck[:, half]
    centred = scaled - scaled.mean(axis=1, keepdims=True)
    # Over a day or two luck may be the same on every path: what is left of it by rounding must not count.
    spread = (centred**2).sum() + 1e-6 * outcome.shape[1] / 2 * sum((of_half**2).sum() for of_half in scales)
    slope = float((centred * (outcome - mean[:, None])).sum() / spread) if spread > 0.0 else 0.0
    less: Floats = mean - slope * scaled.mean(axis=1)
    return less
