"""What the owner of a database does, through Meltano into BigQuery: one event of each kind."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.bigquery import PROJECT, BigQueryEmulator
from sandbox.diff import differences
from sandbox.events import (
    RUN,
    Event,
    Outcome,
    When,
    keys,
    page,
    partitions,
    publications,
    tables,
    types,
)
from sandbox.events.stage import Stage
from sandbox.meltano import Meltano
from sandbox.postgres import PASSWORD, Postgres, embedded_programs, running
from sandbox.services import tap_environ

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PIPELINE = ("run", "tap-my-postgres-datasource", "target-bigquery")
DATASET = "events"
SETTINGS = "TAP_MY_POSTGRES_DATASOURCE_"


def _shares_runs(event: Event) -> bool:
    like_most = Event("", "", (), Outcome.EQUAL)
    same = ("when", "publication", "parameters", "options", "is_alone")
    return (
        event.when is When.BETWEEN
        and RUN not in event.statements
        and all(getattr(event, field) == getattr(like_most, field) for field in same)
    )


# The first of each module and outcome, and changes of the key, which are the loader's work too.
KINDS = {
    (module, event.outcome): event
    for module in (tables, types, keys, partitions, publications)
    for event in reversed(module.EVENTS)
    if _shares_runs(event)
}
KEYS = (
    "Key moved to another column",
    "Key moved to a column with the same values in other rows",
    "Composite key made coarser",
    "Key given to a table without",
    "Key dropped, with REPLICA IDENTITY FULL",
)
SOME = list(dict.fromkeys([*KINDS.values(), *(e for e in keys.EVENTS if e.name in KEYS)]))


@pytest.fixture
def server() -> Iterator[Postgres]:
    with running(embedded_programs()) as server:
        yield server


def test_warehouse_is_equal_after_an_event_of_each_kind(server: Postgres, tmp_path: Path) -> None:
    stage = Stage(server.connect, SOME)
    stage.make()
    with BigQueryEmulator() as emulator, contextlib.closing(emulator.client()) as client:
        settings = {
            "TARGET_BIGQUERY_PROJECT": PROJECT,
            "TARGET_BIGQUERY_DATASET": DATASET,
            f"{SETTINGS}STREAM_NAME": "schema-table",
            f"{SETTINGS}AIRBYTE_CONFIG_SCHEMAS": json.dumps(stage.schemas),
        }
        environ = tap_environ(server, "postgres", PASSWORD)
        meltano = Meltano(ROOT, tmp_path, {**emulator.environ, **environ, **settings})

        def different() -> dict[str, object]:
            names = {home: event.name for event, home in stage.homes.items()}
            with server.connect() as source:
                return {
                    f"{names.get(report.table.split('.')[0])}: {report.table}": report
                    for report in differences(source, client, DATASET)
                    if not report.is_equal
                }

        meltano.run(*PIPELINE)
        assert different() == {}
        stage.change("before")
        for event in stage.homes:
            stage.do(event, event.statements)
        stage.change("after")
        meltano.run(*PIPELINE)
        assert different() == {}
        stage.change("later")
        last = meltano.run(*PIPELINE)
        assert different() == {}
        assert "will be copied" not in last.stderr


def test_page_holds_the_table_of_events() -> None:
    text = (ROOT / page.PAGE).read_text()
    assert text == page.filled(text), "run: .venv/bin/python -m sandbox.events"
