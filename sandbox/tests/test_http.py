"""The local XKCD and GitHub APIs: what they answer, and how they fail."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from sandbox.http import HttpSandbox, World

if TYPE_CHECKING:
    from collections.abc import Iterator

SANDBOX = str(Path(sys.executable).parent / "sandbox")


@pytest.fixture
def server() -> Iterator[HttpSandbox]:
    with HttpSandbox(World.generate(comics=410, organizations=2, repositories=5)) as server:
        yield server


def get(server: HttpSandbox, path: str, **options: float) -> requests.Response:
    return requests.get(f"{server.url}{path}", timeout=options.get("timeout", 5))


def test_content_is_the_same_in_every_server(server: HttpSandbox) -> None:
    with HttpSandbox(World.generate(comics=410, organizations=2, repositories=5)) as twin:
        for path in ("/xkcd/7/info.0.json", "/github/orgs/org-2/repos"):
            assert get(server, path).json() == get(twin, path).json()


def test_comics_are_those_up_to_the_latest_but_404(server: HttpSandbox) -> None:
    assert get(server, "/xkcd/info.0.json").json()["num"] == 410
    assert get(server, "/xkcd/403/info.0.json").json()["num"] == 403
    for missing in (0, 404, 411):
        assert get(server, f"/xkcd/{missing}/info.0.json").status_code == 404


def test_published_comics_appear(server: HttpSandbox) -> None:
    requests.post(f"{server.url}/xkcd/publish?count=3", timeout=5).raise_for_status()
    assert get(server, "/xkcd/info.0.json").json()["num"] == 413


def test_links_lead_through_all_pages(server: HttpSandbox) -> None:
    url, names = f"{server.url}/github/orgs/org-1/repos?per_page=2", []
    while url:
        response = requests.get(url, timeout=5)
        names += [repository["name"] for repository in response.json()]
        url = response.links.get("next", {}).get("url", "")
    assert names == [f"repo-{n}" for n in range(1, 6)]


def test_repositories_are_sorted_as_asked(server: HttpSandbox) -> None:
    server.world.update_repository("org-1", "repo-3")
    path = "/github/orgs/org-1/repos?sort=updated&direction="
    assert get(server, path + "desc").json()[0]["name"] == "repo-3"
    assert get(server, path + "asc").json()[-1]["name"] == "repo-3"


def test_unknown_and_deleted_are_not_found(server: HttpSandbox) -> None:
    server.world.delete_repository("org-1", "repo-1")
    assert get(server, "/github/repos/org-1/repo-1/releases").status_code == 404
    assert get(server, "/github/orgs/nobody/repos").status_code == 404


def test_a_status_is_answered_as_often_as_told(server: HttpSandbox) -> None:
    server.inject("/xkcd/*", "503", 2)
    statuses = [get(server, "/xkcd/info.0.json").status_code for _ in range(3)]
    assert statuses == [503, 503, 200]


def test_limits_say_when_to_come_back(server: HttpSandbox) -> None:
    server.inject("/github/*", "429:7")
    server.inject("/github/*", "403:60")
    assert get(server, "/github/orgs/org-1/repos").headers["retry-after"] == "7"
    limited = get(server, "/github/orgs/org-1/repos")
    assert limited.status_code == 403
    assert limited.headers["x-ratelimit-remaining"] == "0"
    assert 55 < int(limited.headers["x-ratelimit-reset"]) - time.time() <= 60


def test_connections_break_before_and_in_the_body(server: HttpSandbox) -> None:
    server.inject("/xkcd/*", "drop")
    server.inject("/xkcd/*", "truncate")
    with pytest.raises(requests.exceptions.ConnectionError):
        get(server, "/xkcd/info.0.json")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        get(server, "/xkcd/info.0.json")


def test_garbage_is_not_json(server: HttpSandbox) -> None:
    server.inject("/xkcd/*", "garbage")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        get(server, "/xkcd/info.0.json").json()


def test_slow_answers_are_late_and_true(server: HttpSandbox) -> None:
    server.inject("/xkcd/*", "slow:0.3")
    begun = time.monotonic()
    assert get(server, "/xkcd/info.0.json").json()["num"] == 410
    assert time.monotonic() - begun >= 0.3


@pytest.mark.parametrize("kind", ["5oo", "99", "600", "slow", "drop:1", ""])
def test_an_unknown_fault_is_refused(server: HttpSandbox, kind: str) -> None:
    with pytest.raises(ValueError, match="unknown fault"):
        server.inject("/xkcd/*", kind)


def test_the_command_serves_until_it_is_told_to_stop() -> None:
    command = [SANDBOX, "http", "--port", "0", "--comics", "9", "--fault", "/xkcd/*", "500", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    url = process.stdout.readline().strip().removeprefix("export TAP_OSO_EXAMPLE_XKCD_URL=")
    assert requests.get(f"{url}/info.0.json", timeout=5).status_code == 500
    assert requests.get(f"{url}/info.0.json", timeout=5).json()["num"] == 9
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_a_taken_port_is_named(server: HttpSandbox) -> None:
    port = server.url.rsplit(":", 1)[1]
    command = [SANDBOX, "http", "--port", port]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert f"can't listen on port {port}" in result.stderr
