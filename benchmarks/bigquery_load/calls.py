"""How many calls and jobs a run over several tables costs, counted by a proxy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.bigquery_load.contenders import OURS
from benchmarks.bigquery_load.source import PROPERTIES
from sandbox.bigquery import BigQueryEmulator
from sandbox.faults import FaultyServer
from sandbox.singer import record, schema, state

TABLES, CHANGES = 10, 20


class Calls(NamedTuple):
    """Requests of one run over tables that are there, and how many of them started jobs."""

    calls: int
    jobs: int


def count() -> Calls:
    """Load changes twice and count the second time.

    Raises:
        subprocess.CalledProcessError: the loader failed.
    """
    lines = []
    for table in range(TABLES):
        lines.append(schema(f"table{table}", PROPERTIES))
        lines += [record(f"table{table}", {"id": n, "title": "new"}) for n in range(CHANGES)]
    lines.append(state(1))
    with (
        tempfile.TemporaryDirectory() as name,
        BigQueryEmulator() as emulator,
        FaultyServer(emulator.url) as proxy,
    ):
        path = Path(name) / "input.singer"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        command = OURS.command("upsert", path, Path(name))
        for _ in range(2):
            proxy.requests.clear()
            subprocess.run(
                command,
                env={**os.environ, "BIGQUERY_EMULATOR_HOST": proxy.url},
                check=True,
                capture_output=True,
            )
        jobs = [
            path
            for method, path, _ in proxy.requests
            if method == "POST" and re.search(r"/jobs(\?|$)", path)
        ]
        return Calls(len(proxy.requests), len(jobs))


if __name__ == "__main__":
    print(count())
