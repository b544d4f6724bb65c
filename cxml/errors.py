"""The two refusals of the package, and how messages point to the mend."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class CxmlError(ValueError):
    """Anything `cxml` refuses on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class ConfigError(CxmlError):
    """The question is wrong: project file, argument, option or missing package (exit code 2)."""

    exit_code = 2


class DataError(CxmlError):
    """The data are refused: unreadable, empty, or too poor to learn from (exit code 3)."""

    exit_code = 3


def nearest(name: object, known: Iterable[object]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or what there is to choose from.

    Parameters
    ----------
    name : object
        What was written.
    known : iterable of object
        What would have been understood.

    Returns
    -------
    str
        A clause to append to a message; empty when nothing is known.

    Examples
    --------
    >>> nearest("horizon", ["horizons", "kind"])
    "; did you mean 'horizons'?"
    >>> nearest("xyz", ["b", "a"])
    '; known: a, b'
    >>> nearest("NPS", ["nps", "csat"])
    "; did you mean 'nps'?"
    """
    names = sorted({str(k) for k in known})
    folded = {n.casefold(): n for n in names}  # who writes NPS means nps
    close = difflib.get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.65)
    if close:
        return f"; did you mean '{folded[close[0]]}'?"
    if not names:
        return ""
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return f"; known: {shown}"


def ended(clause: str) -> str:
    """End a sentence, unless it ends in a question.

    Examples
    --------
    >>> ended("no such column; did you mean 'id'?"), ended("no such column")
    ("no such column; did you mean 'id'?", 'no such column.')
    """
    return clause if clause.endswith("?") else f"{clause}."


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Parameters
    ----------
    package : str
        Import name, e.g. ``"adbc_driver_postgresql.dbapi"``.
    extra : str
        The extra of `cxml` that installs it, e.g. ``"postgres"``.

    Returns
    -------
    module

    Raises
    ------
    ConfigError
        If the package is not installed.

    Examples
    --------
    >>> require("json", "all").__name__
    'json'
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"this needs the package '{package.split('.')[0]}', which is not installed. "
            f"Install it with: pip install 'cxml[{extra}]'"
        ) from error
