"""Features as a step of a scikit-learn Pipeline, whose X is the snapshots and whose y is their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from cxml.features.align import latest_cutoff
from cxml.features.frame import JourneyFeatures

if TYPE_CHECKING:
    from cxml.journeys.log import JourneyLog


class SnapshotFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turn snapshots of one log into features; made by `JourneyFeatures.on`.

    Parameters
    ----------
    log : JourneyLog
        The journeys. Clones share it: a log is never changed.
    features : JourneyFeatures
        What to compute; never fitted itself, so that it can be set, as in ``features__families``, and searched over.

    Attributes
    ----------
    features_ : JourneyFeatures
        Fitted.
    n_features_in_ : int
        How many columns the snapshots had.

    Examples
    --------
    >>> from cxml.journeys.read import read_journeys
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> log = read_journeys(pd.DataFrame({"customer_id": [7, 7, 8], "touchpoint": ["call", "visit", "call"],
    ...     "timestamp": pd.to_datetime(["2024-01-01", "2024-01-20", "2024-01-05"], utc=True)}))
    >>> snapshots = pd.DataFrame({"customer_id": [7, 8], "cutoff": pd.Timestamp("2024-02-01", tz="UTC")})
    >>> steps = make_pipeline(JourneyFeatures(windows=["90d"], columns=["count__all__60d"]).on(log), StandardScaler())
    >>> steps.fit_transform(snapshots)[:, list(steps[0].get_feature_names_out()).index("count__all__60d")].tolist()
    [1.0, -1.0]
    """

    def __init__(self, log: JourneyLog, features: JourneyFeatures) -> None:
        self.log = log
        self.features = features

    def fit(self, snapshots: pd.DataFrame, y: Any = None) -> SnapshotFeatures:  # noqa: ARG002
        """Learn which values and measures there are, from what was known before the latest cutoff.

        Parameters
        ----------
        snapshots : DataFrame
            With ``customer_id`` and ``cutoff``; those to train on.
        y : ignored

        Returns
        -------
        SnapshotFeatures
            Itself.

        Raises
        ------
        DataError
            If there are no snapshots, or nothing was known before the latest cutoff.
        """
        self.features_: JourneyFeatures = clone(self.features).fit(self.log, until=latest_cutoff(snapshots))
        self.n_features_in_ = snapshots.shape[1]
        return self

    def transform(self, snapshots: pd.DataFrame) -> pd.DataFrame:
        """Compute the features of each snapshot, as `JourneyFeatures.transform` does."""
        check_is_fitted(self, "features_")
        return self.features_.transform(self.log, snapshots)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Give the names of the columns."""
        check_is_fitted(self, "features_")
        return self.features_.get_feature_names_out()

    def __sklearn_clone__(self) -> SnapshotFeatures:
        """Copy the features, and share the log, which may be large."""
        return SnapshotFeatures(self.log, clone(self.features))
