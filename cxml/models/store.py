"""The saved model: a folder of text that can be read, compared and checked, and never runs code.

``model.json`` holds everything but the trees; ``churn.txt`` and ``satisfaction.txt`` are LightGBM's own text, and so
are ``churn_threshold_0.txt``, ``churn_reason_0.txt`` and so on, where a horizon or a reason has trees of its own;
``card.md`` is for people. ``model.json`` names the SHA-256 of every other file and its own version, which is the
digest of what it says; all are checked when the folder is loaded. Equal models are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cxml.errors import ConfigError, DataError
from cxml.features.plan import FeaturePlan
from cxml.files import write_folder_aside
from cxml.models.packing import pack_files, unpack_files
from cxml.models.predictor import CumulativePredictor
from cxml.models.trees import TreeEnsemble

#: Version 2 is what version 1 is, with parts that change the numbers and that a reader of version 1 would overlook.
SCHEMA_VERSIONS = (1, 2)
MANIFEST, CARD = "model.json", "card.md"
#: What messages call the place of a packed model.
PACKED = Path("(packed model)")

_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]*\.(txt|md)")
_NEW_PARTS = {"parts", "segments", "reasons", "margin"}
_KEYS = {"schema_version", "version", "name", "plan", "targets", "settings", "metadata", "files"}


@dataclass(frozen=True)
class SavedModel:
    """A trained model with all that scoring needs to know; made by `seal` or `load_model`.

    Parameters
    ----------
    name : str
    plan : FeaturePlan
        Which features, in which order.
    targets : dict of str to CumulativePredictor
        ``churn``, ``satisfaction`` or both.
    settings : dict
        JSON data: per target what its numbers mean (horizons, kind, scale, groups, risk bands), and how to read events.
    metadata : dict
        JSON data: training window, data digest, metrics, package versions.
    version : str
        First 12 hexadecimal digits of the SHA-256 of all of the above.
    """

    name: str
    plan: FeaturePlan
    targets: dict[str, CumulativePredictor]
    settings: dict[str, Any]
    metadata: dict[str, Any]
    version: str


def seal(
    name: str,
    plan: FeaturePlan,
    targets: Mapping[str, CumulativePredictor],
    settings: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> SavedModel:
    """Check that the parts fit together and give the whole its version.

    Parameters
    ----------
    name, plan, targets, settings, metadata
        As in `SavedModel`.

    Returns
    -------
    SavedModel
        With settings and metadata as they will be when loaded: tuples become lists.

    Raises
    ------
    ConfigError
        If settings or metadata hold what JSON cannot (NaN and infinity too), or there is no target.
    DataError
        If a target does not fit the plan or its settings.
    """
    if not targets:
        raise ConfigError("a model needs a target: churn, satisfaction or both")
    try:
        settings, metadata = (json.loads(_canonical(part)) for part in (settings, metadata))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"settings and metadata of a model must be plain JSON data: {error}") from error
    _check_fit(plan, targets, settings)
    parts = name, plan, dict(targets), dict(settings), dict(metadata)
    return SavedModel(*parts, version=_version(_content(SavedModel(*parts, version=""))))


def save_model(model: SavedModel, folder: str | os.PathLike[str], card: str) -> None:
    """Write the model as a folder; an older one there gives way only when the new one is complete.

    Parameters
    ----------
    model : SavedModel
    folder : path
    card : str
        Markdown: what the model is for, how good it is, where it must not be used.

    Raises
    ------
    ConfigError
        If the folder cannot be written, or the model was changed after `seal`.
    """
    content = _content(model)
    if _version(content) != model.version:
        raise ConfigError(f"model '{model.name}' was changed after it got version {model.version}; seal it again")
    content["version"] = model.version
    content["files"][CARD] = _sha256(card.encode())
    with write_folder_aside(folder, known_by=MANIFEST) as aside:
        for target, predictor in model.targets.items():
            for name, trees in _ensembles(target, predictor).items():
                _write(aside / name, trees.text)
        _write(aside / CARD, card)
        _write(aside / MANIFEST, _canonical(content))


def load_model(folder: str | os.PathLike[str] | bytes | bytearray | memoryview) -> SavedModel:
    """Read a model folder and check all of it.

    Loading a folder from a stranger may fail, but never runs code.

    Parameters
    ----------
    folder : path or bytes
        As `save_model` wrote it, or `pack_model` packed it; further files there are left alone.

    Returns
    -------
    SavedModel

    Raises
    ------
    ConfigError
        If there is no model, or it was written by a later version of the package.
    DataError
        If a file is missing, changed or damaged.
    """
    if isinstance(folder, bytes | bytearray | memoryview):
        place, files = PACKED, unpack_files(folder)
        content, texts = _read_all(place, files.get)
    else:
        place = Path(folder)
        content, texts = _read_all(place, partial(_read_file, place))
    try:
        return _rebuild(content, {name: text.decode("utf-8", errors="replace") for name, text in texts.items()})
    except (ConfigError, DataError) as error:
        raise DataError(f"model in '{place}': {error}") from error


def pack_model(folder: str | os.PathLike[str]) -> bytes:
    """Pack a model folder into the bytes of a zip archive, which `load_model` reads as it does the folder.

    Parameters
    ----------
    folder : path

    Returns
    -------
    bytes
        ``model.json`` and the files that it names, after their digests were checked. The same for the same model.

    Raises
    ------
    ConfigError, DataError
        As `load_model` does, where the folder is no whole model.
    """
    place = Path(folder)
    load_model(place)
    _, contents = _read_all(place, partial(_read_file, place))
    return pack_files({MANIFEST: (place / MANIFEST).read_bytes(), **contents})


def _content(model: SavedModel) -> dict[str, Any]:
    """Everything the version vouches for: all but the version itself and the card."""
    targets = {target: _written(target, predictor) for target, predictor in model.targets.items()}
    ensembles = {name: trees for target, p in model.targets.items() for name, trees in _ensembles(target, p).items()}
    return {
        "schema_version": 2 if any(_NEW_PARTS & _flat_keys(part) for part in targets.values()) else 1,
        "name": model.name,
        "plan": model.plan.to_dict(),
        "targets": targets,
        "settings": model.settings,
        "metadata": model.metadata,
        "files": {name: _sha256(trees.text.encode()) for name, trees in ensembles.items()},
    }


def _ensembles(target: str, predictor: CumulativePredictor) -> dict[str, TreeEnsemble]:
    """All trees of a target by the name of their file."""
    own = {f"{target}_{part}.txt": trees for part, trees in predictor.parts().items()}
    return {f"{target}.txt": predictor.trees} | own


def _written(target: str, predictor: CumulativePredictor) -> dict[str, Any]:
    """Tell what the manifest says of a target."""
    parts = {part: f"{target}_{part}.txt" for part in predictor.parts()}
    return {"trees": f"{target}.txt", **predictor.to_dict()} | ({"parts": parts} if parts else {})


def _flat_keys(part: dict[str, Any]) -> set[str]:
    return {*part, *part["calibration"]}


def _canonical(content: Any) -> str:
    """JSON with sorted keys; floats are written so that they read back bit for bit."""
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _version(content: dict[str, Any]) -> str:
    return _sha256(_canonical(content).encode())[:12]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(file: Path, text: str) -> None:
    file.write_bytes(text.encode())  # not write_text: line ends must not depend on the system


def _check_fit(plan: FeaturePlan, targets: Mapping[str, CumulativePredictor], settings: Mapping[str, Any]) -> None:
    """Demand that trees, thresholds and settings speak of the same columns, horizons and scores."""
    for target, predictor in targets.items():
        if predictor.trees.n_features != len(plan.columns):
            raise DataError(
                f"the trees of '{target}' were grown on {predictor.trees.n_features} columns, "
                f"the feature plan has {len(plan.columns)}. Train the model again."
            )
        expected = _n_thresholds(target, settings)
        if expected != len(predictor.cut_points):
            raise DataError(
                f"the settings of '{target}' mean {expected} thresholds, the predictor has "
                f"{len(predictor.cut_points)}. Train the model again."
            )
        reasons = [] if predictor.reasons is None else list(predictor.reasons.names)
        if reasons != list(settings[target].get("reasons", [])):
            raise DataError(
                f"the settings of '{target}' name the reasons {settings[target].get('reasons', [])}, the predictor has "
                f"{reasons}. Train the model again."
            )


def _n_thresholds(target: str, settings: Mapping[str, Any]) -> int:
    try:
        if target == "churn":
            return len(settings["churn"]["horizons"])
        if target == "satisfaction":
            return int(settings["satisfaction"]["highest"]) - int(settings["satisfaction"]["lowest"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the settings of '{target}' are incomplete ({error!r}). Train the model again.") from None
    raise DataError(f"unknown target '{target}'; known: churn, satisfaction")


def _read_file(place: Path, name: str) -> bytes | None:
    file = place / name
    return file.read_bytes() if file.is_file() else None


def _read_all(place: Path, read: Callable[[str], bytes | None]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read the manifest and the files that it names, wherever they are, and check their digests."""
    try:
        manifest = read(MANIFEST)
    except OSError as error:
        raise DataError(f"'{place / MANIFEST}' cannot be read: {error}. Copy the model folder again.") from error
    if manifest is None:
        what = "the archive" if place is PACKED else "the folder"
        there = f"{what} holds no {MANIFEST}" if place is PACKED or place.is_dir() else f"{what} is not there"
        raise ConfigError(f"no model in '{place}': {there}. Train one with: cxml train CONFIG --out FOLDER")
    content = _read_manifest(place / MANIFEST, manifest)
    return content, _read_files(place, read, content["files"])


def _read_manifest(file: Path, written: bytes) -> dict[str, Any]:
    """Parse ``model.json`` and check that it is whole: its version is the digest of what it says."""
    try:
        content = json.loads(written.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{file}' cannot be read: {error}. Copy the model folder again.") from error
    if not isinstance(content, dict) or "schema_version" not in content:
        raise DataError(f"'{file}' is no model of cxml: it has no schema_version")
    if content["schema_version"] not in SCHEMA_VERSIONS:
        raise ConfigError(
            f"'{file}' has schema version {content['schema_version']!r}; this cxml reads up to {SCHEMA_VERSIONS[-1]}. "
            "Install the version of cxml that wrote it, or train the model again."
        )
    files = content.get("files")
    if set(content) != _KEYS or not isinstance(files, dict) or CARD not in files:
        raise DataError(f"'{file}' is damaged: its keys must be {', '.join(sorted(_KEYS))}. Copy the folder again.")
    sealed = {key: value for key, value in content.items() if key != "version"}
    sealed["files"] = {name: digest for name, digest in files.items() if name != CARD}
    try:
        version = _version(sealed)
    except ValueError as error:  # a number too large for a float reads as infinity
        raise DataError(f"'{file}' is damaged: {error}. Copy the model folder again.") from error
    if version != content["version"]:
        raise DataError(
            f"'{file}' was changed after it was saved: it says version {content['version']!r}, its content is "
            f"{version}. Copy the model folder again, or train the model anew."
        )
    return content


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _read_files(place: Path, read: Callable[[str], bytes | None], digests: dict[str, Any]) -> dict[str, bytes]:
    """Read the files that the manifest names, each once, and check their digests."""
    contents = {}
    for name, digest in digests.items():
        if not _PLAIN_NAME.fullmatch(name):
            raise DataError(
                f"'{place / MANIFEST}' names the file {name!r}, which is no plain name. Do not use this model."
            )
        file, content = place / name, read(name)
        if content is None:
            raise DataError(f"'{file}' is missing. Copy the whole model folder again.")
        if _sha256(content) != digest:
            raise DataError(
                f"'{file}' is not the file that was saved: its SHA-256 is {_sha256(content)[:12]}..., "
                f"{MANIFEST} says {str(digest)[:12]}.... Copy the model folder again."
            )
        contents[name] = content
    return contents


def _rebuild(content: dict[str, Any], texts: dict[str, str]) -> SavedModel:
    targets = content["targets"]
    if not isinstance(targets, dict) or not targets or not all(isinstance(part, dict) for part in targets.values()):
        raise DataError("'targets' must hold churn, satisfaction or both. Train the model again.")
    if not all(isinstance(content[key], dict) for key in ("plan", "settings", "metadata")):
        raise DataError("'plan', 'settings' and 'metadata' must be mappings. Train the model again.")
    predictors = {target: _predictor(target, part, texts) for target, part in targets.items()}
    plan = FeaturePlan.from_dict(content["plan"])
    _check_fit(plan, predictors, content["settings"])
    return SavedModel(
        str(content["name"]), plan, predictors, content["settings"], content["metadata"], str(content["version"])
    )


def _predictor(target: str, part: dict[str, Any], texts: dict[str, str]) -> CumulativePredictor:
    parts = part.get("parts", {})
    if not isinstance(parts, dict):
        raise DataError(f"target '{target}': 'parts' must be a mapping of trees. Train the model again.")
    ensembles = {own: _read_trees(target, name, texts) for own, name in {"": part.get("trees"), **parts}.items()}
    try:
        return CumulativePredictor.from_dict(part, ensembles.pop(""), ensembles)
    except DataError as error:
        raise DataError(f"{part['trees']}: {error}") from error


def _read_trees(target: str, name: Any, texts: dict[str, str]) -> TreeEnsemble:
    if name not in texts:
        raise DataError(f"target '{target}' names the trees {name!r}, which are not among the files. Copy it again.")
    try:
        return TreeEnsemble.from_text(texts[name])
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
