"""A BigQuery for the tests: the emulator, or the real one if OSO_TEST_BIGQUERY_PROJECT is set."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery

from sandbox.bigquery import PROJECT, BigQueryEmulator
from target_bigquery.target import TargetBigQuery

REAL_PROJECT = os.environ.get("OSO_TEST_BIGQUERY_PROJECT")
REAL_DATASET = os.environ.get("OSO_TEST_BIGQUERY_DATASET", "target_bigquery_test")
TARGET = str(Path(sys.executable).with_name("target-bigquery"))


@dataclass
class Dataset:
    """A dataset of its own for one test, and what a test does with it."""

    project: str
    name: str
    client: bigquery.Client
    environ: dict[str, str]
    capsys: pytest.CaptureFixture[str]

    def config(self, **settings: Any) -> dict[str, Any]:
        return {"project": self.project, "dataset": self.name, **settings}

    def load(self, messages: Iterable[Mapping[str, Any] | str], **settings: Any) -> list[Any]:
        """Load messages within this process; return the states that came out."""
        self.capsys.readouterr()
        target = TargetBigQuery(config=self.config(**settings))
        target.listen(io.BytesIO(as_lines(messages)))  # type: ignore[arg-type]
        return [json.loads(line) for line in self.capsys.readouterr().out.splitlines()]

    def run(
        self, messages: Iterable[Mapping[str, Any] | str], timeout: float = 120, **settings: Any
    ) -> subprocess.CompletedProcess[str]:
        """Load messages with a process of its own."""
        return subprocess.run(
            [TARGET, "--config", "ENV"],
            input=as_lines(messages).decode(),
            env=self.process_environ(**settings),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def process_environ(self, **settings: Any) -> dict[str, str]:
        config = {
            f"TARGET_BIGQUERY_{name.upper()}": value
            if isinstance(value, str)
            else json.dumps(value)
            for name, value in self.config(**settings).items()
        }
        return {**os.environ, **self.environ, **config}

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Ask the dataset; `{d}` stands for it."""
        rows = self.client.query(sql.replace("{d}", f"{self.project}.{self.name}")).result()
        return [dict(row) for row in rows]

    def rows(self, table: str, columns: str = "*", order: str = "1") -> list[tuple[Any, ...]]:
        rows = self.query(f"SELECT {columns} FROM `{{d}}.{table}` ORDER BY {order}")
        return [tuple(row.values()) for row in rows]

    def tables(self) -> list[str]:
        return sorted(t.table_id for t in self.client.list_tables(f"{self.project}.{self.name}"))

    def types(self, table: str) -> dict[str, str]:
        found = self.client.get_table(f"{self.project}.{self.name}.{table}")
        legacy = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
        return {f.name: legacy.get(f.field_type, f.field_type) for f in found.schema}

    def assert_unique(self, table: str, *keys: str) -> None:
        """No key twice: the emulator does not complain about that."""
        names = ", ".join(f"TO_JSON_STRING(`{key}`)" for key in keys)
        twice = self.query(
            f"SELECT {names}, COUNT(*) AS n FROM `{{d}}.{table}` "
            f"GROUP BY {names} HAVING COUNT(*) > 1"
        )
        assert twice == []


def as_lines(messages: Iterable[Mapping[str, Any] | str]) -> bytes:
    return "".join(
        (m if isinstance(m, str) else json.dumps(m, ensure_ascii=False)) + "\n" for m in messages
    ).encode()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On the real service, begin with what nothing else has tried."""
    if REAL_PROJECT:
        items.sort(key=lambda item: item.path.name != "test_least_certain.py")


@pytest.fixture(scope="session")
def emulator() -> Iterator[BigQueryEmulator | None]:
    if REAL_PROJECT:
        yield None
        return
    with BigQueryEmulator() as emulator:
        yield emulator


@pytest.fixture
def dataset(
    emulator: BigQueryEmulator | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Dataset]:
    prefix = REAL_DATASET if REAL_PROJECT else "test"
    name = f"{prefix}_{uuid.uuid4().hex[:10]}"
    if emulator is None:
        assert REAL_PROJECT
        client = bigquery.Client(REAL_PROJECT)
        environ: dict[str, str] = {}
    else:
        client = emulator.client()
        environ = emulator.environ
        for variable, value in environ.items():
            monkeypatch.setenv(variable, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield Dataset(REAL_PROJECT or PROJECT, name, client, environ, capsys)
    for number, handler in handlers.items():  # the SDK sets its own
        signal.signal(number, handler)
    client.delete_dataset(f"{client.project}.{name}", delete_contents=True, not_found_ok=True)
    client.close()  # type: ignore[no-untyped-call]


def noting(note: Callable[..., None], call: Callable[..., Any], part: str) -> Callable[..., Any]:
    def wrapper(client: bigquery.Client, *args: Any, **options: Any) -> Any:
        # Of what is asked too: it may be done, and the answer get lost.
        if part == "loaded":
            note(args[1], options["job_config"].schema)
        elif isinstance(args[0], bigquery.Table):
            note(args[0], args[0].schema)
        result = call(client, *args, **options)
        if part == "answer":
            note(result, result.schema)
        return result

    return wrapper


@pytest.fixture(autouse=True, scope="session")
def judged(pytestconfig: pytest.Config) -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """Keep for `make test-sql` what the loader asks in this process, with the tables' columns then.

    A line of JSON for each statement. The columns are those that the loader sends and gets.
    """
    schemas: dict[str, list[tuple[str, str]]] = {}
    found: list[str] = []
    query = bigquery.Client.query

    def judge(sql: str, tables: Mapping[str, Any]) -> None:
        found.append(json.dumps({"sql": sql, "tables": tables}))

    def note(table: Any, schema: Iterable[bigquery.SchemaField]) -> None:
        path = f"{table.project}.{table.dataset_id}.{table.table_id}"
        schemas[path] = [(field.name, field.field_type) for field in schema]

    def noted(client: bigquery.Client, sql: str, **options: Any) -> Any:
        if "job_id" in options:  # the loader's; tests give none
            paths = set(re.findall("`([^`]+[.][^`]+[.][^`]+)`", sql)) & schemas.keys()
            judge(sql, {path: schemas[path] for path in sorted(paths)})
        return query(client, sql, **options)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("create_table", "get_table", "update_table"):
            patch.setattr(
                bigquery.Client, name, noting(note, getattr(bigquery.Client, name), "answer")
            )
        load = bigquery.Client.load_table_from_file
        patch.setattr(bigquery.Client, "load_table_from_file", noting(note, load, "loaded"))
        patch.setattr(bigquery.Client, "query", noted)
        yield judge
    path = pytestconfig.cache.mkdir("statements") / "target-bigquery.jsonl"
    path.write_text("\n".join(found))


@pytest.fixture
def real_bigquery(emulator: BigQueryEmulator | None) -> None:
    """For tests of what the emulator does not do."""
    if emulator is not None:
        pytest.skip("only with the real service")


@pytest.fixture
def emulated(emulator: BigQueryEmulator | None) -> BigQueryEmulator:
    """The emulator, for tests that do to it what can't be done to the real service."""
    if emulator is None:
        pytest.skip("only with the emulator")
    return emulator
