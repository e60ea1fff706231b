"""What the owner of a database does, and what comes of it: the table of `sandbox.events`.

Events share runs of the tap, each in a schema of its own, so that all of them take no longer than
a few would. A run that fails is done again with half of its events, until it is known whose it was.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.events import EVENTS, RUN, Event, Outcome, When
from sandbox.events.stage import Stage
from sandbox.rows import published
from tap_postgres_cdc import copying, follow, snapshot
from tap_postgres_cdc.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from conftest import NewSource, Run, Source

    from sandbox.postgres import Postgres

COPIED = re.compile(r"Table (\S+) will be copied: (.*)")
OTHER = "public-other"
IN_THE_MIDDLE = (When.COPY, When.RANGE, When.STREAM)
# Beside them no other event can be, or not in the same run.
Together = tuple[object, ...]


def together(event: Event) -> Together:
    """What events that share a run have in common."""
    if event.is_alone:
        return (event,)
    kind = event.publication.partition("TABLE")[2][:2]  # FOR TABLE, TABLES IN SCHEMA, ALL TABLES
    return event.when, kind, event.parameters, event.options


@contextlib.contextmanager
def at(when: When, act: Callable[[str], None]) -> Iterator[None]:
    """Call `act` in the middle of a run: with a stream, or with "" for all of them."""
    with pytest.MonkeyPatch.context() as patch:
        if when is When.COPY:
            _before(patch, snapshot.SnapshotCopy, "run", lambda _: act(""))
        elif when is When.RANGE:
            for name, blocks in {"FIRST_RANGE": 8, "_LEAST": 8, "_MOST": 8}.items():
                patch.setattr(snapshot, f"{name}_BLOCKS", blocks)
            ranges: Counter[str] = Counter()

            def second(arguments: Any) -> None:
                stream = arguments[1].stream
                ranges[stream] += 1
                if ranges[stream] == 2:
                    act(stream)

            _before(patch, copying.Copier, "copy", second)
        elif when is When.STREAM:
            _before(patch, follow.Follower, "run", lambda _: act(""))
        yield


def _before(patch: pytest.MonkeyPatch, owner: type, name: str, act: Callable[[Any], None]) -> None:
    original = getattr(owner, name)

    def changed(*arguments: Any, **options: Any) -> Any:
        act(arguments)
        return original(*arguments, **options)

    patch.setattr(owner, name, changed)


class Copies(logging.Handler):
    """Listens for what a run copies, and why, and for its warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: dict[str, str] = {}
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if found := COPIED.match(record.getMessage()):
            self.reasons[found[1].replace(".", "-", 1)] = found[2]
        elif record.levelno >= logging.WARNING:
            self.warnings.append(record.getMessage())


@contextlib.contextmanager
def listening() -> Iterator[Copies]:
    logger = logging.getLogger("tap-postgres-cdc")
    copies, level = Copies(), logger.level
    logger.addHandler(copies)
    logger.setLevel(logging.INFO)
    try:
        yield copies
    finally:
        logger.removeHandler(copies)
        logger.setLevel(level)


class BystanderError(Exception):
    """What is wrong with the table that no event touches."""


class Play:
    """Some events that share runs; `problems` says by event what did not come as it should."""

    def __init__(self, source: Source, events: Sequence[Event]) -> None:
        self.source = source
        self.stage = Stage(source.connect, events)
        self.problems: dict[Event, str] = {}
        self.acted: set[Event] = set()
        self.copied: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self.warnings: list[str] = []
        self.snapshot_rows: Counter[str] = Counter()
        self.happened: set[Event] = set()
        source.slot = "oso_slot"
        source.options |= {"stream_name": "schema-table", "snapshot_workers": 1}
        source.options |= dict(events[0].options)
        source.block["schemas"] = self.stage.schemas
        self.stage.make()

    def run(self) -> Run:
        with listening() as heard:
            run = self.source.run()
        rows = Counter(
            message["stream"]
            for message in run.of("RECORD")
            if message["record"]["_ab_cdc_sequence"].endswith("F" * 16)
        )
        self.snapshot_rows += rows
        self.copied.update(heard.reasons.keys() | rows.keys())
        self.reasons |= heard.reasons
        self.warnings += heard.warnings
        return run

    def happen(self) -> None:
        """Let all events happen, with the runs that they need; the tables are equal then."""
        event, *_ = self.stage.homes
        when = event.when
        if when in {When.COPY, When.RANGE}:
            with at(when, self._act):
                self.run()
            self.stage.change("after")
            self.run()
        elif when is When.STREAM:
            self.run()
            self.copied.clear()
            self.stage.change("before")
            with at(when, self._act):
                self.run()
            self.stage.change("after")
            self.run()
        else:
            self.run()
            for counted in (self.copied, self.reasons, self.snapshot_rows):
                counted.clear()
            self.warnings.clear()
            self._between_runs(paused=when is When.PAUSED)

    def _act(self, stream: str) -> None:
        """Let it happen once, also if the tables are copied again because of it."""
        for event, schema in self.stage.homes.items():
            if stream in {"", f"{schema}-t"} and event not in self.acted:
                self.acted.add(event)
                self.stage.do(event, event.statements)
                self.happened.add(event)

    def _between_runs(self, *, paused: bool) -> None:
        self.stage.change("before")
        waiting = {event: _phases(event.statements) for event in self.stage.homes}
        table = "ALTER PUBLICATION oso_publication {} TABLE t"
        while waiting:
            for event, phases in list(waiting.items()):
                around = ((table.format("DROP"),), (table.format("ADD"),)) if paused else ((), ())
                self.stage.do(event, (*around[0], *phases.pop(0), *around[1]))
                if not phases:
                    del waiting[event]
            if waiting:
                self.run()
        self.stage.change("after")
        self.run()

    def check(self) -> None:
        """Compare all tables, and what was copied with what should have been.

        Raises:
            BystanderError: The table that nobody touched is not as it should be.
        """
        wrong = self._different_tables()
        first, *_ = self.stage.homes
        copies = 1 if first.when in {When.COPY, When.RANGE} else 0
        if OTHER in wrong:
            raise BystanderError(wrong[OTHER])
        if first.spares_other and self.copied[OTHER] > copies:
            raise BystanderError(f"copied: {self.reasons.get(OTHER)}")
        for event, home in self.stage.homes.items():
            found = [f"{name}: {text}" for name, text in wrong.items() if _is_of(name, home)]
            if event.when in IN_THE_MIDDLE:
                found.append("" if event in self.happened else "it did not happen")
            else:
                found.append(self._wrong_copy(event, home))
            if any(found):
                self.problems[event] = "; ".join(filter(None, found))

    def _wrong_copy(self, event: Event, home: str) -> str:
        streams = {stream for stream in self.copied if _is_of(stream, home)}
        affected = {f"{home}-{name}" for name in event.affected}
        reasons = [f"{stream} ({self.reasons.get(stream)})" for stream in sorted(streams)]
        copied = f"copied: {', '.join(reasons) or 'none'}"
        if event.outcome is Outcome.COPIED:
            # With a run in between there may be others meanwhile, as partitions of their own.
            is_right = streams >= affected if RUN in event.statements else streams == affected
            return "" if is_right else f"{copied}, instead of {', '.join(sorted(affected))}"
        if event.outcome is Outcome.PARTITION:
            ((rows,),) = self.source.sql(f"SELECT count(*) FROM {home}.t")
            return "" if self.snapshot_rows[f"{home}-t"] <= rows / 2 else f"all of it {copied}"
        if event.outcome is Outcome.ABSENT:
            said = [text for text in self.warnings if re.search(rf"\b{home}-t\b", text)]
            return copied if streams else "" if said else "no warning"
        return copied if streams else ""

    def _different_tables(self) -> dict[str, str]:
        """Compare all published tables value by value; gives what differs by stream."""
        wrong = {}
        kept = {
            f"{home}-t": [row for (row,) in self.source.sql(f"SELECT to_jsonb(k) FROM ({sql}) k")]
            for event, home in self.stage.homes.items()
            for sql in event.kept
        }
        schemas = self.source.block["schemas"]
        with self.source.connect() as connection:
            for table in published(connection):
                stream = f"{table.schema}-{table.name}"
                if table.schema in schemas:
                    rows = table.rows + kept.get(stream, [])
                    if text := self._difference(stream, table.columns, rows):
                        wrong[stream] = text
        return wrong

    def _difference(self, stream: str, columns: Sequence[str], rows: list[Any]) -> str:
        if stream not in self.source.warehouse.tables:
            return "not in the warehouse"
        stored = [
            {name: row.get(name) for name in columns} for row in self.source.warehouse.rows(stream)
        ]
        expected, actual = (
            Counter(json.dumps(row, sort_keys=True) for row in side) for side in (rows, stored)
        )
        missing, extra = expected - actual, actual - expected
        if not missing and not extra:
            return ""
        return (
            f"{missing.total()} rows missing as {sorted(missing)[:2]},"
            f" {extra.total()} too many as {sorted(extra)[:2]}"
        )

    def go_on(self) -> None:
        """One more run with changes copies nothing.

        Raises:
            BystanderError: It is not so of the table that nobody touched.
        """
        for counted in (self.copied, self.reasons, self.snapshot_rows):
            counted.clear()
        self.stage.change("later")
        self.run()
        copied = {stream: f"copied: {self.reasons.get(stream)}" for stream in self.copied}
        for stream, text in (copied | self._different_tables()).items():
            if stream == OTHER:
                raise BystanderError(text)
            for event, home in self.stage.homes.items():
                if _is_of(stream, home):
                    self.problems.setdefault(event, f"one run later, {stream}: {text}")


def _phases(statements: Sequence[str]) -> list[list[str]]:
    phases: list[list[str]] = [[]]
    for statement in statements:
        if statement == RUN:
            phases.append([])
        else:
            phases[-1].append(statement)
    return phases


def _is_of(stream: str, home: str) -> bool:
    return stream.startswith((f"{home}-", f"{home}_away-"))


def refused(play: Play, event: Event) -> str:
    """What is wrong with a refusal, and with what leads out of it."""
    if event.when is not When.FIRST:
        play.run()
        play.stage.change("before")
    play.stage.do(event, event.statements)
    try:
        play.run()
    except CaptureError as error:
        if not re.search(event.words, str(error)):
            return f"refused with other words: {error}"
    else:
        return "not refused"
    play.stage.do(event, event.remedy)
    play.source.state = None
    play.run()
    return "; ".join(play._different_tables().values())


def outcomes(new_source: Callable[[], Source], events: Sequence[Event]) -> dict[Event, str]:
    """What did not come as it should, by event; events of which all did are not in it."""
    try:
        play = Play(new_source(), events)
        if events[0].outcome is Outcome.REFUSED:
            problem = refused(play, events[0])
            return {events[0]: problem} if problem else {}
        play.happen()
        play.check()
        play.go_on()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is due to one of the events
        problem = f"{type(error).__name__}: {error}"
        if len(events) == 1:
            return {events[0]: problem}
        half = len(events) // 2
        found = outcomes(new_source, events[:half]) | outcomes(new_source, events[half:])
        return found or dict.fromkeys(events, f"only together: {problem}")
    else:
        return play.problems


_found: dict[tuple[str, Together], dict[Event, str]] = {}


@pytest.mark.parametrize(
    ("version", "event"),
    [
        pytest.param(str(version), event, id=f"{version}, {event.when}: {event.name}")
        for version in (18, 15)
        for event in EVENTS
        if version in event.versions
    ],
)
def test_event_ends_as_the_page_says(
    version: str,
    event: Event,
    servers: dict[str, Postgres],
    request: pytest.FixtureRequest,
    source_on: Callable[[Postgres], Source],
) -> None:
    if version not in servers:
        pytest.skip(f"PostgreSQL {version} is not installed")
    batch = version, together(event)
    if batch not in _found:
        wanted = [getattr(item, "callspec", None) for item in request.session.items]
        events = [
            spec.params["event"]
            for spec in wanted
            if spec and "event" in spec.params and spec.params["version"] == version
        ]
        shared = [other for other in events if together(other) == batch[1]]

        def new_source() -> Source:
            source = source_on(servers[version])
            drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            # That of a run that failed is in use until the server notices.
            while source.sql(
                f"{drop} WHERE active_pid IS NULL", "SELECT FROM pg_replication_slots"
            ):
                time.sleep(0.02)
            return source

        _found[batch] = outcomes(new_source, shared)
    problem = _found[batch].get(event)
    assert not problem, problem


def refusal(source: Source) -> str:
    with pytest.raises(CaptureError) as refused:
        source.run()
    return str(refused.value)


def test_state_is_refused_with_a_clone_of_its_database(source: Source) -> None:
    """Everything but the database's oid is the same: server, tables, log."""
    source.sql("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    source.publish()
    source.run()
    with source.server.connect() as server:
        server.execute("DROP DATABASE IF EXISTS clone")
        server.execute(f"CREATE DATABASE clone TEMPLATE {source.database}")
    with source.server.connect("clone") as clone:
        clone.execute("SELECT pg_create_logical_replication_slot('clone_slot', 'pgoutput')")
    source.sql("INSERT INTO t VALUES (2)")
    source.run()
    source.database, source.slot = "clone", "clone_slot"
    assert "another database" in refusal(source)
    source.state = None
    source.run()
    assert [row["id"] for row in source.warehouse.rows("t")] == [1]
    with source.server.connect("clone") as clone:
        clone.execute("SELECT pg_drop_replication_slot('clone_slot')")


@pytest.mark.parametrize("version", ["18", "15"])
def test_state_is_refused_where_the_timeline_forked_before_it(
    version: str, own_source: NewSource, caplog: pytest.LogCaptureFixture
) -> None:
    """A backup became the server, as a restore makes it; the log that the state is of is lost."""
    source = own_source(version)
    source.sql("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    source.publish()
    source.run()
    server = source.server
    server.stop()
    backup = server.folder / "backup"
    shutil.copytree(server.data, backup)
    server.start()
    source.sql("INSERT INTO t VALUES (2)")
    source.run()
    server.stop()
    shutil.rmtree(server.data)
    backup.rename(server.data)
    (server.data / "recovery.signal").touch()
    for path in (server.data, *server.data.rglob("*")):
        shutil.chown(path, server.folder.owner())
    server.settings = {"restore_command": "false"}
    server.start()
    while source.sql("SELECT pg_is_in_recovery()") != [(False,)]:
        time.sleep(0.05)
    # The log of the new timeline goes past where the state is.
    for i in range(10, 200):
        source.sql(f"INSERT INTO t VALUES ({i})")
    assert "timeline" in refusal(source)
    source.state = None
    source.run()
    assert {row["id"] for row in source.warehouse.rows("t")} == {1, *range(10, 200)}
    # A standby that has everything becomes the server: the run goes on.
    server.stop()
    (server.data / "standby.signal").touch()
    shutil.chown(server.data / "standby.signal", server.folder.owner())
    server.start()
    source.sql("SELECT pg_promote()")
    source.sql("INSERT INTO t VALUES (200)", "DELETE FROM t WHERE id = 1")
    with caplog.at_level(logging.INFO):
        assert len(source.run().of("RECORD")) == 2
    (said,) = [line for line in caplog.messages if "timeline" in line]
    assert said.startswith("The server is on timeline 3, the state on 2, which it left after all ")
    assert {row["id"] for row in source.warehouse.rows("t")} == {*range(10, 201)}
