"""The state of a pipeline: how far each table was copied and how far the log was read.

Meltano keeps it by merging each STATE into the one before, member by member: after a run that
failed or refreshed everything, members of older states are still there. So what belongs together is
one text or number, every member is always written, and bookmarks name the epoch they are of: those
of another one are leftovers.

See https://docs.meltano.com/reference/command-line-interface/#state.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from tap_postgres_cdc.facts import TableFacts
from tap_postgres_cdc.positions import Snapshot, format_lsn, parse_lsn

# What a damaged state raises when it is read.
DAMAGED: Final = (AttributeError, KeyError, TypeError, ValueError)


@dataclass
class Handoff:
    """What the stream has to skip of a table, because its snapshot held it.

    Attributes:
        snapshot: What the first snapshot of the table saw.
        until: LSN after which nothing is left that the snapshot saw.
    """

    snapshot: Snapshot
    until: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `<snapshot> <LSN>`.

        Raises:
            ValueError: It is something else.
        """
        snapshot, until = text.split(" ")
        return cls(Snapshot.parse(snapshot), parse_lsn(until))

    def __str__(self) -> str:
        return f"{self.snapshot} {format_lsn(self.until)}"


@dataclass
class Bookmark:
    """Where a table is.

    Attributes:
        version: Version of its records.
        facts: What the catalog said of it.
        next_blocks: First block that is not copied yet, by the part's oid, None if there is none;
            None for a table that is copied.
        handoff: Until the stream is past the snapshot.
        is_stale: Whether it has to be copied anew, as changes are missing.
    """

    version: int
    facts: TableFacts
    next_blocks: dict[int, int | None] | None = None
    handoff: Handoff | None = None
    is_stale: bool = False

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read a bookmark as `to_dict` writes it.

        Raises:
            KeyError, ValueError, TypeError: It is none.
        """
        copied, handoff = data["copied"], data["handoff"]
        blocks = None
        if isinstance(copied, str):
            pairs = (pair.split(":") for pair in copied.split())
            blocks = {_digits(oid): _digits(block) if block else None for oid, block in pairs}
        elif not isinstance(copied, bool):
            raise TypeError
        return cls(
            version=_number(data["version"]),
            facts=TableFacts.parse(data["catalog"]),
            next_blocks=blocks,
            handoff=None if handoff is None else Handoff.parse(handoff),
            is_stale=copied is False,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a STATE message; `copied` is no, yes, or the next block of each part."""
        copied: bool | str = not self.is_stale
        if copied and self.next_blocks is not None:
            pairs = ((oid, "" if n is None else n) for oid, n in self.next_blocks.items())
            copied = " ".join(f"{oid}:{block}" for oid, block in pairs)
        return {
            "version": self.version,
            "copied": copied,
            "handoff": str(self.handoff) if self.handoff else None,
            "catalog": str(self.facts),
        }


@dataclass
class SlotState:
    """How far the log of which database was read.

    Attributes:
        system_identifier: Of the server.
        database: oid.
        timeline: Of the server's log.
        confirmed_lsn: Everything before it is in the warehouse once this state is.
        seen_lsn: Nothing after it is in the warehouse; copies and values read from tables are ahead
            of the log.
        oldest_xid: Every transaction before it was over when the catalog was read.
        epoch: Given to bookmarks, see above.
    """

    name: str
    system_identifier: str
    database: int
    timeline: int
    confirmed_lsn: int
    seen_lsn: int = 0
    oldest_xid: int = 0
    epoch: str = field(default_factory=lambda: secrets.token_urlsafe(3))

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` writes.

        Raises:
            KeyError, ValueError, TypeError: It is none.
        """
        return cls(
            name=_text(data["name"]),
            system_identifier=_text(data["system_identifier"]),
            database=_number(data["database"]),
            timeline=_number(data["timeline"]),
            confirmed_lsn=parse_lsn(data["confirmed_lsn"]),
            seen_lsn=parse_lsn(data["seen_lsn"]),
            oldest_xid=_number(data["oldest_xid"]),
            epoch=_text(data["epoch"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a STATE message."""
        return {
            **vars(self),
            "confirmed_lsn": format_lsn(self.confirmed_lsn),
            "seen_lsn": format_lsn(self.seen_lsn),
        }

    def see(self, lsn: int) -> None:
        """Note that what is read from tables may be of a position in the log."""
        self.seen_lsn = max(self.seen_lsn, lsn)


@dataclass
class State:
    """The whole state; each STATE message holds all of it."""

    slot: SlotState | None = None
    bookmarks: dict[str, Bookmark] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` writes, or an empty state; bookmarks of other epochs are left out.

        Raises:
            One of `DAMAGED`: It is neither.
        """
        if data in ({}, cls().to_dict()):
            return cls()
        # What belongs to others has members of other names.
        if data.keys() != {"bookmarks", "slot"}:
            raise KeyError(*data)
        slot = SlotState.parse(data["slot"])
        return cls(
            slot,
            {
                stream: Bookmark.parse(bookmark)
                for stream, bookmark in data["bookmarks"].items()
                if bookmark.get("epoch") == slot.epoch
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a STATE message."""
        if not self.slot:
            return {"bookmarks": {}}
        epoch = {"epoch": self.slot.epoch}
        bookmarks = {name: epoch | bookmark.to_dict() for name, bookmark in self.bookmarks.items()}
        return {"bookmarks": bookmarks, "slot": self.slot.to_dict()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> int:
    """A number as the server and the warehouse have them, of 64 bits."""
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError
    return value


def _digits(text: str) -> int:
    """An oid, or the number of a block."""
    if not text.isdecimal() or int(text) >= 1 << 32:
        raise ValueError
    return int(text)
