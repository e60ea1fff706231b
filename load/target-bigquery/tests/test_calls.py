"""What is sent to the real BigQuery, and what comes of its answers.

The loader talks as if to the real service; the emulator answers, and the server in between makes
good where it is not like BigQuery.
"""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.cloud import bigquery

from sandbox.bigquery import BigQueryEmulator
from sandbox.faithful import FaithfulServer
from sandbox.faults import CUT_AFTER, CUT_BEFORE, FAILED_JOB, SILENCE
from sandbox.singer import INTEGER, TEXT, decimal, record, schema, state
from target_bigquery import calls, datasets, warehouse
from target_bigquery.emulator import emulator_client
from target_bigquery.errors import TargetError
from target_bigquery.warehouse import Warehouse

JOBS = ("POST", "/v2/projects/[^/]+/jobs")
MERGE = "MERGE|INSERT INTO"
CONFLICT = "Could not serialize access to table p:d.t due to concurrent update"
ANSWERS: list[dict[str, Any]] = [
    {"action": 400, "reason": "invalidQuery", "message": CONFLICT},
    {"action": 412, "reason": "conditionNotMet"},
    {"action": 429, "reason": "rateLimitExceeded"},
    {"action": 500, "reason": "internalError"},
    {"action": 503},
    {"action": CUT_BEFORE},
]
LOST = {"action": CUT_AFTER}  # the work is done


@pytest.fixture
def server(emulated: BigQueryEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaithfulServer]:
    monkeypatch.setattr(
        "target_bigquery.loader.open_warehouse",
        lambda settings, run: Warehouse(settings, emulator_client(settings), run),
    )
    for name in ("FIRST_PAUSE", "FIRST_POLL", "LONGEST_PAUSE"):
        monkeypatch.setattr(calls, name, 0.01)
    with FaithfulServer(emulated.url) as server:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
        yield server


def two_streams(value: int) -> list[Any]:
    """Return three rows each for a table that is merged, with a new column, and one that grows."""
    properties = {"id": INTEGER, "v": INTEGER}
    messages = [schema("merged", {**properties, f"x{value}": TEXT}), schema("grown", properties)]
    for stream in ("merged", "grown"):
        messages += [record(stream, {"id": n, "v": value}) for n in range(3)]
    return [*messages, state(value)]


def sent(server: FaithfulServer, method: str, path: str = "", body: str = "") -> list[bytes]:
    return [
        content
        for verb, url, content in server.requests
        if verb == method and re.search(path, url) and re.search(body.encode(), content)
    ]


@pytest.mark.parametrize(
    "faults",
    [[*ANSWERS, LOST], [LOST, *ANSWERS], [{"action": SILENCE}]],
    ids=["refused, then answer lost", "answer lost, then refused", "silence"],
)
def test_whatever_call_fails_for_a_while_nothing_is_lost_or_doubled(
    dataset: Any,
    server: FaithfulServer,
    monkeypatch: pytest.MonkeyPatch,
    faults: list[dict[str, Any]],
) -> None:
    if faults[0]["action"] == SILENCE:
        for module, name in itertools.product((calls, datasets, warehouse), ("CALL", "JOB")):
            monkeypatch.setattr(module, f"{name}_TIMEOUT", 1.0, raising=False)
    settings = {"write_mode": {"grown": "append"}}
    dataset.load(two_streams(0), **settings)
    server.requests.clear()
    dataset.load(two_streams(1), **settings)
    calls_of_a_run = len(server.requests)
    assert calls_of_a_run > 10
    for value in range(2, 2 + calls_of_a_run):
        # One after the other they meet the n-th call and what the loader does about it.
        server.faults[:] = []
        added = [server.add("", "", **fault, skip=value - 2) for fault in faults]
        assert dataset.load(two_streams(value), **settings) == [value]
        assert all(fault.met > value - 2 for fault in added[:1])
        assert dataset.rows("merged", "id, v") == [(n, value) for n in range(3)]
        assert dataset.rows("grown", "COUNT(*)") == [(3 * (value + 1),)]


def test_a_job_that_fails_and_may_pass_runs_again_under_another_id(
    dataset: Any, server: FaithfulServer
) -> None:
    for reason, message in (
        ("invalidQuery", CONFLICT),
        ("invalidQuery", "Transaction is aborted due to concurrent update against table t"),
        ("resourcesExceeded", "Too many DML statements outstanding against table t, limit is 20."),
        ("quotaExceeded", "exceeded quota for total number of dml jobs writing, pending + running"),
        ("jobRateLimitExceeded", "Job exceeded rate limits"),
        ("jobInternalError", "Retrying the job may solve the problem."),
    ):
        server.add(*JOBS, FAILED_JOB, body=MERGE, reason=reason, message=message)
    assert dataset.load(two_streams(1), write_mode={"grown": "append"}) == [1]
    assert (
        dataset.rows("grown", "id, v")
        == dataset.rows("merged", "id, v")
        == [(n, 1) for n in range(3)]
    )
    statements = [json.loads(body) for body in sent(server, *JOBS, MERGE)]
    assert len(statements) == 8
    assert len({job["jobReference"]["jobId"] for job in statements}) == 8
    assert all(";" not in job["configuration"]["query"]["query"] for job in statements)


def test_a_silent_upload_is_given_up_and_begun_anew(
    dataset: Any, server: FaithfulServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(calls.CALL_TIMEOUT, calls.JOB_TIMEOUT) <= 60
    monkeypatch.setattr(warehouse, "JOB_TIMEOUT", 1.0)
    monkeypatch.setattr(warehouse, "SMALL_FILE", 0)  # the way of large files
    silence = server.add("PUT", "/upload/", SILENCE)
    assert dataset.load(two_streams(1)) == [1]
    assert silence.met == 2
    assert dataset.rows("merged", "id, v") == [(n, 1) for n in range(3)]


def test_the_time_that_a_job_runs_uses_up_no_patience(
    dataset: Any,
    server: FaithfulServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(datasets, "PATIENCE", 0.4)
    monkeypatch.setattr(calls, "LONG_JOB", 0.3)
    server.job_seconds = 1.0
    monkeypatch.setattr(calls, "SERVER_WAIT", 0.2)
    server.add("GET", "/queries/", 503, skip=3, times=2)
    with caplog.at_level("INFO"):
        assert dataset.load(two_streams(1)) == [1]
    assert re.search(r"query: job target_bigquery_\w+ runs for \d+ s", caplog.text)


@pytest.mark.parametrize("action", [403, FAILED_JOB])
def test_a_quota_that_is_used_up_is_told_as_such_and_leaves_nothing(
    dataset: Any, server: FaithfulServer, action: int | str
) -> None:
    text = "Quota exceeded: Your project exceeded quota for query bytes per day"
    server.add(*JOBS, action, body=MERGE, times=None, reason="quotaExceeded", message=text)
    with pytest.raises(TargetError, match="iam-admin/quotas") as caught:
        dataset.load(two_streams(1))
    assert text in str(caught.value)
    assert "role" not in str(caught.value)
    assert dataset.tables() == ["grown", "merged"]


def test_an_added_column_is_one_patch_and_no_query(
    dataset: Any, server: FaithfulServer, caplog: pytest.LogCaptureFixture
) -> None:
    wide = schema("s", {"id": INTEGER, "big": decimal(60, 20)})
    dataset.load([wide, record("s", {"id": 1})])
    assert len(sent(server, "POST", "/tables", '"big"')) == 2  # the table, staging
    assert sent(server, "PATCH") == []
    server.requests.clear()
    patch = server.add("PATCH", "/tables/s", 412, reason="conditionNotMet")
    dataset.load([schema("s", {"id": INTEGER, "x": TEXT, "y": INTEGER})])
    assert patch.met == 2  # refused, as somebody else changed the table, and sent again
    assert sent(server, *JOBS) == []
    assert set(dataset.types("s")) >= {"id", "big", "x", "y"}
    assert "trying again" in caplog.text


def test_jobs_and_tables_get_what_the_settings_say(dataset: Any, server: FaithfulServer) -> None:
    key = "projects/p/locations/us/keyRings/r/cryptoKeys/k"
    staging = f"{dataset.name}_staging"
    settings = {
        "job_labels": {"team": "data"},
        "maximum_bytes_billed": 10**9,
        "kms_key_name": key,
        "staging_dataset": staging,
    }
    stream = schema("Public-Ünits", {"id": INTEGER})
    messages = [stream, record("Public-Ünits", {"id": 1}), state(1)]
    try:
        assert dataset.load(messages, **settings) == [1]
        left = "_sdc_staging_{}_0123456789ab_1700000000_1"
        for table in (f"{dataset.name}-Public__nits", "other-Public__nits"):
            dataset.client.create_table(f"{dataset.project}.{staging}.{left.format(table)}")
        assert dataset.load(messages, **settings) == [1]
        tables = [table.table_id for table in dataset.client.list_tables(staging)]
        assert tables == [left.format("other-Public__nits")]
    finally:
        dataset.client.delete_dataset(staging, delete_contents=True, not_found_ok=True)
    jobs = [json.loads(body)["configuration"] for body in sent(server, *JOBS, "MERGE")]
    assert {job["query"]["maximumBytesBilled"] for job in jobs} == {str(10**9)}
    assert all(f".{staging}._sdc_staging_" in job["query"]["query"] for job in jobs)
    labels = [job["labels"] for job in jobs]
    loads = sent(server, "POST", "/upload/")
    for label in labels:
        assert label["team"] == "data"
        assert label["stream"] == "public-_nits"
        assert re.fullmatch("[0-9a-f]{12}", label["run"])
        assert any(json.dumps(label["run"]).encode() in load for load in loads)
    assert all(key.encode() in load for load in loads)
    made = [json.loads(body) for body in sent(server, "POST", "/datasets")]
    assert [body.get("defaultTableExpirationMs") for body in made] == [None, "86400000", None]
    assert len(sent(server, "POST", "/tables")) == 1  # staging tables come with their load
    assert key.encode() in sent(server, "POST", "/tables")[0]


def test_datasets_whose_rows_disappear_are_told_of(
    dataset: Any, server: FaithfulServer, caplog: pytest.LogCaptureFixture
) -> None:
    made = bigquery.Dataset(f"{dataset.project}.{dataset.name}")
    made.default_table_expiration_ms = 60 * 24 * 3600 * 1000
    made.default_partition_expiration_ms = 36 * 3600 * 1000
    dataset.client.create_dataset(made)
    dataset.load(two_streams(1))
    assert "default table expiration of 60 days" in caplog.text
    assert "project without billing" in caplog.text
    assert "default partition expiration of 1.5 days" in caplog.text


def test_a_staging_dataset_elsewhere_is_refused(dataset: Any, server: FaithfulServer) -> None:
    name = f"{dataset.name}_eu"
    elsewhere = bigquery.Dataset(f"{dataset.project}.{name}")
    elsewhere.location = "EU"
    dataset.client.create_dataset(elsewhere)
    try:
        with pytest.raises(TargetError, match=f"{name} is in EU and {dataset.name} in US"):
            dataset.load(two_streams(1), staging_dataset=name)
    finally:
        dataset.client.delete_dataset(name)


def test_changes_of_ten_tables_are_forty_calls_and_eleven_jobs(
    dataset: Any, server: FaithfulServer
) -> None:
    kinds = {
        "id": INTEGER,
        "text": TEXT,
        "many": {"type": ["array", "null"]},
        "big": decimal(60, 20),
    }
    streams = [f"t{n}" for n in range(10)]
    for value in (1, 2):
        server.requests.clear()
        messages: list[Any] = []
        for number, stream in enumerate(streams):
            properties = dict(list(kinds.items())[: 1 + number % 4])
            messages.append(schema(stream, properties))
            row = {"text": f"{stream} {value}", "many": [value, "é"], "big": f"{value}.5"}
            values = {name: value for name, value in row.items() if name in properties}
            messages += [record(stream, {"id": n, **values}) for n in range(20)]
        dataset.load(messages)
    assert len(server.requests) <= 40
    assert len(sent(server, *JOBS)) == 11  # a load and ten merges
    assert dataset.rows("t0", "id") == [(n,) for n in range(20)]
    found = dataset.rows("t3", "id, text, TO_JSON_STRING(many), CAST(big AS STRING)")
    assert [row[:3] for row in found] == [(n, "t3 2", '[2,"é"]') for n in range(20)]
    assert {float(row[3]) for row in found} == {2.5}


def test_a_stream_that_is_refused_among_others_is_named(
    dataset: Any, server: FaithfulServer
) -> None:
    text = "Provided Schema does not match"
    refusal: dict[str, Any] = {"action": 400, "reason": "invalid", "message": text, "times": None}
    server.add("POST", "/upload/", **refusal, body="_sdc_staged_stream")
    server.add("POST", "/upload/", **refusal, body="_sdc_staging_grown")
    with pytest.raises(TargetError, match=f"stream 'grown', table 'grown': .*{text}"):
        dataset.load(two_streams(1))
    assert dataset.rows("merged", "id, v") == [(n, 1) for n in range(3)]
    assert dataset.tables() == ["grown", "merged"]
