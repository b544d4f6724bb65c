"""Which events count: a small language of conditions on the columns of one event.

    all                                  every event
    touchpoint=call                      the column holds the value
    value<0   score<=6   value>=100      a measure compares with a number
    touchpoint=call&!channel=web         and, not
    (touchpoint=call|touchpoint=chat)&resolved<1

``!`` binds closer than ``&``, and ``&`` closer than ``|``. A value that holds any of ``& | ! ( ) < > '``, or that
begins or ends with a space, stands in single quotes, a quote within it doubled. What is missing meets no condition,
and so meets its negation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from cxml.errors import ConfigError

Bools = NDArray[np.bool_]

_SPECIAL = frozenset("&|!()<>'")
#: What makes a combination; of the others of `_SPECIAL` a value may hold any.
_COMBINES = frozenset("&|!()")
#: A value that is begun and goes on behind.
_BEGUN = re.compile(r"([A-Za-z_]\w*)\s*=([^&|!()]*)$")
_PLAIN = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_ATOM = re.compile(
    r"([A-Za-z_]\w*)\s*(?:(<=|>=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|=\s*'((?:[^']|'')*)'|=([^&|!()<>']*))"
)
_SIGNS: dict[str, Callable[[NDArray[np.float64], float], Bools]] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip
_IN_WORDS = {"<": "below", "<=": "at most", ">": "above", ">=": "at least"}


@dataclass(frozen=True, slots=True)
class Atom:
    """One condition: a category that has a value, or a measure that compares with a number.

    Parameters
    ----------
    column : str
        The category or measure.
    sign : str
        ``"="`` for a category; ``"<"``, ``"<="``, ``">"`` or ``">="`` for a measure.
    value : str or float
        What it is compared with.

    Examples
    --------
    >>> str(Atom("touchpoint", "=", "R&D")), str(Atom("value", "<", 0.0))
    ("touchpoint='R&D'", 'value<0')
    """

    column: str
    sign: str
    value: str | float

    def __str__(self) -> str:
        if isinstance(self.value, str):
            return f"{self.column}={_quoted(self.value)}"
        return f"{self.column}{self.sign}{_number(self.value)}"

    def describe(self) -> str:
        """Say the condition in words.

        Examples
        --------
        >>> Atom("score", "<=", 6.0).describe()
        'score at most 6'
        """
        if isinstance(self.value, str):
            return f"{self.column} '{self.value}'"
        return f"{self.column} {_IN_WORDS[self.sign]} {_number(self.value)}"


@dataclass(frozen=True, slots=True)
class Group:
    """Several conditions as one; ``&`` of none is met by every event and written ``all``.

    Parameters
    ----------
    sign : str
        ``"&"``, ``"|"``, or ``"!"`` with a single part.
    parts : tuple of Atom or Group

    Examples
    --------
    >>> str(Group("!", (Group("|", (Atom("channel", "=", "web"), Atom("value", ">", 0.5))),)))
    '!(channel=web|value>0.5)'
    """

    sign: str
    parts: tuple[Selector, ...]

    def __str__(self) -> str:
        if not self.parts:
            return "all"
        if self.sign == "!":
            return "!" + self._inner(str, self.parts[0])
        return self.sign.join(self._inner(str, part) for part in self.parts)

    def describe(self) -> str:
        """Say the conditions in words.

        Examples
        --------
        >>> parse_selector("!channel=web&(touchpoint=call|touchpoint=chat)").describe()
        "not channel 'web' and (touchpoint 'call' or touchpoint 'chat')"
        """
        if self.sign == "!":
            return "not " + self._inner(lambda part: part.describe(), self.parts[0])
        word = " and " if self.sign == "&" else " or "
        return word.join(self._inner(lambda part: part.describe(), part) for part in self.parts)

    def _inner(self, write: Callable[[Selector], str], part: Selector) -> str:
        """Write a part, within parentheses where it binds less closely than the group."""
        loose = isinstance(part, Group) and "|&!".index(part.sign) < "|&!".index(self.sign)
        return f"({write(part)})" if loose else write(part)


Selector = Atom | Group

#: Every event.
EVERYTHING = Group("&", ())


def plain_selector(column: str, value: str) -> str:
    """Write the selector of one value of a category.

    Examples
    --------
    >>> plain_selector("touchpoint", "call"), plain_selector("touchpoint", "it's")
    ('touchpoint=call', "touchpoint='it''s'")
    """
    return str(Atom(column, "=", value))


@lru_cache(maxsize=65_536)
def parse_selector(text: str) -> Selector:
    """Read a selector.

    ``COLUMN=VALUE`` as a whole, with an unquoted value that makes no sense as a combination, is taken at its word, so
    that any value a log may hold is understood; ``str`` of what is returned writes it with its quotes.

    Parameters
    ----------
    text : str
        As the head of this module says.

    Returns
    -------
    Atom or Group

    Raises
    ------
    ConfigError
        If the text is no selector; says at which character, from 1, it ends to be one.

    Examples
    --------
    >>> parse_selector("touchpoint=call")
    Atom(column='touchpoint', sign='=', value='call')
    >>> str(parse_selector("( touchpoint=call | value < -0.50 ) & ! channel='a&b'"))
    "(touchpoint=call|value<-0.5)&!channel='a&b'"
    """
    if text == "all":
        return EVERYTHING
    plain = _PLAIN.fullmatch(text)
    if plain and not _SPECIAL & set(plain[2]):
        return Atom(plain[1], "=", plain[2])
    try:
        return _Reader(text).whole()
    except ConfigError:
        if plain:
            return Atom(plain[1], "=", plain[2])
        raise


def explain_break(atom: Atom) -> str:
    """Say where a value would break if it was meant as a combination, or what of it needs quotes to be one.

    Parameters
    ----------
    atom : Atom
        One that asks for a value that there is not.

    Returns
    -------
    str
        A sentence behind a semicolon; empty where the value holds nothing that combines, or would not break.

    Examples
    --------
    >>> explain_break(parse_selector("touchpoint=call&&channel=web"))
    "; as a combination, 'touchpoint=call&&channel=web' breaks at character 17: COLUMN=VALUE or MEASURE<NUMBER expected"
    >>> explain_break(parse_selector("transition=call>visit&channel=web"))
    "; within a combination 'call>visit' stands in single quotes: transition='call>visit'"
    """
    if not _COMBINES & set(str(atom.value)):
        return ""
    text = f"{atom.column}={atom.value}"
    reader = _Reader(text)
    try:
        reader.whole()
    except ConfigError:
        begun = _BEGUN.search(text[: reader.position])
        if begun and text[reader.position :].startswith(("<", ">", "'")) and not text[begun.start(2) :].startswith("'"):
            value = re.split(r"[&|)]", text[begun.start(2) :])[0].strip()
            return f"; within a combination '{value}' stands in single quotes: {Atom(begun[1], '=', value)}"
        return f"; as a combination, '{text}' breaks at character {reader.position + 1}: {reader.wanted} expected"
    return ""


def atoms(selector: Selector) -> Iterator[Atom]:
    """Give every condition within a selector, from left to right.

    Examples
    --------
    >>> [atom.column for atom in atoms(parse_selector("channel=web&!(value<0|channel=app)"))]
    ['channel', 'value', 'channel']
    """
    if isinstance(selector, Atom):
        yield selector
    else:
        for part in selector.parts:
            yield from atoms(part)


def matching(selector: Selector, met: Callable[[Atom], Bools]) -> Bools:
    """Tell which events a selector selects.

    Parameters
    ----------
    selector : Atom or Group
        Anything but ``all``.
    met : callable
        Gives for an atom a new array that says where it is met; false where the event holds nothing.

    Returns
    -------
    bool array of shape (n_events,)

    Examples
    --------
    >>> matching(parse_selector("!value<0"), lambda atom: compare(np.array([-1.0, 0.0, np.nan]), atom))
    array([False,  True,  True])
    """
    if isinstance(selector, Atom):
        return met(selector)
    found = matching(selector.parts[0], met)
    if selector.sign == "!":
        return ~found
    for part in selector.parts[1:]:
        if selector.sign == "&":
            found &= matching(part, met)
        else:
            found |= matching(part, met)
    return found


def compare(values: NDArray[np.float64], atom: Atom) -> Bools:
    """Tell where a measure meets a comparison; NaN meets none.

    Examples
    --------
    >>> compare(np.array([1.0, 2.0, np.nan]), Atom("value", ">=", 2.0))
    array([False,  True, False])
    """
    return _SIGNS[atom.sign](values, float(atom.value))


def _quoted(value: str) -> str:
    if _SPECIAL & set(value) or value != value.strip():
        return "'" + value.replace("'", "''") + "'"
    return value


def _number(value: float) -> str:
    return repr(value + 0.0).removesuffix(".0")  # + 0.0: there is one zero


class _Reader:
    """Reads a selector from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.position, self.wanted = text, 0, ""

    def whole(self) -> Selector:
        selector = self.joined("|")
        if self.position < len(self.text):
            self.fail("'&' or '|'")
        return selector

    def joined(self, sign: str) -> Selector:
        """Read what ``|`` joins, or what ``&`` joins; parts of one sign make one group."""
        parts: list[Selector] = []
        while not parts or self.take(sign):
            part = self.joined("&") if sign == "|" else self.single()
            same = isinstance(part, Group) and part.sign == sign
            parts += part.parts if same and isinstance(part, Group) else [part]
        return parts[0] if len(parts) == 1 else Group(sign, tuple(parts))

    def single(self) -> Selector:
        if self.take("!"):
            return Group("!", (self.single(),))
        if not self.take("("):
            return self.atom()
        inner = self.joined("|")
        if not self.take(")"):
            self.fail("')'")
        return inner

    def atom(self) -> Atom:
        found = _ATOM.match(self.text, self.position)
        if found is None:
            self.fail("COLUMN=VALUE or MEASURE<NUMBER")
        self.position = found.end()
        self.skip_spaces()
        column, sign, number, quoted, bare = found.groups()
        if sign:
            if not np.isfinite(float(number)):
                raise ConfigError(f"selector '{self.text}': {number} is too large a number")
            return Atom(column, sign, float(number) + 0.0)
        return Atom(column, "=", bare.strip() if quoted is None else quoted.replace("''", "'"))

    def take(self, sign: str) -> bool:
        self.skip_spaces()
        if not self.text.startswith(sign, self.position):
            return False
        self.position += 1
        self.skip_spaces()
        return True

    def skip_spaces(self) -> None:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1

    def fail(self, wanted: str) -> NoReturn:
        self.wanted = wanted
        at, rest = self.position + 1, self.text[self.position :]
        where = f"at '{rest}' (character {at})" if rest else f"at its end (character {at})"
        raise ConfigError(f"selector '{self.text}': expected {wanted} {where}")
