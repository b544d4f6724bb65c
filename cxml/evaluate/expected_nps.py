"""Satisfaction of everybody, from the answers of those who answer.

Whoever answers a survey is seldom like whoever does not, so the mean of the answers speaks for the respondents only.
Three figures stand side by side here:

- **raw**: the mean of the answers, as every dashboard has it;
- **ipw**: answers weighted by 1 / P(answered), so that few answers of a silent kind of customer speak for all of them
  (Horvitz and Thompson 1952; Robins, Rotnitzky and Zhao 1994, JASA 89(427));
- **dr**: what a model expects of everybody, plus the weighted mean of what it got wrong for those who answered: right
  where either the model of the answer or that of answering is (augmented IPW; Robins, Rotnitzky and Zhao 1994; Bang
  and Robins 2005, Biometrics 61(4)).

All three carry the answers over to a population that was not the one asked (Dahabreh et al. 2020, Statistics in
Medicine 39(14)) by the odds of being of that population. Intervals come from influence functions summed by customer,
or from draws of whole customers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxml.errors import ConfigError, DataError
from cxml.evaluate.bootstrap import Interval, customer_draws, percentile_interval

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: No answer speaks for more than 1 / 0.02 askings: rarer ones would decide all by themselves.
LOWEST_PROPENSITY = 0.02
#: Odds of being of the population are bounded by so many times their mean.
HIGHEST_ODDS = 20.0
#: With fewer answers there is no figure.
FEWEST_ANSWERS = 10
#: With fewer draws the ends of an interval are those of a few draws.
FEWEST_DRAWS = 100
#: With fewer pairs of answers there is no ceiling.
FEWEST_PAIRS = 50
#: How far to go on along the line from half of the customers to all: 1 / (2^r - 1) for a bias of order n^-r, r = 1/2.
STEP = 1.0 / (2.0**0.5 - 1.0)
#: Standard deviation of that step where r may be anything from 1/4 to 1 alike.
STEP_SPREAD = 1.09

RAW, IPW, DR = "raw", "ipw", "dr"

#: Corrected figures that are worth fewer equally weighted answers rest on few; see `effective_size`.
FEWEST_EFFECTIVE = 30.0
#: Where a larger share of the asked hardly ever answers, the model alone speaks for them.
MOST_CLIPPED = 0.05
#: What there is to doubt of a corrected figure, and why.
FEW, SILENT, BEYOND = "few answers", "hardly ever answer", "beyond the scale"
DOUBTS = {
    FEW: f"they rest on answers that tell less than {FEWEST_EFFECTIVE:.0f} equally weighted ones would",
    SILENT: f"more than {MOST_CLIPPED:.0%} of the asked hardly ever answer, and for these the model alone speaks",
    BEYOND: "their whole interval lay beyond the scale before it was cut to it",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Everybody who was asked in a span, one row an asking.

    Parameters
    ----------
    customer : int64 array of shape (n,)
        A customer's rows hang together.
    answered : bool array of shape (n,)
    value : float64 array of shape (n,)
        What is averaged, such as 100, 0, -100 for promoters, passives, detractors; NaN where no answer came.
    propensity : float64 array of shape (n,)
        P(answered), from a model that did not see the customer.
    expected : float64 array of shape (n,)
        The value expected by a model that did not see the customer.
    odds : float64 array of shape (n,), optional
        How much more often such a row occurs in the population than among the asked, see `population_odds`; None
        where the asked are the population.
    """

    customer: Int64
    answered: Bools
    value: Float64
    propensity: Float64
    expected: Float64
    odds: Float64 | None = None

    def __post_init__(self) -> None:
        columns = (self.answered, self.value, self.propensity, self.expected, self.odds)
        if any(column is not None and column.shape != self.customer.shape for column in columns):
            raise DataError("every column of the asked must have one value a row")
        if np.isnan(self.value[self.answered]).any():
            raise DataError("value: is missing in rows that are marked as answered")

    def rows(self, mask: Bools) -> Asked:
        """Return some of the rows."""
        odds = None if self.odds is None else self.odds[mask]
        return Asked(
            self.customer[mask], self.answered[mask], self.value[mask], self.propensity[mask], self.expected[mask], odds
        )


@dataclass(frozen=True, slots=True)
class Population:
    """Everybody the figure is to speak for.

    Parameters
    ----------
    customer : int64 array of shape (m,)
    expected : float64 array of shape (m,)
        As in `Asked`.
    """

    customer: Int64
    expected: Float64

    def rows(self, mask: Bools) -> Population:
        """Return some of the rows."""
        return Population(self.customer[mask], self.expected[mask])


@dataclass(frozen=True, slots=True)
class Figures:
    """The three figures with all that says how far to trust them.

    Parameters
    ----------
    raw, ipw, dr : Interval
    n_population, n_asked, n_answers : int
        Rows.
    effective : float
        As many equally weighted answers would tell as much: (sum of weights)^2 / sum of squares (Kish 1965).
    clipped : float
        Share of the asked whose propensity was below the lowest allowed: where it is not small, hardly anybody like
        them ever answers, and the figure rests on the model alone there.
    """

    raw: Interval
    ipw: Interval
    dr: Interval
    n_population: int
    n_asked: int
    n_answers: int
    effective: float
    clipped: float


@dataclass(frozen=True, slots=True)
class _Estimate:
    """A value with its influence function: how much each row pulled at it."""

    value: float
    customer: Int64
    influence: Float64

    def interval(self, level: float) -> Interval:
        from scipy.stats import norm

        _, code = np.unique(self.customer, return_inverse=True)
        spread = float(np.sqrt((np.bincount(code, self.influence) ** 2).sum())) if len(code) else float("nan")
        half = float(norm.ppf((1.0 + level) / 2.0)) * spread
        return Interval(self.value, self.value - half, self.value + half)


def estimate(
    asked: Asked,
    population: Population | None = None,
    *,
    level: float = 0.95,
    bootstrap: int | None = None,
    random_state: int = 0,
) -> Figures:
    """Estimate a mean over a population by the answers of some.

    Parameters
    ----------
    asked : Asked
    population : Population, optional
        Default: everybody who was asked.
    level : float
        Of the intervals.
    bootstrap : int, optional
        Intervals are percentiles of so many draws of whole customers, each with all askings and all rows of the
        population, the models as they are; at least 100. Default: influence functions.
    random_state : int
        Seed of the draws.

    Returns
    -------
    Figures
        NaN where there are fewer than 10 answers.

    Examples
    --------
    Half are content, and three times as likely to answer. Raw answers say 50, the truth is 0.

    >>> content = np.tile([True, True, False, False], 2000)
    >>> propensity = np.where(content, 0.75, 0.25)
    >>> answered = np.arange(8000) % 16 < np.where(content, 12, 4)
    >>> value = np.where(answered, np.where(content, 100.0, -100.0), np.nan)
    >>> asked = Asked(np.arange(8000), answered, value, propensity, np.zeros(8000))
    >>> found = estimate(asked)
    >>> round(found.raw.value), round(found.ipw.value), round(found.dr.value)
    (50, 0, 0)
    """
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; it must lie between 0 and 1, e.g. 0.95")
    if bootstrap is not None and bootstrap < FEWEST_DRAWS:
        raise ConfigError(f"bootstrap is {bootstrap}; ends of intervals need {FEWEST_DRAWS} draws or more, e.g. 1000")
    if population is None:
        population = Population(asked.customer, asked.expected)
    came = asked.answered
    counts = {"n_population": len(population.customer), "n_asked": len(came), "n_answers": int(came.sum())}
    clipped = float((asked.propensity < LOWEST_PROPENSITY).mean()) if len(came) else float("nan")
    if came.sum() < FEWEST_ANSWERS or not len(population.customer):
        nothing = Interval(float("nan"), float("nan"), float("nan"))
        return Figures(nothing, nothing, nothing, **counts, effective=float("nan"), clipped=clipped)
    weight = response_weights(asked)
    found = (
        _mean(asked.customer[came], asked.value[came], np.ones(int(came.sum()))),
        _mean(asked.customer, asked.value, weight),
        _doubly_robust(asked, population, weight),
    )
    if bootstrap is None:
        raw, ipw, dr = (one.interval(level) for one in found)
    else:
        drawn = _drawn(asked, population, weight, bootstrap, random_state)
        raw, ipw, dr = (percentile_interval(one.value, drawn[:, k], level) for k, one in enumerate(found))
    return Figures(raw, ipw, dr, **counts, effective=effective_size(weight), clipped=clipped)


def response_weights(asked: Asked) -> Float64:
    """Return the weight of every answer, 0 where none came: odds / P(answered), the latter 0.02 at least."""
    odds = 1.0 if asked.odds is None else asked.odds
    return np.where(asked.answered, odds / np.clip(asked.propensity, LOWEST_PROPENSITY, 1.0), 0.0)


def effective_size(weight: ArrayLike) -> float:
    """As many equally weighted answers would tell as much (Kish 1965, Survey Sampling).

    Examples
    --------
    >>> effective_size([1.0, 1.0, 1.0]), round(effective_size([1.0, 1.0, 10.0]), 2)
    (3.0, 1.41)
    """
    weights = np.asarray(weight, float)
    squares = float((weights**2).sum())
    return float(weights.sum() ** 2 / squares) if squares > 0 else 0.0


def _mean(customer: Int64, value: Float64, weight: Float64) -> _Estimate:
    """Weighted mean and its linearisation (Hajek's ratio)."""
    known = np.where(weight > 0, value, 0.0)
    mean = float(weight @ known / weight.sum())
    return _Estimate(mean, customer, weight * (known - mean) / weight.sum())


def _doubly_robust(asked: Asked, population: Population, weight: Float64) -> _Estimate:
    missed = _mean(asked.customer, asked.value - asked.expected, weight)
    expected = _mean(population.customer, population.expected, np.ones(len(population.customer)))
    return _Estimate(
        expected.value + missed.value,
        np.concatenate([expected.customer, missed.customer]),
        np.concatenate([expected.influence, missed.influence]),
    )


def _drawn(asked: Asked, population: Population, weight: Float64, n: int, random_state: int) -> Float64:
    """Make the three figures of each of some draws of customers, shape (n, 3).

    All are made of sums over rows, so what is drawn are the sums of each customer.
    """
    of_whom, code = np.unique(np.concatenate([asked.customer, population.customer]), return_inverse=True)
    came, owner = asked.answered, (code[: len(asked.customer)], code[len(asked.customer) :])
    value, missed = (np.where(came, x, 0.0) for x in (asked.value, asked.value - asked.expected))
    columns = [(owner[0], x) for x in (came.astype(np.float64), value, weight, weight * value, weight * missed)]
    columns += [(owner[1], x) for x in (np.ones(len(population.customer)), population.expected)]
    sums = np.column_stack([np.bincount(who, x, minlength=len(of_whom)) for who, x in columns])
    blocks = [times @ sums for times in customer_draws(np.arange(len(of_whom)), n, random_state)]
    total = np.concatenate([np.empty((0, len(columns))), *blocks])
    answers, given, weights, weighted, misses, people, expected = total.T
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw without answers cannot tell
        return np.column_stack([given / answers, weighted / weights, expected / people + misses / weights])


def extrapolate(whole: Figures, halves: Sequence[Figures], *, level: float = 0.95) -> Figures:
    """Take away what is left of the bias because models learn from a finite number of answers.

    A model that learned from half of the customers corrects less than one that learned from all; going on along that
    line says what one that had learned from infinitely many would correct. If what is missing shrinks like the error
    of an estimate, as n^(-1/2), the limit is ``whole + (whole - half) / (sqrt(2) - 1)``: the generalised jackknife
    (Schucany, Gray and Owen 1971, JASA 66(335)). What is missing is the product of what both models miss, so that is
    n^(-1/4) each, the slowest for which doubly robust figures have a theory (Chernozhukov et al. 2018, Econometrics
    Journal 21(1)). Nobody knows the rate of a log: the interval allows for any from n^(-1/4) to n^(-1).

    Parameters
    ----------
    whole : Figures
        By models of all customers.
    halves : sequence of Figures
        By models of one half of them each, on the same rows.
    level : float
        That of their intervals.

    Returns
    -------
    Figures
        ``ipw`` and ``dr`` moved; their intervals widened by how far the halves differ, and by the unknown rate.

    Examples
    --------
    >>> def made(dr): return Figures(Interval(36, 34, 38), *[Interval(dr, dr - 2, dr + 2)] * 2, 9, 9, 9, 9.0, 0.0)
    >>> round(extrapolate(made(24.0), [made(25.5), made(24.5)]).dr.value, 1)
    21.6
    """
    if not halves:
        return whole
    return replace(
        whole,
        ipw=_extrapolated(whole.ipw, [half.ipw for half in halves], level),
        dr=_extrapolated(whole.dr, [half.dr for half in halves], level),
    )


def _extrapolated(whole: Interval, halves: Sequence[Interval], level: float) -> Interval:
    from scipy.stats import norm

    values = np.array([half.value for half in halves])
    learned = float(whole.value - values.mean())
    value = whole.value + STEP * learned
    # the mean of the halves is as uncertain as they differ; what they share with the whole cancels
    noise = STEP * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    beside = np.hypot(noise, STEP_SPREAD * learned)
    further = float(norm.ppf((1.0 + level) / 2.0)) * beside
    sides = np.maximum([whole.value - whole.low, whole.high - whole.value], 0.0)  # those of draws differ
    below, above = np.hypot(sides, further).tolist()
    return Interval(value, value - below, value + above)


def population_odds(asked: Float64, population: Float64) -> Float64:
    """How much more often rows like these occur in the population than among the asked.

    A logistic regression tells the two apart by a few summaries and their squares and products. By all features they
    could be told apart all too well, since people are asked just after something happened, and a handful of answers
    would carry all weight; what matters is what moves feeling and answering, so summaries of these suffice (Hansen
    2008, Biometrika 95(2), on the prognostic score).

    Parameters
    ----------
    asked : float64 array of shape (n, n_summaries)
    population : float64 array of shape (m, n_summaries)

    Returns
    -------
    float64 array of shape (n,)
        Of mean 1; none more than 20 times the mean there was before it was bounded.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> asked = rng.normal(0, 1, (4000, 1))
    >>> odds = population_odds(asked, rng.normal(1, 1, (4000, 1)))
    >>> round(float(odds @ asked[:, 0] / odds.sum()))
    1
    """
    from sklearn.linear_model import LogisticRegression

    if not len(asked) or not len(population):
        return np.ones(len(asked))
    rows = _standardised(np.concatenate([asked, population]))
    is_population = np.concatenate([np.zeros(len(asked)), np.ones(len(population))])
    fitted = LogisticRegression(C=10.0, solver="newton-cholesky", max_iter=200).fit(quadratic(rows), is_population)
    odds = np.exp(np.round(fitted.decision_function(quadratic(rows[: len(asked)])), 9))
    odds = np.minimum(odds / odds.mean(), HIGHEST_ODDS)
    return np.asarray(odds / odds.mean(), np.float64)


def _standardised(x: Float64) -> Float64:
    spread = x.std(axis=0)
    return np.asarray((x - x.mean(axis=0)) / np.where(spread > 1e-12, spread, np.inf), np.float64)


def quadratic(x: Float64) -> Float64:
    """Return the columns, their squares and their products.

    Examples
    --------
    >>> quadratic(np.array([[2.0, 3.0]])).tolist()
    [[2.0, 3.0, 4.0, 6.0, 9.0]]
    """
    first, second = np.triu_indices(x.shape[1])
    return np.column_stack([x, x[:, first] * x[:, second]])


def if_hidden(figures: Figures, asked: Asked, share: float) -> float:
    """Say what the figure would be if a share of what moves feeling and answering were in no feature.

    The correction found so far is what the features explain of the link between feeling and answering. If they explain
    only 1 - share of the variance of that feeling, the whole correction is larger by 1 / (1 - share), to first order.
    Data cannot tell the share (answers that did not come are missing not at random); this says what it would mean
    (sensitivity analysis, Rotnitzky, Robins and Scharfstein 1998, JASA 93(444)).

    Parameters
    ----------
    figures : Figures
    asked : Asked
        The rows behind them.
    share : float
        From 0 to below 1.

    Returns
    -------
    float

    Examples
    --------
    >>> sure = Interval(20.0, 18.0, 22.0)
    >>> asked = Asked(np.arange(2), np.ones(2, bool), np.array([30.0, 50.0]), np.ones(2), np.zeros(2))
    >>> if_hidden(Figures(sure, sure, sure, 2, 2, 2, 2.0, 0.0), asked, 0.2)
    15.0
    """
    return figures.dr.value + _further(figures.dr, asked, share)


def allow_hidden(figures: Figures, asked: Asked, share: float) -> Figures:
    """Widen the intervals of corrected figures by what up to a share of hidden feeling would do to them.

    An interval that knows of chance alone covers the truth too seldom where some of what moves feeling and answering
    is in no feature, and in some part it always is. Every share from 0 to ``share`` moves the figure, and with it its
    interval; what comes back reaches over all of these intervals: an uncertainty region (Vansteelandt, Goetghebeur,
    Kenward and Molenberghs 2006, Statistica Sinica 16(3)). It is longer on the side away from the raw answers only.

    Parameters
    ----------
    figures : Figures
    asked : Asked
        The rows behind them.
    share : float
        From 0 to below 1; 0 leaves the intervals as they are.

    Returns
    -------
    Figures
        Values as they were; ``ipw`` and ``dr`` with wider intervals.

    Examples
    --------
    >>> sure = Interval(20.0, 18.0, 22.0)
    >>> asked = Asked(np.arange(2), np.ones(2, bool), np.array([30.0, 50.0]), np.ones(2), np.zeros(2))
    >>> allow_hidden(Figures(sure, sure, sure, 2, 2, 2, 2.0, 0.0), asked, 0.2).dr
    Interval(value=20.0, low=13.0, high=22.0)
    """
    ipw, dr = (_reaching(one, _further(one, asked, share)) for one in (figures.ipw, figures.dr))
    return replace(figures, ipw=ipw, dr=dr)


def _reaching(one: Interval, further: float) -> Interval:
    return Interval(one.value, one.low + min(0.0, further), one.high + max(0.0, further))


def doubts(figures: Figures, lowest: float, highest: float, customers: int | None = None) -> tuple[str, ...]:
    """Say why corrected figures are not to be trusted, if so.

    Parameters
    ----------
    figures : Figures
        Before `bounded`.
    lowest, highest : float
        The least and the most that the figure can be.
    customers : int, optional
        How many answered: the answers of one say less than as many of others.

    Returns
    -------
    tuple of str
        Keys of `DOUBTS`; empty where nothing speaks against them, or where there are none.

    Examples
    --------
    >>> sure = Interval(20.0, 18.0, 22.0)
    >>> doubts(Figures(sure, sure, sure, 90, 90, 40, 12.5, 0.01), -100.0, 100.0)
    ('few answers',)
    """
    if np.isnan(figures.dr.value):
        return ()
    rounding = 1e-9 * (highest - lowest)
    beyond = any(one.low > highest + rounding or one.high < lowest - rounding for one in (figures.ipw, figures.dr))
    few = min(figures.effective, np.inf if customers is None else customers) < FEWEST_EFFECTIVE
    found = {FEW: few, SILENT: figures.clipped > MOST_CLIPPED, BEYOND: beyond}
    return tuple(doubt for doubt, holds in found.items() if holds)


def bounded(figures: Figures, lowest: float, highest: float) -> Figures:
    """Cut figures and intervals to what the figure can be.

    A corrected figure is a sum of parts, and goes on along a line: nothing keeps it on the scale, nor its interval.
    The truth is on the scale, so what is cut off never held it.

    Parameters
    ----------
    figures : Figures
    lowest, highest : float
        The least and the most that the figure can be.

    Returns
    -------
    Figures

    Examples
    --------
    >>> sure, far = Interval(1.5, 1.4, 1.6), Interval(1.9, 1.74, 2.06)
    >>> bounded(Figures(sure, far, far, 9, 9, 9, 9.0, 0.0), -2.0, 2.0).dr
    Interval(value=1.9, low=1.74, high=2.0)
    """
    raw, ipw, dr = (
        Interval(*(float(np.clip(x, lowest, highest)) for x in one)) for one in (figures.raw, figures.ipw, figures.dr)
    )
    return replace(figures, raw=raw, ipw=ipw, dr=dr)


def _further(one: Interval, asked: Asked, share: float) -> float:
    """Say how much further from the uncorrected answers a figure would be with a share of hidden feeling."""
    if not 0 <= share < 1:
        raise ConfigError(f"share of hidden feeling is {share}; it must be 0 or more and below 1, e.g. 0.2")
    came = asked.answered
    weight = np.ones(int(came.sum())) if asked.odds is None else asked.odds[came]
    uncorrected = float(np.average(asked.value[came], weights=weight)) if came.any() else float("nan")
    return (one.value - uncorrected) * share / (1.0 - share)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How good any model could be, by customers who answered twice.

    Parameters
    ----------
    n_pairs, n_customers : int
    reliability : Interval
        Correlation of the two answers.
    correlation : Interval
        The most that any prediction can correlate with the answers: the root of the reliability. Quadratic kappa is
        never above the correlation, so it is bounded as well.
    rmse, mae : Interval
        The least root mean squared and mean absolute error.
    note : str
        What is to be said of it; where there are too few pairs, that.
    """

    n_pairs: int
    n_customers: int
    reliability: Interval
    correlation: Interval
    rmse: Interval
    mae: Interval
    note: str = ""


def noise_ceiling(
    customer: ArrayLike, time: ArrayLike, score: ArrayLike, *, within: int, n: int = 500, level: float = 0.95,
    random_state: int = 0,
) -> Ceiling:  # fmt: skip
    """Find what answers repeat of themselves when a customer answers twice close together.

    Two answers of the same feeling differ by the noise of answering alone. Their correlation is the reliability, and
    its root bounds the correlation of any prediction with the answer (Spearman 1904, American Journal of Psychology
    15(1)). Half of their mean squared difference is the variance of the noise; half of their mean absolute difference
    bounds the mean absolute error, by the triangle inequality. Feeling that changed between the two counts as noise,
    so the true ceiling may be higher, never lower.

    Parameters
    ----------
    customer, time, score : arrays of shape (n_answers,)
        In any order.
    within : int
        Microseconds between the two at most. Consecutive answers make a pair.
    n, level, random_state
        Of the bootstrap over customers.

    Returns
    -------
    Ceiling
        NaN, with a note, where there are fewer than 50 pairs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> feeling = np.repeat(rng.normal(7, 1.5, 4000), 2)
    >>> found = noise_ceiling(np.repeat(np.arange(4000), 2), np.tile([0, 1], 4000), feeling + rng.normal(0, 1.5, 8000),
    ...                       within=5, n=100)
    >>> round(found.reliability.value, 1), round(found.correlation.value, 1), round(found.rmse.value, 1)
    (0.5, 0.7, 1.5)
    """
    from cxml.evaluate.bootstrap import bootstrap_interval

    who, when, answers = np.asarray(customer), np.asarray(time), np.asarray(score, float)
    order = np.lexsort((when, who))
    who, when, answers = who[order], when[order], answers[order]
    at = np.flatnonzero((who[1:] == who[:-1]) & (when[1:] - when[:-1] <= within))
    first, second, owner = answers[at], answers[at + 1], who[at]
    n_customers = len(np.unique(owner))
    if len(at) < FEWEST_PAIRS:
        unknown = Interval(float("nan"), float("nan"), float("nan"))
        note = f"{len(at)} pairs of answers close together are too few to tell the noise of answering; {FEWEST_PAIRS} "
        return Ceiling(len(at), n_customers, unknown, unknown, unknown, unknown, note + "are needed")
    found = [
        bootstrap_interval(metric, (first, second), owner, n=n, level=level, random_state=random_state)
        for metric in (_agreement, _root_agreement, _noise, _half_distance)
    ]
    return Ceiling(
        len(at), n_customers, found[0], found[1], found[2], found[3],
        note=f"{len(at):,} pairs of answers of {n_customers:,} customers",
    )  # fmt: skip


def _averaged(x: Float64, weight: Any) -> Any:
    if weight is None:
        return x.mean()
    return weight @ x / np.maximum(weight.sum(axis=-1), 1e-300)


def _agreement(first: Float64, second: Float64, weight: Any = None) -> Any:
    """Intraclass correlation of exchangeable pairs (Fisher 1925): the order of the two means nothing."""
    mean = _averaged((first + second) / 2.0, weight)
    product, square = _averaged(first * second, weight), _averaged((first**2 + second**2) / 2.0, weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (product - mean**2) / (square - mean**2)


def _root_agreement(first: Float64, second: Float64, weight: Any = None) -> Any:
    return np.sqrt(np.maximum(_agreement(first, second, weight), 0.0))


def _noise(first: Float64, second: Float64, weight: Any = None) -> Any:
    return np.sqrt(_averaged((first - second) ** 2 / 2.0, weight))


def _half_distance(first: Float64, second: Float64, weight: Any = None) -> Any:
    return _averaged(np.abs(first - second) / 2.0, weight)


#: Name of each quadrant and what is done there, by (leaves, unhappy).
QUADRANTS: dict[tuple[bool, bool], tuple[str, str]] = {
    (True, True): ("leaving, unhappy", "rescue: solve what hurts, now"),
    (True, False): ("leaving, happy", "find the reason: price, need, moving; feeling is not it"),
    (False, True): ("staying, unhappy", "repair before they can leave; they are not there by choice"),
    (False, False): ("staying, happy", "thank, ask for a reference, leave in peace"),
}


@dataclass(frozen=True, slots=True)
class Quadrant:
    """One of the four corners of risk and feeling.

    Parameters
    ----------
    name, advice : str
    n : int
    share : float
        Of all customers.
    risk, feeling : float
        Means.
    value : float or None
        Sum of what its customers are worth, where that is known.
    """

    name: str
    advice: str
    n: int
    share: float
    risk: float
    feeling: float
    value: float | None


def quadrants(
    risk: ArrayLike, feeling: ArrayLike, *, risky: float, content: float, value: ArrayLike | None = None
) -> tuple[Int64, list[Quadrant]]:
    """Part customers by the risk that they leave and by how they feel.

    Parameters
    ----------
    risk : array of shape (n,)
        P(churn).
    feeling : array of shape (n,)
        Expected NPS or score.
    risky : float
        Risk from which on somebody counts as leaving.
    content : float
        Feeling from which on somebody counts as happy.
    value : array of shape (n,), optional
        What each is worth; missing counts as nothing.

    Returns
    -------
    quadrant : int64 array of shape (n,)
        Index into the list.
    list of Quadrant
        In the order of `QUADRANTS`.

    Examples
    --------
    >>> place, four = quadrants([0.5, 0.1, 0.1], [-20.0, 40.0, -5.0], risky=0.3, content=0.0, value=[10.0, 20.0, 5.0])
    >>> place.tolist(), [(q.name, q.n, q.value) for q in four if q.n]
    ([0, 3, 2], [('leaving, unhappy', 1, 10.0), ('staying, unhappy', 1, 5.0), ('staying, happy', 1, 20.0)])
    """
    risks, feelings = np.asarray(risk, float), np.asarray(feeling, float)
    worth = None if value is None else np.nan_to_num(np.asarray(value, float))
    place = np.where(risks >= risky, 0, 2) + (feelings >= content)
    four = []
    for k, (name, advice) in enumerate(QUADRANTS.values()):
        here = place == k
        n = int(here.sum())
        mean_risk, mean_feeling = (float(x[here].mean()) if n else float("nan") for x in (risks, feelings))
        total = None if worth is None else float(worth[here].sum())
        four.append(Quadrant(name, advice, n, n / max(len(risks), 1), mean_risk, mean_feeling, total))
    return np.asarray(place, np.int64), four


@dataclass(frozen=True, slots=True)
class AskPlan:
    """Whom to ask.

    Parameters
    ----------
    order : int64 array
        Rows to ask, the most telling first.
    gain : float64 array of shape (n,)
        Expected information of asking each row.
    answers : float
        How many answers are to be expected from those in ``order``.
    """

    order: Int64
    gain: Float64
    answers: float


def whom_to_ask(
    propensity: ArrayLike, variance: ArrayLike, *, budget: int, noise: float = 0.0, allowed: ArrayLike | None = None
) -> AskPlan:
    """Rank customers by what asking them is expected to tell of their own feeling.

    An answer of variance ``v`` given what is known, of which ``noise`` is that of answering, takes
    ``(v - noise)^2 / v`` off the variance of the feeling (normal learning; Lindley 1956, Annals of Mathematical
    Statistics 27(4), on the information of an experiment), and it comes with P(answered). Answers to surveys that were
    sent by this list must not be averaged as they are: it prefers the unsure.

    Parameters
    ----------
    propensity : array of shape (n,)
        P(answered if asked).
    variance : array of shape (n,)
        Of the score given what is known of the customer.
    budget : int
        Surveys to send.
    noise : float
        Variance of answering, e.g. the squared ``rmse`` of `noise_ceiling`; 0 takes all variance as feeling.
    allowed : bool array of shape (n,), optional
        Who may be asked now.

    Returns
    -------
    AskPlan

    Examples
    --------
    >>> plan = whom_to_ask([0.9, 0.3, 0.3], [1.0, 4.0, 2.0], budget=2)
    >>> plan.order.tolist(), round(plan.answers, 1)
    ([1, 0], 1.2)
    """
    if budget < 1:
        raise ConfigError(f"budget is {budget}; give the number of surveys to send, 1 or more")
    answers, spread = np.asarray(propensity, float), np.asarray(variance, float)
    feeling = np.maximum(spread - noise, 0.0)
    gain = answers * feeling**2 / np.maximum(spread, 1e-12)
    may = np.ones(len(gain), np.bool_) if allowed is None else np.asarray(allowed, np.bool_)
    candidates = np.flatnonzero(may)
    order = candidates[np.argsort(-gain[candidates], kind="stable")][:budget]
    return AskPlan(np.asarray(order, np.int64), gain, float(answers[order].sum()))


def asking_rates(propensity: ArrayLike, spread: ArrayLike, *, budget: float) -> Float64:
    """With which probability to ask each customer, so that the company's figure becomes as sure as it can be.

    The variance of a weighted mean is the sum of ``spread^2 / (rate * propensity)``; under a fixed number of surveys
    it is least where the rate is proportional to ``spread / sqrt(propensity)`` (Neyman 1934, JRSS 97(4)). Everybody
    keeps a chance of being asked, so the answers can be weighted back.

    Parameters
    ----------
    propensity, spread : arrays of shape (n,)
        P(answered if asked), and standard deviation of the value given what is known.
    budget : float
        Expected number of surveys, at most n.

    Returns
    -------
    float64 array of shape (n,)
        From above 0 to 1; the sum is the budget.

    Examples
    --------
    >>> asking_rates([0.25, 1.0], [1.0, 1.0], budget=1.2).round(2).tolist()
    [0.8, 0.4]
    """
    answers, deviation = np.asarray(propensity, float), np.asarray(spread, float)
    if not 0 < budget <= len(answers):
        raise ConfigError(f"budget is {budget}; it must be above 0 and at most the {len(answers):,} customers")
    wanted = np.maximum(deviation, 1e-6) / np.sqrt(np.clip(answers, LOWEST_PROPENSITY, 1.0))
    rate, sure = np.zeros(len(wanted)), np.zeros(len(wanted), np.bool_)
    while True:
        left = budget - sure.sum()
        rate = np.where(sure, 1.0, wanted * left / max(wanted[~sure].sum(), 1e-300))
        beyond = ~sure & (rate > 1.0)
        if not beyond.any():
            return rate
        sure |= beyond
