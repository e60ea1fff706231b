"""A first copy and its source: what it holds, for how long, and how fast it goes."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.rows import published
from sandbox.warehouse import Warehouse
from sandbox.writers import TABLES, Writer
from tap_postgres_cdc import capture, copying, copystream, sessions, snapshot, visibility

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Source

BLOCKS = {"FIRST_RANGE_BLOCKS": 8, "_LEAST_BLOCKS": 8, "_MOST_BLOCKS": 8, "_FEW_BLOCKS": 8}
# The same in a process and those that it starts, with a loader that may keep them waiting for half
# a second.
SLOW_WORKER = """
from tap_postgres_cdc import copy_worker, copying
copying._LOCKED_SECONDS = 0.5
copy_worker.main()
"""
SLOW_TAP = (
    sys.executable,
    "-c",
    f"""
import subprocess, sys
from tap_postgres_cdc import copying, snapshot, tap
start = subprocess.Popen
subprocess.Popen = lambda _, **options: start([sys.executable, "-c", {SLOW_WORKER!r}], **options)
copying._LOCKED_SECONDS = 0.5
snapshot.FIRST_RANGE_BLOCKS = snapshot._LEAST_BLOCKS = snapshot._MOST_BLOCKS = 512
tap.TapPostgresCDC.cli()
""",
)
LOCKS = """
SELECT DISTINCT a.pid, l.relation::regclass::text FROM pg_stat_activity a
JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'relation' AND l.relation >= 16384
WHERE application_name = 'tap-postgres-cdc'
"""
BACKENDS = """
SELECT pid, age(backend_xmin), xact_start FROM pg_stat_activity
WHERE application_name = 'tap-postgres-cdc' AND backend_type = 'client backend'
"""


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, blocks in BLOCKS.items():
        monkeypatch.setattr(snapshot, name, blocks)


def make_table(source: Source, rows: int, name: str = "t") -> None:
    """About 7 rows a block."""
    source.sql(
        f"CREATE TABLE {name} (id int PRIMARY KEY, padding text)",
        f"INSERT INTO {name} SELECT i, repeat('x', 1000) FROM generate_series(1, {rows}) i",
    )


@contextlib.contextmanager
def meanwhile(look: Callable[[], object]) -> Iterator[list[Any]]:
    """Look at something again and again while a run goes on; gives what was found each time."""
    found: list[Any] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.005):
            found.append(look())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()


def before(patch: pytest.MonkeyPatch, owner: object, name: str, act: Callable[[], None]) -> None:
    """Do something each time before a method is called."""
    original = getattr(owner, name)

    def changed(*arguments: Any) -> Any:
        act()
        return original(*arguments)

    patch.setattr(owner, name, changed)


@pytest.mark.usefixtures("small_ranges")
def test_snapshot_holds_no_lock_and_each_range_is_a_transaction(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_table(source, 1000)
    source.sql(
        "CREATE TABLE f (id int PRIMARY KEY)",
        "INSERT INTO f VALUES (1), (2)",
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p_1 PARTITION OF p DEFAULT",
        "INSERT INTO p VALUES (1)",
    )
    source.publish("FOR TABLE t, f WHERE (id > 1), p WITH (publish_via_partition_root = true)")
    source.options["snapshot_workers"] = 1
    with source.connect() as watcher:
        found: list[tuple[Any, Any]] = []

        def look() -> None:
            locks, backends = (watcher.execute(query).fetchall() for query in (LOCKS, BACKENDS))
            found.append((locks, {pid: start for pid, _, start in backends if start}))

        before(monkeypatch, copystream, "start", look)
        source.run()
    found = [(locks, starts) for locks, starts in found if locks]
    # The transaction that exports the snapshot is there from the first range to the last.
    (exports,) = set.intersection(*(set(starts.items()) for _, starts in found))
    tables, ranges = set(), set()
    for locks, starts in found:
        (held,) = {(pid, starts[pid]) for pid, _ in locks}
        assert held != exports
        ranges.add(held)
        tables |= {name for _, name in locks if "pkey" not in name}
    assert len(ranges) == len(found) > 5
    assert tables == {"t", "f", "p_1"}


@pytest.mark.parametrize("workers", [1, 2])
def test_owner_waits_no_longer_than_a_range_whatever_the_loader_does(
    embedded: Source, workers: int
) -> None:
    """While it takes nothing, each range is in memory instead of being waited for under a lock."""
    make_table(embedded, 20000)
    embedded.publish()
    embedded.options["snapshot_workers"] = workers
    process = embedded.start(command=SLOW_TAP)
    with process, embedded.connect() as owner:
        assert process.stdout
        head = [process.stdout.readline() for _ in range(10)]
        time.sleep(0.2)
        assert embedded.sql(LOCKS)
        since = time.monotonic()
        owner.execute("SET lock_timeout = '10s'")
        owner.execute("ALTER TABLE t ADD COLUMN n int")
        waited = time.monotonic() - since
        rest = process.stdout.readlines()
        assert process.wait(30) == 0, process.stderr and process.stderr.read()
    messages = [json.loads(line) for line in (*head, *rest)]
    embedded.warehouse.apply(messages)
    assert waited < 2
    assert len(embedded.warehouse.rows("t")) == 20000


def test_nobody_queues_behind_a_run_that_waits_for_a_lock(
    embedded: Source, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It asks again and again instead, for a moment each time, before the copy and in it."""
    monkeypatch.setitem(sessions._SETTINGS, "lock_timeout", "150ms")
    monkeypatch.setattr(visibility, "_REPORT_SECONDS", 0.1)
    make_table(embedded, 100)
    embedded.publish()
    waits = (
        "SELECT l.pid, now() - waitstart FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
        " WHERE NOT granted AND application_name = 'tap-postgres-cdc'"
    )
    with embedded.connect() as watcher, embedded.connect() as owner:

        def lock() -> None:
            owner.execute("BEGIN; LOCK TABLE t")
            threading.Timer(0.5, lambda: owner.execute("COMMIT")).start()

        before(monkeypatch, capture.Capture, "run", lock)
        before(monkeypatch, snapshot.SnapshotCopy, "run", lock)
        with (
            caplog.at_level(logging.INFO),
            meanwhile(lambda: watcher.execute(waits).fetchall()) as found,
        ):
            run = embedded.run()
    assert len(run.records("t")) == 100
    seconds = [since.total_seconds() for waiting in found for _, since in waiting if since]
    assert 0 < max(seconds) < 0.3
    assert "Waiting for a lock on a table of the publication" in caplog.text
    assert "Waiting for a lock on table public.t" in caplog.text


def test_run_gives_up_waiting_for_a_lock(embedded: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sessions._SETTINGS, "lock_timeout", "100ms")
    embedded.options["wait_minutes"] = 0.005
    make_table(embedded, 100)
    embedded.publish()
    gave_up = r"gave up after 0.005 minutes \(setting wait_minutes\) of waiting for a lock on"
    with embedded.connect() as owner:

        def lock() -> None:
            owner.execute("BEGIN; LOCK TABLE t")

        with monkeypatch.context() as patch:
            before(patch, capture.Capture, "run", lock)
            embedded.run_to_failure(f"{gave_up} a table of the publication")
        owner.execute("COMMIT")
        with monkeypatch.context() as patch:
            before(patch, snapshot.SnapshotCopy, "run", lock)
            embedded.run_to_failure(rf"{gave_up} table public\.t")
        owner.execute("COMMIT")
    assert len(embedded.run().records("t")) == 100


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("minutes", [0.005, 30])
def test_dead_rows_become_removable_while_a_copy_goes_on(
    embedded: Source, minutes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as it is in a new snapshot; with only one they stay until it ends."""
    make_table(embedded, 1500)
    embedded.sql(
        "CREATE TABLE busy (n int) WITH (autovacuum_enabled = off)",
        "INSERT INTO busy SELECT generate_series(1, 100)",
    )
    embedded.publish("FOR TABLE t")
    embedded.options |= {
        "snapshot_workers": 1,
        "snapshot_minutes": minutes,
        "max_rows_per_second": 1000,
    }
    said: list[str] = []
    with embedded.connect() as owner:
        owner.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        is_copying = threading.Event()
        before(monkeypatch, snapshot.SnapshotCopy, "run", is_copying.set)

        def dead() -> int:
            """Rows that died after the snapshot was taken, and can't be removed."""
            is_copying.wait(10)
            if not said:
                owner.execute("UPDATE busy SET n = n + 1")
            said.clear()
            owner.execute("VACUUM (VERBOSE) busy")
            return sum(map(int, re.findall(r"(\d+) are dead but not yet removable", str(said))))

        with meanwhile(dead) as found:
            embedded.run()
    assert found[0] == 100, "the copy held nothing"
    is_removed_early = found.count(0) > found.count(100)
    assert is_removed_early == (minutes < 1)


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("workers", [1, 2])
def test_copy_is_as_slow_as_it_is_told(
    embedded: Source, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_table(embedded, 3000)
    embedded.publish()
    embedded.options |= {"snapshot_workers": workers, "max_rows_per_second": 3000}
    original = snapshot.SnapshotCopy.run
    seconds: list[float] = []

    def measure(*arguments: Any) -> None:
        since = time.monotonic()
        original(*arguments)
        seconds.append(time.monotonic() - since)

    monkeypatch.setattr(snapshot.SnapshotCopy, "run", measure)
    assert len(embedded.run().records("t")) == 3000
    assert 0.8 < seconds[0] < 1.2


def test_timeouts_of_the_role_do_not_end_a_copy(
    embedded: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a range that the server can't send at once, and of pauses between ranges."""
    make_table(embedded, 16000)
    embedded.publish()
    timeouts = ["statement_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout"]
    embedded.sql(
        "CREATE ROLE hasty SUPERUSER LOGIN PASSWORD 'x'",
        *(f"ALTER ROLE hasty SET {name} = '200ms'" for name in timeouts),
    )
    monkeypatch.setattr(snapshot, "FIRST_RANGE_BLOCKS", 1 << 14)
    before(monkeypatch, copying._Rows, "batches", lambda: time.sleep(0.3))
    embedded.block |= {"username": "hasty", "password": "x"}
    embedded.options |= {"snapshot_workers": 1, "max_rows_per_second": 40000}
    try:
        assert len(embedded.run().records("t")) == 16000
    finally:
        embedded.sql("DROP ROLE hasty")


@contextlib.contextmanager
def working(source: Source) -> Iterator[None]:
    """Let writers work, and one that appends to the table without a key."""
    writers = [Writer(source.connect, seed) for seed in range(2)]
    is_over = threading.Event()

    def append() -> None:
        with source.connect() as connection:
            while not is_over.wait(0.001):
                connection.execute("INSERT INTO log VALUES (0, 'new')")

    threads = [*writers, threading.Thread(target=append)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for writer in writers:
            writer.halt.set()
        for thread in threads:
            thread.join()


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("workers", [1, 2])
def test_snapshot_renewed_before_every_range_ends_equal(
    embedded: Source, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While writers work; tables without a key keep theirs until they are copied."""
    embedded.sql(
        TABLES,
        "CREATE TABLE log (n int, padding text)",
        "ALTER TABLE log REPLICA IDENTITY FULL",
        "INSERT INTO log SELECT i, repeat('x', 1000) FROM generate_series(1, 300) i",
    )
    embedded.publish("FOR ALL TABLES WITH (publish_via_partition_root = true)")
    embedded.options["snapshot_workers"] = workers
    monkeypatch.setattr(snapshot.SnapshotCopy, "_due", lambda _: time.monotonic())
    renewals: list[None] = []
    before(monkeypatch, snapshot.SnapshotCopy, "_renew", lambda: renewals.append(None))
    warehouses = [Warehouse("soft"), Warehouse("arrival")]

    def run() -> None:
        messages = embedded.run().messages
        for warehouse in warehouses:
            warehouse.apply(messages)

    with working(embedded):
        run()
        run()
    run()
    assert len(renewals) > 50
    with embedded.connect() as connection:
        tables = list(published(connection))
    for table, warehouse in itertools.product(tables, warehouses):
        stored = [{name: row[name] for name in table.columns} for row in warehouse.rows(table.name)]
        expected, actual = (
            Counter(json.dumps(row, sort_keys=True) for row in rows)
            for rows in (table.rows, stored)
        )
        assert not expected - actual, f"{table.name}: missing"
        assert not actual - expected, f"{table.name}: too many"
