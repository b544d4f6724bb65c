"""Training runs in MLflow: one run a training, written through a client of its own.

Nothing global of MLflow is touched: no tracking URI is set, no run is made active, no experiment selected. A
notebook that tracks elsewhere goes on undisturbed, and two trainings may track at once. MLflow is imported when
it is first used, which takes seconds.
"""

from __future__ import annotations

import logging
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxml import __version__
from cxml.errors import ConfigError, CxmlError

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

#: Name of the model within its run: ``runs:/<run id>/model``.
MODEL_NAME = "model"
_AT_ONCE = 100  # parameters and tags MLflow takes in one call
_LONGEST = {"param": 6000, "tag": 8000, "name": 250, "digest": 36}
# MLflow packs these from wherever the process stands, when it takes that for a uv project; they are not of the model
_STRAYS = ("uv.lock", "pyproject.toml", ".python-version")
_CHATTY = ("mlflow", "alembic", "sqlalchemy")


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a run learned from or was tested on, as MLflow shows it.

    Parameters
    ----------
    name : str
        E.g. ``telecom train``.
    digest : str
        Identifies the content; MLflow keeps its first 36 characters.
    context : str
        ``training``, ``calibration`` or ``test``.
    source : str
        Where it came from, in words or as a path; no secrets.
    profile : mapping
        Plain facts: rows, customers, first and last cutoff ...
    """

    name: str
    digest: str
    context: str = "training"
    source: str = ""
    profile: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NestedRun:
    """A run within the run of a training, such as a trial of tuning.

    Parameters
    ----------
    name : str
    params, metrics, tags : mapping
        As in `log_training`.
    began_ms, ended_ms : int
        Unix time; 0: as the run above.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    began_ms: int = 0
    ended_ms: int = 0


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """Where a training was recorded.

    Parameters
    ----------
    run_id, experiment_id : str
    model_uri : str
        ``runs:/<run id>/model``, which `cxml.tracking.registry.resolve` turns into a folder.
    version : int or None
        Of the registered model, where it was registered.
    uri : str
        The store, without any password.
    """

    run_id: str
    experiment_id: str
    model_uri: str
    version: int | None
    uri: str


def log_training(
    model_folder: str | os.PathLike[str],
    *,
    uri: str,
    experiment: str,
    run_name: str | None = None,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float | None] | None = None,
    tags: Mapping[str, Any] | None = None,
    config_yaml: str | None = None,
    plots_folder: str | os.PathLike[str] | None = None,
    artifacts: Iterable[str | os.PathLike[str]] = (),
    datasets: Sequence[Dataset] = (),
    nested: Sequence[NestedRun] = (),
    register_as: str | None = None,
    input_example: pd.DataFrame | None = None,
) -> TrackedRun:
    """Record a training as one finished MLflow run, with its model.

    Parameters
    ----------
    model_folder : path
        A folder with ``model.json``, as `cxml.models.store.save_model` writes it.
    uri : str
        Tracking URI; a relative SQLite path starts where the process stands. A new SQLite store is made in a
        few seconds, and keeps its artifacts in ``mlruns`` beside the database.
    experiment : str
        Made when missing.
    run_name : str, optional
        Default: MLflow invents one.
    params, tags : mapping, optional
        Values become text, cut at MLflow's 6000 and 8000 characters.
    metrics : mapping of str to float, optional
        None and NaN are left out: they say that there was nothing to measure.
    config_yaml : str, optional
        The resolved project file; kept as ``config.yaml``.
    plots_folder : path, optional
        Kept as ``plots``.
    artifacts : iterable of path
        Further files or folders, kept under their own names.
    datasets : sequence of Dataset
    nested : sequence of NestedRun
        Recorded as finished runs below this one.
    register_as : str, optional
        Registers the model as a new version under this name.
    input_example : DataFrame, optional
        A few events, kept with the model. Default: of a customer who does not exist.

    Returns
    -------
    TrackedRun

    Raises
    ------
    ConfigError
        If there is no model in the folder, or the store cannot be used. A run that had begun ends as FAILED.
    """
    folder = Path(model_folder).resolve()
    if not (folder / "model.json").is_file():
        raise ConfigError(f"'{folder}' holds no model.json, so there is no model to log; name a model folder")
    with _recording(uri, experiment, run_name, tags) as (client, run):
        _log_texts(client, run, params, config_yaml, datasets)
        _log_files(client, run, plots_folder, artifacts)
        for inner in nested:
            _log_nested(client, run, inner)
        model_id, location = _log_model(client, run, folder, input_example)
        _log_metrics(client, run, metrics, model_id)
        version = None if register_as is None else _register(client, register_as, location, run, model_id)
    return TrackedRun(
        run.info.run_id, run.info.experiment_id, f"runs:/{run.info.run_id}/{MODEL_NAME}", version, without_secret(uri)
    )


def log_findings(
    *,
    uri: str,
    experiment: str,
    run_name: str | None = None,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float | None] | None = None,
    tags: Mapping[str, Any] | None = None,
    config_yaml: str | None = None,
    artifacts: Iterable[str | os.PathLike[str]] = (),
    nested: Sequence[NestedRun] = (),
) -> str:
    """Record figures that come without a model, such as those of a backtest, as one finished MLflow run.

    Parameters
    ----------
    uri, experiment, run_name, params, metrics, tags, config_yaml, artifacts, nested
        As in `log_training`.

    Returns
    -------
    str
        The run's id.

    Raises
    ------
    ConfigError
        If the store cannot be used. A run that had begun ends as FAILED.
    """
    with _recording(uri, experiment, run_name, tags) as (client, run):
        _log_texts(client, run, params, config_yaml, ())
        _log_files(client, run, None, artifacts)
        for inner in nested:
            _log_nested(client, run, inner)
        _log_metrics(client, run, metrics, None)
    return str(run.info.run_id)


def make_client(uri: str, create: bool = True) -> MlflowClient:
    """Connect to a store, runs and registry alike; MLflow's own settings stay as they are.

    Parameters
    ----------
    uri : str
    create : bool
        Whether a SQLite store that is not there is made, or refused.

    Raises
    ------
    ConfigError
        If the store is not there and is not to be made.
    """
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///"):
        file = _sqlite_file(uri)
        if not create and not file.exists():
            raise ConfigError(
                f"there is no tracking store '{file}', so it holds no runs and no models. "
                "Train with tracking first, or correct tracking.uri."
            )
        file.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def using_mlflow(uri: str) -> Iterator[None]:
    """Keep MLflow quiet, and turn what it raises into a `ConfigError` that names the store."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside MLflow and its SQL layer, none ours to mend
        from alembic.util.exc import CommandError
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        levels = [(logger, logger.level) for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        except (MlflowException, SQLAlchemyError, CommandError, OSError) as error:
            said = without_secret(str(error)).strip().splitlines() or [type(error).__name__]
            raise ConfigError(
                f"tracking at '{without_secret(uri)}' failed: {said[0].rstrip('.')}. "
                "Check tracking.uri in the project file, or go without with --no-track."
            ) from error
        finally:
            for logger, level in levels:
                logger.setLevel(level)


def without_secret(uri: str) -> str:
    """Return a URI with the password taken out.

    Examples
    --------
    >>> without_secret("postgresql://ana:secret@db/mlflow?sslmode=require")
    'postgresql://ana:***@db/mlflow?sslmode=require'
    """
    uri = re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:***@", uri)
    return re.sub(r"([?&](?:password|token)=)[^&\s]*", r"\1***", uri)


def allowed_name(name: str) -> str:
    """Return the name of a metric, parameter or tag as MLflow accepts it.

    Examples
    --------
    >>> allowed_name("mean__duration@stage=support__30d")
    'mean__duration_stage_support__30d'
    """
    kept = re.sub(r"[^\w.\- :/]", "_", str(name), flags=re.ASCII).strip()
    parts = [part for part in kept.split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[: _LONGEST["name"]] or "_"


# ---------------------------------------------------------------- one run


@contextmanager
def _recording(
    uri: str, experiment: str, run_name: str | None, tags: Mapping[str, Any] | None
) -> Iterator[tuple[MlflowClient, Run]]:
    """Begin a run in a store of ours, and end it whatever happens."""
    with using_mlflow(uri):
        client = make_client(uri)
        run = client.create_run(
            _experiment_id(client, experiment, uri), run_name=run_name, tags=dict(_texts(tags, "tag"))
        )
        with _ending_well(client, run.info.run_id):
            yield client, run


@contextmanager
def _ending_well(client: MlflowClient, run_id: str) -> Iterator[None]:
    """End the run: FINISHED, FAILED after an error, KILLED when interrupted."""
    try:
        yield
    except Exception:
        client.set_terminated(run_id, status="FAILED")
        raise
    except BaseException:
        client.set_terminated(run_id, status="KILLED")
        raise
    client.set_terminated(run_id, status="FINISHED")


def _log_nested(client: MlflowClient, parent: Run, inner: NestedRun) -> None:
    """Record a run below another: with what it is created by and one batch, since each call is a transaction."""
    from mlflow.entities import Metric, Param
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    tags = {MLFLOW_PARENT_RUN_ID: parent.info.run_id, **dict(_texts(inner.tags, "tag"))}
    began, ended = (moment or parent.info.start_time for moment in (inner.began_ms, inner.ended_ms))
    run = client.create_run(parent.info.experiment_id, start_time=began, run_name=inner.name, tags=tags)
    known = {name: float(v) for name, v in _named(inner.metrics).items() if v is not None and not math.isnan(v)}
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, value, ended, 0) for name, value in known.items()],
        params=[Param(name, text) for name, text in _texts(inner.params, "param")],
    )
    client.set_terminated(run.info.run_id, end_time=ended)


def _experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = None
        if uri.startswith("sqlite:///"):
            location = (_sqlite_file(uri).parent / "mlruns" / allowed_name(name).replace("/", "_")).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another process may have been faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise ConfigError(f"the experiment '{name}' was deleted; restore it, or choose another tracking.experiment")
    return str(found.experiment_id)


def _sqlite_file(uri: str) -> Path:
    return Path(uri.removeprefix("sqlite:///").split("?")[0]).resolve()


def _log_texts(
    client: MlflowClient,
    run: Run,
    params: Mapping[str, Any] | None,
    config_yaml: str | None,
    datasets: Sequence[Dataset],
) -> None:
    from mlflow.entities import Param

    entries = [Param(name, text) for name, text in _texts(params, "param")]
    for first in range(0, len(entries), _AT_ONCE):
        client.log_batch(run.info.run_id, params=entries[first : first + _AT_ONCE])
    if config_yaml is not None:
        client.log_text(run.info.run_id, config_yaml, "config.yaml")
    if datasets:
        client.log_inputs(run.info.run_id, datasets=[_dataset_input(dataset) for dataset in datasets])


def _texts(values: Mapping[str, Any] | None, kind: str) -> list[tuple[str, str]]:
    return [(name, str(value)[: _LONGEST[kind]]) for name, value in _named(values).items()]


def _named(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values under allowed names; a name that two would share gets a number."""
    named: dict[str, Any] = {}
    for name, value in (values or {}).items():
        wanted = allowed = allowed_name(name)
        n = 1
        while allowed in named:
            n += 1
            allowed = f"{wanted[:240]}_{n}"
        named[allowed] = value
    return named


def _dataset_input(dataset: Dataset) -> Any:
    import json

    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag

    source, profile = json.dumps({"source": dataset.source}), json.dumps(dict(dataset.profile), default=str)
    entity = Entity(dataset.name, dataset.digest[: _LONGEST["digest"]], "local", source, profile=profile)
    return DatasetInput(entity, tags=[InputTag("mlflow.data.context", dataset.context)])


def _log_files(
    client: MlflowClient,
    run: Run,
    plots_folder: str | os.PathLike[str] | None,
    artifacts: Iterable[str | os.PathLike[str]],
) -> None:
    if plots_folder is not None:
        client.log_artifacts(run.info.run_id, str(plots_folder), "plots")
    for artifact in map(Path, artifacts):
        if artifact.is_dir():
            client.log_artifacts(run.info.run_id, str(artifact), artifact.name)
        else:
            client.log_artifact(run.info.run_id, str(artifact))


def _log_metrics(
    client: MlflowClient, run: Run, metrics: Mapping[str, float | None] | None, model_id: str | None
) -> None:
    """Log the figures that exist, for the run and for its model where it has one, dated when the run began."""
    from mlflow.entities import Metric

    known = {name: float(v) for name, v in _named(metrics).items() if v is not None and not math.isnan(float(v))}
    entries = [Metric(name, value, run.info.start_time, 0, model_id=model_id) for name, value in known.items()]
    for first in range(0, len(entries), 10 * _AT_ONCE):
        client.log_batch(run.info.run_id, metrics=entries[first : first + 10 * _AT_ONCE])


# ---------------------------------------------------------------- its model


def _log_model(client: MlflowClient, run: Run, folder: Path, input_example: pd.DataFrame | None) -> tuple[str, str]:
    """Log the folder as a model that MLflow can load; give its id and where it lies."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    model = client.create_logged_model(run.info.experiment_id, name=MODEL_NAME, source_run_id=run.info.run_id)
    try:
        described = Model(
            artifact_path=model.artifact_location, run_id=run.info.run_id, model_id=model.model_id,
            model_uuid=model.model_id,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as workshop:
            packed = Path(workshop) / "packed"
            _pack(folder, packed, described, input_example)
            client.log_model_artifacts(model.model_id, str(packed))
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    return model.model_id, model.artifact_location


def _example(folder: Path) -> pd.DataFrame | None:
    """Give a few events of a customer who does not exist; none where the folder holds no model that can be loaded."""
    from cxml.models.store import load_model
    from cxml.tracking.flavour import example_events

    try:
        return example_events(load_model(folder))
    except CxmlError:
        return None


def _pack(folder: Path, packed: Path, described: Any, input_example: pd.DataFrame | None) -> None:
    """Write the MLflow model around the folder: the folder as its data, `cxml.tracking.flavour` to load it."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ParamSchema, ParamSpec

    # Parameters alone: checking every column of every call would cost a hundred times the prediction.
    signature = ModelSignature(params=ParamSchema([ParamSpec("at", "string", None), ParamSpec("reasons", "long", 3)]))
    save: Callable[..., None] = mlflow.pyfunc.save_model
    save(
        path=str(packed),
        loader_module="cxml.tracking.flavour",
        data_path=str(folder),
        pip_requirements=[f"cxml=={__version__}", f"mlflow=={mlflow.__version__}"],
        signature=signature,
        mlflow_model=described,
        input_example=_example(folder) if input_example is None else input_example,
    )
    for name in _STRAYS:
        (packed / name).unlink(missing_ok=True)


def _register(client: MlflowClient, name: str, location: str, run: Run, model_id: str) -> int:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(name, location, run_id=run.info.run_id, model_id=model_id)
    return int(version.version)
