"""The table of events as documentation: `python -m sandbox.events` writes it into a page."""

from pathlib import Path
from typing import Final

from sandbox.events import Outcome, keys, moments, partitions, publications, tables, types

TOPICS: Final = {
    "Tables and columns": tables.EVENTS,
    "Types": types.EVENTS,
    "Keys": keys.EVENTS,
    "Partitions": partitions.EVENTS,
    "Publication and slot": publications.EVENTS,
    "A run that is on": moments.EVENTS,
}
PAGE: Final = Path("docs", "design.md")
START, END = "<!-- python -m sandbox.events -->\n", "<!-- until here -->\n"


def table() -> str:
    """Return Markdown: a line for each topic, moment and outcome, with its events."""
    lines: dict[tuple[str, str, str], dict[str, None]] = {}
    for topic, events in TOPICS.items():
        for event in sorted(events, key=lambda event: [*Outcome].index(event.outcome)):
            only = "" if len(event.versions) > 1 else f" (PostgreSQL {event.versions[0]})"
            line = topic, event.when.value, event.outcome.value
            lines.setdefault(line, {})[event.name + only] = None
    whens: dict[tuple[str, str, str], list[str]] = {}
    for (topic, when, outcome), names in lines.items():
        whens.setdefault((topic, outcome, "; ".join(names)), []).append(when)
    head = "| About | What the owner does | When | What comes of it |\n| --- | --- | --- | --- |\n"
    return head + "".join(
        f"| {topic} | {names} | {', '.join(when)} | {outcome} |\n"
        for (topic, outcome, names), when in whens.items()
    )


def filled(text: str) -> str:
    """Return a page with the table in its place.

    Raises:
        ValueError: The page has no place for it.
    """
    before, rest = text.split(START, 1)
    _, after = rest.split(END, 1)
    return f"{before}{START}\n{table()}\n{END}{after}"
