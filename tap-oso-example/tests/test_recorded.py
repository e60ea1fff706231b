"""The tap against recorded responses, whole and broken: the test that a new tap starts with.

To record a response: `curl <address of the API><path> -o tests/recorded<path>`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from sandbox.http import HttpSandbox, recorded
from tap_oso_example.tap import TapOSOExample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., list[dict[str, Any]]]

EXECUTABLE = str(Path(sys.executable).parent / "tap-oso-example")
STREAM = "xkcd_comics"
RECORDED = recorded(Path(__file__).parent / "recorded")
NOT_RECORDED: list[str] = ["github_releases", "github_repositories"]

# The SDK makes its test class while this module is imported, and wants the settings then.
SERVER = HttpSandbox(app=RECORDED)
SERVER.start()
TestStandard = get_tap_test_class(
    TapOSOExample,
    config={"xkcd_url": SERVER.url},
    suite_config=SuiteConfig(ignore_no_records_for_streams=NOT_RECORDED),
    parse_env_config=False,
)


@pytest.fixture
def server() -> Iterator[HttpSandbox]:
    with HttpSandbox(app=RECORDED) as server:
        yield server


@pytest.fixture
def run(server: HttpSandbox, tmp_path: Path) -> Run:
    """Run the tap as Meltano does, and return its messages."""

    def run(state: dict[str, Any] | None = None, *, fails: bool = False) -> list[dict[str, Any]]:
        (tmp_path / "config.json").write_text(json.dumps({"xkcd_url": server.url}))
        (tmp_path / "state.json").write_text(json.dumps(state or {}))
        files = ["--config", "config.json", "--state", "state.json"]
        done = subprocess.run(
            [EXECUTABLE, *files], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == int(fails), done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def records(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [m["record"] for m in messages if m["type"] == "RECORD" and m["stream"] == STREAM]
    assert all(set(record) == set(found[0]) for record in found)
    return found


def test_every_row_arrives_once_and_in_order(run: Run) -> None:
    assert [record["num"] for record in records(run())] == [1, 2, 3]


def test_columns_are_made_from_the_row(run: Run) -> None:
    first = records(run())[0]
    assert first["published_on"] == "2006-01-02"
    assert first["is_good"] is False


def test_second_run_brings_only_what_is_new(run: Run) -> None:
    state = {"bookmarks": {STREAM: {"replication_key": "num", "replication_key_value": 2}}}
    messages = run(state)
    assert [record["num"] for record in records(messages)] == [3]
    assert messages[-1]["value"]["bookmarks"][STREAM]["replication_key_value"] == 3


@pytest.mark.parametrize("fault", ["500", "429:0.1", "truncate"])
def test_a_passing_fault_loses_nothing(server: HttpSandbox, run: Run, fault: str) -> None:
    server.inject("/2/*", fault)
    assert [record["num"] for record in records(run())] == [1, 2, 3]


def test_a_refused_request_ends_the_run_and_keeps_the_bookmark_before_it(
    server: HttpSandbox, run: Run
) -> None:
    server.inject("/3/*", "401", 100)
    messages = run(fails=True)
    assert messages[-1]["value"]["bookmarks"][STREAM]["replication_key_value"] == 2
