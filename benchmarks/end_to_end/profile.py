"""Where the time of a pipeline goes, as py-spy sees it: https://github.com/benfred/py-spy"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

RATE = 100  # samples a second
_PROCESS = re.compile(r'process \d+:"(.*?)"')
_FRAME = re.compile(r"(?P<function>[^(]+) \((?P<file>[^:)]+)")
# A sample counts for the innermost of these that is in its stack.
PACKAGES = ("tap_postgres_cdc", "target_bigquery", "meltano", "singer_sdk")


def command(command: list[str], samples: Path) -> list[str]:
    """Return the command that runs another and writes the stacks of all its processes."""
    program = Path(sys.executable).with_name("py-spy")
    options = ["--subprocesses", "--format", "raw", "--rate", str(RATE), "--output", str(samples)]
    return [str(program), "record", *options, "--", *command]


def read(samples: Path) -> dict[str, Counter[str]]:
    """Return how many samples each piece of work got, by command line.

    Args:
        samples: A line per stack: frames with semicolons between them, a blank, a number.
    """
    found: dict[str, Counter[str]] = {}
    for line in samples.read_text(encoding="utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        process, *frames = stack.split(";")
        found.setdefault(process, Counter())[work(frames)] += int(count)
    return found


def work(frames: list[str]) -> str:
    """Return what a stack is about; outermost frame first."""
    if any("_find_and_load" in frame for frame in frames):
        return "importing modules"
    return frames[-1]
