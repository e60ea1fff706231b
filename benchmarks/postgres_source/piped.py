"""Measuring a command by what it puts out: the time from its first row to its last, CPU, memory.

Start-up is left out, which for some takes longer than the rows do.
"""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Watch

_CHUNK = 1 << 20


@dataclass
class Measurement:
    """What a command took.

    Attributes:
        seconds: From the first byte after `since` to the last, so that start-up does not count.
        total_seconds: From start to end.
        cpu_seconds: Of the command and the processes it started.
        peak_mib: Largest sum of their memory, of pages that several share a part each, sampled
            every 50 ms.
        lines: How many it put out.
        output: The last bytes it put out.
    """

    seconds: float
    total_seconds: float
    cpu_seconds: float
    peak_mib: float
    lines: int
    output: bytes


def measure(
    command: Sequence[str | Path], *, since: bytes = b"", env: Mapping[str, str] | None = None
) -> Measurement:
    """Run a command to its end, reading what it puts out.

    Args:
        command: Program and arguments.
        since: The clock starts with the chunk that holds these bytes.
        env: Further environment variables.

    Raises:
        RuntimeError: It failed; the message is the end of its standard error.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, **(env or {})},
    )
    assert process.stdout
    assert process.stderr
    errors: list[bytes] = []
    drain = threading.Thread(target=errors.extend, args=[process.stderr])
    drain.start()
    watch = Watch(process.pid)
    watch.start()
    first, tail, lines = 0.0, b"", 0
    while chunk := process.stdout.read(_CHUNK):
        lines += chunk.count(b"\n")
        if not first and since in chunk:
            first = time.perf_counter()
        tail = (tail + chunk)[-4096:]
    last = time.perf_counter()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.stop()
    drain.join()
    process.stdout.close()
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {b''.join(errors[-10:]).decode()}")
    if not first:
        raise RuntimeError(f"{command[0]} put out nothing that was waited for")
    return Measurement(
        seconds=last - first,
        total_seconds=time.perf_counter() - started,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=watch.peak_mib,
        lines=lines,
        output=tail,
    )
