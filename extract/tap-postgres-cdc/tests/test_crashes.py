"""Nothing is lost and nothing is invented, whatever happens to tap and server in between.

Writers work on a live database while runs of the tap start, stop and are killed, and the server
crashes. What came out is loaded into models of a warehouse, with the state at some message of the
run, as a loader that was killed too would leave it. In the end the tables have to be equal.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from sandbox.owner import Owner
from sandbox.rows import published
from sandbox.warehouse import Mode, Warehouse
from sandbox.writers import NAMES, TABLES, Writer

if TYPE_CHECKING:
    from conftest import NewSource, Source

# The command with small ranges and frequent states, so that a short run has many of them.
EAGER_TAP = (
    sys.executable,
    "-c",
    """
from tap_postgres_cdc import capture, snapshot, tap
capture.STATE_SECONDS = 0.02
snapshot.FIRST_RANGE_BLOCKS = snapshot._LEAST_BLOCKS = 8
snapshot._MOST_BLOCKS = 32
snapshot._FEW_BLOCKS = 64
tap.TapPostgresCDC.cli()
""",
)
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
MODES: tuple[Mode, ...] = ("soft", "hard", "arrival")


class Pipeline:
    """Runs of the tap into models of a warehouse, one for each way of loading."""

    def __init__(self, source: Source, seed: int) -> None:
        self.random = random.Random(seed)
        self.source = source
        self.warehouses = [Warehouse(mode) for mode in MODES]
        self.states = 0

    def run(self, how: str) -> None:
        """Run the tap; `how` is finish, stop (SIGTERM), kill (SIGKILL) or crash of the server."""
        process = self.source.start(command=EAGER_TAP)
        assert process.stdout
        lines: list[bytes] = []
        log: list[bytes] = []
        readers = [
            threading.Thread(target=lambda: lines.extend(process.stdout or ())),
            threading.Thread(target=lambda: log.extend(process.stderr or ())),
        ]
        for reader in readers:
            reader.start()
        if how != "finish":
            # A run takes about a second until it writes something.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.7 + self.random.random() * 1.5)
            if how == "crash":
                self.source.server.kill()
                self.source.server.start()
            else:
                process.send_signal(signal.SIGTERM if how == "stop" else signal.SIGKILL)
        process.wait(60)
        for reader in readers:
            reader.join()
        with process:
            pass
        text = b"".join(log).decode()
        if how == "finish":
            assert process.returncode == 0, text
        assert "Traceback" not in text, text
        self.load([line for line in lines if line.endswith(b"\n")], all_of_it=how == "finish")

    def load(self, lines: list[bytes], *, all_of_it: bool) -> None:
        """Load some of what came, and keep a state that is not ahead of it."""
        messages = [json.loads(line) for line in lines]
        states = [i for i, message in enumerate(messages) if message["type"] == "STATE"]
        self.states += len(states)
        loaded, kept = len(messages), states[-1] if states else None
        if not all_of_it:
            loaded = self.random.choice((loaded, self.random.randint(0, loaded)))
            before = [i for i in states if i < loaded]
            kept = self.random.choice([*before[-3:], None]) if before else None
        if kept is not None:
            self.source.state = messages[kept]["value"]
        for warehouse in self.warehouses:
            warehouse.apply(messages[:loaded])
        self.check_slot()

    def check_slot(self) -> None:
        """The slot is never confirmed past the state that was kept."""
        kept = self.source.state["slot"]["confirmed_lsn"] if self.source.state else "FFFFFFFF/0"
        ((is_ahead,),) = self.source.sql(
            f"SELECT coalesce(bool_or(confirmed_flush_lsn > '{kept}'), false)"
            f" FROM pg_replication_slots WHERE slot_name = '{self.source.slot}'"
        )
        assert not is_ahead

    def check_tables(self) -> None:
        """Every warehouse has every row of every table, and no other."""
        with self.source.connect() as connection:
            tables = {table.name: table for table in published(connection)}
        assert tables.keys() == {*NAMES}
        for table in tables.values():
            expected = {json.dumps(row, sort_keys=True) for row in table.rows}
            for warehouse in self.warehouses:
                rows = warehouse.rows(table.name)
                # Without the columns that the source has no more.
                rows = [{name: row.get(name) for name in table.columns} for row in rows]
                actual = {json.dumps(row, sort_keys=True) for row in rows}
                missing, extra = sorted(expected - actual), sorted(actual - expected)
                where = f"{table.name}, {warehouse.mode}"
                assert not missing, f"{where}: {len(missing)} missing {missing[:3]}, {extra[:3]}"
                assert not extra, f"{where}: {len(extra)} extra {extra[:3]}"
                assert len(rows) == len(table.rows), f"{where}: rows are there twice"


def alter_publication(source: Source, action: str, table: str) -> None:
    source.sql(f"ALTER PUBLICATION oso_publication {action} TABLE {table}")


def play(
    source: Source,
    seed: int,
    *,
    seconds: float,
    writers: int = 2,
    commit: str = "on",
    owner_pause: float | None = None,
) -> dict[str, Any]:
    """Write, run, kill and crash for a while; then everything has to be equal.

    With `owner_pause`, the mean seconds between two of its statements, an owner works on the
    tables meanwhile.
    """
    pick = random.Random(seed)
    source.sql(TABLES)
    published = {"plain", "parted"}
    source.sql(
        f"CREATE PUBLICATION oso_publication FOR TABLE {', '.join(published)}"
        " WITH (publish_via_partition_root = true)",
        f"SELECT pg_create_logical_replication_slot('{source.slot}', 'pgoutput')",
    )
    has_owner = owner_pause is not None
    threads: list[Writer | Owner] = [
        Writer(
            source.connect,
            seed * 100 + i,
            ddl=0 if i else 0.01,
            commit=commit,
            has_owner=has_owner,
        )
        for i in range(writers)
    ]
    if owner_pause is not None:
        threads.append(Owner(source.connect, seed * 100 + 99, pause=owner_pause))
    pipeline = Pipeline(source, seed)
    for thread in threads:
        thread.start()
    runs: dict[str, Any] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        how = pick.choice(("finish", "finish", "stop", "kill", "kill", "kill", "crash"))
        pipeline.run(how)
        runs[how] = runs.get(how, 0) + 1
        if pick.random() < 0.3:
            # A table comes into the publication, or goes and comes back later.
            table = pick.choice(NAMES[1:])  # one is always there
            # The owner may have renamed it for a while.
            with contextlib.suppress(psycopg.errors.UndefinedTable):
                alter_publication(source, "DROP" if table in published else "ADD", table)
                published ^= {table}
    for thread in threads:
        thread.halt.set()
    for thread in threads:
        thread.join()
        assert thread.error is None
    for table in {*NAMES} - published:
        alter_publication(source, "ADD", table)
    pipeline.run("finish")
    pipeline.check_tables()
    transactions = sum(thread.count for thread in threads if isinstance(thread, Writer))
    events = sum((thread.done for thread in threads if isinstance(thread, Owner)), Counter())
    done = {"transactions": transactions, "states": pipeline.states, "events": events.total()}
    return {**runs, **done}


def test_tables_are_equal_after_any_sequence_of_events_and_crashes(own_source: NewSource) -> None:
    print(play(own_source("18"), seed=18, seconds=12, owner_pause=0.2))


@pytest.mark.parametrize("version", ["18", "15"])
def test_tables_are_equal_after_any_sequence_of_crashes(
    version: str, own_source: NewSource
) -> None:
    play(own_source(version), seed=int(version), seconds=15)


def test_tables_are_equal_after_six_writers_during_the_snapshot(own_source: NewSource) -> None:
    play(own_source("18"), seed=6, seconds=8, writers=6)


def test_tables_are_equal_when_commits_are_delayed(own_source: NewSource) -> None:
    """A commit is in the log well before it can be seen, so the hand-off has to wait for it."""
    settings = {"fsync": "on", "commit_delay": "20000", "commit_siblings": "1"}
    play(own_source("15", settings=settings), seed=7, seconds=10, writers=6)


def test_tables_are_equal_when_commits_are_not_durable_at_once(own_source: NewSource) -> None:
    """A commit can be seen before it is on disk, and a crash then takes it back."""
    play(own_source("18"), seed=8, seconds=10, writers=4, commit="off")


@pytest.mark.skipif(not SOAK_SECONDS, reason="runs for SOAK_SECONDS")
@pytest.mark.timeout(0)
def test_soak(own_source: NewSource, capsys: pytest.CaptureFixture[str]) -> None:
    deadline = time.monotonic() + SOAK_SECONDS
    seed = int(os.environ.get("SOAK_SEED", time.time()))
    while time.monotonic() < deadline:
        pick = random.Random(seed)
        settings = pick.choice(
            ({}, {"fsync": "on", "commit_delay": "10000", "commit_siblings": "1"})
        )
        source = own_source(pick.choice(("18", "15")), settings=settings)
        source.state = None
        with capsys.disabled():
            print(f"seed {seed}:", end=" ", flush=True)
        done = play(
            source,
            seed,
            seconds=pick.choice((5, 15, 40)),
            writers=pick.choice((1, 2, 6)),
            commit=pick.choice(("on", "off")),
            owner_pause=pick.choice((None, 0.1, 0.4, 1.0)),
        )
        with capsys.disabled():
            print(done, flush=True)
        source.server.remove()
        seed += 1
