"""A mistake in a setting or around it ends the run soon, with its reason, and breaks nothing."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from sandbox.bigquery import PROJECT, BigQueryEmulator
from sandbox.diff import differences
from sandbox.meltano import Meltano
from sandbox.ports import free_port
from sandbox.postgres import HOST, Postgres, embedded_programs, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

ROOT = Path(__file__).parents[1]
RUN = ("run", "tap-my-postgres-datasource", "target-bigquery")
DATASET = "careful"
SECONDS = 30
PLUGIN_TRACEBACK = re.compile(r"(tap-|target-)\S+ +Traceback")
LAST_LINES = 20
TAP = "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_"
REPLICATION = f"{TAP}REPLICATION_METHOD_"
TARGET = "TARGET_BIGQUERY_"
REAL = {"BIGQUERY_EMULATOR_HOST": ""}
SECRET = "pa55word-of-oso"  # of every role
TABLES = """
CREATE TABLE votes (id int PRIMARY KEY, name text);
INSERT INTO votes SELECT i, 'n' || i FROM generate_series(1, 100) i;
CREATE PUBLICATION oso_publication FOR TABLE votes;
CREATE PUBLICATION empty;
CREATE TABLE secrets (id int PRIMARY KEY);
CREATE PUBLICATION secrets FOR TABLE secrets;
"""
ROLES = f"""
CREATE ROLE oso LOGIN REPLICATION PASSWORD '{SECRET}';
CREATE ROLE reader LOGIN PASSWORD '{SECRET}';
GRANT SELECT ON votes TO oso, reader;
"""


class Mistake(NamedTuple):
    """Settings that are wrong, and what is said of them; `{…}` is a place that the test made."""

    name: str
    settings: dict[str, str]
    reason: str


OF_THE_SOURCE = [
    Mistake("host", {f"{TAP}HOST": "no-such-host.invalid"}, "can't reach no-such-host.invalid"),
    Mistake("silent host", {f"{TAP}PORT": "{silent}"}, "can't reach 127.0.0.1:{silent}"),
    Mistake("port", {f"{TAP}PORT": "{closed}"}, "can't reach 127.0.0.1:{closed}"),
    Mistake("port of another server", {f"{TAP}PORT": "{http}"}, "127.0.0.1:{http} is not Postgre"),
    Mistake("no host", {f"{TAP}HOST": ""}, "setting airbyte_config.host is missing"),
    Mistake("username", {f"{TAP}USERNAME": "nobody"}, 'the server refused user "nobody"'),
    Mistake("password", {f"{TAP}PASSWORD": f"not-{SECRET}"}, 'the server refused user "oso"'),
    Mistake("database", {f"{TAP}DATABASE": "nowhere"}, 'database "nowhere" does not exist'),
    Mistake("TLS", {f"{TAP}SSL_MODE_MODE": "require"}, "does not speak TLS"),
    Mistake("schema", {f"{TAP}SCHEMAS": '["private"]'}, 'schema "private" does not exist'),
    Mistake("slot", {f"{REPLICATION}REPLICATION_SLOT": "none"}, 'slot "none" does not exist'),
    Mistake("physical slot", {f"{REPLICATION}REPLICATION_SLOT": "physical"}, "is physical"),
    Mistake("foreign slot", {f"{REPLICATION}REPLICATION_SLOT": "foreign"}, "to database second"),
    Mistake("publication", {f"{REPLICATION}PUBLICATION": "none"}, 'publication "none" does not'),
    Mistake("empty publication", {f"{REPLICATION}PUBLICATION": "empty"}, "holds no table"),
    Mistake("may not read", {f"{REPLICATION}PUBLICATION": "secrets"}, "GRANT SELECT ON"),
    Mistake("may not replicate", {f"{TAP}USERNAME": "reader"}, 'user "reader" may not replicate'),
    # Meltano itself looks at these.
    Mistake("plugin", {f"{REPLICATION}PLUGIN": "decoderbufs"}, "replication_method.plugin"),
    Mistake("port that is no number", {f"{TAP}PORT": "postgres"}, "int() with base 10: 'postgres'"),
]
OF_THE_WAREHOUSE = [
    Mistake("no project", {f"{TARGET}PROJECT": ""}, "setting 'project' is missing"),
    Mistake("project", {f"{TARGET}PROJECT": "My Project"}, "must be the ID of a project"),
    Mistake("no dataset", {f"{TARGET}DATASET": ""}, "setting 'dataset' is missing"),
    Mistake("dataset", {f"{TARGET}DATASET": "my-data"}, "letters, digits and underscores"),
    Mistake(
        "warehouse", {"BIGQUERY_EMULATOR_HOST": f"http://{HOST}:{{closed}}"}, "can't use dataset"
    ),
    Mistake(
        "silent warehouse",
        {"BIGQUERY_EMULATOR_HOST": f"http://{HOST}:{{silent}}"},
        "can't use dataset",
    ),
    Mistake(
        "missing key file",
        {**REAL, f"{TARGET}CREDENTIALS_PATH": "/nowhere/key.json"},
        "File /nowhere/key.json was not found",
    ),
    Mistake(
        "key file that is none",
        {**REAL, f"{TARGET}CREDENTIALS_PATH": "{file}"},
        "{file} is not a valid json file",
    ),
    Mistake(
        "credentials that are no JSON",
        {**REAL, f"{TARGET}CREDENTIALS_JSON": f"{SECRET}"},
        "setting 'credentials_json' is not JSON",
    ),
    Mistake(
        "credentials with a broken key",
        {**REAL, f"{TARGET}CREDENTIALS_JSON": "{key}"},
        "Unable to load PEM file",
    ),
    Mistake(
        "no credentials",
        {**REAL, "HOME": "{folder}", "GCE_METADATA_HOST": f"{HOST}:{{closed}}"},
        "default credentials were not found",
    ),
    Mistake("write mode", {f"{TARGET}WRITE_MODE": "replace"}, "'write_mode' is 'replace'"),
    Mistake("flush rows", {f"{TARGET}FLUSH_ROWS": "0"}, "'flush_rows' is 0"),
]
MISTAKES = OF_THE_SOURCE + OF_THE_WAREHOUSE


class Outcome(NamedTuple):
    """What a run with a mistake did."""

    meltano: Meltano
    exit_code: int
    seconds: float
    log: list[str]


class Pipeline:
    """A pipeline that works, into copies of which the mistakes are put."""

    def __init__(
        self, server: Postgres, source: psycopg.Connection, emulator: BigQueryEmulator, folder: Path
    ) -> None:
        self.server, self.source, self.emulator, self.folder = server, source, emulator, folder
        self.silent = socket.create_server((HOST, 0), backlog=64)
        key = {"type": "service_account", "client_email": "a@b.example", "private_key": SECRET}
        self.places = {
            "closed": str(free_port()),
            "silent": str(self.silent.getsockname()[1]),
            "http": str(emulator.port),
            "file": str(ROOT / "pyproject.toml"),
            "folder": str(folder),
            "key": json.dumps({**key, "token_uri": "http://127.0.0.1"}),
        }
        self.environment = {
            **emulator.environ,
            f"{TARGET}PROJECT": PROJECT,
            f"{TARGET}DATASET": DATASET,
            f"{TAP}HOST": HOST,
            f"{TAP}PORT": str(server.port),
            f"{TAP}DATABASE": "postgres",
            f"{TAP}USERNAME": "oso",
            f"{TAP}PASSWORD": SECRET,
            f"{TAP}SSL_MODE_MODE": "disable",
        }
        self.meltano = Meltano.in_copy(ROOT, folder, self.environment)
        started = time.monotonic()
        self.meltano.run(*RUN)
        # A busy machine makes everything slow alike: a correct run takes 7 s on one that is not.
        self.most_seconds = max(SECONDS, 4 * (time.monotonic() - started))
        self.saved = saved_state(folder)

    def run_with(self, mistake: Mistake) -> Outcome:
        """Run a copy with the mistake, going on from the state of the run that worked."""
        folder = self.folder / "mistakes" / mistake.name.replace(" ", "-")
        folder.mkdir(parents=True)
        shutil.copy(self.folder / "meltano.db", folder)
        wrong = {name: value.format(**self.places) for name, value in mistake.settings.items()}
        meltano = Meltano.in_copy(ROOT, folder, {**self.environment, **wrong})
        started = time.monotonic()
        process = meltano.start(*RUN)
        try:
            out, log = process.communicate(timeout=5 * self.most_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, log = process.communicate()
        return Outcome(
            meltano, process.returncode, time.monotonic() - started, (out + log).splitlines()
        )

    def run_with_each(self) -> dict[str, Outcome]:
        """Run with every mistake; those of the warehouse one by one, as they use the slot."""

        def one_by_one(mistakes: list[Mistake]) -> list[tuple[str, Outcome]]:
            return [(mistake.name, self.run_with(mistake)) for mistake in mistakes]

        lanes = [OF_THE_WAREHOUSE, OF_THE_SOURCE[::2], OF_THE_SOURCE[1::2]]
        with ThreadPoolExecutor(len(lanes)) as executor:
            return dict(chain.from_iterable(executor.map(one_by_one, lanes)))


def saved_state(folder: Path) -> dict[str, Any]:
    with contextlib.closing(sqlite3.connect(folder / "meltano.db")) as database:
        [(state,)] = database.execute("SELECT completed_state FROM state").fetchall()
        unfinished = database.execute("SELECT * FROM runs WHERE state = 'RUNNING'").fetchall()
    assert unfinished == []
    saved: dict[str, Any] = json.loads(state)["singer_state"]
    return saved


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with (
        BigQueryEmulator() as emulator,
        running(embedded_programs()) as server,
        server.connect() as source,
    ):
        source.execute(TABLES + ROLES)
        source.execute("CREATE DATABASE second")
        source.execute("SELECT pg_create_physical_replication_slot('physical')")
        slot = "SELECT pg_create_logical_replication_slot('{}', 'pgoutput')"
        source.execute(slot.format("oso_slot"))
        with server.connect("second") as second:
            second.execute(slot.format("foreign"))
        pipeline = Pipeline(server, source, emulator, tmp_path_factory.mktemp("bad"))
        with pipeline.silent:
            # What is new by now must still be new to the run that comes after the mistakes.
            source.execute("INSERT INTO votes VALUES (1000, 'new')")
            source.execute("UPDATE votes SET id = 2000 WHERE id = 1")
            yield pipeline


@pytest.fixture(scope="module")
def outcomes(pipeline: Pipeline) -> dict[str, Outcome]:
    return pipeline.run_with_each()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_ends_the_run_soon_with_its_reason(
    mistake: Mistake, outcomes: dict[str, Outcome], pipeline: Pipeline
) -> None:
    outcome = outcomes[mistake.name]
    last = "\n".join(outcome.log[-LAST_LINES:])
    assert outcome.exit_code == 1, last
    assert mistake.reason.format(**pipeline.places) in last
    assert outcome.seconds < pipeline.most_seconds
    assert SECRET not in "\n".join(outcome.log)
    assert not [line for line in outcome.log if PLUGIN_TRACEBACK.search(line)]


def test_no_mistake_changes_the_state_or_moves_the_slot_past_it(
    outcomes: dict[str, Outcome], pipeline: Pipeline
) -> None:
    for outcome in outcomes.values():
        assert saved_state(outcome.meltano.output) == pipeline.saved
    ((is_ahead,),) = pipeline.source.execute(
        "SELECT confirmed_flush_lsn > %s::pg_lsn FROM pg_replication_slots"
        " WHERE slot_name = 'oso_slot'",
        [pipeline.saved["slot"]["confirmed_lsn"]],
    ).fetchall()
    assert not is_ahead


@pytest.mark.parametrize("name", ["password", "silent warehouse"])
def test_the_next_correct_run_goes_on_as_if_nothing_had_happened(
    name: str, outcomes: dict[str, Outcome], pipeline: Pipeline
) -> None:
    meltano = outcomes[name].meltano
    meltano.env |= pipeline.environment
    meltano.run(*RUN)
    client = pipeline.emulator.client()
    [report] = differences(pipeline.source, client, DATASET)
    assert report.is_equal
    assert report.source_rows == 101
