"""What Singer messages make of a warehouse: a model in memory, for comparing it with the source."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# Names of the key's columns, and their values as JSON.
Key = tuple[tuple[str, ...], tuple[str, ...]]
Mode = Literal["soft", "hard", "arrival"]

DELETED = ("_ab_cdc_deleted_at", "_sdc_deleted_at")
METADATA = "_ab_cdc_"


@dataclass
class StoredRow:
    """A row: its last record, the order it came with, and whether it is there."""

    record: dict[str, Any]
    order: str
    version: int
    is_alive: bool = True


@dataclass
class WarehouseTable:
    """Rows by key; a stream without a key has each record as a row of its own."""

    key: tuple[str, ...] = ()
    order: str | None = None
    properties: set[str] = field(default_factory=set)
    rows: dict[Key, StoredRow] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)


class Warehouse:
    """Tables as a loader would keep them.

    Modes: `soft` keeps deleted rows with the order of their delete, `hard` forgets them, and
    `arrival` also forgets the order, so that the last record wins. Rows of a key that is no more
    the stream's go in any mode when a later version is activated: nothing could delete them.
    """

    def __init__(self, mode: Mode = "soft") -> None:
        self.mode = mode
        self.tables: dict[str, WarehouseTable] = {}
        self.state: dict[str, Any] | None = None

    def apply(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Take messages in their order.

        Raises:
            KeyError: A record came before its schema, or lacks its key.
        """
        for message in messages:
            kind = message["type"]
            if kind == "SCHEMA":
                self._schema(message)
            elif kind == "RECORD":
                self._record(message)
            elif kind == "ACTIVATE_VERSION":
                self._activate(self.tables[message["stream"]], message["version"])
            elif kind == "STATE":
                self.state = message["value"]

    def rows(self, stream: str) -> list[dict[str, Any]]:
        """Rows that are there, by key, without the columns of change data capture."""
        table = self.tables[stream]
        return [
            {
                name: row.record.get(name)
                for name in sorted(table.properties)
                if not name.startswith(METADATA)
            }
            for _, row in sorted(table.rows.items())
            if row.is_alive
        ]

    def _schema(self, message: Mapping[str, Any]) -> None:
        table = self.tables.setdefault(message["stream"], WarehouseTable())
        table.key = tuple(message["key_properties"])
        table.order = next(iter(message.get("bookmark_properties") or ()), None)
        table.properties |= set(message["schema"]["properties"])

    def _record(self, message: Mapping[str, Any]) -> None:
        table, record = self.tables[message["stream"]], message["record"]
        unknown = set(record) - table.properties
        if unknown:
            raise KeyError(f"{message['stream']}: {unknown} is not in the schema")
        values = tuple(json.dumps(record[name]) for name in table.key)
        key = (table.key, values or (f"{next(table.numbers):09}",))
        order = record[table.order] if table.order and self.mode != "arrival" else ""
        known = table.rows.get(key)
        if known and known.order > order:
            return
        if any(record.get(name) for name in DELETED):
            if self.mode == "soft":
                kept = known.record if known else record
                table.rows[key] = StoredRow(kept, order, message.get("version", 0), is_alive=False)
            else:
                table.rows.pop(key, None)
            return
        table.rows[key] = StoredRow(record, order, message.get("version", 0))

    def _activate(self, table: WarehouseTable, version: int) -> None:
        older = [key for key, row in table.rows.items() if row.version < version]
        for key in older:
            if self.mode == "soft" and key[0] == table.key:
                table.rows[key].is_alive = False
            else:
                del table.rows[key]
