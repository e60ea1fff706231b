"""Nothing is lost, whatever is killed, cut or stopped while writers work.

Meltano runs tap and target between a PostgreSQL server that is never idle and the embedded
BigQuery. In each round one thing goes wrong at a random moment. After every round the slot has to
be where a saved state says it may be; after the last one the writers stop, one run goes through
undisturbed, and then every table has to equal its source.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from sandbox.bigquery import PROJECT, BigQueryEmulator
from sandbox.diff import differences
from sandbox.faults import CUT_AFTER, CUT_BEFORE, FaultyServer
from sandbox.meltano import Meltano
from sandbox.postgres import HOST, PASSWORD, Postgres, embedded_programs, running
from sandbox.tcp import TcpProxy
from sandbox.writers import NAMES, TABLES, Writer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]
DATASET = "crashed"
TAP, TARGET = "tap-my-postgres-datasource", "target-bigquery"
STATE_ID = f"dev:{TAP}-to-{TARGET}"
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
SERIES_SECONDS = 180
# Longer than any patience of tap and target: what is still running then hangs.
PATIENCE = 240
# The tap with small ranges and frequent states, so that a short run has many of them.
EAGER_TAP = f"""#!{sys.executable}
from tap_postgres_cdc import capture, snapshot, tap
capture.STATE_SECONDS = 0.2
snapshot.FIRST_RANGE_BLOCKS = snapshot._LEAST_BLOCKS = 8
snapshot._MOST_BLOCKS = 32
snapshot._FEW_BLOCKS = 64
tap.TapPostgresCDC.cli()
"""
MORE_ROWS = """
INSERT INTO plain SELECT i, 'name ' || i, repeat(md5(i::text), i % 7 * 30), i * 1.5
  FROM generate_series(10001, 20000) i;
INSERT INTO other SELECT i, 'code' || i, 'o' || i FROM generate_series(10001, 20000) i;
"""


class Pipeline:
    """A pipeline with everything around it that can fail."""

    def __init__(self, folder: Path, seed: int, resources: contextlib.ExitStack) -> None:
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.orphans: list[psutil.Process] = []
        enter = resources.enter_context
        self.server: Postgres = enter(running(embedded_programs()))
        self.emulator = enter(BigQueryEmulator(folder / "warehouse"))
        self.faulty = enter(FaultyServer(self.emulator.url))
        self.proxy = enter(TcpProxy(self.server.port))
        self.database = folder / "meltano.db"
        self.meltano = self._project(folder)
        with self.server.connect() as source:
            source.execute(TABLES + MORE_ROWS)
            source.execute(
                f"CREATE PUBLICATION oso_publication FOR TABLE {', '.join(NAMES)}"
                " WITH (publish_via_partition_root = true)"
            )
            source.execute("SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput')")
        self.created_at = self._confirmed()

    def _project(self, folder: Path) -> Meltano:
        """A copy of the project whose tap is eager; all else is as users have it."""
        settings = "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_"
        meltano = Meltano.in_copy(
            ROOT,
            folder,
            {
                "BIGQUERY_EMULATOR_HOST": self.faulty.url,
                "TARGET_BIGQUERY_PROJECT": PROJECT,
                "TARGET_BIGQUERY_DATASET": DATASET,
                "TARGET_BIGQUERY_FLUSH_ROWS": "3000",
                "TARGET_BIGQUERY_FLUSH_SECONDS": "1",
                f"{settings}HOST": HOST,
                f"{settings}PORT": str(self.proxy.port),
                f"{settings}DATABASE": "postgres",
                f"{settings}USERNAME": "postgres",
                f"{settings}PASSWORD": PASSWORD,
                f"{settings}SSL_MODE_MODE": "disable",
            },
        )
        tap = folder / "eager-tap"
        tap.write_text(EAGER_TAP)
        tap.chmod(0o755)
        definition = meltano.root / "extract" / "postgres.meltano.yml"
        text = definition.read_text()
        definition.write_text(text.replace("    config:", f"    executable: {tap}\n    config:", 1))
        return meltano

    def play(self, name: str) -> None:
        """One run, in which something goes wrong; then the slot is where it may be."""
        process = self.meltano.start("run", "--force", TAP, TARGET)
        log: list[str] = []
        readers = [
            threading.Thread(target=lambda: log.extend(process.stderr or ())),
            threading.Thread(target=lambda: log.extend(process.stdout or ())),
        ]
        for reader in readers:
            reader.start()
        children = self._started(process)
        if not children:  # they came and went unseen
            name = "nothing"
        self.orphans += children.values()
        if name != "nothing":
            self._wait_for_a_moment(process, log)
        has_ended = process.poll() is not None
        exit_codes = FAULTS[name](self, process.pid, children)
        process.wait(PATIENCE)
        for reader in readers:
            reader.join(PATIENCE)
        with process:
            pass
        self.faulty.faults.clear()
        self.proxy.cut_after(None)
        text = "".join(log)
        assert process.returncode in ({0} if has_ended else exit_codes), (
            f"{name}: exit {process.returncode}\n{text[-6000:]}"
        )
        self.counts[name if not has_ended else "nothing"] += 1
        print(f"{name}{' (too late)' * has_ended}: exit {process.returncode}", flush=True)
        print("".join(f"  {line}" for line in log if "[error" in line and "meltano " not in line))
        self.check_slot()

    def _started(self, process: subprocess.Popen[str]) -> dict[str, psutil.Process]:
        """Wait until tap and target run, and return them."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(psutil.Error):
                found = {}
                for child in psutil.Process(process.pid).children():
                    command = child.cmdline()
                    for name in ("eager-tap", TARGET):
                        if "--discover" not in command and any(p.endswith(name) for p in command):
                            found[name] = child
                if len(found) == 2:
                    return found
            time.sleep(0.02)
        return {}

    def _wait_for_a_moment(self, process: subprocess.Popen[str], log: list[str]) -> None:
        """Wait until some time after the start, or, more often, after the first rows are loaded."""
        after_start = self.random.random() < 0.3
        deadline = time.monotonic() + PATIENCE
        while not after_start and process.poll() is None and time.monotonic() < deadline:
            after_start = any("rows loaded" in line for line in log.copy())
            time.sleep(0.02)
        time.sleep(self.random.uniform(0, 2))

    def kill(self, *processes: psutil.Process | int) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                one = psutil.Process(process) if isinstance(process, int) else process
                one.kill()
                self.counts["kills"] += 1

    def state(self) -> dict[str, Any]:
        """What is saved, without the seconds that `meltano state get` takes."""
        with contextlib.closing(sqlite3.connect(self.database, timeout=60)) as database:
            row = database.execute(
                "SELECT completed_state FROM state WHERE state_id = ?", [STATE_ID]
            ).fetchone()
        state: dict[str, Any] = json.loads(row[0])["singer_state"] if row else {}
        return state

    def check_slot(self) -> None:
        """The server was never told that it may forget what no saved state has."""
        slot = self.state().get("slot")
        confirmed = self._confirmed()
        if slot is None:
            assert confirmed == self.created_at
        else:
            assert as_number(confirmed) <= as_number(slot["confirmed_lsn"])

    def _confirmed(self) -> str:
        with self.server.connect() as source:
            ((position,),) = source.execute(
                "SELECT confirmed_flush_lsn::text FROM pg_replication_slots"
            ).fetchall()
        return str(position)

    def check_tables(self) -> int:
        """Every table equals its source, and no key is there twice; return the rows compared."""
        client = self.emulator.client()
        with self.server.connect() as source, contextlib.closing(client):
            reports = list(differences(source, client, DATASET))
        different = [report for report in reports if not report.is_equal]
        assert not different, different
        assert len(reports) == len(NAMES)
        return sum(report.source_rows for report in reports)

    def wait_for_orphans(self) -> None:
        """What a kill has left behind ends by itself."""
        _, alive = psutil.wait_procs(self.orphans, PATIENCE)
        assert not alive
        self.orphans.clear()

    def end(self) -> None:
        for process in self.orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def as_number(position: str) -> int:
    high, low = position.split("/")
    return int(high, 16) << 32 | int(low, 16)


Children = dict[str, psutil.Process]


def nothing(pipeline: Pipeline, meltano: int, children: Children) -> set[int]:
    return {0}


def tap_is_killed(pipeline: Pipeline, meltano: int, children: Children) -> set[int]:
    pipeline.kill(children["eager-tap"])
    return {0, 1}  # it may have been done


def target_is_killed(pipeline: Pipeline, meltano: int, children: Children) -> set[int]:
    pipeline.kill(children[TARGET])
    return {0, 1}


def meltano_is_killed(pipeline: Pipeline, meltano: int, children: Children) -> set[int]:
    pipeline.kill(meltano)
    return {-signal.SIGKILL}


def all_are_killed(pipeline: Pipeline, meltano: int, children: Children) -> set[int]:
    pipeline.kill(meltano, *children.values())
    return {-signal.SIGKILL}


def ctrl_c_is_pressed(pipeline: Pipeline, meltano: int, children: Children) -> set[int]:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(meltano, signal.SIGINT)
    return {0, 1, 130, -signal.SIGINT}


def server_crashes(pipeline: Pipeline, meltano: int, children: Children) -> set[int]:
    pipeline.server.kill()
    pipeline.counts["kills"] += 1
    time.sleep(pipeline.random.uniform(0, 2))
    pipeline.server.start()
    return {0, 1}


def warehouse_is_silent(pipeline: Pipeline, meltano: int, children: Children) -> set[int]:
    pipeline.emulator.pause()
    time.sleep(pipeline.random.uniform(1, 12))
    pipeline.emulator.resume()
    return {0}


def warehouse_is_stopped(pipeline: Pipeline, meltano: int, children: Children) -> set[int]:
    pipeline.emulator.stop()
    time.sleep(pipeline.random.uniform(0, 5))
    pipeline.emulator.start()
    return {0, 1}  # unlike the real one it forgets its jobs


def requests_are_cut(pipeline: Pipeline, meltano: int, children: Children) -> set[int]:
    for _ in range(3):
        pipeline.faulty.add(
            pipeline.random.choice(("POST", "GET", "PUT")),
            "/bigquery/",
            pipeline.random.choice((CUT_BEFORE, CUT_AFTER, 503)),
            skip=pipeline.random.randrange(5),
        )
    return {0}


def connection_is_cut(pipeline: Pipeline, meltano: int, children: Children) -> set[int]:
    pipeline.proxy.cut_after(pipeline.random.choice((10, 1_000, 100_000, 1_000_000)))
    return {0, 1}


def disk_is_full(pipeline: Pipeline, meltano: int, children: Children) -> set[int]:
    """Meltano can't write to any file any more, its system database among them."""
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(meltano, resource.RLIMIT_FSIZE, (0, 0))
    return {0, 1}  # all may have been written


FAULTS: dict[str, Callable[[Pipeline, int, Children], set[int]]] = {
    fault.__name__: fault
    for fault in (
        nothing,
        tap_is_killed,
        target_is_killed,
        meltano_is_killed,
        all_are_killed,
        ctrl_c_is_pressed,
        server_crashes,
        warehouse_is_silent,
        warehouse_is_stopped,
        requests_are_cut,
        connection_is_cut,
        *((disk_is_full,) if hasattr(resource, "prlimit") else ()),
    )
}


def alter_publication(pipeline: Pipeline, published: set[str]) -> None:
    """A table goes out of the publication, or comes back."""
    table = pipeline.random.choice(NAMES[1:])
    action = "DROP" if table in published else "ADD"
    with pipeline.server.connect() as source:
        source.execute(f"ALTER PUBLICATION oso_publication {action} TABLE {table}")
    published ^= {table}


def series(folder: Path, seed: int, rounds: Iterator[None]) -> Counter[str]:
    """Break as many runs as `rounds` gives; then one run has to make everything equal."""
    with contextlib.ExitStack() as resources:
        pipeline = Pipeline(folder, seed, resources)
        resources.callback(pipeline.end)
        writers = [
            Writer(pipeline.server.connect, seed * 100 + i, ddl=0 if i else 0.0003)
            for i in range(2)
        ]
        for writer in writers:
            writer.start()
            resources.callback(writer.halt.set)
        published = set(NAMES)
        names: list[str] = []
        for _ in rounds:
            if not names:  # each of them once before any comes again
                names = pipeline.random.sample([*FAULTS], len(FAULTS))
            pipeline.play(names.pop())
            if pipeline.random.random() < 0.2:
                alter_publication(pipeline, published)
        for writer in writers:
            writer.halt.set()
        for writer in writers:
            writer.join()
            assert writer.error is None
        while missing := set(NAMES) - published:
            with pipeline.server.connect() as source:
                source.execute(f"ALTER PUBLICATION oso_publication ADD TABLE {min(missing)}")
            published.add(min(missing))
        pipeline.wait_for_orphans()
        pipeline.play("nothing")
        pipeline.counts["rows"] += pipeline.check_tables()
        pipeline.counts["transactions"] += sum(writer.count for writer in writers)
        return pipeline.counts


@pytest.mark.timeout(900)
def test_tables_equal_their_source_after_a_series_of_crashes(tmp_path: Path) -> None:
    """Each fault once, or as many as there is time for on a slow machine."""
    end = time.monotonic() + SERIES_SECONDS
    print(series(tmp_path, 1, (None for _ in FAULTS if time.monotonic() < end)))


@pytest.mark.skipif(not SOAK_SECONDS, reason="runs for SOAK_SECONDS")
@pytest.mark.timeout(0)
def test_soak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    end = time.monotonic() + SOAK_SECONDS
    seed = int(os.environ.get("SOAK_SEED", time.time()))
    total: Counter[str] = Counter()
    while time.monotonic() < end:
        length = random.Random(seed).randint(5, 30)
        rounds = (None for _ in range(length) if time.monotonic() < end)
        folder = tmp_path / str(seed)
        folder.mkdir()
        with capsys.disabled():
            print(f"seed {seed}: up to {length} rounds", flush=True)
        total += series(folder, seed, rounds)
        total["series"] += 1
        rounds_played = sum(total[name] for name in FAULTS)
        with capsys.disabled():
            print(
                f"seed {seed} equal; so far {total['series']} series, {rounds_played} rounds, "
                f"{total['kills']} kills, {total['transactions']:,} transactions, "
                f"{total['rows']:,} rows compared",
                flush=True,
            )
        seed += 1
