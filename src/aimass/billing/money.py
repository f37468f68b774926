"""Money in words. It is kept as whole micro-units of a dollar, and never as a binary fraction."""

from __future__ import annotations

import re

from aimass.core.errors import UsageError

MICRO = 1_000_000


def usd(micro: int) -> str:
    """An amount in dollars, exact, with two decimals or as many as it needs.

    >>> usd(12_300), usd(-5_000_000), usd(100)
    ('0.0123', '-5.00', '0.0001')
    """
    sign, whole = "-" if micro < 0 else "", abs(micro)
    fraction = f"{whole % MICRO:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole // MICRO}.{fraction}"


def micro_of(text: str) -> int:
    """The micro-units of an amount in dollars that a person wrote.

    >>> micro_of("1.50")
    1500000

    Raises:
        UsageError: it is no amount, or finer than a micro-unit.
    """
    match = re.fullmatch(r"(\d{1,12})(?:\.(\d{1,6}))?", text.strip(), re.ASCII)
    if match is None:
        raise UsageError(f"{text!r} is no amount in dollars; give a number of at most six decimals, such as '1.50'")
    return int(match[1]) * MICRO + int((match[2] or "").ljust(6, "0"))
