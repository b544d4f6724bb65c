"""Starting Spark, or using what is there."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cxml.errors import ConfigError, require

_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "200000",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(1 << 26),
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}


@contextmanager
def open_spark(master: str | None = None) -> Iterator[Any]:
    """Give a Spark session: the one that is active, or a new one, which ends with the block.

    Parameters
    ----------
    master : str, optional
        Where to run, e.g. ``"local[4]"`` or ``"spark://host:7077"``. Default: what ``spark-submit`` says, else all
        cores of this machine.

    Yields
    ------
    pyspark.sql.SparkSession

    Raises
    ------
    ConfigError
        If PySpark or Java is missing, or Spark does not start.
    """
    with _without_notices():
        sql = require("pyspark.sql", "spark")
        active = sql.SparkSession.getActiveSession()
    if active is not None:
        yield active
        return
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise ConfigError(
            "Spark needs Java 17, and there is no 'java' here. Install it, e.g. apt-get install "
            "openjdk-17-jre-headless, or say where it is in JAVA_HOME."
        )
    with tempfile.TemporaryDirectory(prefix="cxml-spark-") as folder:
        session = _start(sql, master, Path(folder) / "spark.log")
        try:
            yield session
        finally:
            session.stop()


def _start(sql: Any, master: str | None, log: Path) -> Any:
    builder = sql.SparkSession.builder.appName("cxml").config("spark.ui.showConsoleProgress", "false")
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # otherwise spark-submit has set up everything
        master = master or "local[*]"
        builder = builder.config("spark.driver.maxResultSize", "0")
        if master.startswith("local"):
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            for name in ("bindAddress", "host"):  # this machine's own name need not be one that it can find
                builder = builder.config(f"spark.driver.{name}", "127.0.0.1")
            builder = builder.config("spark.ui.enabled", "false")
    if master is not None:
        builder = builder.master(master)
    try:
        with _errors_into(log), _without_notices():
            session = builder.getOrCreate()
            session.sparkContext.setLogLevel("ERROR")
    except Exception as error:  # Java's own, Py4J's and PySpark's have no common ancestor
        raise ConfigError(
            f"Spark does not start at '{master or 'the default master'}': {_last_words(error, log)}. Check --master, "
            "and that 'java -version' says 17 or newer."
        ) from error
    return session


def _last_words(error: Exception, log: Path) -> str:
    told = log.read_text(errors="replace").splitlines() if log.exists() else []
    wrong = [line.strip() for line in told if "Exception" in line or "rror:" in line]
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (wrong or said or [type(error).__name__])[0].rstrip(".")


@contextmanager
def _errors_into(log: Path) -> Iterator[None]:
    """Let a process that is started now write its errors to a file: Spark's chatter is not for who asked for scores.

    What goes wrong in a job comes back as an exception all the same.
    """
    before = os.dup(2)
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        sys.stderr.flush()
        os.dup2(file, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(file)


@contextmanager
def _without_notices() -> Iterator[None]:
    """Keep PySpark from warning of pandas 3, of which none of our jobs makes use."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PySpark does not yet", category=FutureWarning)
        yield


@contextmanager
def settings(spark: Any) -> Iterator[None]:
    """Set what our jobs need, and put back what was set.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
    """
    before = {name: spark.conf.get(name, None) for name in _SETTINGS}
    try:
        for name, value in _SETTINGS.items():
            spark.conf.set(name, value)
        with _without_notices():
            yield
    finally:
        for name, old in before.items():
            if old is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, old)
