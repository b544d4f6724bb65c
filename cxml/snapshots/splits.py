"""Temporal splits, purged: what is learned, what calibrates, what tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxml.config import SnapshotsConfig
from cxml.errors import DataError
from cxml.times import DAY_US, Duration, format_instant

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Two moments part the time line: train before the first, test from the second on.

    Purging is done by the labels themselves: those of training are read as if the log ended at
    ``calibration_start``, those of calibration as if it ended at ``test_start``, each by ``gap`` earlier. What a
    model learns is therefore what could have been known on that day.

    Parameters
    ----------
    calibration_start, test_start, observed_until : int
        UTC microseconds.
    gap : int
        Microseconds between what is learned and what it is tried on.
    """

    calibration_start: int
    test_start: int
    observed_until: int
    gap: int = 0

    @property
    def learned_until(self) -> int:
        """The moment before which everything must be known that features and trees are made from."""
        return self.calibration_start - self.gap

    @property
    def parts(self) -> dict[str, tuple[int, int]]:
        """Part -> (first cutoff, end of cutoffs and of what its labels may see)."""
        lowest = np.iinfo(np.int64).min
        return {
            "train": (int(lowest), self.learned_until),
            "calibration": (self.calibration_start, self.test_start - self.gap),
            "test": (self.test_start, self.observed_until),
        }

    def to_dict(self) -> dict[str, str]:
        """Return the moments as ISO texts."""
        moments = ("calibration_start", "test_start", "observed_until")
        told = {name: format_instant(getattr(self, name)) for name in moments}
        return told | ({"gap": str(Duration(self.gap))} if self.gap else {})


@dataclass(frozen=True, slots=True)
class Splits:
    """How the snapshots of every target are laid and parted in time; None for a target that is not there.

    Parameters
    ----------
    churn : Split, optional
    cutoffs : int64 array, optional
        All cutoffs of churn, UTC microseconds, ascending.
    satisfaction : Split, optional
    """

    churn: Split | None = None
    cutoffs: Int64 | None = None
    satisfaction: Split | None = None

    @property
    def learned_until(self) -> int | None:
        """The moment before which everything must be known that any target learns from; None without targets."""
        return min((split.learned_until for split in (self.churn, self.satisfaction) if split), default=None)


def split_cutoffs(
    cutoffs: Int64, config: SnapshotsConfig, *, shortest: int, longest: int, observed_until: int
) -> Split:
    """Part a grid of cutoffs in time.

    The test starts at the last cutoff whose longest horizon is observed, or earlier, so that it holds a fifth
    of the cutoffs; calibration likewise, seen from the start of the test. Where the log is too short for the
    longest horizon in each part, the shortest one rules and longer ones are censored.

    Parameters
    ----------
    cutoffs : int64 array, ascending
    config : SnapshotsConfig
        ``calibration_start`` and ``test_start`` overrule the choice; ``gap`` holds in any case.
    shortest, longest : int
        Horizons in microseconds.
    observed_until : int
        End of observation, exclusive.

    Returns
    -------
    Split

    Raises
    ------
    DataError
        If the log is too short for three parts.
    """
    gap = 0 if config.gap is None else config.gap.us
    _refuse_empty_test(cutoffs, config, shortest)
    for horizon in (longest, shortest):
        test = config.test_start or _latest(cutoffs, observed_until - horizon, spare=max(1, len(cutoffs) // 5))
        if test is None:
            continue
        before = cutoffs[cutoffs < test]
        calibration = config.calibration_start or _latest(before, test - gap - horizon, spare=max(1, len(before) // 6))
        if calibration is not None and (cutoffs <= calibration - gap - shortest).any():
            return Split(int(calibration), int(test), observed_until, gap)
    raise DataError(
        f"too short for training, calibration and test: {len(cutoffs)} cutoffs from {format_instant(cutoffs[0])} to "
        f"{format_instant(cutoffs[-1])}, observed until {format_instant(observed_until)}, with horizons of "
        f"{shortest / DAY_US:g} to {longest / DAY_US:g} days. Give a longer log, a smaller snapshots.every, an earlier "
        "snapshots.start or shorter horizons."
    )


def _refuse_empty_test(cutoffs: Int64, config: SnapshotsConfig, shortest: int) -> None:
    if config.test_start is not None and config.test_start > cutoffs[-1]:
        raise DataError(
            f"snapshots.test_start {format_instant(config.test_start)} lies after the last cutoff, "
            f"{format_instant(cutoffs[-1])}, which has a horizon of {shortest / DAY_US:g} days after it: nothing is "
            "left to test on. Give an earlier test_start, or leave it out."
        )


def _latest(cutoffs: Int64, limit: int, spare: int) -> int | None:
    """Return the latest cutoff at or before ``limit`` that has ``spare`` cutoffs from itself on."""
    fitting = cutoffs[: len(cutoffs) - spare + 1]
    fitting = fitting[fitting <= limit]
    return int(fitting[-1]) if len(fitting) else None


def split_surveys(cutoff: Int64, answered: Int64, config: SnapshotsConfig, *, observed_until: int) -> Split:
    """Part surveys in time: the last fifth tests, the sixth before it calibrates.

    Parameters
    ----------
    cutoff, answered : int64 arrays of shape (n_answered,)
        When each answered survey was asked, and answered.
    config : SnapshotsConfig
        ``calibration_start`` and ``test_start`` overrule the choice.
    observed_until : int
        End of observation, exclusive.

    Returns
    -------
    Split

    Raises
    ------
    DataError
        If a part would hold no answer.
    """
    if len(cutoff) < 10:
        raise DataError(f"only {len(cutoff)} survey answers; training, calibration and test need some hundred")
    ranked = np.sort(cutoff)
    test = config.test_start or int(ranked[int(0.8 * len(ranked))])
    calibration = config.calibration_start or int(ranked[int(0.65 * len(ranked))])
    split = Split(calibration, test, observed_until, 0 if config.gap is None else config.gap.us)
    for part, (start, end) in split.parts.items():
        if not ((cutoff >= start) & (cutoff < end) & (answered < end)).any():
            raise DataError(
                f"no survey answer falls in the {part} part ({format_instant(max(start, int(ranked[0])))} to "
                f"{format_instant(end)}). Give more survey answers, or set snapshots.calibration_start and test_start."
            )
    return split
