"""Runs the benchmark; `make bench-bigquery` does it.

Every contender loads the same file into a new embedded BigQuery, append and upsert; the rows are
counted afterwards. Then ours loads a file ten times as large, to show how memory grows, and a few
changes of many tables, to count calls. At last, what a MERGE would read is counted (`--parts
pruning`: only that).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.bigquery_load import calls, source
from benchmarks.bigquery_load.contenders import CONTENDERS, OURS, PROJECT, Contender
from benchmarks.bigquery_load.results import Load, rewrite_pruning, write
from benchmarks.measure import measure
from sandbox.bigquery import BigQueryEmulator

MODES = ("append", "upsert")


def main() -> None:
    """Measure everything and write the results."""
    parser = argparse.ArgumentParser(prog="benchmarks.bigquery_load", description=__doc__)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--large", type=int, default=5_000_000, help="for memory; 0: leave it out")
    parser.add_argument("--parts", choices=["all", "pruning"], default="all")
    options = parser.parse_args()
    if options.parts == "pruning":
        rewrite_pruning()
        return
    for contender in CONTENDERS:
        contender.prepare()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input.singer"
        source.write(path, options.records)
        loads = [
            run(contender, mode, options.records, path)
            for mode in MODES
            for contender in CONTENDERS
        ]
        large = []
        if options.large:
            source.write(path, options.large)
            large = [run(OURS, mode, options.large, path) for mode in MODES]
    write(loads, large, calls.count())


def run(contender: Contender, mode: str, records: int, path: Path) -> Load:
    """Load a file into a new emulator and count the rows; the results tell what a peer lost.

    Raises:
        RuntimeError: the loader failed, or of ours rows are missing or too many.
    """
    with tempfile.TemporaryDirectory() as name, BigQueryEmulator(Path(name) / "data") as emulator:
        folder = Path(name)
        os.environ.update(emulator.environ)
        client = emulator.client(PROJECT)
        client.create_dataset(mode)
        usage = measure(contender.command(mode, path, folder), folder)
        count = client.query(f"SELECT COUNT(*) FROM `{PROJECT}.{mode}.{source.STREAM}`").result()
        found = next(iter(count))[0]
        client.close()  # type: ignore[no-untyped-call]
    if contender is OURS and found != records:
        raise RuntimeError(f"{contender.label}, {mode}: {found} rows instead of {records}")
    load = Load(contender, mode, records, found, usage)
    print(
        f"{mode} | {contender.label} | {found:,} of {records:,} records | "
        f"{usage.wall:.1f} s, cpu {usage.cpu:.2f} s ({load.micros:.1f} µs each), "
        f"{usage.peak:.0f} MiB",
        flush=True,
    )
    return load


if __name__ == "__main__":
    main()
