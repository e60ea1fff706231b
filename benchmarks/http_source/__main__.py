"""Runs the benchmark; `make bench-http` does it.

In each round every contender syncs every scenario, one after the other, so that whatever else the
machine does meets all of them. One request at a time is measured in the first round only: it takes
long, and waiting does not vary. Fails if a record is missing, doubled or lacks a column.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.http_source import contenders, scenarios
from benchmarks.http_source.results import Measured, goals, write
from benchmarks.measure import measure

if TYPE_CHECKING:
    from benchmarks.http_source.contenders import Contender
    from benchmarks.http_source.scenarios import Scenario

SYNCS: dict[Scenario, tuple[Contender, ...]] = {
    scenarios.START: (contenders.OURS, contenders.PEER),
    scenarios.FIVE_HUNDRED_COMICS: (
        contenders.OURS,
        contenders.PEER,
        contenders.OURS_ALONE,
        contenders.PEER_ALONE,
    ),
    scenarios.RELEASES: (contenders.OURS, contenders.PEER, contenders.OURS_ALONE),
    scenarios.NO_LATENCY: (contenders.OURS, contenders.PEER, contenders.OURS_ALONE),
}


def main() -> int:
    """Run all rounds and write the results; return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.http_source", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often (%(default)s)")
    rounds = parser.parse_args().rounds
    contenders.cloudquery_python()
    measured: Measured = defaultdict(list)
    for number in range(1, rounds + 1):
        for scenario, syncing in SYNCS.items():
            with scenario.serve() as url:
                # Nobody is always the first.
                for contender in syncing[:: 1 if number % 2 else -1]:
                    if contender in contenders.ONE_BY_ONE and number > 1:
                        continue
                    run(scenario, contender, url, measured)
                    taken = measured[scenario, contender][-1]
                    print(
                        f"round {number} of {rounds} | {scenario.title} | {contender.label} | "
                        f"{taken.wall:.2f} s, cpu {taken.cpu:.2f} s, {taken.peak:.0f} MiB",
                        flush=True,
                    )
    write(measured)
    for goal in goals(measured):
        print(f"{'reached' if goal.reached else 'MISSED'}: {goal.text}: {goal.figure}")
    return 0 if all(goal.reached for goal in goals(measured)) else 1


def run(scenario: Scenario, contender: Contender, url: str, measured: Measured) -> None:
    """Measure one sync and check what came out.

    Raises:
        RuntimeError: The program failed, or its records are not those of the scenario.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured[scenario, contender].append(
            measure(contender.command(scenario, url, folder), folder)
        )
        check(scenario, contender, folder / "stdout")


def check(scenario: Scenario, contender: Contender, output: Path) -> None:
    """Compare the records in a file of JSON lines with those that the scenario has.

    Raises:
        RuntimeError: A record is missing, too many or has other columns than the tap's schema.
    """
    columns = {
        stream["stream"]: set(stream["schema"]["properties"])
        for stream in contenders.discover()["streams"]
    }
    found: Counter[tuple[str, int]] = Counter()
    with output.open(encoding="utf-8") as lines:
        for line in lines:
            message = json.loads(line)
            if "record" in message:
                table, record = message["stream"], message["record"]
                found[table, record["num" if "num" in record else "id"]] += 1
                if record.keys() != columns[table]:
                    different = sorted(record.keys() ^ columns[table])
                    raise RuntimeError(f"{contender.label}: {table} differs in {different}")
    expected = scenario.expected()
    if found != expected:
        missing, extra = (expected - found).total(), (found - expected).total()
        raise RuntimeError(
            f"{contender.label}, {scenario.title}: {missing} records missing, {extra} too many"
        )


if __name__ == "__main__":
    sys.exit(main())
