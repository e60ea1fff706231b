"""Watching a process and those it starts: their processor time and memory, by the part they play.

Everything comes from `/proc`: https://man7.org/linux/man-pages/man5/proc.5.html
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SAMPLE_SECONDS = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


class Watch(threading.Thread):
    """Samples a process and those it starts, every 50 ms.

    Attributes:
        peak_mib: The largest sum of their memory; of pages that several share, a part each.
        peaks_mib: The largest sum of each part.
        cpu_seconds: Processor time of each part, up to its last sample.
    """

    def __init__(self, pid: int, part: Callable[[str, str], str] = lambda *_: "") -> None:
        """Watch nothing yet.

        Args:
            pid: The first process.
            part: Takes a command line and the part of the process that started it, and returns
                what the process belongs to.
        """
        super().__init__(daemon=True)
        self.peak_mib = 0.0
        self.peaks_mib: dict[str, float] = {}
        self._pid = pid
        self._part = part
        self._seen: dict[int, tuple[str, float]] = {}
        self._done = threading.Event()

    @property
    def cpu_seconds(self) -> dict[str, float]:  # noqa: D102  # see the class
        seconds: dict[str, float] = {}
        for part, taken in self._seen.values():
            seconds[part] = seconds.get(part, 0) + taken
        return seconds

    def run(self) -> None:
        """Sample until `stop`."""
        while not self._done.wait(_SAMPLE_SECONDS):
            memory: dict[str, float] = {}
            self._sample(self._pid, "", memory)
            self.peak_mib = max(self.peak_mib, sum(memory.values()))
            for part, mib in memory.items():
                self.peaks_mib[part] = max(self.peaks_mib.get(part, 0), mib)

    def stop(self) -> None:
        """Sample no more."""
        self._done.set()
        self.join()

    def _sample(self, pid: int, parent: str, memory: dict[str, float]) -> None:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if not command:  # it has ended, and nobody has asked how yet
                return
            part = self._part(command, parent)
            self._seen[pid] = part, own_cpu_seconds(pid)
            memory[part] = memory.get(part, 0) + _proportional_mib(pid)
        except OSError:
            return
        for child in children:
            self._sample(int(child), part, memory)


def own_cpu_seconds(pid: int) -> float:
    """Processor time of a process, without those that it started."""
    return sum(_times(pid)[:2])


def family_cpu_seconds(pid: int) -> float:
    """Processor time of a process and all that it started, gone or there."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(_times(pid)) + sum(family_cpu_seconds(int(child)) for child in children)


def _times(pid: int) -> list[float]:
    # The name of the program is in parentheses, and may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(ticks) / _TICKS for ticks in fields[11:15]]


def _proportional_mib(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(
        (int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0
    )
