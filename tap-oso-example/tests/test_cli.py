"""What a user sees of the tap: about, discovery, test, settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.http import HttpSandbox

EXECUTABLE = str(Path(sys.executable).parent / "tap-oso-example")


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [EXECUTABLE, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **env},
    )


def test_about_describes_every_setting() -> None:
    about = json.loads(run("--about", "--format=json").stdout)
    settings = about["settings"]["properties"]
    ours = ("xkcd_url", "github_url", "organizations", "github_token", "concurrency", "user_agent")
    assert all(settings[name]["description"] for name in ours)
    assert settings["github_token"]["secret"] is True
    assert settings["concurrency"]["default"] == 16


def test_discovery_needs_no_server_and_describes_every_column() -> None:
    catalog = json.loads(run("--discover").stdout)
    streams = {stream["tap_stream_id"]: stream for stream in catalog["streams"]}
    keys = {name: stream["replication_key"] for name, stream in streams.items()}
    assert keys == {
        "xkcd_comics": "num",
        "github_repositories": "updated_at",
        "github_releases": "published_at",
    }
    for stream in streams.values():
        for column in stream["schema"]["properties"].values():
            assert column["description"]


def test_test_writes_a_record_of_every_stream(start: Callable[..., Any]) -> None:
    out, _ = start("--test").communicate(timeout=60)
    messages = [json.loads(line) for line in out.splitlines()]
    streams = [m["stream"] for m in messages if m["type"] == "RECORD"]
    assert sorted(streams) == ["github_releases", "github_repositories", "xkcd_comics"]


def test_test_fails_when_the_server_does(server: HttpSandbox, start: Callable[..., Any]) -> None:
    server.inject("/github/*", "401", 100)
    process = start("--test")
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "HTTP 401 Unauthorized" in log.splitlines()[-1]


def test_settings_can_come_from_the_environment(server: HttpSandbox) -> None:
    server.latency = 0.02
    result = run(
        "--config=ENV",
        TAP_OSO_EXAMPLE_XKCD_URL=f"{server.url}/xkcd",
        TAP_OSO_EXAMPLE_GITHUB_URL=f"{server.url}/github",
        TAP_OSO_EXAMPLE_ORGANIZATIONS='["org-2"]',
        TAP_OSO_EXAMPLE_CONCURRENCY="2",
    )
    assert result.returncode == 0
    assert server.most_in_flight == 2
    assert "/github/orgs/org-2/repos" in {request.path for request in server.requests}
    assert "/github/orgs/org-1/repos" not in {request.path for request in server.requests}


def test_deselected_columns_are_left_out(start: Callable[..., Any], tmp_path: Path) -> None:
    catalog = json.loads(run("--discover").stdout)
    for stream in catalog["streams"]:
        wanted = stream["tap_stream_id"] == "xkcd_comics"
        for entry in stream["metadata"]:
            if entry["breadcrumb"] == []:
                entry["metadata"]["selected"] = wanted
            elif entry["breadcrumb"][-1] in {"transcript", "alt"}:
                entry["metadata"]["selected"] = False
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    out, _ = start("--catalog", str(tmp_path / "catalog.json")).communicate(timeout=60)
    messages = [json.loads(line) for line in out.splitlines()]
    assert {m["stream"] for m in messages if "stream" in m} == {"xkcd_comics"}
    columns = {name for m in messages if m["type"] == "RECORD" for name in m["record"]}
    assert "title" in columns
    assert not columns & {"transcript", "alt"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("xkcd_url", "xkcd.com"),
        ("github_url", "ftp://api.github.com"),
        ("organizations", [""]),
        ("organizations", ["a/b"]),
        ("organizations", "org-1"),
        ("concurrency", 0),
        ("concurrency", "many"),
        ("github_token", ""),
        ("user_agent", ""),
    ],
)
def test_a_wrong_setting_is_named(setting: str, value: Any, start: Callable[..., Any]) -> None:
    process = start(**{setting: value})
    out, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert f"config['{setting}']" in log
    assert "Traceback" not in log
