"""Taps that others wrote, from PyPI, each in an environment of its own: they load as they are."""

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sandbox.peers import make_environment
from sandbox.postgres import PASSWORD, Postgres, embedded_programs, running

MELTANO = ["meltanolabs-tap-postgres==0.10.0"]  # made with the Singer SDK
PIPELINEWISE = ["pipelinewise-tap-postgres==2.1.0"]  # with a fork of singer-python
SINGER = ["tap-rest-api==0.2.22", "setuptools==80.9.0"]  # with singer-python
# What it pins is not there for newer Pythons.
OVERRIDES = ["psycopg2-binary==2.9.10"]

ITEMS = """
CREATE TABLE items (
    id bigint PRIMARY KEY, small smallint, price numeric(12, 2), ratio double precision,
    flag boolean, name text, code char(5), day date, clock time, local timestamp,
    moment timestamptz, doc jsonb, uid uuid, ints int[] DEFAULT '{}', addr inet,
    at timestamptz NOT NULL
);
INSERT INTO items VALUES
    (1, -32768, 1234567890.12, 0.1, true, E'ü😀\\t"\\\\', 'ab', '2024-02-29', '23:59:59.999999',
     '2024-01-02 03:04:05.123456', '2024-01-02 03:04:05.123456+02', '{"z": 1.5, "a": [1e400]}',
     '550e8400-e29b-41d4-a716-446655440000', '{1,2,3}', '10.0.0.1/8', '2024-01-01 00:00Z'),
    (9223372036854775807, 0, 0, 0, false, '', '', '0001-01-01', '00:00', '0001-01-01', '9999-12-31',
     '[]', NULL, '{}', '::1', '2024-01-03 00:00:00.5Z');
INSERT INTO items (id, at) VALUES (2, '2024-01-02 00:00Z');
"""
LATER = """
UPDATE items SET name = 'new', at = '2024-02-01 00:00Z' WHERE id = 2;
INSERT INTO items (id, name, at) VALUES (3, 'more', '2024-02-02 00:00Z');
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running(embedded_programs()) as server:
        yield server


class Tap:
    """A tap in a folder of its own: each run goes on from the state that the loader gave out."""

    def __init__(self, command: Path, folder: Path, config: Mapping[str, Any]) -> None:
        self._command = [str(command), "--config", str(self._file(folder / "config", config))]
        self._folder = folder
        self._state: str | None = None
        self.catalog: dict[str, Any] = {}

    @staticmethod
    def _file(path: Path, content: Any) -> Path:
        path.write_text(json.dumps(content))
        return path

    def output(self, *options: str) -> str:
        result = subprocess.run(
            [*self._command, *options], capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def sync(self, dataset: Any) -> int:
        """Run tap and loader; return how many records came."""
        options = ["--catalog", str(self._file(self._folder / "catalog", self.catalog))]
        if self._state is not None:
            options += ["--state", str(self._file(self._folder / "state", self._state))]
        lines = self.output(*options).splitlines()
        self._state = dataset.load(lines)[-1]
        return sum(json.loads(line)["type"] == "RECORD" for line in lines)


@pytest.mark.parametrize(
    ("requirements", "database"),
    [(MELTANO, "database"), (PIPELINEWISE, "dbname")],
    ids=["meltanolabs-tap-postgres", "pipelinewise-tap-postgres"],
)
def test_a_tap_of_another_maker_copies_a_database(
    dataset: Any, postgres: Postgres, tmp_path: Path, requirements: list[str], database: str
) -> None:
    python = make_environment(requirements[0].split("=")[0], requirements, overrides=OVERRIDES)
    with postgres.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS items")
        connection.execute(ITEMS)
    access = {"host": "127.0.0.1", "port": postgres.port, "user": "postgres"}
    tap = Tap(
        python.with_name("tap-postgres"),
        tmp_path,
        {**access, "password": PASSWORD, database: "postgres"},
    )
    found = json.loads(tap.output("--discover"))["streams"]
    (stream,) = [stream for stream in found if stream["tap_stream_id"] == "public-items"]
    stream |= {"replication_method": "INCREMENTAL", "replication_key": "at"}
    for part in stream["metadata"]:
        part["metadata"]["selected"] = True
        if not part["breadcrumb"]:
            part["metadata"] |= {"replication-method": "INCREMENTAL", "replication-key": "at"}
    tap.catalog = {"streams": [stream]}

    assert tap.sync(dataset) == 3
    _assert_equal(dataset, postgres)
    with postgres.connect() as connection:
        connection.execute(LATER)
    assert tap.sync(dataset) == 3  # the last row of before comes again
    _assert_equal(dataset, postgres)
    dataset.assert_unique("public_items", "id")


def _assert_equal(dataset: Any, postgres: Postgres) -> None:
    with postgres.connect() as connection:
        cursor = connection.execute("SELECT * FROM items ORDER BY id")
        names = [column.name for column in cursor.description or ()]
        expected = [dict(zip(names, row, strict=True)) for row in cursor]
    stored = dataset.query("SELECT * FROM `{d}.public_items` ORDER BY id")
    assert len(stored) == len(expected)
    for found, row in zip(stored, expected, strict=True):
        for name in names:
            assert _comparable(found[name]) == _comparable(row[name]), name


def _comparable(value: Any) -> Any:
    """Bring values of both databases into one form; a tap may give days as moments."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict | list):  # text is how BigQuery's JSON holds the number
        return json.loads(json.dumps(value).replace(f'"{10**400}"', str(10**400)))
    return value if isinstance(value, int | float | str | time | None) else str(value)


class Shop(BaseHTTPRequestHandler):
    """An API of orders, in pages, from a moment on."""

    orders: list[dict[str, Any]] = []  # noqa: RUF012  # of all requests

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        start = int(query["offset"])
        found = [order for order in self.orders if order["changed"] >= query["since"]]
        body = json.dumps({"orders": found[start : start + 2]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def order(number: int, day: int, **more: Any) -> dict[str, Any]:
    changed = f"2024-01-{day:02d}T00:00:00"
    return {"id": number, "changed": changed, "total": number + 0.5, "lines": [{"n": 1}], **more}


def test_a_tap_of_another_maker_copies_an_api(dataset: Any, tmp_path: Path) -> None:
    python = make_environment("tap-rest-api", SINGER)
    Shop.orders = [order(n, n, note="ü😀" if n % 2 else None, paid=n > 2) for n in range(1, 6)]
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            tap = Tap(
                python.with_name("tap-rest-api"),
                tmp_path,
                {
                    "url": f"http://127.0.0.1:{server.server_port}/"
                    "?since={start_datetime}&offset={current_offset}",
                    "streams": "orders",
                    "record_list_level": "orders[*]",
                    "datetime_key": "changed",
                    "start_datetime": "2024-01-01T00:00:00",
                    "items_per_page": 2,
                    "auth_method": "no_auth",
                    "schema_dir": str(tmp_path),
                    "catalog_dir": str(tmp_path),
                },
            )
            tap.output("--infer_schema")
            tap.catalog = json.loads((tmp_path / "catalog.json").read_text())
            assert tap.sync(dataset) == 5
            assert _stored_orders(dataset) == Shop.orders
            Shop.orders.append(order(6, 6, note="more", paid=True))
            assert tap.sync(dataset) == 1  # it has no keys, but leaves out what it saw last
            assert _stored_orders(dataset) == Shop.orders
        finally:
            server.shutdown()
            thread.join()


def _stored_orders(dataset: Any) -> list[dict[str, Any]]:
    rows = dataset.query(
        f"SELECT {', '.join(Shop.orders[0])} FROM `{{d}}.orders` ORDER BY _sdc_sequence"
    )
    return [{**row, "changed": row["changed"].strftime("%Y-%m-%dT%H:%M:%S")} for row in rows]
