"""The user's own Python files, which register features when they are run.

A project file names them, so that whoever opens the project runs them; a model never does. The very same texts are sent
to Spark's workers.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable
from hashlib import sha256
from types import ModuleType
from typing import TYPE_CHECKING
from uuid import uuid4

from cxml.config import resolve_path
from cxml.errors import ConfigError
from cxml.features.custom import OWN, file_of, forget, registered

if TYPE_CHECKING:
    from cxml.config import ProjectConfig

#: A file and its text.
Source = tuple[str, str]

#: Texts that were run, by the name of their module.
_RUN: dict[str, str] = {}


def read_modules(config: ProjectConfig) -> tuple[Source, ...]:
    """Read the files of ``features.modules``.

    Parameters
    ----------
    config : ProjectConfig

    Returns
    -------
    tuple of (str, str)
        Path and text of each.

    Raises
    ------
    ConfigError
        If one cannot be read.

    Examples
    --------
    >>> from cxml.config import parse_config
    >>> read_modules(parse_config("{name: a, journeys: {sources: [a.csv]}, churn: {kind: inactivity}}"))
    ()
    """
    sources = []
    for written in config.features.modules:
        file = resolve_path(written, config.folder).resolve()
        try:
            sources.append((str(file), file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"features.modules: cannot read '{file}': {why}. Name a Python file; its path begins at the folder of "
                "the project file"
            ) from error
    return tuple(sources)


def run_modules(sources: Iterable[Source], *, again: bool = False) -> None:
    """Run files that register features: each once in this process, and again only where its text has changed.

    What a file registered before is forgotten when it is run again.

    Parameters
    ----------
    sources : iterable of (str, str)
        Path and text of each; see `read_modules`.
    again : bool
        Run all of them, so that what they remember is forgotten.

    Raises
    ------
    ConfigError
        If one fails; names the file and the line.

    Examples
    --------
    >>> from cxml.features.custom import registered
    >>> run_modules([("doubled.py", '''
    ... from cxml.features.custom import feature
    ...
    ... @feature("twice_as_many", "Twice the number of events.")
    ... def twice(events, cutoff):
    ...     return 2 * len(events)
    ... ''')])
    >>> registered("twice_as_many").sentence
    'Twice the number of events.'
    """
    for file, text in sources:
        name = _module_name(file)
        if again or _RUN.get(name) != text:
            _RUN.pop(name, None)
            forget(name)
            _run(name, file, text)
            _RUN[name] = text


def load_modules(config: ProjectConfig, *, again: bool = False) -> None:
    """Run the files of ``features.modules``, if they have not been.

    Parameters
    ----------
    config : ProjectConfig
    again : bool
        As in `run_modules`.

    Raises
    ------
    ConfigError
        As `read_modules` and `run_modules`.
    """
    run_modules(read_modules(config), again=again)


def comes_from(function: object, sources: Iterable[Source]) -> bool:
    """Tell whether one of these files defines a function, run as one of ``features.modules`` or imported."""
    files = {file for file, _ in sources}
    return getattr(function, "__module__", None) in {_module_name(file) for file in files} or file_of(function) in files


def code_key(names: Iterable[str]) -> str:
    """Tell the code of user features from other code, so that nothing is taken over that other code computed.

    Parameters
    ----------
    names : iterable of str
        Those of a plan.

    Returns
    -------
    str
        The same as long as the texts of the files of ``features.modules`` that define them are; never the same twice
        where a function is of no such file. Empty where none is the user's own.

    Raises
    ------
    ConfigError
        If one is not registered.

    Examples
    --------
    >>> code_key(["overdue_promises"])
    ''
    """
    texts = []
    for name in names:
        if name not in OWN:
            text = _RUN.get(getattr(registered(name).function, "__module__", ""))
            texts.append((name, uuid4().hex if text is None else text))
    return sha256(repr(texts).encode()).hexdigest() if texts else ""


def _module_name(file: str) -> str:
    """Give a file a module name of its own, so that it neither hides nor is hidden by what is installed."""
    stem = re.sub(r"\W", "_", file.replace("\\", "/").rpartition("/")[2].removesuffix(".py"))
    return f"cxml_user_{stem}_{sha256(file.encode()).hexdigest()[:12]}"


def _run(name: str, file: str, text: str) -> None:
    module = ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module  # dataclasses and the like look it up there
    try:
        exec(compile(text, file, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        forget(name)
        what = error.msg if isinstance(error, SyntaxError) else error
        kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
        raise ConfigError(f"features.modules: {file}{_line_of(error, file)}: {kind}{what}") from error


def _line_of(error: BaseException, file: str) -> str:
    """Say at which line of a file something failed."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f", line {lines[-1]}" if lines else ""
