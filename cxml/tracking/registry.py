"""From ``runs:/...`` and ``models:/...`` to a plain model folder, so that scoring never sees MLflow."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxml.errors import ConfigError, nearest
from cxml.tracking.flavour import find_model
from cxml.tracking.runs import MODEL_NAME, make_client, using_mlflow, without_secret

if TYPE_CHECKING:
    from mlflow import MlflowClient

_RUN = re.compile(r"runs:/+(?P<run>[^/]+)(?:/(?P<name>.+))?")
_ALIAS = re.compile(r"models:/+(?P<model>[^/@]+)@(?P<alias>[^/]+)")
_VERSION = re.compile(r"models:/+(?P<model>[^/@]+)/(?P<version>\d+|latest)")
_LOGGED = re.compile(r"models:/+(?P<id>m-[0-9a-f]+)")


def resolve(ref: str | os.PathLike[str], uri: str) -> Path:
    """Turn a reference to a model into a local folder that holds ``model.json``.

    Parameters
    ----------
    ref : str or path
        A folder, ``runs:/<run id>/model``, ``models:/<name>@<alias>``, ``models:/<name>/<version>`` or
        ``models:/<name>/latest``.
    uri : str
        The store to ask; not looked at for a folder.

    Returns
    -------
    Path
        The folder itself where it lies on this machine, else a downloaded copy.

    Raises
    ------
    ConfigError
        If there is no such folder, run, model, version or alias; names those there are.
    """
    text = os.fspath(ref)
    if not text.startswith(("runs:", "models:")):
        return _plain_folder(Path(text))
    with using_mlflow(uri):
        client = make_client(uri, create=False)
        return find_model(_fetch(_location(client, text, uri), uri))


def set_alias(name: str, alias: str, version: int, uri: str) -> None:
    """Let ``models:/name@alias`` mean a version from now on.

    Raises
    ------
    ConfigError
        If there is no such model or version, or the store does not answer.
    """
    with using_mlflow(uri):
        client = make_client(uri, create=False)
        _check_version(client, name, str(version), uri)
        client.set_registered_model_alias(name, alias, str(version))


def _plain_folder(folder: Path) -> Path:
    if (folder / "model.json").is_file():
        return folder
    what = "holds no model.json" if folder.is_dir() else "is not there"
    raise ConfigError(
        f"the model folder '{folder}' {what}. "
        "Name a folder written by cxml train, runs:/RUN/model or models:/NAME@ALIAS."
    )


def _location(client: MlflowClient, ref: str, uri: str) -> str:
    """Where the files of a reference lie, as an artifact URI."""
    if match := _RUN.fullmatch(ref):
        return _run_location(client, match["run"], match["name"] or MODEL_NAME, uri)
    if match := _LOGGED.fullmatch(ref):
        return str(client.get_logged_model(match["id"]).artifact_location)
    if match := _ALIAS.fullmatch(ref):
        aliases = _registered(client, match["model"], uri).aliases
        if match["alias"] not in aliases:
            raise ConfigError(
                f"the model '{match['model']}' has no alias '{match['alias']}'"
                + (nearest(match["alias"], aliases) or "; it has none at all")
                + f". Use models:/{match['model']}/VERSION, or set the alias in MLflow."
            )
        return _version_location(client, match["model"], str(aliases[match["alias"]]))
    if match := _VERSION.fullmatch(ref):
        version = _check_version(client, match["model"], match["version"], uri)
        return _version_location(client, match["model"], version)
    raise ConfigError(
        f"'{ref}' does not refer to a model: "
        "write a folder, runs:/RUN/model, models:/NAME/VERSION or models:/NAME@ALIAS"
    )


def _run_location(client: MlflowClient, run_id: str, name: str, uri: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise ConfigError(
            f"there is no run '{run_id}' at '{without_secret(uri)}'. "
            "Copy the id from the output of cxml train, and check tracking.uri."
        ) from error
    outputs = run.outputs.model_outputs if run.outputs else []
    models = {model.name: model for model in (client.get_logged_model(output.model_id) for output in outputs)}
    if name in models:
        return str(models[name].artifact_location)
    files = [file.path for file in client.list_artifacts(run_id)]
    if name in files:
        return f"{run.info.artifact_uri}/{name}"
    known = [*models, *files]
    raise ConfigError(f"run '{run_id}' has no model '{name}'{nearest(name, known) or '; it logged nothing'}")


def _registered(client: MlflowClient, name: str, uri: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = [model.name for model in client.search_registered_models(max_results=1000)]
        raise ConfigError(
            f"no model '{name}' is registered at '{without_secret(uri)}'"
            f"{nearest(name, known) or '; none is. Train with tracking first'}"
        ) from error


def _check_version(client: MlflowClient, name: str, version: str, uri: str) -> str:
    """Return the version as a number; ``latest`` is the highest."""
    _registered(client, name, uri)
    found = client.search_model_versions("name='" + name.replace("'", "''") + "'")
    known = sorted((int(v.version) for v in found), reverse=True)
    if version == "latest" and known:
        return str(known[0])
    if version == "latest" or int(version) not in known:
        there = ", ".join(map(str, known[:12])) or "none"
        raise ConfigError(f"the model '{name}' has no version {version}; versions: {there}")
    return version


def _version_location(client: MlflowClient, name: str, version: str) -> str:
    location = str(client.get_model_version_download_uri(name, version))
    if match := _LOGGED.fullmatch(location):
        return str(client.get_logged_model(match["id"]).artifact_location)
    return location


def _fetch(location: str, uri: str) -> Path:
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(artifact_uri=location, tracking_uri=uri))
