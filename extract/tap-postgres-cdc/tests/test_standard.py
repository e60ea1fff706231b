"""The Singer SDK's own tests of a tap."""

from __future__ import annotations

import atexit
import contextlib

from singer_sdk.testing import get_tap_test_class

from sandbox.postgres import HOST, PASSWORD, embedded_programs, running
from tap_postgres_cdc.tap import TapPostgresCDC

# The SDK makes its test classes while this module is imported, and wants a server then.
_stack = contextlib.ExitStack()
atexit.register(_stack.close)
SERVER = _stack.enter_context(running(embedded_programs()))
with SERVER.connect() as connection:
    connection.execute(
        "CREATE TABLE votes (id int PRIMARY KEY, name text, at timestamptz DEFAULT now())"
    )
    connection.execute("INSERT INTO votes SELECT i, 'n' || i FROM generate_series(1, 10) i")
    connection.execute("CREATE PUBLICATION oso_publication FOR ALL TABLES")
    connection.execute("SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput')")

TestTapPostgresCDC = get_tap_test_class(
    TapPostgresCDC,
    config={
        "airbyte_config": {
            "host": HOST,
            "port": SERVER.port,
            "database": "postgres",
            "username": "postgres",
            "password": PASSWORD,
            "replication_method": {
                "publication": "oso_publication",
                "replication_slot": "oso_slot",
            },
        }
    },
    parse_env_config=False,
)
