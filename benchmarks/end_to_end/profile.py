"""Where the time of a pipeline goes, as py-spy (https://github.com/benfred/py-spy) sees it."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

RATE = 100  # samples a second
# Command lines can have line breaks.
_STACK = re.compile(r"^(process .*?) (\d+)$(?=\n+process |\n*\Z)", re.MULTILINE | re.DOTALL)
_PROCESS = re.compile(r'process \d+:"(.*)"', re.DOTALL)


def command(command: list[str], samples: Path) -> list[str]:
    """Return the command that runs another and writes the stacks of all its processes."""
    program = Path(sys.executable).with_name("py-spy")
    # Pausing them, as it does by default, made one of the tap's copying processes end.
    options = [
        "--nonblocking",
        "--subprocesses",
        "--format",
        "raw",
        "--rate",
        str(RATE),
        "--output",
        str(samples),
    ]
    return [str(program), "record", *options, "--", *command]


def read(samples: Path, part: Callable[[str, str], str], first: str) -> dict[str, Counter[str]]:
    """Return how many samples each piece of work got, by part of the pipeline.

    Args:
        samples: A line per stack: frames with semicolons between them, a blank, a number. A
            process is a frame among those of the process that started it.
        part: Takes a command line, and returns what the process belongs to.
        first: What a process belongs to that has no command line yet.
    """
    found: dict[str, Counter[str]] = {}
    for stack, count in _STACK.findall(samples.read_text(encoding="utf-8")):
        frames = stack.split(";")
        name = first
        for place, frame in enumerate(frames):
            if process := _PROCESS.match(frame):
                name, innermost = part(process[1], name), place
        found.setdefault(name, Counter())[work(frames[innermost + 1 :])] += int(count)
    return found


def work(frames: list[str]) -> str:
    """Return what a stack is about, such as `write (asyncio/unix_events.py)`.

    Args:
        frames: From the outermost to the innermost; those without a file are processes.
    """
    if any("_find_and_load" in frame for frame in frames):
        return "importing modules"
    innermost = next((frame for frame in reversed(frames) if " (" in frame), "starting")
    return re.sub(r":\d+\)$", ")", innermost)
