"""Databases of many tables: what a run takes that has nothing to bring, and how large its state is.

Its part of `RESULTS.md` is the last one, so that it can be measured again by itself.
"""

import json
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Usage, measure
from benchmarks.postgres_source import contenders
from benchmarks.report import table
from benchmarks.source import COLUMNS, SETTINGS, VALUES, make_slot
from sandbox.postgres import Postgres, embedded_programs, running

TABLES = (10, 500, 3_000)
# What a run over the most of them is meant to take at most: seconds, MiB, bytes of state a table.
GOALS = 3.0, 100, 200
RESULTS = Path(__file__).with_name("RESULTS.md")
HEADING = "## Many tables, nothing new"
# Measured by this script with the version of then, in turn with the one of now.
BEFORE = """\
At commit 458d117 of 21 November 2026, which knew less of the catalog, 10, 500 and 3,000 tables took
0.6, 0.9 and 4.9 s and 61, 80 and 177 MiB, with STATEs of 3,606, 174,036 and 1,046,036 bytes."""
_NAME = "many"


class Idle(NamedTuple):
    """What the tap takes for so many tables in which nothing has changed.

    Attributes:
        discover: Seconds of `--discover`, a median like all that follows.
        seconds: Of a run.
        peak: Its memory, MiB.
        state: Size of its largest STATE, bytes.
        states: How many it puts out.
    """

    tables: int
    discover: float
    seconds: float
    peak: float
    state: int
    states: int


def compare_sizes(program: Path, rounds: int) -> list[Idle]:
    """Measure each number of tables on a server of its own.

    Args:
        program: The tap.
        rounds: How often.
    """
    measured = []
    for count in TABLES:
        with (
            tempfile.TemporaryDirectory() as folder,
            running(embedded_programs(), settings=SETTINGS) as server,
        ):
            make_tables(server, count)
            idle = _measure(server, program, count, rounds, Path(folder))
            print(idle, flush=True)
            measured.append(idle)
    return measured


def make_tables(server: Postgres, count: int) -> None:
    """Make tables of ten columns with a row each, a publication of their schema, and a slot."""
    with server.connect() as connection:
        for i in range(count):
            connection.execute(f"CREATE TABLE table_{i} {COLUMNS}".encode())
            connection.execute(f"INSERT INTO table_{i} {VALUES.format(1, 1)}".encode())
        connection.execute(f"CREATE PUBLICATION {_NAME} FOR TABLES IN SCHEMA public".encode())
    make_slot(server, _NAME)


def write(measured: list[Idle]) -> None:
    """Put the figures into `RESULTS.md`, in the place of earlier ones."""
    rows = [
        (
            f"{idle.tables:,} tables",
            "",
            f"{idle.discover:.1f}",
            f"{idle.seconds:.1f}",
            f"{idle.peak:.0f}",
            f"{idle.state:,}",
            f"{idle.state / idle.tables:.0f}",
            str(idle.states),
        )
        for idle in measured
    ]
    header = ("", "", "--discover, s", "run, s", "peak, MiB", "STATE, bytes", "a table", "STATEs")
    most = measured[-1]
    found = most.seconds, most.peak, most.state / most.tables
    seconds, peak, size = (
        "reached" if value <= goal else "missed" for value, goal in zip(found, GOALS, strict=True)
    )
    parts = [
        HEADING,
        """\
Tables of ten columns with a row each, copied before. A run finds nothing to bring: what it takes is
start-up, reading the catalog, and its state. Whole commands, medians.""",
        table(header, rows),
        f"""\
Meant to be, with {most.tables:,} tables, at most {GOALS[0]:.0f} s ({seconds}), {GOALS[1]} MiB
({peak}) and {GOALS[2]} bytes of state a table ({size}).""",
        BEFORE,
    ]
    page = RESULTS.read_text(encoding="utf-8").partition(HEADING)[0].rstrip()
    RESULTS.write_text("\n\n".join([page, *parts]) + "\n", encoding="utf-8")


def _measure(server: Postgres, program: Path, count: int, rounds: int, folder: Path) -> Idle:
    config = contenders.tap_config(server, _NAME, _NAME)
    command = [str(program), "--config", str(contenders.write_json(folder / "config.json", config))]
    discover = [measure([*command, "--discover"], folder) for _ in range(rounds)]
    measure(command, folder)
    runs: list[Usage] = []
    for _ in range(rounds):
        state = json.loads(_states(folder)[-1])["value"]
        path = contenders.write_json(folder / "state.json", state)
        runs.append(measure([*command, "--state", str(path)], folder))
    states = _states(folder)
    return Idle(
        count,
        statistics.median(one.wall for one in discover),
        statistics.median(one.wall for one in runs),
        statistics.median(one.peak for one in runs),
        max(len(line) for line in states),
        len(states),
    )


def _states(folder: Path) -> list[bytes]:
    """STATE lines of the last run."""
    lines = (folder / "stdout").read_bytes().splitlines()
    return [line for line in lines if json.loads(line)["type"] == "STATE"]
