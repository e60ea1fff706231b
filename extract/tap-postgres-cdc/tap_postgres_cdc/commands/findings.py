"""What a check found and what mends it, and how both are shown."""

from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

import click


class Status(Enum):
    """Whether what was found lets a pipeline run as one would expect."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


_MARKS = {
    Status.OK: click.style("✓", fg="green"),
    Status.WARNING: click.style("!", fg="yellow"),
    Status.ERROR: click.style("✗", fg="red"),
}


class Fix(NamedTuple):
    """What mends a finding.

    Attributes:
        by: Who can do it, such as `a superuser`.
        sql: Statements to run as they are, one after the other.
        do: What to do where SQL does not reach, or after it.
        note: What else to know before doing it.
    """

    by: str
    sql: tuple[str, ...] = ()
    do: str = ""
    note: str = ""


class Finding(NamedTuple):
    """One line of a check.

    Attributes:
        check: Name of what was looked at; it does not change from version to version.
        status: Whether it is right.
        found: What was found, for people.
        fix: What mends it; only what is right has none.
        subject: Table or schema that it is about, if it is about one.
        details: Figures for machines.
    """

    check: str
    status: Status
    found: str
    fix: Fix | None = None
    subject: str | None = None
    details: dict[str, Any] = {}  # noqa: RUF012 - never changed


def failed(findings: Sequence[Finding]) -> bool:
    """Whether something has to be mended before a pipeline can run."""
    return any(finding.status is Status.ERROR for finding in findings)


def as_text(finding: Finding) -> str:
    """A line, and indented under it what to do."""
    lines = [f"{_MARKS[finding.status]} {finding.found}"]
    if fix := finding.fix:
        if fix.sql:
            lines += [f"    {fix.by} runs", *(f"        {statement};" for statement in fix.sql)]
        if fix.do:
            lines.append(f"    {'then ' if fix.sql else f'{fix.by}: '}{fix.do}")
        if fix.note:
            lines.append(f"    ({fix.note})")
    return "\n".join(lines)


def summary(findings: Sequence[Finding]) -> str:
    """How many lines are as they should be."""
    count = Counter(finding.status for finding in findings)
    line = f"{count[Status.OK]} of {len(findings)} lines are right"
    if count[Status.WARNING]:
        line += f", {count[Status.WARNING]} to know of (!)"
    if count[Status.ERROR]:
        return f"{line}, {count[Status.ERROR]} to mend first (✗)"
    return f"{line}: ready to run"


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """An object for machines: `ready`, and `findings` with the fields of `Finding`."""
    return {
        "ready": not failed(findings),
        "findings": [
            {
                "check": finding.check,
                "subject": finding.subject,
                "status": finding.status.value,
                "found": finding.found,
                "fix": finding.fix and finding.fix._asdict(),
                "details": finding.details,
            }
            for finding in findings
        ],
    }
