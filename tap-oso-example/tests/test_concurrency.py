"""Width, order, gap-free bookmarks and the end of a failed run."""

from __future__ import annotations

import json
import threading
import time
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_oso_example.rest.ordered import CHUNK, CHUNKS_AHEAD, ordered_map

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from conftest import Sync

    from sandbox.http import HttpSandbox


def run_map(
    function: Callable[[int], Any],
    items: range,
    width: int,
    closed: threading.Event | None = None,
) -> Generator[tuple[int, Iterator[Any]]]:
    closed = closed or threading.Event()
    return ordered_map(function, items, width=width, closed=closed, on_wait=lambda: None)


@settings(deadline=None, max_examples=50)
@given(
    delays=st.lists(st.integers(0, 3), max_size=40),
    width=st.integers(1, 8),
    failing=st.none() | st.integers(0, 39),
)
def test_map_gives_everything_in_order_up_to_the_first_failure(
    delays: list[int], width: int, failing: int | None
) -> None:
    def work(item: int) -> Iterator[tuple[int, int]]:
        time.sleep(delays[item] / 1000)
        yield item, 0
        if item == failing:
            raise ValueError(item)
        yield item, 1

    seen = []
    failed = False
    closed = threading.Event()
    try:
        for item, results in run_map(work, range(len(delays)), width, closed):
            for result in results:
                assert result[0] == item
                seen.append(result)
    except ValueError:
        failed = True
    finally:
        closed.set()

    complete = [(item, part) for item in range(len(delays)) for part in (0, 1)]
    assert failed == (failing is not None and failing < len(delays))
    expected = complete[: 2 * failing + 1] if failed and failing is not None else complete
    assert seen == expected


def test_map_holds_back_what_is_not_read() -> None:
    made = count()

    def endless(item: int) -> Iterator[int]:
        while True:
            yield next(made)

    series = run_map(endless, range(100), width=2)
    _, results = next(series)
    assert len(list(islice(results, 5))) == 5
    time.sleep(0.3)
    # Two threads: each has filled the queue of its item, and holds one more chunk.
    assert next(made) <= 2 * (CHUNKS_AHEAD + 1) * CHUNK + CHUNK
    series.close()


def test_map_lets_its_threads_go_when_the_reader_goes() -> None:
    before = set(threading.enumerate())
    series = run_map(lambda item: [item] * 1000, range(100), width=4)
    next(series)
    series.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=5)
        assert not thread.is_alive()


@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_requests_in_flight_reach_the_concurrency_and_never_pass_it(
    server: HttpSandbox, sync: Sync, concurrency: int
) -> None:
    server.world.comics = 60
    server.latency = 0.03
    sync(concurrency=concurrency)
    assert server.most_in_flight == concurrency


def test_results_do_not_depend_on_concurrency(sync: Sync) -> None:
    one, many = sync(concurrency=1), sync(concurrency=16)
    streams = ("xkcd_comics", "github_repositories", "github_releases")
    assert [one.records(s) for s in streams] == [many.records(s) for s in streams]
    assert one.state == many.state


def test_bookmark_stops_before_a_failure_and_the_next_run_goes_on_there(
    server: HttpSandbox, sync: Sync, short_waits: None
) -> None:
    server.inject("/xkcd/17/*", "500", 100)
    first = sync("xkcd_comics", fails=True)
    url = f"{server.url}/xkcd/17/info.0.json"
    assert sync.error == f"GET {url}: HTTP 500 Internal Server Error; gave up after 7 tries"  # type: ignore[attr-defined]
    assert first.column("xkcd_comics", "num") == list(range(1, 17))
    assert first.comics_bookmark == 16
    server.heal()
    server.world.comics = 35

    second = sync("xkcd_comics", state=first.state)

    assert second.column("xkcd_comics", "num") == list(range(17, 36))


def test_failure_ends_the_process_with_one_line_while_other_requests_hang(
    server: HttpSandbox, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    server.inject("/xkcd/9/*", "400")
    server.inject("/xkcd/1?/*", "slow:60", 100)
    process = start(organizations=[])
    begun = time.monotonic()
    out, log = process.communicate(timeout=30)

    assert time.monotonic() - begun < 5
    assert process.returncode == 1
    last = log.strip().splitlines()[-1]
    assert last.endswith(f"GET {server.url}/xkcd/9/info.0.json: HTTP 400 Bad Request")
    assert "Traceback" not in log
    messages = [json.loads(line) for line in out.splitlines()]
    assert messages[-1]["type"] == "STATE"
    assert messages[-1]["value"]["bookmarks"]["xkcd_comics"]["replication_key_value"] == 8


def test_traceback_is_logged_for_debugging(
    server: HttpSandbox,
    start: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOGLEVEL", "DEBUG")
    server.inject("/xkcd/9/*", "400")
    _, log = start(organizations=[]).communicate(timeout=30)
    assert "Traceback" in log


def test_long_runs_tell_their_progress(
    server: HttpSandbox,
    sync: Sync,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tap_oso_example.rest.logs.INTERVAL", 0.1)
    server.latency = 0.05
    with caplog.at_level("INFO"):
        sync("xkcd_comics", concurrency=2)
    lines = [line for line in caplog.messages if " of 30 done (" in line]
    assert len(lines) >= 3
    assert "/s, about " in lines[0]
