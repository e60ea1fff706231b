"""Runs the benchmark; `make bench-end-to-end` does it.

Each run gets a new embedded BigQuery, and its rows are counted afterwards. Time is that of the
whole command, its start included: what one waits for.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.end_to_end import profile, results
from benchmarks.end_to_end.contenders import CONTENDERS, DATASET, OURS, Pipeline
from benchmarks.end_to_end.results import Run
from benchmarks.processes import Watch, family_cpu_seconds
from benchmarks.source import SETTINGS, change, make_slot, make_table
from sandbox.bigquery import BigQueryEmulator
from sandbox.postgres import Postgres, embedded_programs, running

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = {
    "bin/meltano": "Meltano",
    "tap-postgres": "tap",
    "peer_z3": "target",
    "target-bigquery": "target",
    "peer_dlt": "dlt",
}
GROWTH = (50_000, 500_000, 5_000_000)


def main() -> None:
    """Measure what was asked for, and write the results of everything that was ever measured."""
    parts = {"snapshot": snapshot, "changes": changes, "growth": growth, "profile": profiles}
    parser = argparse.ArgumentParser(prog="benchmarks.end_to_end", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often (%(default)s)")
    parser.add_argument(
        "--parts", nargs="+", choices=list(parts), default=list(parts), help="(all of them)"
    )
    options = parser.parse_args()
    measured = results.read()
    for part in options.parts:
        with running(embedded_programs(), settings=SETTINGS) as server:
            measured[part] = parts[part](server, options.rounds)
        results.write(measured)


def snapshot(server: Postgres, rounds: int) -> list[Run]:
    """Everybody copies the same table, or who takes too long the same small one."""
    for contender in CONTENDERS:
        contender.prepare()
    sizes = {c.table: results.ROWS // c.part_of for c in CONTENDERS}
    for table, rows in sizes.items():
        make_table(server, table, rows)
    runs = []
    for number in range(rounds):
        # Nobody is always the first.
        for contender in CONTENDERS[:: -1 if number % 2 else 1]:
            table = contender.table
            make_slot(server, table)
            with warehouse() as (emulator, folder):
                pipeline = contender.pipeline(server, table, folder)
                run = measure(contender.label, pipeline, server, emulator, sizes[table])
                check(emulator, contender.stored_as.format(table), sizes[table])
            runs.append(run)
            drop_slot(server, table)
    return runs


def changes(server: Postgres, rounds: int) -> list[Run]:
    """This project brings changes of a table that it has copied."""
    runs = []
    for number in range(rounds):
        table = f"changes_{number}"
        make_table(server, table, 0)
        make_slot(server, table)
        with warehouse() as (emulator, folder):
            pipeline = OURS.pipeline(server, table, folder)
            measure("first run, empty table", pipeline, server, emulator, 0)
            change(server, table, results.ROWS)
            runs.append(measure(OURS.label, pipeline, server, emulator, results.ROWS))
            check(emulator, table, results.ROWS * 2 // 5, "WHERE _ab_cdc_deleted_at IS NULL")
        drop_slot(server, table)
    return runs


def growth(server: Postgres, _: int) -> list[Run]:
    """This project copies tables of several sizes."""
    runs = []
    for rows in GROWTH:
        table = f"rows_{rows}"
        make_table(server, table, rows)
        make_slot(server, table)
        with warehouse() as (emulator, folder):
            pipeline = OURS.pipeline(server, table, folder)
            runs.append(measure(f"{rows:,} rows", pipeline, server, emulator, rows))
            check(emulator, table, rows)
        drop_slot(server, table)
        with server.connect() as connection:
            connection.execute(f"DROP TABLE {table} CASCADE")
    return runs


def profiles(server: Postgres, _: int) -> dict[str, Any]:
    """Where the time of this project's copy goes: by process, and by sampling the processes."""
    make_table(server, "rows", results.ROWS)
    make_slot(server, "rows")
    with warehouse() as (emulator, folder):
        pipeline = OURS.pipeline(server, "rows", folder)
        cpu = measure("not profiled", pipeline, server, emulator, results.ROWS).cpu
        check(emulator, "rows", results.ROWS)
    with warehouse() as (emulator, folder):
        pipeline = OURS.pipeline(server, "rows", folder)
        samples = folder / "samples"
        sampled = pipeline._replace(command=profile.command(pipeline.command, samples))
        measure("profiled", sampled, server, emulator, results.ROWS)
        check(emulator, "rows", results.ROWS)
        return {"cpu": cpu, "work": profile.read(samples, part_of_command, PROGRAMS["bin/meltano"])}


@contextmanager
def warehouse() -> Iterator[tuple[BigQueryEmulator, Path]]:
    """Run a new emulator; also gives an empty folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "run").mkdir()
        with BigQueryEmulator(folder / "data") as emulator:
            yield emulator, folder / "run"


def measure(
    label: str, pipeline: Pipeline, server: Postgres, emulator: BigQueryEmulator, rows: int
) -> Run:
    """Run a pipeline to its end.

    Raises:
        RuntimeError: It failed; the message ends with what it said last.
    """
    assert emulator.pid
    postmaster = int((server.data / "postmaster.pid").read_text().split()[0])
    servers = {"PostgreSQL": postmaster, "BigQuery emulator": emulator.pid}
    before = {name: family_cpu_seconds(pid) for name, pid in servers.items()}
    with tempfile.TemporaryFile("w+") as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            pipeline.command,
            cwd=pipeline.folder,
            env={**os.environ, **pipeline.environ, **emulator.environ},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        watch = Watch(process.pid, part_of_command)
        watch.start()
        exit_code = process.wait()
        seconds = time.perf_counter() - started
        watch.stop()
        if exit_code:
            said.seek(0)
            raise RuntimeError(f"{label} failed:\n{said.read()[-4000:]}")
    cpu = {name: family_cpu_seconds(pid) - before[name] for name, pid in servers.items()}
    run = Run(label, rows, seconds, watch.cpu_seconds | cpu, watch.peak_mib, watch.peaks_mib)
    print(
        f"{label} | {rows:,} | {seconds:.1f} s | {run.peak_mib:.0f} MiB | CPU, s: "
        + ", ".join(f"{part} {taken:.1f}" for part, taken in run.cpu.items()),
        flush=True,
    )
    return run


def part_of_command(command: str, parent: str) -> str:
    """Which part of a pipeline a command line belongs to."""
    if "--discover" in command:
        return "discovery"
    return next((part for program, part in PROGRAMS.items() if program in command), parent)


def check(emulator: BigQueryEmulator, table: str, rows: int, where: str = "") -> None:
    """Nobody is fast by leaving rows out.

    Raises:
        RuntimeError: Rows are missing, or too many.
    """
    client = emulator.client()
    try:
        [(found,)] = client.query(f"SELECT COUNT(*) FROM {DATASET}.{table} {where}").result()
    finally:
        client.close()  # type: ignore[no-untyped-call]
    if found != rows:
        raise RuntimeError(f"{table}: {found:,} rows instead of {rows:,}")


def drop_slot(server: Postgres, name: str) -> None:
    """Let the log go."""
    with server.connect() as connection:
        connection.execute("SELECT pg_drop_replication_slot(%s)", [name])


if __name__ == "__main__":
    main()
