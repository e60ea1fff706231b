"""The PostgreSQL source under Meltano, from a server to files, and the switch of its variant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.meltano import Meltano
from sandbox.postgres import HOST, PASSWORD, Postgres, running_votes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
TAP, TARGET = "tap-my-postgres-datasource", "target-jsonl"
BLOCK = {
    "jdbc_url_params": "replication=postgres",
    "ssl_mode": {"mode": "enable"},
    "schemas": ["public"],
    "replication_method": {
        "plugin": "pgoutput",
        "method": "CDC",
        "publication": "oso_publication",
        "replication_slot": "oso_slot",
        "initial_waiting_seconds": 5,
    },
}


@pytest.fixture
def server() -> Iterator[Postgres]:
    with running_votes() as server:
        yield server


def environment(**settings: str) -> dict[str, str]:
    prefix = "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_"
    return {prefix + name.upper(): value for name, value in settings.items()}


@pytest.fixture
def pipeline(server: Postgres, tmp_path: Path) -> Meltano:
    settings = environment(
        host=HOST,
        port=str(server.port),
        database="postgres",
        username="postgres",
        password=PASSWORD,
        # The embedded server does not speak TLS.
        ssl_mode_mode="disable",
    )
    return Meltano(ROOT, tmp_path, settings)


def received(meltano: Meltano) -> dict[str, Any]:
    """The configuration that Meltano hands to the tap."""
    # A variant that is not installed would be fetched, into the environment of the one that is.
    command = ("invoke", "--no-install", "--dump=config", TAP)
    config: dict[str, Any] = json.loads(meltano.run(*command).stdout)
    return config


def test_one_word_switches_the_variant_and_both_get_the_same_block(tmp_path: Path) -> None:
    settings = environment(
        host="db.example.org",
        port="5433",
        password="from the environment",
        schemas='["a", "b"]',
    )
    meltano = Meltano.in_copy(ROOT, tmp_path, settings)
    definition = meltano.root / "extract" / "postgres.meltano.yml"
    text = definition.read_text()
    assert text.count("variant: oso") == 1

    oso = received(meltano)
    definition.write_text(text.replace("variant: oso", "variant: airbyte"))
    airbyte = received(meltano)

    expected = {**BLOCK, "host": "db.example.org", "port": 5433, "schemas": ["a", "b"]}
    expected["password"] = "from the environment"
    assert oso["airbyte_config"] == airbyte["airbyte_config"] == expected
    assert oso["snapshot_workers"] == 2
    assert airbyte["airbyte_spec"]["image"] == "airbyte/source-postgres"


def test_run_copies_the_tables_then_writes_what_changed(
    pipeline: Meltano, server: Postgres
) -> None:
    pipeline.run("run", TAP, TARGET)
    assert len(pipeline.records("votes")) == 50

    with server.connect() as connection:
        connection.execute("UPDATE votes SET name = 'new' WHERE id = 1")
        connection.execute("DELETE FROM votes WHERE id = 2")
    pipeline.run("run", TAP, TARGET)

    update, delete = pipeline.records("votes")[50:]
    assert (update["id"], update["name"]) == (1, "new")
    assert delete["id"] == 2
    assert delete["_ab_cdc_deleted_at"]
    state = pipeline.state(f"dev:{TAP}-to-{TARGET}")
    assert state["bookmarks"]["votes"]["copied"] is True


def test_config_test_tells_good_settings_from_bad(pipeline: Meltano) -> None:
    assert pipeline.run("config", "test", TAP).returncode == 0
    pipeline.env |= environment(replication_method_replication_slot="no_slot")
    failed = pipeline.run("config", "test", TAP, check=False)
    assert failed.returncode == 1


def test_the_reason_of_a_failure_is_among_the_last_lines(pipeline: Meltano) -> None:
    pipeline.env |= environment(password="wrong")
    failed = pipeline.run("run", TAP, TARGET, check=False)
    assert failed.returncode == 1
    assert 'the server refused user "postgres"' in "\n".join(failed.stderr.splitlines()[-15:])
    assert "Traceback" not in failed.stderr


def test_a_row_longer_than_the_buffer_allows_fails_and_the_next_run_with_more_brings_it(
    pipeline: Meltano, server: Postgres
) -> None:
    with server.connect() as connection:
        connection.execute("UPDATE votes SET name = repeat('x', 19 << 20) WHERE id = 1")
    pipeline.run("run", TAP, TARGET)

    with server.connect() as connection:
        connection.execute("UPDATE votes SET name = repeat('x', 21 << 20) WHERE id = 2")
    failed = pipeline.run("run", TAP, TARGET, check=False)
    assert failed.returncode == 1
    assert "increase the 'elt.buffer_size' setting" in failed.stderr

    pipeline.env["MELTANO_ELT_BUFFER_SIZE"] = str(80 << 20)
    pipeline.run("run", TAP, TARGET)
    sizes = {record["id"]: len(record["name"]) >> 20 for record in pipeline.records("votes")}
    assert sizes == dict.fromkeys(range(1, 51), 0) | {1: 19, 2: 21}


def test_selected_columns_and_tables_are_the_only_ones(
    server: Postgres, pipeline: Meltano, tmp_path: Path
) -> None:
    with server.connect() as connection:
        connection.execute("CREATE TABLE other (id int PRIMARY KEY)")
        connection.execute("ALTER PUBLICATION oso_publication ADD TABLE other")
    meltano = Meltano.in_copy(ROOT, tmp_path, pipeline.env)
    meltano.run("select", TAP, "votes", "id")
    meltano.run("run", TAP, TARGET)
    columns = {name for name in meltano.records("votes")[0] if not name.startswith("_ab_cdc_")}
    assert columns == {"id"}
    assert not (tmp_path / "other.jsonl").exists()
