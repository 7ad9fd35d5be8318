"""Quantities as they are written: a size ``64MiB``, a duration ``15m``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_QUANTITY = re.compile(r"([0-9]{1,18})\s*([A-Za-z]*)")


class Size(int):
    """A number of bytes, written ``64MiB``."""

    @classmethod
    def parse(cls, text: object) -> Size:
        """Return the size that *text* spells, a bare number being bytes; raise `ValueError`."""
        number, unit = _quantity(text, "64MiB")
        factor = _UNITS.get(unit or "B")
        if factor is None:
            raise ValueError(f"a size ends in one of {', '.join(_UNITS)}; this ends in {unit!r}")
        return cls(number * factor)

    def __str__(self) -> str:
        """Return the shortest spelling."""
        return _spelled(int(self), _UNITS)


class Duration(timedelta):
    """A length of time, written ``15m``."""

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Return the duration that *text* spells; raise `ValueError`."""
        number, unit = _quantity(text, "15m")
        factor = _MILLISECONDS.get(unit)
        if factor is None:
            known = ", ".join(_MILLISECONDS)
            raise ValueError(f"a duration ends in one of {known}; this ends in {unit!r}")
        try:
            return cls(milliseconds=number * factor)
        except OverflowError:
            raise ValueError("so long a time cannot be") from None

    def __str__(self) -> str:
        """Return the shortest spelling."""
        return _spelled(self // timedelta(milliseconds=1), _MILLISECONDS)


def _quantity(text: object, example: str) -> tuple[int, str]:
    found = _QUANTITY.fullmatch(str(text).strip())
    if found is None or not isinstance(text, int | str) or isinstance(text, bool):
        raise ValueError(f"{text!r} is no number with a unit, like {example}")
    return int(found[1]), found[2]


def _spelled(number: int, units: Mapping[str, int]) -> str:
    """Return *number* with the largest unit that divides it; zero with the smallest unit."""
    smallest, *_ = units
    fitting = [unit for unit, factor in units.items() if number and number % factor == 0]
    unit = fitting[-1] if fitting else smallest
    return f"{number // units[unit]}{unit}"
