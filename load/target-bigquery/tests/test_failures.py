"""What goes wrong between target and BigQuery: tried again where that helps.

The end of the run where it does not.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.bigquery import BigQueryEmulator
from sandbox.faults import CUT_AFTER, FaultyServer
from sandbox.ports import free_port
from sandbox.singer import INTEGER, TEXT, record, schema, state
from target_bigquery.errors import TargetError

PLAIN = schema("s", {"id": INTEGER, "a": TEXT})
FIRST = [PLAIN, *(record("s", {"id": n, "a": "1"}) for n in range(20)), state(1)]
SECOND = [*FIRST, *(record("s", {"id": n, "a": "2"}) for n in range(10, 30)), state(2)]
UPLOAD = ("PUT", "/upload/")
UPLOAD_START = ("POST", "/upload/")
QUERY = ("POST", "/projects/[^/]+/jobs")
MERGE = "MERGE|INSERT INTO"


@pytest.fixture
def server(emulated: BigQueryEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    with FaultyServer(emulated.url) as server:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
        yield server


@pytest.mark.parametrize("write_mode", ["upsert", "append"])
@pytest.mark.parametrize("action", [503, CUT_AFTER])
@pytest.mark.parametrize(
    "request_kind",
    [
        (*UPLOAD_START, ""),
        (*UPLOAD, ""),
        (*QUERY, MERGE),
        ("POST", "/tables", ""),
    ],
    ids=["upload start", "upload", "merge", "staging table"],
)
def test_what_passes_is_tried_again_and_nothing_is_loaded_twice(
    dataset: Any,
    server: FaultyServer,
    write_mode: str,
    action: int | str,
    request_kind: tuple[str, str, str],
) -> None:
    method, path, body = request_kind
    fault = server.add(method, path, action, headers={"Retry-After": "1"}, body=body)
    assert dataset.load(SECOND, write_mode=write_mode) == [2]
    assert fault.met > 0
    expected = [(n, "1" if n < 10 else "2") for n in range(30)]
    if write_mode == "append":
        expected = sorted([(n, "1") for n in range(20)] + [(n, "2") for n in range(10, 30)])
    assert dataset.rows("s", "id, a", "1, 2") == expected


def test_a_rate_limit_is_waited_for(dataset: Any, server: FaultyServer) -> None:
    server.add(*QUERY, 403, reason="rateLimitExceeded", times=2, body=MERGE)
    assert dataset.load(FIRST) == [1]
    dataset.assert_unique("s", "id")


@pytest.mark.parametrize("request_kind", [UPLOAD, QUERY], ids=["upload", "merge"])
def test_a_refusal_ends_the_run_without_its_state(
    dataset: Any, server: FaultyServer, request_kind: tuple[str, str]
) -> None:
    body = "" if request_kind == UPLOAD else "MERGE"
    server.add(*request_kind, 403, reason="accessDenied", times=None, skip=1, body=body)
    dataset.environ = {"BIGQUERY_EMULATOR_HOST": server.url}
    result = dataset.run(SECOND, flush_rows=20)
    assert result.returncode == 1
    assert result.stdout == "1\n"
    last = result.stderr.splitlines()[-1]
    assert "stream 's', table 's'" in last
    assert "accessDenied" in last
    assert "(job target_bigquery_" in last
    assert "Traceback" not in result.stderr
    assert dataset.rows("s", "id, a") == [(n, "1") for n in range(20)]
    del server.faults[:]
    assert dataset.load(SECOND) == [2]
    assert dataset.rows("s", "id, a") == [(n, "1" if n < 10 else "2") for n in range(30)]


def test_a_lasting_failure_ends_the_run(
    dataset: Any, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("target_bigquery.datasets.PATIENCE", 3.0)
    server.add(*UPLOAD, 500, times=None)
    with pytest.raises(TargetError, match=r"no success within 3 seconds, last: backendError"):
        dataset.load(FIRST)
    assert dataset.capsys.readouterr().out == ""
    assert dataset.rows("s") == []


def test_a_failed_load_job_names_stream_and_job(
    dataset: Any, emulated: BigQueryEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "target_bigquery.batch.Batch.finish", lambda batch: batch._file
    )  # no footer
    with pytest.raises(
        TargetError, match=r"stream 's', table 's': could not load .*\(job target_bigquery_"
    ):
        dataset.load(FIRST)


def test_an_unreachable_warehouse_ends_the_run_soon(dataset: Any) -> None:
    dataset.environ = {"BIGQUERY_EMULATOR_HOST": f"http://127.0.0.1:{free_port()}"}
    result = dataset.run(FIRST, timeout=40)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "can't use dataset" in result.stderr.splitlines()[-1]
    assert "Connection refused" in result.stderr.splitlines()[-1]


def test_staging_tables_expire_and_are_dropped(dataset: Any, server: FaultyServer) -> None:
    dataset.load(FIRST)
    made = [
        body
        for method, path, body in server.requests
        if method == "POST" and b"_sdc_staging_" in body
    ]
    assert any(b"expirationTime" in body for body in made)
    assert dataset.tables() == ["s"]


def test_leftovers_of_a_killed_run_disappear_but_not_what_another_run_uses(dataset: Any) -> None:
    dataset.load(FIRST)
    old, new = (f"0123456789ab_{time.time() - ago:.0f}_1" for ago in (3700, 600))
    for table in (f"s_{old}", f"s_{new}", f"s_other_{old}"):
        dataset.query(f"CREATE TABLE `{{d}}._sdc_staging_{table}` (id INT64)")
    dataset.load(FIRST)
    assert dataset.tables() == [f"_sdc_staging_s_{new}", f"_sdc_staging_s_other_{old}", "s"]
