"""Rolling-origin evaluation: learn and test as if on several days of the past, each knowing only what came before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxml.config import ProjectConfig
from cxml.errors import ConfigError, DataError, nearest
from cxml.evaluate.bootstrap import Interval
from cxml.evaluate.exam import MODEL, Exam
from cxml.evaluate.slices import Slice, slice_table
from cxml.features.plan import FeaturePlan
from cxml.progress import SILENT, Advance, Progress
from cxml.snapshots.splits import Split
from cxml.times import format_instant
from cxml.training.folds import Course, courses, lay_folds
from cxml.training.hindsight import hindsight
from cxml.training.learn import demand_value, examine, learn_target, predict_test, rounded
from cxml.training.studies import PARTS, Leavers, Rows, Study, plan_features, with_features

if TYPE_CHECKING:
    import pyarrow
    from matplotlib.figure import Figure

    from cxml.journeys.log import JourneyLog

Float64 = NDArray[np.float64]

MOST_FOLDS = 5
#: Name of the honest predictions where they stand beside those of a random split.
ROLLING = "rolling origin"
#: What the column ``fold`` of the long table says beside the numbers of folds.
ALL, RANDOM, SAME = "all", "random split", "same snapshots"
#: Shares of the rows that a random split tests and calibrates on.
_RANDOM_TEST, _RANDOM_CALIBRATION = 0.2, 0.2


@dataclass(frozen=True)
class Tested:
    """One target in one fold.

    Parameters
    ----------
    fold : int
        From 1, the earliest.
    study : Study
        Its test part alone.
    plan : FeaturePlan
        Chosen and learned from what was known before the calibration of the fold.
    predictions : dict of str to float64 array
        Who -> predictions for the test rows.
    exam : Exam
    """

    fold: int
    study: Study
    plan: FeaturePlan
    predictions: dict[str, Float64]
    exam: Exam


@dataclass(frozen=True)
class Flattery:
    """How much better a random split makes one target look.

    Parameters
    ----------
    own : Exam
        Of the model under the random split, on the rows that split tests on: what would have been reported.
    same : Exam
        On the snapshots that both test: the random split's model as ``"cxml"``, the honest one beside it as
        ``"rolling origin"``. A gain below 0 is flattery.
    """

    own: Exam
    same: Exam


@dataclass(frozen=True)
class Backtest:
    """What a backtest found.

    Parameters
    ----------
    folds : tuple of Tested
        By fold, then target.
    pooled : dict of str to Exam
        By target: all folds as one test, customers resampled across folds.
    flattery : dict of str to Flattery
        By target; empty where no random split was asked for.
    horizons : tuple of str
        Of churn.
    by : tuple of str
        Attributes whose segments people are shown; empty: all there are. Machines get all of them in any case.
    """

    folds: tuple[Tested, ...]
    pooled: dict[str, Exam]
    flattery: dict[str, Flattery] = field(default_factory=dict)
    horizons: tuple[str, ...] = ()
    by: tuple[str, ...] = ()

    def of(self, target: str) -> list[Tested]:
        """Give the folds of one target, the earliest first."""
        return [one for one in self.folds if one.study.target == target]

    @property
    def beats_all(self) -> bool:
        """Whether every target is better than every baseline, all folds together."""
        return all(exam.beats_all for exam in self.pooled.values())

    def verdicts(self) -> list[str]:
        """One sentence a target: is the model worth having."""
        return [exam.verdict() for exam in self.pooled.values()]

    def warnings(self) -> list[str]:
        """Say what the figures cannot bear: a single fold, whatever a random split says, segments too small to show."""
        said = [
            f"{target}: one fold only, which is the test of cxml train itself; for more, give a longer log, a smaller "
            "snapshots.every or shorter horizons"
            for target in self.pooled
            if len(self.of(target)) == 1
        ]
        said += [self._flattered(target) for target in self.flattery]
        return said + [
            f"{target}: no segments of '{name}' to show: all customers tested share one value, or too few share any"
            for target, exam in self.pooled.items()
            for name in self.by
            if name not in {part.attribute for part in exam.slices}
        ]

    def _flattered(self, target: str) -> str:
        found = self.flattery[target]
        gains = found.same.gains[ROLLING]
        told = "; ".join(
            f"{metric} {_value(found.own, metric)} where rolling origin says {_value(self.pooled[target], metric)} "
            f"(same snapshots: {_signed(gain)})"
            for metric, gain in gains.items()
        )
        word = "FLATTERS" if any(gain.high < 0 for gain in gains.values()) else "does not clearly flatter here"
        return f"{target}: the random split {word}: {told}. Its model has seen what came later: do not quote it"

    def rows(self) -> list[dict[str, Any]]:
        """Return the long table, one figure a row; see `table`."""
        found: list[dict[str, Any]] = []
        for one in self.folds:
            found += self._rows(one.exam, str(one.fold), [one])
        for target, exam in self.pooled.items():
            found += self._rows(exam, ALL, self.of(target))
            found += self._slice_rows(exam, self.of(target))
        for target, flattery in self.flattery.items():
            found += self._rows(flattery.own, RANDOM, self.of(target))
            found += self._rows(flattery.same, SAME, self.of(target))
        return found

    def _rows(self, exam: Exam, fold: str, tested: Sequence[Tested]) -> Iterator[dict[str, Any]]:
        same = _tested_on(exam.target, fold, tested) | {"snapshots": exam.n_rows, "customers": exam.n_customers}
        told: list[tuple[str, str | None, str, Interval]]
        told = [(who, None, key, figure) for who, by in exam.scores.items() for key, figure in by.items()]
        told += [(MODEL, who, key, figure) for who, by in exam.gains.items() for key, figure in by.items()]
        for who, against, key, figure in told:
            metric, horizon = self._apart(key)
            yield same | {"who": who, "against": against, "metric": metric, "horizon": horizon, **_known(figure)}

    def _slice_rows(self, exam: Exam, tested: Sequence[Tested]) -> Iterator[dict[str, Any]]:
        same = _tested_on(exam.target, ALL, tested) | {"who": MODEL, "against": None}
        for part in exam.slices:
            which = {"attribute": part.attribute, "segment": part.value}
            size = {"snapshots": part.n_rows, "customers": part.n_customers}
            for key, figure in part.scores.items():
                metric, horizon = self._apart(key)
                yield same | which | size | {"metric": metric, "horizon": horizon, **_known(figure)}

    def _apart(self, key: str) -> tuple[str, str | None]:
        """Part ``auroc_30d`` into metric and horizon."""
        horizon = next((h for h in self.horizons if key.endswith(f"_{h}")), None)
        return (key, None) if horizon is None else (key.removesuffix(f"_{horizon}"), horizon)

    def table(self) -> pyarrow.Table:
        """Return every figure as a long table.

        Returns
        -------
        pyarrow.Table
            ``target``; ``fold`` (``1`` is the earliest, ``all`` together, ``random split``, ``same snapshots``);
            ``first_cutoff``, ``last_cutoff`` (UTC, of the test); ``attribute``, ``segment`` (whose figure it is; null
            for everybody); ``snapshots``, ``customers``; ``who``; ``against`` (where set, the value is that of ``who``
            minus that of ``against``, paired); ``metric``; ``horizon``; ``value``, ``low``, ``high`` (95 % bootstrap
            interval over customers; null where undefined). Segments are of the model and of all folds together.
        """
        import pyarrow as pa

        moment = pa.timestamp("us", "UTC")
        text, whole, number = pa.string(), pa.int64(), pa.float64()
        return pa.Table.from_pylist(
            self.rows(),
            pa.schema([
                ("target", text), ("fold", text), ("first_cutoff", moment), ("last_cutoff", moment),
                ("attribute", text), ("segment", text), ("snapshots", whole), ("customers", whole), ("who", text),
                ("against", text), ("metric", text), ("horizon", text), ("value", number), ("low", number),
                ("high", number),
            ]),
        )  # fmt: skip

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return tables for people: each target by fold, pooled, its differences, a random split; then the segments."""
        tables = []
        for target, exam in self.pooled.items():
            _, head, rows = exam.table()
            size = f"{exam.n_rows:,} snapshots of {exam.n_customers:,} customers"
            tables.append(self._by_fold(target))
            tables.append((f"{target}: all folds together, {size}", head, rows))
            tables.append(_gain_table(exam))
            if target in self.flattery:
                tables.append(self._flattery_table(target))
        shown = {target: self._shown(exam) for target, exam in self.pooled.items()}
        title = "by segment, all folds together: the model"
        return tables + [(f"{target} {title}", *slice_table(parts)) for target, parts in shown.items() if parts]

    def _shown(self, exam: Exam) -> list[Slice]:
        return [part for part in exam.slices if not self.by or part.attribute in self.by]

    def _by_fold(self, target: str) -> tuple[str, list[str], list[list[str]]]:
        tested = self.of(target)
        metrics = deciding(tested[-1].exam)
        rows = []
        for one in tested:
            cutoffs = one.study.parts["test"].cutoff
            span = f"{_day(int(cutoffs.min()))} to {_day(int(cutoffs.max()))}"
            rows.append([str(one.fold), span, f"{one.exam.n_rows:,}", *(_beside(one.exam, m) for m in metrics)])
        title = f"{target} by fold: the model, and the best of the baselines"
        return title, ["fold", "test cutoffs", "snapshots", *metrics], rows

    def _flattery_table(self, target: str) -> tuple[str, list[str], list[list[str]]]:
        found = self.flattery[target]
        rows = [
            [metric, _value(found.own, metric), _value(self.pooled[target], metric), _value(found.same, metric),
             f"{found.same.scores[ROLLING][metric].value:.4f}", _signed(gain)]
            for metric, gain in found.same.gains[ROLLING].items()
        ]  # fmt: skip
        title = f"{target}: how a random split flatters ({found.same.n_rows:,} snapshots are tested by both)"
        head = ["metric", "random split", "rolling origin", "random, same", "rolling, same", "difference"]
        return title, head, rows

    def lines(self) -> list[str]:
        """Say the verdict, and what to beware of."""
        return [*self.verdicts(), *(f"warning: {line}" for line in self.warnings())]

    def to_dict(self) -> dict[str, Any]:
        """Return the result for machines."""
        moments = ("first_cutoff", "last_cutoff")
        return {
            "folds": {target: len(self.of(target)) for target in self.pooled},
            "beats_all": {target: exam.beats_all for target, exam in self.pooled.items()},
            "verdicts": self.verdicts(),
            "warnings": self.warnings(),
            "results": [row | {name: format_instant(row[name]) for name in moments} for row in self.rows()],
        }

    def plot(self) -> Figure:
        """Draw the deciding metrics by fold."""
        from cxml.evaluate.plots import FoldPanel, plot_folds

        panels = []
        for target in self.pooled:
            tested = self.of(target)
            days = [_day(int(one.study.parts["test"].cutoff.min())) for one in tested]
            for metric in deciding(tested[-1].exam):
                everyone = tested[-1].exam.scores
                by_who = {who: [one.exam.scores.get(who, {}).get(metric) for one in tested] for who in everyone}
                panels.append(FoldPanel(f"{target}: {metric}", days, by_who))
        return plot_folds(panels, MODEL)


def backtest(
    log: JourneyLog,
    config: ProjectConfig,
    leavers: Leavers | None = None,
    progress: Progress = SILENT,
    *,
    folds: int | None = None,
    random_split: bool = False,
    by: Sequence[str] = (),
    replicates: int = 200,
) -> Backtest:
    """Learn and test every target as if on several days of the past; see `cxml.training.folds` for how they are laid.

    In every fold all is learned anew: features from what was known before its calibration, trees, calibration, and
    the baselines. The last fold of each target is the test of `cxml.training.learn.train`.

    Parameters
    ----------
    log : JourneyLog
    config : ProjectConfig
    leavers : (ids, int64 array), optional
        For churn of kind ``table``.
    progress : Progress
    folds : int, optional
        Exactly so many for each target. Default: as many as fit, at most five.
    random_split : bool
        Also learn and test on the same snapshots parted at random, to show by how much that flatters.
    by : sequence of str
        Attributes whose segments `Backtest.tables` shows; default: all. The figures are computed for all.
    replicates : int
        Bootstrap replicates behind the intervals.

    Returns
    -------
    Backtest

    Raises
    ------
    ConfigError
        If ``folds`` is below 1, or the log has no attribute that ``by`` names.
    DataError
        If nothing can be learned from the log, or fewer folds fit than are asked for.
    """
    if folds is not None and folds < 1:
        raise ConfigError(f"--folds is {folds}; it must be 1 or more")
    demand_attributes(by, (*log.config.attributes, *(log.customers.attributes if log.customers else ())))
    ways = courses(log, config, leavers)
    laid = {way.target: _lay(way, config, folds) for way in ways}
    cutoffs = next((way.cutoffs for way in ways if way.cutoffs is not None), None)
    outcomes = hindsight(log, config, cutoffs, leavers)
    n_folds = max(len(studies) for studies in laid.values())
    tested: list[Tested] = []
    drawn: dict[str, list[_Drawn]] = {}
    for fold in range(1, n_folds + 1):
        within = _Within(progress, f"fold {fold} of {n_folds}: ")
        studies = {t: of[fold - n_folds - 1] for t, of in laid.items() if len(of) > n_folds - fold}
        with within.step("choose features") as _:
            plan = plan_features(log, config, min(s.split.learned_until for s in studies.values()), outcomes)
        if config.churn is not None:
            demand_value(config.churn.profit, plan)
        for way in ways:
            if way.target in studies:
                study = with_features(studies[way.target], log, plan, within)
                tested.append(_test(fold, study, plan, config, within, replicates))
                if random_split:
                    drawn.setdefault(way.target, []).append(_at_random(way, tested[-1], study, config, within))
    with progress.step("all folds together") as _:
        of = {target: [one for one in tested if one.study.target == target] for target in laid}
        pooled = {target: _pooled(some, config, replicates) for target, some in of.items()}
    flattery = {target: _flattery(drawn[target], config, replicates) for target in laid if target in drawn}
    horizons = () if config.churn is None else tuple(str(h) for h in config.churn.horizons)
    return Backtest(tuple(tested), pooled, flattery, horizons, tuple(dict.fromkeys(by)))


def demand_attributes(wanted: Iterable[str], known: Iterable[str]) -> None:
    """Refuse attributes that there are not.

    Parameters
    ----------
    wanted, known : iterable of str

    Raises
    ------
    ConfigError
        Naming the nearest attribute, or all there are.

    Examples
    --------
    >>> demand_attributes(["plan"], ["plan", "region"])
    """
    names = list(known)
    for name in wanted:
        if name not in names:
            where = nearest(name, names) or "; there are none: name them under journeys.attributes or customers"
            raise ConfigError(f"--by: there is no attribute '{name}'{where}")


def deciding(exam: Exam) -> list[str]:
    """Name the metrics by which the model is held against the baselines: log loss by horizon, or RPS."""
    return list(dict.fromkeys(metric for gains in exam.gains.values() for metric in gains))


def _lay(course: Course, config: ProjectConfig, folds: int | None) -> list[Study]:
    laid = lay_folds(course, config, MOST_FOLDS if folds is None else folds)
    if folds is not None and len(laid) < folds:
        raise DataError(
            f"{course.target}: {len(laid)} of {folds} folds fit: before the first there is too little to learn from, "
            f"calibrate and test on. Ask for --folds {len(laid)}, give a longer log, or shorten horizons and "
            "snapshots.every."
        )
    return laid


def _test(
    fold: int, study: Study, plan: FeaturePlan, config: ProjectConfig, progress: Progress, replicates: int
) -> Tested:
    rows = {part: len(study.parts[part]) for part in PARTS}
    with progress.step(f"learn {study.target} from {rows['train']:,} snapshots") as _:
        predictor = learn_target(study, config, plan)[0]
    with progress.step(f"test {study.target} on {rows['test']:,} snapshots") as _:
        predictions = predict_test(study, config, plan, predictor)
        exam = examine([study], [predictions], config, replicates, [plan])
    return Tested(fold, _only(study, study.parts["test"]), plan, predictions, exam)


def _only(study: Study, test: Rows) -> Study:
    """Keep the rows that are tested, and let go of those that were learned from."""
    return Study(study.target, study.split, {"test": test})


def _pooled(tested: Sequence[Tested], config: ProjectConfig, replicates: int) -> Exam:
    if len(tested) == 1:
        return tested[0].exam
    studies, predictions = [one.study for one in tested], [one.predictions for one in tested]
    return examine(studies, predictions, config, replicates, [one.plan for one in tested])


# ---------------------------------------------------------------- the random split


class _Anyhow(Split):
    """A split that does not part time: every part sees everything to the end of the fold."""

    @property
    def parts(self) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(PARTS, (int(np.iinfo(np.int64).min), self.observed_until))


@dataclass(frozen=True)
class _Drawn:
    """One fold under a random split.

    Parameters
    ----------
    study : Study
        The rows that it tests on.
    plan : FeaturePlan
    prediction : float64 array
        For them.
    both : Study
        Those of them that are tested in the fold itself.
    by_both : dict of str to float64 array
        Predictions for these: of the random split as ``"cxml"``, of the fold as ``"rolling origin"``.
    """

    study: Study
    plan: FeaturePlan
    prediction: Float64
    both: Study
    by_both: dict[str, Float64]


def _at_random(course: Course, tested: Tested, study: Study, config: ProjectConfig, progress: Progress) -> _Drawn:
    """Part the snapshots of a fold by lot; features and model are made as in the fold: the split alone tells."""
    n_test = len(study.parts["test"])
    split = _Anyhow(study.split.calibration_start, study.split.test_start, study.split.observed_until)
    rows, source = _together(study, course.labels(split).parts["test"] if study.target == "churn" else None)
    lot = np.random.default_rng([config.random_state, tested.fold]).random(len(rows))
    parted = {
        "test": lot < _RANDOM_TEST,
        "calibration": (lot >= _RANDOM_TEST) & (lot < _RANDOM_TEST + _RANDOM_CALIBRATION),
        "train": lot >= _RANDOM_TEST + _RANDOM_CALIBRATION,
    }
    anyhow = Study(study.target, split, {part: _take(rows, parted[part]) for part in PARTS})
    with progress.step(f"learn {study.target} under a random split") as _:
        predictor = learn_target(anyhow, config, tested.plan)[0]
        prediction = predict_test(anyhow, config, tested.plan, predictor, baselines=False)[MODEL]
    place = source[parted["test"]] - (len(rows) - n_test)  # the rows of the fold's own test come last
    both = place >= 0
    return _Drawn(
        study=_only(anyhow, anyhow.parts["test"]),
        plan=tested.plan,
        prediction=prediction,
        both=_only(study, _take(study.parts["test"], place[both])),
        by_both={MODEL: prediction[both], ROLLING: tested.predictions[MODEL][place[both]]},
    )


def _together(study: Study, seen_longer: Rows | None) -> tuple[Rows, NDArray[np.intp]]:
    """All rows of a study by customer and cutoff, and which each was, part by part.

    ``seen_longer`` holds them too, with outcomes that see past the end of their part; answers have none.
    """
    parts = [study.parts[part] for part in PARTS]
    customer = np.concatenate([rows.customer for rows in parts])
    cutoff = np.concatenate([rows.cutoff for rows in parts])
    order = np.lexsort((cutoff, customer))
    whole = Rows(customer, cutoff, np.concatenate([rows.X for rows in parts]), np.concatenate([r.y for r in parts]))
    rows = _take(whole, order)
    if seen_longer is None:
        return rows, order
    moments = np.unique(seen_longer.cutoff)
    known, wanted = (r.customer * len(moments) + np.searchsorted(moments, r.cutoff) for r in (seen_longer, rows))
    return replace(rows, y=seen_longer.y[np.searchsorted(known, wanted)]), order


def _take(rows: Rows, chosen: NDArray[Any]) -> Rows:
    return replace(rows, customer=rows.customer[chosen], cutoff=rows.cutoff[chosen], X=rows.X[chosen], y=rows.y[chosen])


def _flattery(drawn: Sequence[_Drawn], config: ProjectConfig, replicates: int) -> Flattery:
    plans = [one.plan for one in drawn]
    own = examine([one.study for one in drawn], [{MODEL: one.prediction} for one in drawn], config, replicates, plans)
    same = examine([one.both for one in drawn], [one.by_both for one in drawn], config, replicates, plans)
    return Flattery(own, same)


# ---------------------------------------------------------------- how it is said


class _Within:
    """Progress that says in which fold it is."""

    def __init__(self, progress: Progress, where: str) -> None:
        self.progress, self.where = progress, where

    def step(self, what: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Open a step."""
        return self.progress.step(self.where + what, total)

    def say(self, what: str) -> None:
        """Tell one line of news."""
        self.progress.say(self.where + what)


def _gain_table(exam: Exam) -> tuple[str, list[str], list[list[str]]]:
    metrics = deciding(exam)
    rows = [[who, *(_signed(gains[m]) if m in gains else "-" for m in metrics)] for who, gains in exam.gains.items()]
    title = f"{exam.target}: model minus baseline on the same snapshots, 95 % interval (below 0: the model is better)"
    return title, ["against", *metrics], rows


def _beside(exam: Exam, metric: str) -> str:
    ours = exam.scores[MODEL].get(metric)
    if ours is None:
        return "-"
    others = {who: by[metric].value for who, by in exam.scores.items() if who != MODEL and metric in by}
    best = min(others, key=lambda who: others[who], default=None)
    text = f"{ours.value:.4f} ({ours.low:.4f} to {ours.high:.4f})"
    return text if best is None else f"{text}; {best} {others[best]:.4f}"


def _tested_on(target: str, fold: str, tested: Sequence[Tested]) -> dict[str, Any]:
    """Say of a figure what it was tested on, as far as that is the same for everybody and for a segment."""
    cutoffs = [one.study.parts["test"].cutoff for one in tested]
    return {
        "target": target,
        "fold": fold,
        "first_cutoff": min(int(c.min()) for c in cutoffs),
        "last_cutoff": max(int(c.max()) for c in cutoffs),
        "attribute": None,
        "segment": None,
    }


def _value(exam: Exam, metric: str) -> str:
    found = exam.scores[MODEL].get(metric)
    return "-" if found is None else f"{found.value:.4f}"


def _signed(gain: Interval) -> str:
    return f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"


def _known(figure: Interval) -> dict[str, float | None]:
    """Give numbers, and nothing where there is none: JSON has no word for it."""
    return {name: rounded(x) if np.isfinite(x) else None for name, x in figure._asdict().items()}


def _day(moment: int) -> str:
    return format_instant(moment)[:10]
