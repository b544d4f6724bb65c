"""What each canonical column holds: plain data that reading a table and reading one journey share."""

from __future__ import annotations

from collections.abc import Iterable

#: Categorical canonical columns, in the order that breaks ties.
TEXT_COLUMNS = ("touchpoint", "channel", "case_id")
#: Numeric canonical columns, in the order that breaks ties.
NUMBER_COLUMNS = ("value", "duration", "score")
#: Columns that are moments, in sources and side tables.
STAMP_COLUMNS = ("timestamp", "available_at", "promised", "valid_from")
#: The measure that the column ``promised``, a moment, is read as: days from the event to it.
PROMISE = "promise"
#: Order of the canonical columns behind customer and timestamp; measures and attributes follow.
TIE_ORDER = (
    "sequence", "touchpoint", "channel", "value", "duration", "score", "case_id", "resolved", "available_at", "promise",
)  # fmt: skip

#: Stands for a missing value in integer columns; sorts before every value.
MISSING = -(2**63)

YES = ("true", "t", "yes", "y", "1", "1.0")
NO = ("false", "f", "no", "n", "0", "0.0")

#: Texts that are a moment in time: ISO 8601, a date alone or with a time, with or without an offset.
STAMP_PATTERN = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?)?(Z|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)?)?"
)
#: Texts that are a number.
NUMBER_PATTERN = (
    r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?|[+-]?([nN][aA][nN]|[iI][nN][fF]([iI][nN][iI][tT][yY])?)"
)
#: Texts that are a whole number; a trailing ``.0`` is what spreadsheets and frames make of one.
WHOLE_PATTERN = r"[+-]?[0-9]{1,18}([.]0*)?"
#: Customer ids that may become integers without losing a digit.
PLAIN_INTEGER_PATTERN = r"0|-?[1-9][0-9]{0,17}"

#: The log accepts ``FIRST_US <= timestamp < LAST_US``: 1900-01-01 and 2200-01-01.
FIRST_US = -2_208_988_800_000_000
LAST_US = 7_258_118_400_000_000


def tie_order(measures: Iterable[str], attributes: Iterable[str]) -> tuple[str, ...]:
    """Return the columns that order events of one customer at one moment, first the one that counts most.

    Examples
    --------
    >>> tie_order(["length"], ["level"])[-3:]
    ('promise', 'length', 'level')
    """
    return (*TIE_ORDER, *measures, *attributes)
