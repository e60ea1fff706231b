"""One run: check, copy what is not copied yet, then stream to where the log ended at the start."""

import logging
import threading
import time
from collections.abc import Collection
from contextlib import closing, suppress
from dataclasses import replace
from typing import Final, cast

import psycopg

from tap_postgres_cdc import prerequisites, visibility
from tap_postgres_cdc.captured import Captured
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.discovery import Publication, discover, read_blocks
from tap_postgres_cdc.errors import CaptureError, Interrupted
from tap_postgres_cdc.follow import Follower
from tap_postgres_cdc.output import Output
from tap_postgres_cdc.partitions import Partitions
from tap_postgres_cdc.planning import Plan, Planner
from tap_postgres_cdc.progress import StreamProgress
from tap_postgres_cdc.records import record_schema
from tap_postgres_cdc.replication import ReplicationStream
from tap_postgres_cdc.rereading import Rereader
from tap_postgres_cdc.rows import Losses
from tap_postgres_cdc.selection import CatalogSelection
from tap_postgres_cdc.settings import Settings
from tap_postgres_cdc.snapshot import SnapshotCopy, TakenSnapshot
from tap_postgres_cdc.state import SlotState, State
from tap_postgres_cdc.typecatalog import TypeCatalog
from tap_postgres_cdc.visibility import Patience

logger = logging.getLogger("tap-postgres-cdc")

# A STATE goes out at least this often while there is something new to say; a larger one, which has
# hundreds of tables, goes out less often in proportion.
STATE_SECONDS: Final = 5.0
STATE_CHANGES: Final = 50_000
_STATE_BYTES: Final = 100_000
# A table that is altered while it is copied is copied again, so often in one run.
_ATTEMPTS: Final = 3


class Capture:
    """A run with given settings, catalog and state."""

    def __init__(
        self,
        settings: Settings,
        selection: CatalogSelection,
        state: State,
        output: Output,
        stop: threading.Event,
    ) -> None:
        """Prepare to run.

        Args:
            settings: Of the source.
            selection: What the catalog says of streams.
            state: Where the last run ended; it is moved on.
            output: Takes the messages.
            stop: Set to end early, with the state of what is written.
        """
        self._settings = settings
        self._selection = selection
        self._state = state
        self._output = output
        self._stop = stop
        self._patience = Patience(stop, settings.wait_minutes)
        self._connector = Connector(settings, stop)
        self._losses = Losses()
        self._losses.fail = settings.on_bad_value == "fail"
        self._losses.show = settings.show_values
        self._state_at = time.monotonic()
        self._state_bytes = 0
        self._changes = 0

    def check(self) -> None:
        """Check everything that a run needs, without writing anything.

        Raises:
            CaptureError: Something is missing.
        """
        with self._connector.session() as connection:
            self._check(connection)
            types = TypeCatalog(connection)
            plan = self._planner(connection).plan(self._discover(connection, types), types)
            prerequisites.check_readable(plan.tables, self._settings.username)

    def run(self) -> None:
        """Write everything that is new, and the state.

        Raises:
            Interrupted: `stop` was set; the state is written.
            CaptureError: Something went wrong; what was written before the last STATE is good.
        """
        with self._connector.session() as connection:
            end_lsn = self._check(connection)
            try:
                tables = self._copy(connection, end_lsn)
                self._follow(connection, tables, end_lsn)
                problems = _problems(tables)
                for _ in range(_ATTEMPTS - 1):
                    if streams := {
                        table.stream for table in tables if table.has_to_be_copied_again
                    }:
                        tables = self._copy(connection, end_lsn, streams)
                        problems += _problems(tables)
            finally:
                self._log_losses()
        if problems:
            raise CaptureError(
                f"{'; '.join(problems)}; everything else is loaded, and these tables are copied "
                "anew once that is mended"
            )

    def _check(self, connection: psycopg.Connection) -> int:
        """Check server, slot and state; gives the end of the log."""
        prerequisites.check_server(connection)
        found = prerequisites.find_slot(
            connection, self._settings.slot, self._stop, is_first_run=self._state.slot is None
        )
        known = self._state.slot
        with closing(self._connector.connect_to_replicate()) as replication:
            slot = prerequisites.current_slot(connection, replication, found)
            end_lsn = visibility.end_of_log(connection)
            if known:
                prerequisites.check_state(known, slot, end_lsn, replication)
        # What the slot is called and the timeline may have changed since.
        self._state.slot = replace(known, name=slot.name, timeline=slot.timeline) if known else slot
        return end_lsn

    def _discover(self, connection: psycopg.Connection, types: TypeCatalog) -> Publication:
        settings = self._settings
        return discover(
            connection, types, settings.publication, settings.schemas, settings.stream_name
        )

    def _planner(self, connection: psycopg.Connection) -> Planner:
        partitions = Partitions(connection, self._slot.oldest_xid)
        return Planner(self._settings, self._selection, self._state.bookmarks, partitions)

    @property
    def _slot(self) -> SlotState:
        return cast("SlotState", self._state.slot)

    def _copy(
        self, connection: psycopg.Connection, end_lsn: int, only: Collection[str] | None = None
    ) -> list[Captured]:
        """Copy the tables that need it; gives all that are captured.

        Args:
            connection: In no transaction.
            end_lsn: End of the log when the run began.
            only: Streams of the tables to look at, None for all.
        """
        plan, taken = self._patience.unlocked(
            connection, lambda: self._plan_copy(connection, only), "a table of the publication"
        )
        to_copy = [captured for captured, _ in plan.to_copy]
        prerequisites.check_readable(to_copy, self._settings.username)
        for captured, reason in plan.to_copy:
            logger.info("Table %s will be copied: %s", captured.table.full_name, reason)
        if only is None:
            self._mark_absent(plan)
        self._adopt(plan)
        if taken is None:
            return plan.tables
        self._slot.see(taken.until)
        self._write_state()
        copy = SnapshotCopy(
            to_copy,
            taken,
            end_lsn,
            self._output,
            settings=self._settings,
            write_state=self._write_state_if_due,
            seen=self._slot.see,
            losses=self._losses,
            patience=self._patience,
        )
        try:
            copy.run(connection, self._connector)
        finally:
            # Also when the run is to end: ranges that are finished need not be copied again.
            self._write_state()
        return plan.tables

    def _plan_copy(
        self, connection: psycopg.Connection, only: Collection[str] | None
    ) -> tuple[Plan, TakenSnapshot | None]:
        """Decide what to copy, and take the snapshot to copy it in, if there is anything."""
        planner = self._planner(connection)
        oldest_xid = visibility.current_snapshot(connection).xmin
        types = TypeCatalog(connection)
        publication = self._discover(connection, types)
        plan = planner.plan(publication, types, only)
        taken = None
        if plan.to_copy:
            visibility.wait_for_running_transactions(connection, self._patience)
            blocks = read_blocks(connection, (captured.table for captured, _ in plan.to_copy))
            taken = TakenSnapshot.take(connection)
            # The columns have to be those the snapshot sees.
            types = TypeCatalog(connection)
            publication = self._discover(connection, types)
            plan = planner.plan(publication, types, only, taken)
            for captured, _ in plan.to_copy:
                captured.table = captured.table.sized(blocks)
        else:
            # Nor may the state know of a table what a crash of the server could undo.
            visibility.wait_until_durable(connection)
        if only is None:
            self._slot.oldest_xid = oldest_xid
            prerequisites.warn_of_tables([captured.table for captured in plan.tables], publication)
        return plan, taken

    def _mark_absent(self, plan: Plan) -> None:
        """Mark the bookmarks of tables that are left out: changes of them will be missing."""
        logged = {captured.stream for captured in plan.tables if captured.is_logged}
        for stream, bookmark in self._state.bookmarks.items():
            if stream not in logged and not bookmark.is_stale:
                logger.warning(
                    "Stream %s is not in the publication or not selected any more: it is left as "
                    "it is, and copied anew should it come back",
                    stream,
                )
                bookmark.is_stale = True

    def _adopt(self, plan: Plan) -> None:
        """Make the plan's bookmarks the state's, and announce streams that are not as they were."""
        to_copy = {captured.stream for captured, _ in plan.to_copy}
        for captured in plan.tables:
            known = self._state.bookmarks.get(captured.stream)
            if (
                captured.stream in to_copy
                or known is None
                or known.facts != captured.bookmark.facts
            ):
                captured.schema = record_schema(captured.columns)
                self._output.schema(captured.stream, captured.schema, captured.table.key)
            if captured.is_logged:
                self._state.bookmarks[captured.stream] = captured.bookmark

    def _follow(self, connection: psycopg.Connection, tables: list[Captured], end_lsn: int) -> None:
        """Stream the changes of captured tables."""
        settings, slot = self._settings, self._slot
        progress = StreamProgress(end_lsn)

        def advance(lsn: int, changes: int) -> None:
            slot.confirmed_lsn = max(slot.confirmed_lsn, lsn)
            self._changes += changes
            progress.read(changes, lsn)
            if self._is_state_due():
                follower.flush()
                slot.see(rereader.settle())
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
                types=TypeCatalog(connection),
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
                    slot.see(rereader.settle())
                    self._write_state()
                raise
            follower.flush()
        slot.see(rereader.settle())
        for captured in tables:
            captured.settle()
        progress.finished()
        self._write_state()

    def _is_state_due(self) -> bool:
        factor = max(1.0, self._state_bytes / _STATE_BYTES)
        is_late = time.monotonic() - self._state_at >= STATE_SECONDS * factor
        return is_late or self._changes >= STATE_CHANGES * factor

    def _write_state_if_due(self) -> None:
        if self._is_state_due():
            self._write_state()

    def _write_state(self) -> None:
        self._state_bytes = self._output.state(self._state.to_dict())
        self._state_at = time.monotonic()
        self._changes = 0

    def _log_losses(self) -> None:
        for line in self._losses.lines():
            logger.warning("%s", line)


def _problems(tables: list[Captured]) -> list[str]:
    return [table.problem for table in tables if table.problem]
