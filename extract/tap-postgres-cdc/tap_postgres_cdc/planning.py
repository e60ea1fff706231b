"""What a run does with each table: go on from where it is, or copy it, and why."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from tap_postgres_cdc.captured import Captured, selected_table_columns
from tap_postgres_cdc.discovery import Part, Publication
from tap_postgres_cdc.facts import TableFacts, Verdict, carried, judge
from tap_postgres_cdc.partitions import Partitions
from tap_postgres_cdc.selection import CatalogSelection
from tap_postgres_cdc.settings import Settings
from tap_postgres_cdc.snapshot import TakenSnapshot
from tap_postgres_cdc.state import Bookmark, Handoff
from tap_postgres_cdc.typecatalog import TypeCatalog


class Plan(NamedTuple):
    """The selected tables, and those of them of which something is copied, with the reason."""

    tables: list[Captured]
    to_copy: list[tuple[Captured, str]]


class Planner:
    """Decides from what was kept of the last run."""

    def __init__(
        self,
        settings: Settings,
        selection: CatalogSelection,
        bookmarks: Mapping[str, Bookmark],
        partitions: Partitions,
    ) -> None:
        """Take what decisions depend on.

        Args:
            settings: Of the source.
            selection: What the catalog says of streams.
            bookmarks: Where the last run ended; they are not changed.
            partitions: Looks into partitions.
        """
        self._settings = settings
        self._selection = selection
        self._bookmarks = bookmarks
        self._partitions = partitions

    def plan(
        self,
        publication: Publication,
        types: TypeCatalog,
        only: Collection[str] | None = None,
        taken: TakenSnapshot | None = None,
    ) -> Plan:
        """Decide for every selected table.

        Args:
            publication: Its tables, as of the snapshot if one is taken.
            types: Those of its columns.
            only: Streams of the tables to look at, None for all.
            taken: The snapshot; tables are looked into before, as the transaction may lock none.

        Raises:
            psycopg.Error: A partition that has to be looked into is locked.
        """
        plan = Plan([], [])
        for table in publication.tables:
            stream = self._selection.of(table.stream)
            if not stream.selected or (only and table.stream not in only):
                continue
            columns = selected_table_columns(table, stream)
            now = taken.time if taken else datetime.now(UTC)
            known = self._bookmarks.get(table.stream)
            version = max(round(now.timestamp() * 1000), known.version + 1 if known else 0)
            fresh = Bookmark(version, TableFacts.of(table, columns, types), {})
            if taken:
                fresh.handoff = Handoff(taken.seen, taken.until)
            captured, reason = Captured(table, stream, fresh, fresh.facts), "it is new"
            if stream.replication_method == "FULL_TABLE":
                captured.is_logged = False
                reason = "its replication method is FULL_TABLE"
            elif known:
                keeps = self._settings.dropped_partitions == "keep"
                label = known.facts.newest_label
                then = fresh.facts
                if label != then.newest_label:
                    then = TableFacts.of(table, columns, types, label)
                verdict = judge(known.facts, then, table, columns, keeps_dropped=keeps)
                if not taken:
                    attached = () if table.key else verdict.new_parts
                    self._partitions.look(verdict.emptied, attached)
                missing = known.facts.parts.keys() - fresh.facts.parts.keys() if keeps else set()
                kept = self._partitions.existing(missing)
                fresh.facts = carried(known.facts, fresh.facts, kept)
                reason = self._why_anew(captured, known, verdict) or self._go_on(
                    captured, known, verdict
                )
            plan.tables.append(captured)
            if reason:
                plan.to_copy.append((captured, reason))
        return plan

    def _why_anew(self, captured: Captured, known: Bookmark, verdict: Verdict) -> str:
        """Why a table has to be copied from its first row, empty if it need not be."""
        if verdict.reason:
            return verdict.reason
        if known.is_stale:
            return "changes are missing, as it was not captured, or was altered, for a while"
        has_key = bool(captured.table.key)
        if self._new_parts(captured, verdict) and not has_key:
            return "a partition with rows was attached, and without a key rows would come twice"
        if known.next_blocks is not None:
            if not has_key:
                return "its copy was interrupted, and without a key rows would come twice"
            now = captured.bookmark.facts.parts
            files = [(part, now[oid]) for oid, part in known.facts.parts.items() if oid in now]
            if any(before.relfilenode != after.relfilenode for before, after in files):
                return "its copy was interrupted, and its rows are in other places now"
        return ""

    def _go_on(self, captured: Captured, known: Bookmark, verdict: Verdict) -> str:
        """Take a table from where it is; gives why something of it is copied, or an empty text."""
        bookmark = captured.bookmark = replace(
            captured.bookmark,
            version=known.version,
            next_blocks=None if known.next_blocks is None else dict(known.next_blocks),
            handoff=known.handoff,
        )
        captured.version = known.version
        captured.known = known.facts
        if bookmark.facts == known.facts:
            bookmark.facts = known.facts  # once in memory
        doubtful = [part for part in verdict.emptied if not self._partitions.is_kept(part)]
        captured.unexplained = {part.changed_by for part in (*doubtful, *verdict.unlogged)}
        # Until the log explains it, and should the run end before that.
        bookmark.is_stale = bool(captured.unexplained)
        if bookmark.next_blocks is not None:
            return "its copy was interrupted"
        if self._new_parts(captured, verdict):
            # Changes of their rows since then come twice, ordered so that the copy wins.
            bookmark.next_blocks = dict.fromkeys(known.facts.parts)
            return "it has new partitions"
        return ""

    def _new_parts(self, captured: Captured, verdict: Verdict) -> list[Part]:
        """New partitions whose rows the log may not have."""
        if captured.table.key:
            return verdict.new_parts
        return [part for part in verdict.new_parts if not self._partitions.is_logged(part)]
