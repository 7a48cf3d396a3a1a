"""A sum of figures that may not all be told."""

from collections.abc import Iterable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def sum_told(values: Iterable[Number | None]) -> Number | None:
    """The sum; None where one of them is not told."""
    listed = list(values)
    told = [value for value in listed if value is not None]
    return sum(told) if len(told) == len(listed) else None
