"""The table of events as documentation: `python -m sandbox.events` writes it into a page."""

from pathlib import Path
from typing import Final

from sandbox.events import EVENTS

PAGE: Final = Path("docs", "design.md")
START, END = "<!-- python -m sandbox.events -->\n", "<!-- until here -->\n"


def table() -> str:
    """Return Markdown: a line for each manual page, moment and outcome, with its events."""
    groups: dict[tuple[str, str, str], dict[str, None]] = {}
    for event in EVENTS:
        only = "" if len(event.versions) > 1 else f" (PostgreSQL {event.versions[0]})"
        line = event.page, event.when.value, event.outcome.value
        groups.setdefault(line, {})[event.name + only] = None
    moments: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (page, when, outcome), names in groups.items():
        moments.setdefault((page, outcome, tuple(names)), []).append(when)
    lines = [
        f"| {page} | {'; '.join(names)} | {', '.join(whens)} | {outcome} |"
        for (page, outcome, names), whens in sorted(moments.items())
    ]
    head = "| Page | What the owner does | When | What comes of it |\n| --- | --- | --- | --- |\n"
    return head + "\n".join(lines) + "\n"


def filled(text: str) -> str:
    """Return a page with the table in its place.

    Raises:
        ValueError: The page has no place for it.
    """
    before, rest = text.split(START, 1)
    _, after = rest.split(END, 1)
    return f"{before}{START}\n{table()}\n{END}{after}"
