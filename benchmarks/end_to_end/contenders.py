"""The pipelines that are compared: the commands, and what has to be there for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.bigquery_load.contenders import DLT, Z3
from sandbox.bigquery import PROJECT
from sandbox.meltano import EXECUTABLE
from sandbox.peers import make_environment
from sandbox.postgres import HOST, PASSWORD, Postgres
from sandbox.services import tap_environ

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DATASET = "bench"
MELTANOLABS = ["meltanolabs-tap-postgres==0.10.0"]
DLT_SOURCE = [
    *("dlt[bigquery,sql_database]==1.31.0", *DLT[1:]),
    *("psycopg[binary]==3.3.9", "connectorx==0.4.6"),
]


class Pipeline(NamedTuple):
    """A command to run, where, and with which variables beside those of this process."""

    command: list[str]
    folder: Path
    environ: Mapping[str, str]


class Contender(NamedTuple):
    """A pipeline by its name.

    Attributes:
        label: What to call it.
        color: Of its bar.
        prepare: Makes the environments that it needs.
        pipeline: Takes the server, the name of the table, which is that of its publication, and an
            empty folder; what it returns copies the table.
        stored_as: What it calls a table in the warehouse.
        part_of: It gets only one row of so many, because it takes that long.
    """

    label: str
    color: str
    prepare: Callable[[], Any]
    pipeline: Callable[[Postgres, str, Path], Pipeline]
    stored_as: str = "{}"
    part_of: int = 1

    @property
    def table(self) -> str:
        """The table that it copies."""
        return "rows" if self.part_of == 1 else "few_rows"


def ours(server: Postgres, table: str, folder: Path) -> Pipeline:
    """`meltano run` in this project; the slot is called like the table."""
    slot = {"replication_method_publication": table, "replication_method_replication_slot": table}
    environ = {
        **tap_environ(server, "postgres", PASSWORD, **slot),
        "TARGET_BIGQUERY_PROJECT": PROJECT,
        "TARGET_BIGQUERY_DATASET": DATASET,
        **_meltano(folder),
    }
    command = [EXECUTABLE, "run", "tap-my-postgres-datasource", "target-bigquery"]
    return Pipeline(command, ROOT, environ)


def meltanolabs_z3(batch_size: int | None) -> Callable[[Postgres, str, Path], Pipeline]:
    """`meltano run` in a project of its own, with the peers' programs."""

    def pipeline(server: Postgres, table: str, folder: Path) -> Pipeline:
        tap = make_environment("meltanolabs", MELTANOLABS).with_name("tap-postgres")
        python = make_environment("z3-target-bigquery", Z3)
        target = folder / "target-bigquery"
        script = HERE.with_name("bigquery_load") / "peer_z3.py"
        target.write_text(f'#!/bin/sh\nexec {python} {script} "$@"\n')
        target.chmod(0o755)
        project = _peers_project(server, table, tap, target, batch_size)
        # YAML takes JSON.
        (folder / "meltano.yml").write_text(json.dumps(project))
        command = [EXECUTABLE, "run", "tap-postgres", "target-bigquery"]
        return Pipeline(command, folder, _meltano(folder))

    return pipeline


def _peers_project(
    server: Postgres, table: str, tap: Path, target: Path, batch_size: int | None
) -> dict[str, Any]:
    extractor = {
        "name": "tap-postgres",
        "namespace": "tap_postgres",
        "executable": str(tap),
        "capabilities": ["catalog", "discover", "state"],
        "config": {
            "host": HOST,
            "port": server.port,
            "user": "postgres",
            "password": PASSWORD,
            "database": "postgres",
            "filter_schemas": ["public"],
        },
        # The target takes any JSON for an array, and its load job fails.
        "select": [f"public-{table}.*", f"!public-{table}.doc"],
    }
    loader = {
        "name": "target-bigquery",
        "namespace": "target_bigquery",
        "executable": str(target),
        "config": {
            "project": PROJECT,
            "dataset": DATASET,
            "method": "batch_job",
            "denormalized": True,
            "upsert": True,
            "dedupe_before_upsert": True,
            **({"batch_size": batch_size} if batch_size else {}),
        },
    }
    return {
        "project_id": "end-to-end",
        "send_anonymous_usage_stats": False,
        "default_environment": "dev",
        "environments": [{"name": "dev"}],
        "plugins": {"extractors": [extractor], "loaders": [loader]},
    }


def dlt(backend: str) -> Callable[[Postgres, str, Path], Pipeline]:
    """`sql_database` into `bigquery`, through one of the ways it has to read tables."""

    def pipeline(server: Postgres, table: str, folder: Path) -> Pipeline:
        python = str(make_environment("dlt-sql", DLT_SOURCE))
        command = [python, str(HERE / "peer_dlt.py"), backend, table, DATASET, str(folder)]
        return Pipeline(command, folder, {"PEER_DATABASE_URL": server.url})

    return pipeline


def _meltano(folder: Path) -> dict[str, str]:
    return {"MELTANO_DATABASE_URI": f"sqlite:///{folder / 'meltano.db'}", "NO_COLOR": "1"}


def _prepare_peers() -> None:
    make_environment("meltanolabs", MELTANOLABS)
    make_environment("z3-target-bigquery", Z3)


def _prepare_dlt() -> None:
    make_environment("dlt-sql", DLT_SOURCE)


def _nothing() -> None:
    """The project's own environment is there."""


OURS = Contender("OSO Connect", "#2f6f9f", _nothing, ours)
PEERS = Contender(
    "meltanolabs-tap-postgres 0.10.0 + z3-target-bigquery 0.7.2, batches of 100,000",
    "#b8c4ce",
    _prepare_peers,
    meltanolabs_z3(100_000),
    "public_{}",
)
PEERS_DEFAULT = Contender(
    "meltanolabs-tap-postgres + z3-target-bigquery, as they come",
    "#9fb0bd",
    _prepare_peers,
    meltanolabs_z3(None),
    "public_{}",
    part_of=10,
)
DLTS = (
    Contender("dlt 1.31.0, connectorx", "#b98148", _prepare_dlt, dlt("connectorx")),
    Contender("dlt 1.31.0, pyarrow", "#c99a6b", _prepare_dlt, dlt("pyarrow")),
    Contender("dlt 1.31.0, as it comes", "#d9b48f", _prepare_dlt, dlt("sqlalchemy")),
)
CONTENDERS = (OURS, *DLTS, PEERS, PEERS_DEFAULT)
