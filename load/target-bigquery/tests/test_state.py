"""STATE follows data: what comes out, when, and what does not.

With real processes where signals matter.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.bigquery import BigQueryEmulator
from sandbox.faults import FaultyServer
from sandbox.singer import INTEGER, TEXT, activate, record, schema, state
from target_bigquery.waiting import INPUT_ERRORS

PLAIN = schema("s", {"id": INTEGER, "a": TEXT})
Process = subprocess.Popen[str]
TARGET = str(Path(sys.executable).with_name("target-bigquery"))


def rows(first: int, count: int) -> list[Any]:
    return [record("s", {"id": n, "a": "x"}) for n in range(first, first + count)]


@pytest.fixture
def start(dataset: Any, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a target that reads from a pipe which stays open."""
    started: list[Process] = []

    def start(**settings: Any) -> Process:
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                [TARGET, "--config", "ENV"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=dataset.process_environ(**settings),
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def send(process: Process, messages: list[Any]) -> None:
    assert process.stdin
    process.stdin.write("".join(json.dumps(message) + "\n" for message in messages))
    process.stdin.flush()


def test_only_the_newest_state_comes_out(dataset: Any) -> None:
    messages = [PLAIN, *rows(0, 3), state(1), *rows(3, 3), state(2), state(3)]
    assert dataset.load(messages) == [3]


def test_a_state_waits_for_the_records_before_it(dataset: Any) -> None:
    messages = [PLAIN, *rows(0, 4), state("a"), *rows(4, 4), state("b"), *rows(8, 3)]
    assert dataset.load(messages, flush_rows=5) == ["a", "b"]
    assert len(dataset.rows("s")) == 11


def test_the_text_of_a_state_stays_as_it_is(dataset: Any) -> None:
    line = '{"type": "STATE", "value": {"z": 1.10,  "a": "\\u00e9"}}'
    dataset.load([PLAIN])
    dataset.capsys.readouterr()
    result = dataset.run([PLAIN, line])
    assert result.stdout == '{"z": 1.10,  "a": "\\u00e9"}\n'


def test_a_state_without_records_comes_out(dataset: Any) -> None:
    assert dataset.load([state({"x": 1})]) == [{"x": 1}]


def test_an_empty_stream_makes_its_table(dataset: Any) -> None:
    assert dataset.load([PLAIN, state(1)]) == [1]
    assert dataset.rows("s") == []
    assert dataset.types("s")["a"] == "STRING"


def test_a_record_that_cant_be_loaded_holds_its_state_back(dataset: Any) -> None:
    bad = record("s", {"id": "seven", "a": "x"})
    result = dataset.run(
        [PLAIN, *rows(0, 10), state(1), *rows(10, 5), bad, state(2)], flush_rows=10
    )
    assert result.returncode == 1
    assert result.stdout in {"", "1\n"}
    last = result.stderr.splitlines()[-1]
    assert (
        "stream 's', column 'id': INT64 can't hold the value of record 16 after the SCHEMA" in last
    )
    assert "seven" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_line_that_is_no_message_is_named(dataset: Any) -> None:
    result = dataset.run([PLAIN, *rows(0, 3), "{not json", state(1)])
    assert (result.returncode, result.stdout) == (1, "")
    assert "not a Singer message" in result.stderr.splitlines()[-1]


def test_input_that_ends_within_a_line_is_an_error(dataset: Any) -> None:
    text = "".join(json.dumps(m) + "\n" for m in [PLAIN, *rows(0, 3)]) + '{"type": "RECORD", "str'
    result = subprocess.run(
        [TARGET, "--config", "ENV"],
        input=text,
        text=True,
        capture_output=True,
        env=dataset.process_environ(),
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")


def test_a_record_before_its_schema_is_an_error(dataset: Any) -> None:
    result = dataset.run([*rows(0, 1), state(1)])
    assert (result.returncode, result.stdout) == (1, "")
    assert "came before the stream's SCHEMA" in result.stderr.splitlines()[-1]


def test_what_waits_is_flushed_in_time_while_the_input_is_silent(
    start: Callable[..., Process],
) -> None:
    process = start(flush_seconds=1)
    send(process, [PLAIN, *rows(0, 3), state(1)])
    assert process.stdout
    assert process.stdout.readline() == "1\n"
    assert process.poll() is None


def test_a_state_right_behind_a_flush_does_not_wait_for_the_next(
    start: Callable[..., Process],
) -> None:
    process = start(flush_rows=3, flush_seconds=300)
    send(process, [state(0), PLAIN, *rows(0, 3), state(1)])
    assert process.stdout
    assert process.stdout.readline() in {"0\n", "1\n"}
    send(process, [*rows(3, 3), state(2), state(3)])
    assert any(process.stdout.readline() == "3\n" for _ in range(3))


@pytest.mark.parametrize(
    "numbers",
    [[signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]],
    ids=["SIGTERM", "Ctrl-C in Meltano"],
)
def test_a_signal_ends_with_the_state_of_what_was_read(
    dataset: Any, start: Callable[..., Process], tmp_path: Path, numbers: list[signal.Signals]
) -> None:
    process = start()
    send(process, [PLAIN, *rows(0, 5), state(1)])
    time.sleep(0.1)
    wait_for_table(dataset)
    time.sleep(0.5)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    send(process, [*rows(5, 2), state(2)])  # the tap's last lines
    out, _ = process.communicate(timeout=60)
    assert out == "2\n", (tmp_path / "log").read_text()
    assert process.returncode == 128 + numbers[0]
    assert len(dataset.rows("s")) == 7


def test_a_signal_that_comes_later_ends_at_once(
    dataset: Any, start: Callable[..., Process]
) -> None:
    process = start()
    send(process, [PLAIN, *rows(0, 5), state(1)])
    wait_for_table(dataset)
    process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 2.2
    while time.monotonic() < deadline:  # a tap that does not stop
        send(process, rows(5, 1))
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(2) == 128 + signal.SIGINT
    assert process.stdout
    assert process.stdout.read() == ""


def wait_for_table(dataset: Any) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if "s" in dataset.tables():
                return
        except Exception:  # noqa: BLE001  # the dataset is not there yet
            pass
        time.sleep(0.1)


def test_a_failure_is_noticed_while_the_input_is_silent(
    dataset: Any, emulated: BigQueryEmulator, start: Callable[..., Process], tmp_path: Path
) -> None:
    with FaultyServer(emulated.url) as server:
        server.add("POST", "/upload/", 403, reason="accessDenied", times=None)
        dataset.environ = {"BIGQUERY_EMULATOR_HOST": server.url}
        process = start(flush_rows=3)
        send(process, [PLAIN, *rows(0, 3), state(1)])
        assert process.wait(30) == 1
        assert process.stdout
        assert process.stdout.read() == ""
        assert "accessDenied" in (tmp_path / "log").read_text()


BAD_LINES: dict[str, list[Any]] = {
    "a value": [record("{s}", {"id": 8, "n": "seven"})],
    "a key": [record("{s}", {"a": "x"})],
    "what the loader can't decode": ['{"type":"RECORD","stream":"{s}","record":[]}'],
    "a line that ends in the middle": ['{"type":"RECORD","stream":"{s}","record":{"id":8,'],
    "no JSON": ["{not json"],
    "an unknown type": [{"type": "SOMETHING", "stream": "{s}"}],
    "a record without SCHEMA": [record("{s}_unknown", {"id": 1})],
    "a SCHEMA without properties": [{"type": "SCHEMA", "stream": "{s}_other", "schema": {}}],
    "a SCHEMA of another type": [schema("{s}", {"id": TEXT, "n": TEXT})],
    "a SCHEMA of another stream": [schema("{s}_other", {"id": INTEGER}, keys=("nothing",))],
    "files": [{"type": "BATCH", "stream": "{s}", "encoding": {}, "manifest": []}],
}


def test_what_came_before_the_last_good_state_is_loaded_before_the_run_fails(dataset: Any) -> None:
    """And nothing else, or a stream that is appended would have it twice after the next run."""
    failing = {
        "write_mode": {"s": "append"},
        "delete_mode": "hard",
        "on_bad_value": "fail",
        "on_type_change": "fail",
    }
    dataset.load([PLAIN, *rows(0, 1)], **failing)
    for number, (fault, lines) in enumerate(BAD_LINES.items()):
        name = f"f{number}"
        own = schema(name, {"id": INTEGER, "n": INTEGER})
        messages = [
            *(PLAIN, own, *rows(1, 2), record(name, {"id": 1})),
            *(state("before"), *rows(3, 700), state("good"), *rows(703, 300)),
            *(record(name, {"id": 2}), activate("s", 2)),
            *(json.loads(json.dumps(line).replace("{s}", name)) for line in lines),
            *([state("too late"), *rows(2000, 1)] if fault in {"a value", "a key"} else []),
        ]
        with pytest.raises(INPUT_ERRORS):
            dataset.load(messages, **failing)
        assert dataset.capsys.readouterr().out == '"good"\n', fault
        assert dataset.rows("s", "COUNT(*), MAX(id)") == [(703, 702)], fault
        assert dataset.rows(name, "id") == [(1,)], fault
        dataset.query("DELETE FROM `{d}.s` WHERE id > 0")


def test_a_second_failure_is_told_with_the_first(dataset: Any, emulated: BigQueryEmulator) -> None:
    with FaultyServer(emulated.url) as server:
        server.add("POST", "/upload/", 403, reason="accessDenied", times=None)
        dataset.environ = {"BIGQUERY_EMULATOR_HOST": server.url}
        result = dataset.run([PLAIN, *rows(0, 3), state(1), "{not json"])
    assert (result.returncode, result.stdout) == (1, "")
    last = result.stderr.splitlines()[-1]
    assert "not a Singer message" in last
    assert "what came before could not be loaded: stream 's'" in last
    assert "accessDenied" in last
