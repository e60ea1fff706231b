"""The example tap under Meltano, from the HTTP sandbox to files."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.http import HttpSandbox
    from sandbox.meltano import Meltano

TAP, TARGET = "tap-oso-example", "target-jsonl"
KILLS = 6


def numbers(meltano: Meltano) -> list[int]:
    return [comic["num"] for comic in meltano.records("xkcd_comics")]


def test_run_writes_everything_then_only_what_is_new(meltano: Meltano, http: HttpSandbox) -> None:
    meltano.run("run", TAP, TARGET)
    assert numbers(meltano) == list(range(1, 41))
    assert len(meltano.records("github_repositories")) == 6
    assert len(meltano.records("github_releases")) == 18

    http.world.comics += 2
    http.requests.clear()
    meltano.run("run", TAP, TARGET)

    assert numbers(meltano) == list(range(1, 43))
    comics = {request.path for request in http.requests if request.path.startswith("/xkcd/")}
    assert comics == {f"/xkcd/{part}info.0.json" for part in ("", "41/", "42/")}
    bookmarks = meltano.state(f"dev:{TAP}-to-{TARGET}")["bookmarks"]
    assert bookmarks["xkcd_comics"]["replication_key_value"] == 42


def test_el_keeps_its_state_under_the_given_id(meltano: Meltano, http: HttpSandbox) -> None:
    for _ in range(2):
        meltano.run("el", TAP, TARGET, "--state-id", "nightly-example")
    assert numbers(meltano) == list(range(1, 41))
    bookmarks = meltano.state("nightly-example")["bookmarks"]
    assert bookmarks["xkcd_comics"]["replication_key_value"] == 40


def test_each_environment_has_a_state_of_its_own(meltano: Meltano) -> None:
    meltano.run("--environment", "staging", "run", TAP, TARGET)
    assert meltano.state(f"staging:{TAP}-to-{TARGET}")
    assert not meltano.state(f"dev:{TAP}-to-{TARGET}")


def test_invoke_runs_the_tap_alone(meltano: Meltano) -> None:
    lines = meltano.run("invoke", TAP).stdout.splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    records = [m["record"] for m in messages if m.get("stream") == "xkcd_comics" and "record" in m]
    assert [record["num"] for record in records] == list(range(1, 41))


def test_config_test_tells_good_settings_from_bad(
    meltano: Meltano, http: HttpSandbox, environment: dict[str, str]
) -> None:
    assert meltano.run("config", "test", TAP).returncode == 0
    meltano.env["TAP_OSO_EXAMPLE_CONCURRENCY"] = "0"
    assert meltano.run("config", "test", TAP, check=False).returncode == 1


def test_select_limits_tables_and_columns(meltano_copy: Meltano, http: HttpSandbox) -> None:
    meltano_copy.run("select", TAP, "xkcd_comics", "title")
    meltano_copy.run("run", TAP, TARGET)
    assert meltano_copy.records("xkcd_comics")[0] == {"num": 1, "title": "Comic 1: naïve ☃"}
    assert not any(request.path.startswith("/github/") for request in http.requests)


def test_a_failing_server_fails_the_run_and_the_reason_is_among_the_last_lines(
    meltano: Meltano, http: HttpSandbox
) -> None:
    http.inject("/xkcd/9/*", "400", 100)
    failed = meltano.run("run", TAP, TARGET, check=False)
    assert failed.returncode == 1
    reason = f"GET {http.url}/xkcd/9/info.0.json: HTTP 400 Bad Request"
    assert reason in "\n".join(failed.stderr.splitlines()[-10:])

    http.heal()
    meltano.run("run", TAP, TARGET)
    assert numbers(meltano) == list(range(1, 41))


def test_no_comic_is_missing_after_kills_at_any_moment(meltano: Meltano, http: HttpSandbox) -> None:
    """SIGKILL to Meltano with all it started, again and again; then one run that may finish."""
    http.world.comics = 400
    http.latency = 0.05
    chance = random.Random(404)
    killed_in_the_middle = 0
    for _ in range(KILLS):
        asked = len(http.requests) + chance.randint(1, 150)
        process = meltano.start("run", "--force", TAP, TARGET)
        while len(http.requests) < asked and process.poll() is None:
            time.sleep(0.01)
        killed_in_the_middle += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert killed_in_the_middle >= KILLS - 1

    http.latency = 0
    meltano.run("run", "--force", TAP, TARGET)

    assert set(numbers(meltano)) == set(range(1, 401))
