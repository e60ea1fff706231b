"""Runs the benchmark; `make bench-postgres` does it.

In each round every contender copies the same table, or reads the same changes, one after the other,
so that whatever else the machine does meets all of them. Debezium needs Java 17.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.postgres_source import catalogs, contenders, results
from benchmarks.postgres_source.piped import Measurement
from benchmarks.postgres_source.results import Measured
from benchmarks.source import SETTINGS, VALUES, change, make_slot, make_table
from sandbox.postgres import Postgres, embedded_programs, running

ROWS = 500_000
MANY_ROWS = 5_000_000
LARGE_TRANSACTION = 1_000_000

Contender = tuple[str, Callable[[], Measurement]]


def main() -> None:
    """Measure what was asked for, and write the results of it."""
    parts = {"reading": measure_reading, "idle": measure_idle}
    parser = argparse.ArgumentParser(prog="benchmarks.postgres_source", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often (%(default)s)")
    parser.add_argument(
        "--parts", nargs="+", choices=list(parts), default=list(parts), help="(all of them)"
    )
    options = parser.parse_args()
    for part in options.parts:
        parts[part](options.rounds)


def measure_idle(rounds: int) -> None:
    """Many tables in which nothing has changed."""
    catalogs.write(catalogs.compare_sizes(contenders.tap_program(), rounds))


def measure_reading(rounds: int) -> None:
    """Rows and changes, beside others."""
    with (
        tempfile.TemporaryDirectory() as name,
        running(embedded_programs(), settings=SETTINGS) as server,
    ):
        folder = Path(name)
        rows = compare_rows(server, folder, rounds)
        changes = compare_changes(server, folder, rounds)
        memory = measure_memory(server, folder)
    results.write(ROWS, rows, changes, memory)


def compare_rows(server: Postgres, folder: Path, rounds: int) -> Measured:
    """The first copy of a table."""
    meltanolabs = contenders.meltanolabs_programs()
    make_table(server, "rows", ROWS)
    make_slot(server, "rows_slot")

    def copy(workers: int) -> Measurement:
        return contenders.tap(server, "rows", "rows_slot", folder, workers=workers)[0]

    measured = race(
        rounds,
        ("psql COPY", lambda: contenders.copy_table(server, "rows")),
        (
            "psql COPY to_json",
            lambda: contenders.copy_table(server, "(SELECT to_json(rows) FROM rows)"),
        ),
        ("this tap, 1 worker", lambda: copy(1)),
        ("this tap, 2 workers", lambda: copy(2)),
        ("meltanolabs-tap-postgres", lambda: contenders.meltanolabs(server, meltanolabs, folder)),
    )
    check_rows(measured, ROWS)
    return measured


def check_rows(measured: Measured, count: int) -> None:
    """Nobody is fast by leaving rows out.

    Raises:
        RuntimeError: Somebody put out fewer lines than there are rows.
    """
    for name, taken in measured.items():
        if any(one.lines < count for one in taken):
            raise RuntimeError(f"{name} put out less than {count:,} rows")


def compare_changes(server: Postgres, folder: Path, rounds: int) -> Measured:
    """Changes from the log: three fifths inserts, one fifth updates, one fifth deletes."""
    debezium = contenders.debezium_programs()
    make_table(server, "changes", 0)
    for i in range(rounds):
        for reader in ("tap", "receive", "debezium"):
            make_slot(server, f"{reader}_{i}")
    _, state = contenders.tap(server, "changes", "tap_0", folder, since=b"STATE")
    end_lsn = change(server, "changes", ROWS)
    numbers = {reader: iter(range(rounds)) for reader in ("tap", "receive", "debezium")}

    def slot(reader: str) -> str:
        return f"{reader}_{next(numbers[reader])}"

    return race(
        rounds,
        (
            "pg_recvlogical",
            lambda: contenders.receive_logical(server, "changes", slot("receive"), end_lsn),
        ),
        (
            "this tap",
            lambda: contenders.tap(server, "changes", slot("tap"), folder, state=state)[0],
        ),
        (
            "Debezium engine",
            lambda: contenders.debezium(server, "changes", slot("debezium"), debezium, ROWS),
        ),
    )


def measure_memory(server: Postgres, folder: Path) -> dict[str, Measurement]:
    """Memory of this tap as tables and transactions grow."""
    measured = {}
    for count in (50_000, ROWS, MANY_ROWS):
        make_table(server, f"rows_{count}", count)
        make_slot(server, f"memory_{count}")
        for workers in (1, 2):
            measured[f"{count:,} rows, {workers} worker{'s' * (workers > 1)}"] = contenders.tap(
                server, f"rows_{count}", f"memory_{count}", folder, workers=workers
            )[0]
        with server.connect() as connection:
            connection.execute(f"DROP TABLE rows_{count} CASCADE")
    make_table(server, "large", 0)
    make_slot(server, "large_slot")
    _, state = contenders.tap(server, "large", "large_slot", folder, since=b"STATE")
    with server.connect() as connection:
        connection.execute("INSERT INTO large" + VALUES.format(1, LARGE_TRANSACTION))
    measured[f"one transaction of {LARGE_TRANSACTION:,} rows"] = contenders.tap(
        server, "large", "large_slot", folder, state=state
    )[0]
    return measured


def race(rounds: int, *entrants: Contender) -> Measured:
    """Run the entrants in turn, several times."""
    measured: Measured = {name: [] for name, _ in entrants}
    for number in range(1, rounds + 1):
        # Nobody is always the first.
        for name, run in entrants[:: 1 if number % 2 else -1]:
            taken = run()
            measured[name].append(taken)
            print(
                f"round {number} of {rounds} | {name} | {taken.seconds:.2f} s, "
                f"cpu {taken.cpu_seconds:.2f} s, {taken.peak_mib:.0f} MiB",
                flush=True,
            )
    return measured


if __name__ == "__main__":
    main()
