"""What an event is."""

from enum import Enum, StrEnum
from typing import Final, NamedTuple

from sandbox.events.shapes import AFTER, BEFORE, LATER, PLAIN

# Where a run of the tap comes between two statements of an event.
RUN: Final = "-- a run"


class When(StrEnum):
    """When the owner does it, as a reader of the page is told."""

    FIRST = "before the first run"
    BETWEEN = "between two runs"
    PAUSED = "while the table is out of the publication"
    COPY = "after the snapshot was taken"
    RANGE = "between two ranges of the copy"
    STREAM = "while the log is read"


class Outcome(Enum):
    """What comes of it."""

    EQUAL = "nothing is copied; the warehouse is equal"
    PARTITION = "at most the new partition is copied; the warehouse is equal"
    COPIED = "the table is copied again, in the same run; the others go on"
    SETTLED = "the others go on; the warehouse is equal after the next run at the latest"
    KEPT = "the rows stay in the warehouse; nothing is copied"
    ABSENT = "a warning; the table's rows stay in the warehouse, the others go on"
    REFUSED = "the run is refused, and says what to do"


class Event(NamedTuple):
    """Something that the owner of a database does, and what must come of it.

    In all its SQL `home` is the schema of the event's tables, which is where names are looked up.
    Beside them is always a table `public.other`.

    Attributes:
        name: What the owner does, in words.
        page: The page of PostgreSQL's manual that it comes from.
        statements: The event; `RUN` among them is a run in between.
        outcome: What must come of it.
        setup: Makes the tables and their rows.
        when: At which moment it happens.
        publication: What is published, as in CREATE PUBLICATION.
        parameters: Of the publication.
        before: Changes that are in the log before the event.
        after: Changes that follow it.
        later: Changes before one more run, which must not copy anything.
        affected: The tables that are copied again, or are absent.
        spares_other: Whether `public.other` must not be copied.
        is_alone: Whether other events can't share the publication, the slot or the database.
        words: What the error says, as a regular expression.
        remedy: What the owner does about a refusal; then a full refresh makes all equal.
        options: Settings of the tap.
        kept: SQL of the rows that the warehouse has beside those of the source.
        versions: Of PostgreSQL, among those that tests run.
    """

    name: str
    page: str
    statements: tuple[str, ...]
    outcome: Outcome
    setup: tuple[str, ...] = PLAIN
    when: When = When.BETWEEN
    publication: str = "FOR TABLE t"
    parameters: str = "publish_via_partition_root = true"
    before: tuple[str, ...] = BEFORE
    after: tuple[str, ...] = AFTER
    later: tuple[str, ...] = LATER
    affected: tuple[str, ...] = ("t",)
    spares_other: bool = True
    is_alone: bool = False
    words: str = ""
    remedy: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    kept: tuple[str, ...] = ()
    versions: tuple[int, ...] = (15, 18)
