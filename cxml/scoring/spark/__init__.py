"""The batch job and the feature frame on Spark; docs/spark.md tells how.

Light on purpose: Spark's workers import it before they know where Numba may keep what it compiles.
"""

from cxml.scoring.spark.run import features_spark, rows_spark, score_spark
from cxml.scoring.spark.session import open_spark

__all__ = ["features_spark", "open_spark", "rows_spark", "score_spark"]
