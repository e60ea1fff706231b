"""A server to ask, and ways to run the tap against it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.http import HttpSandbox, World
from tap_oso_example.rest import retry
from tap_oso_example.tap import TapOSOExample

EXECUTABLE = str(Path(sys.executable).parent / "tap-oso-example")


@dataclass
class Messages:
    """What a tap has written."""

    all: list[dict[str, Any]]

    @classmethod
    def parse(cls, text: str) -> Messages:
        return cls([json.loads(line) for line in text.splitlines()])

    def records(self, stream: str) -> list[dict[str, Any]]:
        found = [m for m in self.all if m["type"] == "RECORD" and m["stream"] == stream]
        return [message["record"] for message in found]

    def column(self, stream: str, name: str) -> list[Any]:
        return [record[name] for record in self.records(stream)]

    @property
    def state(self) -> dict[str, Any]:
        return next(m["value"] for m in reversed(self.all) if m["type"] == "STATE")

    def bookmarks(self, stream: str) -> dict[str, Any]:
        """Bookmarks by the last part of the partition's name."""
        partitions = self.state["bookmarks"][stream].get("partitions", [])
        return {
            list(each["context"].values())[-1]: each.get("replication_key_value")
            for each in partitions
        }

    @property
    def comics_bookmark(self) -> int:
        return self.state["bookmarks"]["xkcd_comics"]["replication_key_value"]  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def keep_signal_handlers() -> Iterator[None]:
    """A tap takes over the signals of its process; give them back to pytest."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(retry, "LONGEST_WAIT", 0.1)


@pytest.fixture
def server() -> Iterator[HttpSandbox]:
    with HttpSandbox(World.generate(comics=30, organizations=2, repositories=3, releases=2)) as it:
        yield it


Sync = Callable[..., Messages]


@pytest.fixture
def sync(server: HttpSandbox, monkeypatch: pytest.MonkeyPatch) -> Sync:
    """Run the tap in this process and return what it wrote, also if it failed."""

    def run(
        *streams: str, state: dict[str, Any] | None = None, fails: bool = False, **config: Any
    ) -> Messages:
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            tap = TapOSOExample(config={**server.tap_config, **config}, state=state)
            for name, stream in tap.streams.items():
                stream.selected = not streams or name in streams
            if fails:
                with pytest.raises(Exception) as error:  # noqa: PT011 the caller looks at it
                    tap.sync_all()
                run.error = str(error.value)  # type: ignore[attr-defined]
            else:
                tap.sync_all()
        out.flush()
        out.seek(0)
        return Messages.parse(out.read())

    return run


@pytest.fixture
def start(server: HttpSandbox, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the tap as a process of its own, as Meltano does."""
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **config: Any) -> subprocess.Popen[str]:
        file = tmp_path / "config.json"
        file.write_text(json.dumps({**server.tap_config, **config}))
        process = subprocess.Popen(
            [EXECUTABLE, "--config", str(file), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()
