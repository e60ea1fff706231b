"""What the demos and the `sandbox` command print: aligned, coloured only on a terminal."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.status import Status

# Into a file or a pipe, nothing is folded or cut.
_WIDE = 10_000


def open_console() -> Console:
    """Return where to print."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


@contextlib.contextmanager
def step(console: Console, title: str) -> Iterator[Status]:
    """Show on a terminal what is being done, and print it with its time when it is done."""
    started = time.monotonic()
    with console.status(title) as status:
        yield status
    console.print(f"\n{title} [dim]({time.monotonic() - started:.1f} s)[/]")


def show_rows(
    console: Console,
    names: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    indent: int = 0,
    grouped: bool = False,
) -> None:
    """Print rows below the names of their columns, cut to the width of a terminal.

    Args:
        console: Where to.
        names: Of the columns.
        rows: Values; columns of numbers are aligned to the right.
        indent: Blanks before each line.
        grouped: Write integers in groups of three digits.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for place, name in enumerate(names):
        values = [row[place] for row in rows]
        numeric = all(value is None or _is_number(value) for value in values) and any(values)
        table.add_column(
            name, justify="right" if numeric else "left", no_wrap=True, overflow="ellipsis"
        )
    for row in rows:
        table.add_row(*(_cell(value, "," if grouped else "") for value in row))
    console.print(Padding(table, (0, 0, 0, indent), expand=False))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _cell(value: Any, grouping: str) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return format(value, grouping)
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return " ".join(str(value).split())
