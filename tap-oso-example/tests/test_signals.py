"""Stopping the tap: soon, with its state, and with the code that shells expect."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from sandbox.http import HttpSandbox

SITUATIONS = {
    "in the middle": [],
    "while the server is silent": ["slow:60"],
    "while the server asks for a pause": ["429:60"],
}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("faults", SITUATIONS.values(), ids=SITUATIONS)
def test_a_signal_ends_the_tap_within_two_seconds_with_its_state(
    server: HttpSandbox,
    start: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    signum: signal.Signals,
    faults: list[str],
) -> None:
    server.world.comics = 400
    server.latency = 0.05
    for fault in faults:
        server.inject("/xkcd/2?/*", fault, 100)
    process = start(organizations=[], concurrency=4)
    deadline = time.monotonic() + 20
    while len(server.requests) < 24 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signum)
    begun = time.monotonic()
    out, log = process.communicate(timeout=30)

    assert time.monotonic() - begun < 2
    assert process.returncode == 128 + signum
    assert f"{signum.name}: stopping" in log
    assert "Traceback" not in log
    messages: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert messages[-1]["type"] == "STATE"
    numbers = [m["record"]["num"] for m in messages if m["type"] == "RECORD"]
    assert numbers == list(range(1, len(numbers) + 1))
    state = messages[-1]["value"]
    assert state["bookmarks"]["xkcd_comics"]["replication_key_value"] == numbers[-1]

    server.heal()
    (tmp_path / "state.json").write_text(json.dumps(state))
    out, _ = start("--state", str(tmp_path / "state.json"), organizations=[]).communicate(
        timeout=30
    )
    rest = [json.loads(line) for line in out.splitlines()]
    numbers += [m["record"]["num"] for m in rest if m["type"] == "RECORD"]
    assert numbers == list(range(1, 401))
