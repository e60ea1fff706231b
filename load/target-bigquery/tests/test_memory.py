"""Memory does not grow with the input."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox.singer import INTEGER, TEXT, record, schema, state

TARGET = str(Path(sys.executable).with_name("target-bigquery"))
STREAM = schema("s", {"id": INTEGER, "v": TEXT})


def peak_megabytes(dataset: Any, lines: Iterator[str], log: Path, **settings: Any) -> float:
    """Load what is written to a pipe; return the peak of the process's memory."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            [TARGET, "--config", "ENV"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            text=True,
            env=dataset.process_environ(**settings),
        )
        assert process.stdin
        with process.stdin as pipe:
            pipe.writelines(lines)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, log.read_text()
    return usage.ru_maxrss / 1024


def records(count: int, size: int) -> Iterator[str]:
    yield json.dumps(STREAM) + "\n"
    for n in range(count):
        yield json.dumps(record("s", {"id": n, "v": f"{n:x}" + "x" * size})) + "\n"
    yield json.dumps(state(count)) + "\n"


def test_memory_stays_flat_as_the_input_grows(dataset: Any, tmp_path: Path) -> None:
    small, large = (
        peak_megabytes(dataset, records(count, 50), tmp_path / "log", flush_rows=100_000)
        for count in (30_000, 400_000)
    )
    assert large < small + 120
    assert dataset.rows("s", "COUNT(*), COUNT(DISTINCT id)") == [(400_000, 400_000)]


def test_memory_is_bounded_when_lines_are_long(dataset: Any, tmp_path: Path) -> None:
    small, large = (
        peak_megabytes(dataset, records(count, 4 << 20), tmp_path / "log", flush_bytes=20 << 20)
        for count in (2, 60)
    )
    assert large < small + 120
    assert dataset.rows("s", "COUNT(*), MIN(BYTE_LENGTH(v)) > 4000000") == [(60, True)]


def test_more_streams_than_open_files_are_loaded_at_once(dataset: Any) -> None:
    names = [f"s{n}" for n in range(40)]
    lines = [
        *(schema(name, {"id": INTEGER, "v": TEXT}) for name in names),
        *(record(name, {"id": n, "v": "x" * 1000}) for n in range(30) for name in names),
        state("all"),
    ]
    limited = ["bash", "-c", 'ulimit -n 40 && exec "$0" --config ENV', TARGET]
    result = subprocess.run(
        limited,
        input="".join(json.dumps(line) + "\n" for line in lines),
        env=dataset.process_environ(),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, '"all"\n'), result.stderr[-2000:]
    assert dataset.rows(names[-1], "COUNT(*)") == [(30,)]
