"""What one value means: as a number, a boolean or a category, or that it is missing. Plain Python, for one value at a time.

These are the rules. The columnar path follows them for whole columns, so a value means the same in a file and in a request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, time
from decimal import Decimal
from typing import Any

WHITESPACE = " \t\n\r\v\f\u00a0"
NUMBER = r"(?i)^[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf|infinity|nan)$"
MISSING_SPELLINGS = frozenset(
    {"", "NA", "N/A", "n/a", "<NA>", "#N/A", "#N/A N/A", "#NA", "NaN", "nan", "-NaN", "-nan", "NULL", "Null", "null", "None", "none"}
    | {"-1.#IND", "1.#IND", "-1.#QNAN", "1.#QNAN"}
)
TRUE_WORDS = frozenset({"true", "t", "yes", "y"})
FALSE_WORDS = frozenset({"false", "f", "no", "n"})

_is_number = re.compile(NUMBER.replace("$", r"\Z")).match


class Missing:
    """Which values stand for "not known": the usual spellings, and those of this data set.

    Args:
        extra: more spellings. Numbers among them also count where a column holds numbers.

    >>> Missing([-999]).covers("-999"), Missing().covers("n/a"), Missing().covers("-999")
    (True, True, False)
    """

    def __init__(self, extra: Iterable[object] | str = ()) -> None:
        values = [extra] if isinstance(extra, str) or not isinstance(extra, Iterable) else list(extra)
        self.extra = tuple(text for text in (category(value, None) for value in values) if text)
        self.spellings = MISSING_SPELLINGS | set(self.extra)
        self.numbers = frozenset(float(text) for text in self.extra if _is_number(text) and "nan" not in text.lower())

    def covers(self, text: str) -> bool:
        """Whether `text`, already stripped, is a spelling of "missing"."""
        return text in self.spellings


def number(value: Any, missing: Missing) -> float | None:
    """A finite number, or None where the value is missing.

    >>> number(" 1.5e3 ", Missing()), number(7, Missing()), number("n/a", Missing())
    (1500.0, 7.0, None)

    Raises:
        ValueError: it is neither; the message ends a sentence about the value.
    """
    value = plain(value)
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip(WHITESPACE)
        if text in missing.spellings:
            return None
        if not _is_number(text):
            raise ValueError("is not a number")
        value = text
    elif not isinstance(value, (int, float, Decimal)):
        raise ValueError("is not a number")
    try:
        result = float(value)
    except OverflowError:
        raise ValueError("is too large a number") from None
    if result != result or result in missing.numbers:
        return None
    if result in (float("inf"), float("-inf")):
        raise ValueError("is infinite")
    return result


def boolean(value: Any, missing: Missing) -> bool | None:
    """True or False, or None where the value is missing.

    >>> boolean("Yes", Missing()), boolean(0, Missing()), boolean(None, Missing())
    (True, False, None)

    Raises:
        ValueError: it is neither; the message ends a sentence about the value.
    """
    value = plain(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        if value != value or value in missing.numbers:
            return None
        if value in (0, 1):
            return value == 1
    elif isinstance(value, str):
        text = value.strip(WHITESPACE)
        if text in missing.spellings:
            return None
        word = text.lower()
        if word in TRUE_WORDS or word == "1":
            return True
        if word in FALSE_WORDS or word == "0":
            return False
    raise ValueError("is neither true nor false (true, yes, t, y, 1 or false, no, f, n, 0)")


def category(value: Any, missing: Missing | None) -> str | None:
    """The text that names a category, or None where the value is missing. Whole numbers have no decimal point.

    >>> category(" gold ", Missing()), category(2.0, Missing()), category(float("nan"), Missing())
    ('gold', '2', None)

    Raises:
        ValueError: the value is a list or another thing that names no category; the message ends a sentence about it.
    """
    value = plain(value)
    if value is None or (isinstance(value, (float, Decimal)) and value != value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, int, float, Decimal, date, time)):
        raise ValueError("is neither text nor a number")
    text = str(value).strip(WHITESPACE)
    return None if missing is not None and text in missing.spellings else text


def plain(value: Any) -> Any:
    """The Python value in a NumPy or pandas scalar; every other value as it is."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", 0) == 0:
        return item()
    return value
