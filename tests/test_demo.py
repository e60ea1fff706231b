"""`make demo`, `make demo-http`, and the services that `sandbox up` leaves running."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.meltano import Meltano

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SANDBOX = str(Path(sys.executable).with_name("sandbox"))
MARK = "OSO_TEST_MARK"
SECONDS = 240


class Terminal:
    """Runs the `sandbox` command in a copy of the project, and finds what it leaves behind."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.mark = uuid.uuid4().hex
        self.environ = {**os.environ, MARK: self.mark}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [SANDBOX, *arguments],
            cwd=self.project,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done

    def processes(self) -> list[str]:
        """Command lines of the processes that come from this terminal and still run."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it has ended, or is not ours
        return found

    def left_behind(self) -> list[str]:
        """The processes that still run after some time to end in."""
        deadline = time.monotonic() + 30
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(Meltano.in_copy(ROOT, tmp_path).root)
    yield terminal
    terminal.run("down")


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_demo_shows_source_and_warehouse_equal_and_leaves_nothing_running(
    terminal: Terminal,
) -> None:
    out = terminal.run("demo", "--scale", "0.01").stdout

    assert "\x1b" not in out, "colour without a terminal"
    assert re.search(r"votes +2,000\n", out)
    for change in ("insert", "update", "key change", "delete", "new column", "truncate"):
        assert re.search(rf"^ +{change} +[1-9]", out, re.MULTILINE), change
    for table in ("issues", "projects", "rankings", "repositories", "votes"):
        assert re.search(rf"public\.{table} +([\d,]+) +\1 +equal", out), table
    assert out.count("$ meltano run tap-my-postgres-datasource target-bigquery") == 2
    for named in (".env", "extract/postgres.meltano.yml", "TARGET_BIGQUERY_DATASET"):
        assert named in out
    addresses = re.findall(r"127\.0\.0\.1:\d+", out)
    assert len(addresses) == 2
    assert not any(map(answers, addresses))
    assert terminal.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_the_demo_with_all_it_started(
    terminal: Terminal, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [SANDBOX, "demo", "--scale", "0.01"],
        cwd=terminal.project,
        env=terminal.environ,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        # Both servers are up.
        assert any("warehouse" in line for line in process.stdout)
        process.send_signal(number)
        process.stdout.read()
    assert process.returncode != 0
    assert terminal.left_behind() == []


def test_demo_http_fetches_only_what_is_new(terminal: Terminal) -> None:
    out = terminal.run("demo-http").stdout
    assert "300 comics" in out
    assert re.search(r"Comics asked for +301, 302, 303, 304, 305\b", out)
    assert terminal.left_behind() == []


def test_up_gives_an_environment_and_down_ends_it(terminal: Terminal) -> None:
    terminal.run("up", "--scale", "0.01")
    exports = terminal.run("env").stdout
    settings = dict(re.findall(r"^export (\w+)=(\S+)$", exports, re.MULTILINE))
    assert settings["TARGET_BIGQUERY_DATASET"] == "oso"
    source = f"{settings['PGHOST']}:{settings['PGPORT']}"
    assert answers(source)
    assert "1500" in terminal.run("psql", "-tc", "SELECT count(*) FROM issues").stdout
    assert terminal.run("sql", "SELECT 6 * 7 AS answer").stdout.split() == ["answer", "42"]

    refused = terminal.run("up", check=False)
    assert (refused.returncode, refused.stderr) == (
        1,
        "Error: the sandbox is up already; `sandbox down` stops it\n",
    )
    wrong = terminal.run("sql", "SELECT * FROM oso.nothing", check=False)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("Error: Not found: ")

    assert terminal.run("down").stdout == "stopped\n"
    assert not answers(source)
    assert terminal.left_behind() == []
    assert not (terminal.project / ".sandbox").exists()


def test_without_up_the_commands_say_so(terminal: Terminal) -> None:
    for arguments in (("env",), ("sql", "SELECT 1"), ("psql",)):
        failed = terminal.run(*arguments, check=False)
        assert (failed.returncode, failed.stderr) == (
            1,
            "Error: the sandbox is not up; `sandbox up` starts it\n",
        )
    assert terminal.run("down").stdout == "nothing was running\n"
