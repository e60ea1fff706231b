"""Measuring a program as a whole: wall clock, processor time and peak memory.

The program is started by a small process of its own, which is this module run as a script: a
process inherits the peak of the one that starts it, so a benchmark would measure its own memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# Linux counts the peak in KiB, macOS in bytes.
PEAK_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10


class Usage(NamedTuple):
    """What a program took: seconds of wall clock and of processor, peak resident memory in MiB."""

    wall: float
    cpu: float
    peak: float


def measure(command: Sequence[str], folder: Path) -> Usage:
    """Run a command to its end and return what it took.

    Args:
        command: The program and its arguments.
        folder: An existing folder; gets the files `stdout` and `stderr` with what it wrote.

    Raises:
        RuntimeError: The command failed; the message ends with the end of its standard error.
    """
    launcher = [sys.executable, "-I", "-S", __file__, str(folder / "usage.json"), *command]
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        done = subprocess.run(launcher, stdout=out, stderr=err, check=False)
    if done.returncode != 0:
        said = (folder / "stderr").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"{command[0]} ended with exit code {done.returncode}:\n{said}")
    return Usage(*json.loads((folder / "usage.json").read_text(encoding="utf-8")))


def _launch(report: str, *command: str) -> int:
    start = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    measured = Usage(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / PEAK_PER_MIB)
    Path(report).write_text(json.dumps(measured), encoding="utf-8")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(_launch(*sys.argv[1:]))
