"""The pipelines that are compared: the commands, and what has to be there for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.bigquery_load.contenders import DLT, Z3
from benchmarks.peers import make_environment
from sandbox.bigquery import PROJECT
from sandbox.meltano import EXECUTABLE
from sandbox.postgres import HOST, PASSWORD, Postgres

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
        part_of: It gets only one row of so many, because it is that slow.
    """

    label: str
    color: str
    prepare: Callable[[], Any]
    pipeline: Callable[[Postgres, str, Path], Pipeline]
    part_of: int = 1


def ours(server: Postgres, table: str, folder: Path) -> Pipeline:
    """`meltano run` in this project; the slot is called like the table."""
    settings = {
        "HOST": HOST,
        "PORT": str(server.port),
        "DATABASE": "postgres",
        "USERNAME": "postgres",
        "PASSWORD": PASSWORD,
        "SSL_MODE_MODE": "disable",
        "REPLICATION_METHOD_PUBLICATION": table,
        "REPLICATION_METHOD_REPLICATION_SLOT": table,
    }
    prefix = "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_"
    environ = {
        **{prefix + name: value for name, value in settings.items()},
        "TARGET_BIGQUERY_PROJECT": PROJECT,
        "TARGET_BIGQUERY_DATASET": DATASET,
        **_meltano(folder),
    }
    command = [EXECUTABLE, "run", "tap-my-postgres-datasource", "target-bigquery"]
    return Pipeline(command, ROOT, environ)


def meltanolabs_z3(server: Postgres, table: str, folder: Path) -> Pipeline:
    """`meltano run` in a project of its own, with the peers' programs."""
    tap = make_environment("meltanolabs", MELTANOLABS).with_name("tap-postgres")
    python = make_environment("z3-target-bigquery", Z3)
    target = folder / "target-bigquery"
    script = HERE.with_name("bigquery_load") / "peer_z3.py"
    target.write_text(f'#!/bin/sh\nexec {python} {script} "$@"\n')
    target.chmod(0o755)
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
        "select": [f"public-{table}.*"],
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
            # As it comes it loads 500 at a time, which takes it several times longer.
            "batch_size": 100_000,
        },
    }
    project = {
        "project_id": "end-to-end",
        "send_anonymous_usage_stats": False,
        "default_environment": "dev",
        "environments": [{"name": "dev"}],
        "plugins": {"extractors": [extractor], "loaders": [loader]},
    }
    # YAML takes JSON.
    (folder / "meltano.yml").write_text(json.dumps(project))
    return Pipeline(
        [EXECUTABLE, "run", "tap-postgres", "target-bigquery"], folder, _meltano(folder)
    )


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
    "meltanolabs-tap-postgres 0.10.0 + z3-target-bigquery 0.7.2",
    "#b8c4ce",
    _prepare_peers,
    meltanolabs_z3,
)
DLT_SQLALCHEMY = Contender("dlt 1.31.0, as it comes", "#d9b48f", _prepare_dlt, dlt("sqlalchemy"))
DLT_PYARROW = Contender("dlt 1.31.0, pyarrow", "#c99a6b", _prepare_dlt, dlt("pyarrow"))
DLT_CONNECTORX = Contender("dlt 1.31.0, connectorx", "#b98148", _prepare_dlt, dlt("connectorx"))
CONTENDERS = (OURS, DLT_CONNECTORX, DLT_PYARROW, DLT_SQLALCHEMY, PEERS)
