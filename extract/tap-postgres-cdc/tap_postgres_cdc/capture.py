"""One run: check, copy what is not copied yet, then stream to where the log ended at the start."""

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol, cast

import psycopg

from tap_postgres_cdc import prerequisites
from tap_postgres_cdc.captured import Captured, Selection, selected_table_columns
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.discovery import Publication, Table, discover
from tap_postgres_cdc.errors import Interrupted
from tap_postgres_cdc.follow import Follower
from tap_postgres_cdc.output import Output
from tap_postgres_cdc.progress import StreamProgress
from tap_postgres_cdc.records import record_schema
from tap_postgres_cdc.replication import ReplicationStream, identify_system
from tap_postgres_cdc.rereading import Rereader
from tap_postgres_cdc.rows import Losses
from tap_postgres_cdc.settings import Settings
from tap_postgres_cdc.snapshot import SnapshotCopy, TakenSnapshot
from tap_postgres_cdc.state import Bookmark, Handoff, SlotState, State, why_copy
from tap_postgres_cdc.typecatalog import TypeCatalog
from tap_postgres_cdc.visibility import Patience, end_of_log, wait_until_durable

logger = logging.getLogger("tap-postgres-cdc")

# A STATE goes out at least this often while there is something new to say.
STATE_SECONDS: Final = 5.0
STATE_CHANGES: Final = 50_000


class CatalogStream(Selection, Protocol):
    """What the catalog says of a stream."""

    @property
    def selected(self) -> bool:
        """Whether it goes out at all."""

    @property
    def replication_method(self) -> str:
        """LOG_BASED, or FULL_TABLE to copy the table each run."""


class _Plan(NamedTuple):
    """The selected tables, and those of them that need copying with the reason."""

    tables: list[Captured]
    to_copy: list[Captured]


class Capture:
    """A run with given settings, catalog and state."""

    def __init__(
        self,
        settings: Settings,
        streams: Mapping[str, CatalogStream],
        state: State,
        output: Output,
        stop: threading.Event,
    ) -> None:
        """Prepare to run.

        Args:
            settings: Of the source.
            streams: What the catalog says, by stream.
            state: Where the last run ended; it is moved on.
            output: Takes the messages.
            stop: Set to end early, with the state of what is written.
        """
        self._settings = settings
        self._streams = streams
        self._state = state
        self._output = output
        self._stop = stop
        self._patience = Patience(stop, settings.wait_minutes)
        self._connector = Connector(settings, stop)
        self._losses = Losses()
        self._losses.fail = settings.on_bad_value == "fail"
        self._state_at = time.monotonic()
        self._changes = 0

    def check(self) -> None:
        """Check everything that a run needs, without writing anything.

        Raises:
            CaptureError: Something is missing.
        """
        with self._connector.session() as connection:
            self._check(connection)
            publication = self._discover(connection, TypeCatalog(connection))
            tables = self._plan(publication, None).tables
            prerequisites.check_readable(tables, self._settings.username)

    def run(self) -> None:
        """Write everything that is new, and the state.

        Raises:
            Interrupted: `stop` was set; the state is written.
            CaptureError: Something went wrong; what was written before the last STATE is good.
        """
        with self._connector.session() as connection:
            end_lsn = self._check(connection)
            types = TypeCatalog(connection)
            try:
                tables = self._copy(connection, types, end_lsn)
                self._follow(connection, types, tables, end_lsn)
            finally:
                self._log_losses()

    def _check(self, connection: psycopg.Connection) -> int:
        """Check server, slot and state; gives the end of the log."""
        prerequisites.check_server(connection)
        slot = prerequisites.find_slot(
            connection, self._settings.slot, self._stop, is_first_run=self._state.slot is None
        )
        with closing(self._connector.connect_to_replicate()) as replication:
            system = identify_system(replication)
        end_lsn = end_of_log(connection)
        now = SlotState(slot.name, system["systemid"], int(system["timeline"]), slot.confirmed_lsn)
        if self._state.slot:
            prerequisites.check_state(self._state.slot, slot, now, end_lsn)
            now.confirmed_lsn = self._state.slot.confirmed_lsn
        else:
            # Without a place in the log, what was copied is of no use.
            self._state.bookmarks.clear()
        self._state.slot = now
        return end_lsn

    def _discover(self, connection: psycopg.Connection, types: TypeCatalog) -> Publication:
        settings = self._settings
        return discover(
            connection, types, settings.publication, settings.schemas, settings.stream_name
        )

    def _copy(
        self, connection: psycopg.Connection, types: TypeCatalog, end_lsn: int
    ) -> list[Captured]:
        """Copy the tables that need it; gives all that are captured."""
        publication = self._discover(connection, types)
        taken = None
        if self._plan(publication, None).to_copy:
            taken = TakenSnapshot.take(connection, self._patience)
            # The columns have to be those the snapshot sees.
            publication = self._discover(connection, types)
        else:
            # Nor may the state know of a table what a crash of the server could undo.
            wait_until_durable(connection)
        plan = self._plan(publication, taken)
        prerequisites.check_readable(plan.to_copy, self._settings.username)
        prerequisites.warn_of_tables([captured.table for captured in plan.tables], publication)
        self._adopt(plan)
        for captured in plan.tables:
            captured.schema = record_schema(captured.columns)
            self._output.schema(captured.stream, captured.schema)
        self._write_state()
        if taken:
            copy = SnapshotCopy(
                plan.to_copy,
                taken,
                end_lsn,
                self._output,
                write_state=self._write_state_if_due,
                losses=self._losses,
                stop=self._stop,
            )
            try:
                copy.run(connection, self._connector, self._settings.snapshot_workers)
            except Interrupted:
                self._write_state()
                raise
            connection.execute("COMMIT")
        return plan.tables

    def _plan(self, publication: Publication, taken: TakenSnapshot | None) -> _Plan:
        """Decide for every selected table whether it needs copying; the state is not touched."""
        plan = _Plan([], [])
        for table in publication.tables:
            stream = self._streams.get(table.stream)
            if stream is None or not stream.selected:
                continue
            known = self._state.bookmarks.get(table.stream)
            captured, reason = _captured(table, stream, known, taken)
            plan.tables.append(captured)
            if captured.bookmark.next_blocks is not None:
                plan.to_copy.append(captured)
                if taken:
                    logger.info("Table %s will be copied: %s", table.full_name, reason)
        return plan

    def _adopt(self, plan: _Plan) -> None:
        """Make the plan's bookmarks the state's, and mark those of tables that are left out."""
        logged = {captured.stream: captured for captured in plan.tables if captured.is_logged}
        for stream, bookmark in self._state.bookmarks.items():
            if stream not in logged and not bookmark.is_absent:
                logger.warning(
                    "Stream %s is not in the publication or not selected any more: it is left as "
                    "it is, and copied anew should it come back",
                    stream,
                )
                bookmark.is_absent = True
        self._state.bookmarks |= {stream: table.bookmark for stream, table in logged.items()}

    def _follow(
        self,
        connection: psycopg.Connection,
        types: TypeCatalog,
        tables: list[Captured],
        end_lsn: int,
    ) -> None:
        """Stream the changes of captured tables."""
        settings, slot = self._settings, cast(SlotState, self._state.slot)
        progress = StreamProgress(end_lsn)

        def advance(lsn: int, changes: int) -> None:
            slot.confirmed_lsn = max(slot.confirmed_lsn, lsn)
            self._changes += changes
            progress.read(changes, lsn)
            if self._is_state_due():
                follower.flush()
                rereader.settle()
                self._write_state()

        rereader = Rereader(connection, self._patience)
        log = ReplicationStream(
            self._connector, settings.slot, settings.publication, slot.confirmed_lsn
        )
        with closing(log):
            follower = Follower(
                log,
                [captured for captured in tables if captured.is_logged],
                end_lsn,
                output=self._output,
                types=types,
                rereader=rereader,
                losses=self._losses,
                advance=advance,
                stop=self._stop,
            )
            try:
                follower.run()
            except Interrupted:
                # Values that can't be read yet hold their lines back, and so the state.
                with suppress(Interrupted):
                    follower.flush()
                    rereader.settle()
                    self._write_state()
                raise
            follower.flush()
        rereader.settle()
        progress.finished()
        self._write_state()

    def _is_state_due(self) -> bool:
        is_late = time.monotonic() - self._state_at >= STATE_SECONDS
        return is_late or self._changes >= STATE_CHANGES

    def _write_state_if_due(self) -> None:
        if self._is_state_due():
            self._write_state()

    def _write_state(self) -> None:
        self._output.state(self._state.to_dict())
        self._state_at = time.monotonic()
        self._changes = 0

    def _log_losses(self) -> None:
        for line in self._losses.lines():
            logger.warning("%s", line)


def _captured(
    table: Table, stream: CatalogStream, known: Bookmark | None, taken: TakenSnapshot | None
) -> tuple[Captured, str]:
    """A table with a bookmark for this run, and why it is copied if it is."""
    columns = selected_table_columns(table, stream)
    now = taken.time if taken else datetime.now(UTC)
    version = max(round(now.timestamp() * 1000), known.version + 1 if known else 0)
    fresh = Bookmark.of(table, columns, version)
    if stream.replication_method == "FULL_TABLE":
        return Captured(
            table, stream, fresh, is_logged=False
        ), "its replication method is FULL_TABLE"
    reason = why_copy(known, table, columns)
    if known is None or reason:
        if taken:
            fresh.handoff = Handoff(taken.seen, taken.until)
        return Captured(table, stream, fresh), reason or ""
    bookmark, reason = known.renewed(fresh)
    return Captured(table, stream, bookmark), reason
