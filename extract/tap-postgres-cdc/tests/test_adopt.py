"""Going on where another tool has brought the tables into the warehouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Source


@pytest.fixture
def table(source: Source) -> Source:
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, name text)",
        "INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, 10) i",
    )
    source.publish("FOR TABLE t")
    return source


def adopted(source: Source) -> dict[str, Any]:
    run = source.execute("adopt")
    assert run.code == 0, run.log
    (message,) = run.messages
    state: dict[str, Any] = message["singer_state"]
    return state


def test_tables_are_not_copied_and_what_the_slot_still_has_comes(table: Source) -> None:
    """Also changes from before the command: they are after what the other tool confirmed."""
    table.sql("UPDATE t SET name = 'new' WHERE id = 1")
    table.state = adopted(table)
    table.sql("DELETE FROM t WHERE id = 2")
    records = table.run().records("t")
    assert [(row["id"], row.get("name"), bool(row["_ab_cdc_deleted_at"])) for row in records] == [
        (1, "new", False),
        (2, None, True),
    ]
    table.sql("INSERT INTO t VALUES (11, 'x')")
    assert [row["id"] for row in table.run().records("t")] == [11]


def test_it_changes_nothing(table: Source) -> None:
    before = table.confirmed()
    adopted(table)
    assert table.confirmed() == before
    assert len(table.run(state=None).records("t")) == 10


def test_a_slot_that_is_missing_is_told(table: Source) -> None:
    table.sql(f"SELECT pg_drop_replication_slot('{table.slot}')")
    run = table.execute("adopt")
    assert run.code == 1
    assert "does not exist: create it with" in run.last_line
    assert run.lines == []
