"""Numbers and lists of names, for people."""

from collections.abc import Iterable
from typing import Final

_MOST_NAMES: Final = 10


def about_rows(rows: float) -> str:
    """An estimate."""
    return f"about {rows:,.0f} rows"


def counted(number: int, what: str) -> str:
    """A number of something."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def listed(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    every = list(names)
    more = len(every) - _MOST_NAMES
    return ", ".join(every[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
