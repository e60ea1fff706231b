"""The state of a pipeline: how far each table was copied and how far the log was read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from tap_postgres_cdc.discovery import Table, TableColumn
from tap_postgres_cdc.positions import Snapshot, format_lsn, parse_lsn


@dataclass
class Handoff:
    """What the stream has to skip of a table, because its snapshot held it.

    Attributes:
        snapshot: What the first snapshot of the table saw.
        until: LSN after which nothing is left that the snapshot saw.
    """

    snapshot: Snapshot
    until: int


@dataclass
class Bookmark:
    """Where a table is.

    Attributes:
        table: Its oid; another one means that the table was made anew.
        version: Version of its records.
        key: Its key columns.
        membership: See `Table`.
        attributes: See `Table`.
        columns: Name and type oid of the captured columns, by number.
        parts: relfilenode of each part, by the part's oid.
        next_blocks: First block that is not copied yet, by the part's oid, None if there is none;
            None for a table that is copied.
        handoff: Until the stream is past the snapshot.
        is_absent: Whether a run went without the table, so that changes are missing.
    """

    table: int
    version: int
    key: tuple[str, ...]
    membership: str
    attributes: int
    columns: dict[int, tuple[str, int]]
    parts: dict[int, int]
    next_blocks: dict[int, int | None] | None = None
    handoff: Handoff | None = None
    is_absent: bool = False

    @classmethod
    def of(cls, table: Table, columns: list[TableColumn], version: int) -> Self:
        """Bookmark of a table of which nothing is copied yet."""
        return cls(
            table=table.oid,
            version=version,
            key=table.key,
            membership=table.membership,
            attributes=table.attributes,
            columns={column.attnum: (column.name, column.type_oid) for column in columns},
            parts={part.oid: part.relfilenode for part in table.parts},
            next_blocks={},
        )

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read a bookmark as `to_dict` writes it.

        Raises:
            KeyError, ValueError, TypeError: It is none.
        """
        snapshot = data["snapshot"]
        handoff = None
        if "xids" in snapshot:
            handoff = Handoff(Snapshot.parse(snapshot["xids"]), parse_lsn(snapshot["until"]))
        blocks = None
        if not snapshot.get("done"):
            blocks = {int(oid): block for oid, block in snapshot["next_blocks"].items()}
        return cls(
            table=data["table"],
            version=data["version"],
            key=tuple(data["key"]),
            membership=data["membership"],
            attributes=data["attributes"],
            columns={int(number): (name, oid) for number, (name, oid) in data["columns"].items()},
            parts={int(oid): relfilenode for oid, relfilenode in data["parts"].items()},
            next_blocks=blocks,
            handoff=handoff,
            is_absent=data.get("absent", False),
        )

    def renewed(self, fresh: Self) -> tuple[Self, str]:
        """This bookmark with what `fresh` says of the table now, and what of it is to be copied.

        New partitions are copied: one that was attached with rows has them in no log. Changes of
        their rows come twice then, ordered so that the copy wins.
        """
        blocks, reason = self.next_blocks, "its copy was interrupted"
        if self.next_blocks is None and self.key and set(fresh.parts) - set(self.parts):
            blocks, reason = dict.fromkeys(self.parts), "it has new partitions"
        renewed = replace(
            fresh,
            version=self.version,
            next_blocks=None if blocks is None else dict(blocks),
            handoff=self.handoff,
        )
        return renewed, reason

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a STATE message."""
        snapshot: dict[str, Any] = {"done": True}
        if self.next_blocks is not None:
            snapshot = {"next_blocks": {str(oid): n for oid, n in self.next_blocks.items()}}
        if self.handoff:
            xids = self.handoff.snapshot
            running = ",".join(map(str, sorted(xids.in_progress)))
            snapshot["xids"] = f"{xids.xmin}:{xids.xmax}:{running}"
            snapshot["until"] = format_lsn(self.handoff.until)
        data: dict[str, Any] = {
            "snapshot": snapshot,
            "version": self.version,
            "table": self.table,
            "key": [*self.key],
            "membership": self.membership,
            "attributes": self.attributes,
            "columns": {str(number): [*column] for number, column in self.columns.items()},
            "parts": {str(oid): relfilenode for oid, relfilenode in self.parts.items()},
        }
        return {**data, "absent": True} if self.is_absent else data


@dataclass
class SlotState:
    """How far the log was read.

    Attributes:
        confirmed_lsn: Everything before it is in the warehouse once this state is.
    """

    name: str
    system_identifier: str
    timeline: int
    confirmed_lsn: int

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` writes.

        Raises:
            KeyError, ValueError, TypeError: It is none.
        """
        lsn = parse_lsn(data["confirmed_lsn"])
        return cls(data["name"], data["system_identifier"], data["timeline"], lsn)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a STATE message."""
        return {
            "name": self.name,
            "system_identifier": self.system_identifier,
            "timeline": self.timeline,
            "confirmed_lsn": format_lsn(self.confirmed_lsn),
        }


@dataclass
class State:
    """The whole state; a STATE message replaces the one before it, so each holds all of it."""

    slot: SlotState | None = None
    bookmarks: dict[str, Bookmark] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` writes, or an empty state.

        Raises:
            KeyError, ValueError, TypeError: It is neither.
        """
        slot = data.get("slot")
        bookmarks = data.get("bookmarks", {})
        return cls(
            SlotState.parse(slot) if slot else None,
            {stream: Bookmark.parse(bookmark) for stream, bookmark in bookmarks.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a STATE message."""
        data: dict[str, Any] = {
            "bookmarks": {name: bookmark.to_dict() for name, bookmark in self.bookmarks.items()}
        }
        return {**data, "slot": self.slot.to_dict()} if self.slot else data


def why_copy(  # noqa: PLR0911 - one for each reason
    bookmark: Bookmark | None, table: Table, columns: list[TableColumn]
) -> str | None:
    """Why a table has to be copied from its first row, or None if it need not be.

    Rows get a value without a change in the log when a column with a default is added, when a
    column takes the name of another, and when the table is rewritten with another type. And a log
    that was not read holds changes that nobody knows of.

    Args:
        bookmark: Where the table is, if it was captured before.
        table: The table as it is now.
        columns: Those of its columns that are captured.
    """
    if bookmark is None:
        return "it is new"
    if bookmark.table != table.oid:
        return "it was dropped and made again"
    if bookmark.is_absent or bookmark.membership != table.membership:
        return "it was not always in the publication or selected"
    if bookmark.key != table.key:
        return "its key changed"
    if bookmark.next_blocks is not None and not table.key:
        return "its copy was interrupted, and without a key rows would come twice"
    relfilenodes = {part.oid: part.relfilenode for part in table.parts}
    known = [oid for oid in bookmark.parts if oid in relfilenodes]
    is_rewritten = any(bookmark.parts[oid] != relfilenodes[oid] for oid in known)
    if is_rewritten and bookmark.next_blocks is not None:
        return "it was rewritten while it was being copied"
    if is_rewritten and len(table.parts) != 1:
        # A truncated partition is not in the log of its root.
        return "one of its partitions was rewritten"
    return _why_columns(bookmark, columns, is_rewritten=is_rewritten)


def _why_columns(
    bookmark: Bookmark, columns: list[TableColumn], *, is_rewritten: bool
) -> str | None:
    names = {name for name, _ in bookmark.columns.values()}
    for column in columns:
        name, type_oid = bookmark.columns.get(column.attnum, (None, None))
        if name is None:
            is_filled = column.has_default or is_rewritten or column.name in names
            if is_filled or column.attnum <= bookmark.attributes:
                return f"rows have values in column {column.name}, which was not captured before"
        elif name != column.name:
            return f"column {name} is now {column.name}"
        elif type_oid != column.type_oid and is_rewritten:
            return f"column {name} has another type"
    return None
