"""Faults of a server: what is tried again, what is not, and how long is waited."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import requests

from tap_oso_example.rest import retry
from tap_oso_example.rest import stream as rest_stream

if TYPE_CHECKING:
    from conftest import Sync

    from sandbox.http import HttpSandbox

STREAM = "xkcd_comics"
PATH = "/xkcd/9/info.0.json"


def tries(server: HttpSandbox) -> int:
    return sum(request.path == PATH for request in server.requests)


@pytest.mark.parametrize(
    "fault", ["500", "502", "503", "429:0.1", "403:1", "truncate", "garbage", "drop"]
)
def test_a_passing_fault_loses_nothing(
    server: HttpSandbox, sync: Sync, short_waits: None, fault: str
) -> None:
    server.inject(PATH, fault, 2)
    assert sync(STREAM).column(STREAM, "num") == list(range(1, 31))
    assert tries(server) == 3


def test_silence_counts_as_a_fault(
    server: HttpSandbox, sync: Sync, short_waits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest_stream, "REQUEST_SECONDS", 0.2)
    server.inject(PATH, "slow:1")
    assert sync(STREAM).column(STREAM, "num") == list(range(1, 31))
    assert tries(server) == 2


def test_faults_everywhere_lose_nothing(server: HttpSandbox, sync: Sync, short_waits: None) -> None:
    for number, fault in enumerate(["500", "truncate", "drop", "garbage", "429:0.1"]):
        server.inject(f"/xkcd/{number + 1}/*", fault)
        server.inject("/github/repos/*/releases", fault)
    messages = sync()
    assert messages.column(STREAM, "num") == list(range(1, 31))
    assert len(messages.records("github_repositories")) == 6
    assert len(messages.records("github_releases")) == 12


@pytest.mark.parametrize("status", ["400", "401", "403", "410", "422"])
def test_a_client_error_is_not_tried_again(server: HttpSandbox, sync: Sync, status: str) -> None:
    server.inject(PATH, status, 100)
    sync(STREAM, fails=True)
    assert f"{PATH}: HTTP {status} " in sync.error  # type: ignore[attr-defined]
    assert tries(server) == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("503", "HTTP 503 Service Unavailable"),
        ("429:0.01", "HTTP 429 Too Many Requests"),
        ("truncate", "the body broke off"),
        ("drop", "the connection failed or was cut"),
        ("garbage", "the body is not JSON"),
    ],
)
def test_a_lasting_fault_ends_the_run_with_its_reason(
    server: HttpSandbox, sync: Sync, short_waits: None, fault: str, says: str
) -> None:
    server.inject(PATH, fault, 100)
    messages = sync(STREAM, fails=True)
    assert f"GET {server.url}{PATH}: " in sync.error  # type: ignore[attr-defined]
    assert says in sync.error  # type: ignore[attr-defined]
    assert tries(server) == retry.MAX_TRIES
    assert messages.comics_bookmark == 8


def test_server_that_is_not_there_is_named(sync: Sync, short_waits: None) -> None:
    sync(STREAM, fails=True, xkcd_url="http://127.0.0.1:9")
    assert sync.error.startswith(  # type: ignore[attr-defined]
        "GET http://127.0.0.1:9/info.0.json: the connection failed or was cut"
    )


@pytest.mark.parametrize("fault", ["429:1", "403:2"])
def test_all_requests_pause_as_long_as_the_server_asks(
    server: HttpSandbox, sync: Sync, fault: str
) -> None:
    server.world.comics = 200
    server.latency = 0.01
    server.inject("/xkcd/40/*", fault)
    sync(STREAM)
    gaps = [
        later.at - earlier.at
        for earlier, later in zip(server.requests, server.requests[1:], strict=False)
    ]
    # The time of a reset is in whole seconds, so up to one of them is lost by rounding.
    assert max(gaps) > 0.8


def test_each_try_is_logged_with_its_reason(
    server: HttpSandbox, sync: Sync, short_waits: None, caplog: pytest.LogCaptureFixture
) -> None:
    server.inject(PATH, "503")
    sync(STREAM)
    [line] = [message for message in caplog.messages if message.startswith("Try ")]
    assert line.startswith("Try 1 of 7 failed, next in 0.")
    assert line.endswith(f"GET {server.url}{PATH}: HTTP 503 Service Unavailable")


def answer(status: int, **headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


@pytest.mark.parametrize(
    ("response", "seconds"),
    [
        (answer(429, retry_after="7"), 7.0),
        (answer(403, retry_after="7"), 7.0),
        (answer(429), retry.UNKNOWN_LIMIT_WAIT),
        (answer(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), retry.UNKNOWN_LIMIT_WAIT),
        (answer(403, x_ratelimit_remaining="0"), retry.UNKNOWN_LIMIT_WAIT),
        (answer(403, x_ratelimit_remaining="12"), None),
        (answer(403), None),
        (answer(200, x_ratelimit_remaining="0"), None),
        (answer(500, retry_after="7"), None),
    ],
)
def test_pause_follows_what_the_server_says(
    response: requests.Response, seconds: float | None
) -> None:
    assert retry.limit_wait(response) == seconds


def test_pause_lasts_until_the_reset() -> None:
    reset = str(int(time.time()) + 50)
    response = answer(403, x_ratelimit_remaining="0", x_ratelimit_reset=reset)
    wait = retry.limit_wait(response)
    assert wait is not None
    assert 48 < wait <= 50
