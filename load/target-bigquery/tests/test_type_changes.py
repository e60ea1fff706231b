"""Columns whose type can't be widened: the table is rewritten, and nothing that it had is lost."""

import itertools
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple, cast

import pytest
from google.cloud import bigquery

from sandbox.singer import (
    INTEGER,
    MOMENT,
    NUMBER,
    OBJECT,
    TEXT,
    activate,
    decimal,
    record,
    schema,
    state,
)  # fmt: skip
from target_bigquery import datasets, rewriting, streams
from target_bigquery.column_types import BigQueryType
from target_bigquery.conversion import Conversion, kept_column
from target_bigquery.errors import TargetError
from target_bigquery.warehouse import Warehouse

FLAG = {"type": ["boolean", "null"]}
DAY = {"type": ["string", "null"], "format": "date"}
CLOCK = {"type": ["string", "null"], "format": "time"}
LOCAL = {**MOMENT, "airbyte_type": "timestamp_without_timezone"}
BINARY = {"type": ["string", "null"], "contentEncoding": "base64"}
NOON = "2024-02-29T12:00:00Z"


class Change(NamedTuple):
    """A property's type before and after, a value from before, and what becomes of it."""

    before: Any
    value: Any
    after: Any
    becomes: Any
    text: str | None = None


CHANGES = [
    Change(INTEGER, 12, TEXT, "12"),
    Change(NUMBER, 1.5, TEXT, "1.5"),
    Change(FLAG, True, TEXT, "true"),
    Change(DAY, "2024-02-29", TEXT, "2024-02-29"),
    Change(CLOCK, "12:30:00", TEXT, "12:30:00"),
    Change(LOCAL, "2024-02-29T12:00:00", TEXT, "2024-02-29 12:00:00"),
    Change(MOMENT, NOON, TEXT, "2024-02-29 12:00:00+00"),
    Change(BINARY, "YWJj", TEXT, "YWJj"),
    Change(OBJECT, {"b": [1]}, TEXT, '{"b":[1]}'),
    Change(OBJECT, "as text", TEXT, "as text"),
    Change(TEXT, "12", INTEGER, 12),
    Change(TEXT, "a dozen", INTEGER, None, "a dozen"),
    Change(TEXT, None, INTEGER, None),
    Change(TEXT, "1.5", NUMBER, 1.5),
    Change(TEXT, "1.5000", decimal(20, 4), Decimal("1.5")),
    Change(TEXT, "?", decimal(20, 4), None, "?"),
    Change(TEXT, "true", FLAG, True),
    Change(TEXT, "2024-02-29", DAY, date(2024, 2, 29)),
    Change(TEXT, "2024-02-31", DAY, None, "2024-02-31"),
    Change(TEXT, NOON, MOMENT, datetime(2024, 2, 29, 12, tzinfo=UTC)),
    Change(TEXT, "2024-02-29 12:00:00", LOCAL, datetime(2024, 2, 29, 12)),  # noqa: DTZ001
    Change(TEXT, "12:30:00", CLOCK, time(12, 30)),
    Change(TEXT, "YWJj", BINARY, b"abc"),
    Change(TEXT, "é", BINARY, None, "é"),
    Change(INTEGER, 12, BINARY, None, "12"),
    Change(TEXT, "stays", OBJECT, "stays"),  # the column stays STRING, and keeps the text
    Change(MOMENT, NOON, LOCAL, datetime(2024, 2, 29, 12)),  # noqa: DTZ001
    Change(LOCAL, "2024-02-29T12:00:00", MOMENT, datetime(2024, 2, 29, 12, tzinfo=UTC)),
    Change(DAY, "2024-02-29", MOMENT, datetime(2024, 2, 29, tzinfo=UTC)),
    Change(MOMENT, "2024-02-29T00:00:00Z", DAY, date(2024, 2, 29)),
    Change(MOMENT, NOON, DAY, date(2024, 2, 29), "2024-02-29 12:00:00+00"),
    Change(LOCAL, "2024-02-29T12:00:00", CLOCK, time(12), "2024-02-29 12:00:00"),
    Change(NUMBER, 1.5, decimal(20, 4), Decimal("1.5")),
    Change(NUMBER, 1.5, decimal(30, 12), Decimal("1.5")),
    Change(decimal(), "1.5", NUMBER, 1.5),
    Change(TEXT, "1.5", decimal(), Decimal("1.5")),
    Change(decimal(30, 12), "1.5", decimal(30, 12), Decimal("1.5")),
    Change(INTEGER, 1, FLAG, True),
    Change(FLAG, True, INTEGER, 1),
    Change(INTEGER, 12, DAY, None, "12"),
    Change(DAY, "2024-02-29", INTEGER, None, "2024-02-29"),
    Change(OBJECT, 12, INTEGER, 12),
    Change(OBJECT, {"b": 1}, INTEGER, None, '{"b":1}'),
    Change(OBJECT, "2024-02-29", DAY, date(2024, 2, 29)),
    Change(INTEGER, 12, OBJECT, 12),
    Change(NUMBER, 1.5, OBJECT, 1.5),
    Change(FLAG, True, OBJECT, True),
    Change(DAY, "2024-02-29", OBJECT, "2024-02-29"),
    Change(BINARY, "YWJj", OBJECT, "YWJj"),
    Change(decimal(20, 4), "1.5000", OBJECT, 1.5),
]


def test_every_value_becomes_the_new_type_or_keeps_its_text(
    dataset: Any, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"c{index}" for index in range(len(CHANGES))]
    before = {name: change.before for name, change in zip(names, CHANGES, strict=True)}
    after = {name: change.after for name, change in zip(names, CHANGES, strict=True)}
    values = {name: change.value for name, change in zip(names, CHANGES, strict=True)}
    rows = [record("s", {"id": 1, **values}), record("s", {"id": 2})]
    dataset.load([schema("s", {"id": INTEGER, **before}), *rows])
    messages = [schema("s", {"id": INTEGER, **after}), record("s", {"id": 3}), state(1)]
    assert dataset.load(messages) == [1]
    old, *empty = dataset.query("SELECT * FROM `{d}.s` ORDER BY id")
    found = {
        name: (decoded(change, old[name]), old.get(f"{name}_text"))
        for name, change in zip(names, CHANGES, strict=True)
    }
    assert found == {
        name: (change.becomes, change.text) for name, change in zip(names, CHANGES, strict=True)
    }
    for row in empty:
        assert {value for name, value in row.items() if not name.startswith(("id", "_"))} == {None}
    warnings = [text for text in caplog.messages if "was rewritten" in text]
    assert len(warnings) == 1
    assert "column 'c0' was INT64 and is STRING;" in warnings[0]
    assert (
        "'c11' was STRING and is INT64 (rows that keep their old text in 'c11_text': 1)"
        in (warnings[0])
    )
    caplog.clear()
    dataset.load(messages)
    assert "was rewritten" not in caplog.text


def decoded(change: Change, value: Any) -> Any:
    """Return a stored value; the emulator gives JSON as text or as what it says."""
    if change.after is OBJECT and change.before is not TEXT and isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def test_a_rewritten_table_has_all_that_it_had(
    dataset: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows marked as deleted, partitions, clustering, descriptions, labels; keys and order match.

    One stream's tap copies the table again, the other's does not.
    """
    settings = {"partitioning": {"*": {"column": "at"}}, "clustering": ["id", "kind"]}
    gone = {"id": 2, "n": 5, "_sdc_deleted_at": NOON}

    def messages(kind: Any, *records: Any, name: str) -> list[Any]:
        properties = {"id": kind, "kind": TEXT, "at": MOMENT, "n": kind, "_sdc_deleted_at": MOMENT}
        return [schema(name, properties, order="n"), *(record(name, *r) for r in records)]

    for name in ("again", "other"):
        first = [({"id": 1, "at": NOON, "n": 4}, 1), ({"id": 2, "kind": "y", "n": 4}, 1)]
        dataset.load(messages(INTEGER, *first, (gone, 1), name=name), **settings)
        table = dataset.client.get_table(f"{dataset.project}.{dataset.name}.{name}")
        table.description, table.friendly_name = "Ours", "Votes"
        table.labels = {**table.labels, "team": "polls"}
        described = table.schema[0].to_api_repr() | {"description": "the key"}
        table.schema = [bigquery.SchemaField.from_api_repr(described), *table.schema[1:]]
        changed = ["description", "friendly_name", "labels", "schema"]
        before = dataset.client.update_table(table, changed).to_api_repr()
        new = messages(
            TEXT, ({"id": "1", "kind": "z", "n": "6"}, 2), ({"id": "a", "n": "7"}, 2), name=name
        )
        dataset.load([*new, *([activate(name, 2)] if name == "again" else []), state(name)])
        after = dataset.client.get_table(table.reference).to_api_repr()
        assert {field["name"]: field["type"] for field in after["schema"]["fields"]}[
            "id"
        ] == "STRING"
        assert after["schema"]["fields"][0]["description"] == "the key"
        for part in ("description", "friendlyName", "labels", "clustering", "timePartitioning"):
            assert after[part] == before[part]
        rows = dataset.rows(name, "id, kind, n, _sdc_deleted_at IS NOT NULL")
        assert rows == [("1", "z", "6", False), ("2", "y", "5", True), ("a", None, "7", False)]
    assert sum("was rewritten" in text for text in caplog.messages) == 2
    assert dataset.tables() == ["again", "other"]


class Mortal:
    """A warehouse of which the n-th call that changes something dies."""

    def __init__(self, warehouse: Warehouse, step: int) -> None:
        self._warehouse = warehouse
        self._left = step

    def __getattr__(self, name: str) -> Any:
        self._left -= name in {"fill", "overwrite", "drop"}
        if self._left == 0:
            raise TargetError("killed")
        return getattr(self._warehouse, name)


def test_a_run_that_died_while_a_table_was_rewritten_is_made_good_by_the_next(
    dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"s{step}" for step in range(1, 5)]
    old = [{"id": 1, "v": "7"}, {"id": 2, "v": "x"}]
    for_all = [
        [schema(name, {"id": INTEGER, "v": TEXT}), *(record(name, row) for row in old)]
        for name in names
    ]
    dataset.load(itertools.chain(*for_all))
    new = [
        [schema(name, {"id": INTEGER, "v": INTEGER}), record(name, {"id": 3, "v": 8})]
        for name in names
    ]
    died = 0
    for step, messages in enumerate(new, 1):

        def convert(warehouse: Warehouse, *args: Any, step: int = step) -> None:
            rewriting.convert_columns(cast("Warehouse", Mortal(warehouse, step)), *args)

        with monkeypatch.context() as broken:
            broken.setattr(streams, "convert_columns", convert)
            try:
                dataset.load(messages)
            except TargetError as error:
                assert "killed" in str(error)  # noqa: PT017  # the last runs do not die
                died = step
    assert died == len(names) - 1  # fill, overwrite, drop
    monkeypatch.setattr(datasets, "LEFT_OVER", -1.0)
    assert dataset.load([*itertools.chain(*new), state(1)]) == [1]
    for name in names:
        rows = [(1, 7, None), (2, None, "x"), (3, 8, None)]
        assert dataset.rows(name, "id, v, v_text") == rows
    assert sorted(dataset.tables()) == sorted(names)


def test_types_that_change_to_and_fro_lose_no_text(dataset: Any) -> None:
    def sent(kind: Any, *values: Any) -> list[Any]:
        records = [record("s", {"id": i, "v": v}) for i, v in enumerate(values) if v is not None]
        return [schema("s", {"id": INTEGER, "v": kind, "v_text": TEXT}), *records]

    dataset.load(sent(TEXT, "x", "1"))
    dataset.load([*sent(INTEGER, None, None, 2), *sent(TEXT, None, None, None, "y")])
    dataset.load(sent(INTEGER, None, None, None, None, 4))
    kept = kept_column(Conversion("v", *TEXT_TO_INTEGER), ["v_text"], []).name
    rows = [(0, None, "x"), (1, 1, None), (2, 2, None), (3, None, "y"), (4, 4, None)]
    assert dataset.rows("s", f"id, v, {kept}") == rows
    assert set(dataset.types("s")) >= {"v", "v_text", kept}


TEXT_TO_INTEGER = BigQueryType("STRING"), BigQueryType("INT64")


def test_a_mark_of_a_delete_that_its_new_type_cant_hold_still_marks(dataset: Any) -> None:
    def sent(kind: Any, *records: Any) -> list[Any]:
        properties = {"id": INTEGER, "_ab_cdc_deleted_at": kind}
        return [schema("s", properties), *(record("s", values) for values in records)]

    gone = [{"id": 1, "_ab_cdc_deleted_at": NOON}, {"id": 2, "_ab_cdc_deleted_at": "yesterday"}]
    dataset.load(sent(TEXT, *gone, {"id": 3}))
    dataset.load(sent(MOMENT, {"id": 4}))
    rows = dataset.rows("s", "id, _ab_cdc_deleted_at IS NULL, _ab_cdc_deleted_at_text")
    assert rows == [(1, False, None), (2, False, "yesterday"), (3, True, None), (4, True, None)]


def test_a_clustering_column_is_not_widened_to_what_cant_cluster(
    dataset: Any, caplog: pytest.LogCaptureFixture
) -> None:
    dataset.load([schema("s", {"id": INTEGER}), record("s", {"id": 1})])
    dataset.load([schema("s", {"id": NUMBER}), record("s", {"id": 1.0}), record("s", {"id": 1.5})])
    assert dataset.rows("s", "id") == [(1.0,), (1.5,)]
    assert "it is no longer clustered by 'id'" in caplog.text


@pytest.mark.parametrize(
    ("made", "after", "settings", "says"),
    [
        ("id INT64, v STRING", INTEGER, {"on_type_change": "fail"}, "set on_type_change: convert"),
        ("id INT64, v ARRAY<STRING>", TEXT, {}, "is REPEATED STRING"),
        ("id INT64, v STRUCT<a INT64>", OBJECT, {}, "is STRUCT"),
        ("id INT64, v TIMESTAMP", TEXT, {}, "can't be partitioned"),
    ],
)
def test_a_type_that_cant_be_changed_stops_the_run_before_anything_is_written(
    dataset: Any, made: str, after: Any, settings: Any, says: str
) -> None:
    dataset.load([schema("other", {"id": INTEGER})])
    dataset.query(f"CREATE TABLE `{{d}}.s` ({made})")
    if "TIMESTAMP" in made:  # the emulator does not take the column from SQL
        table = dataset.client.get_table(f"{dataset.project}.{dataset.name}.s")
        table.time_partitioning = bigquery.TimePartitioning(field="v")
        dataset.client.update_table(table, ["time_partitioning"])
    messages = [schema("s", {"id": INTEGER, "v": after}), record("s", {"id": 1}), state(2)]
    with pytest.raises(TargetError) as why:
        dataset.load(messages, **settings)
    text = str(why.value)
    for part in (
        "column 'v'",
        says,
        "tap's configuration",
        f".{dataset.name}.s` RENAME TO `s_old`",
    ):
        assert part in text
    assert "\n" not in text
    assert dataset.capsys.readouterr().out == ""
    assert dataset.rows("s") == []


def test_a_table_that_people_made_is_rewritten_as_it_is(dataset: Any) -> None:
    """Partitions by ingestion time, a filter that queries need, columns in upper case."""
    dataset.load([schema("other", {"id": INTEGER})])
    fields = (("ID", "INT64"), ("V", "STRING"), ("MORE", "INT64"))
    table = bigquery.Table(
        f"{dataset.project}.{dataset.name}.s", [bigquery.SchemaField(*field) for field in fields]
    )
    table.time_partitioning = bigquery.TimePartitioning()
    table.require_partition_filter = True
    dataset.client.create_table(table)
    dataset.query("INSERT INTO `{d}.s` (ID, V, MORE) VALUES (1, '7', 5), (2, 'x', 6)")
    messages = [schema("s", {"id": TEXT, "v": INTEGER}), record("s", {"id": "1", "v": 8})]
    dataset.load([*messages, record("s", {"id": "a"})])
    rows = [("1", 8, 5, None), ("2", None, 6, "x"), ("a", None, None, None)]
    assert dataset.rows("s", "id, v, more, v_text") == rows
    made = dataset.client.get_table(table.reference)
    assert (made.time_partitioning.type_, made.time_partitioning.field) == ("DAY", None)


def test_a_table_with_row_access_policies_is_not_rewritten(dataset: Any, emulated: Any) -> None:
    dataset.load([schema("s", {"id": INTEGER, "v": TEXT}), record("s", {"id": 1, "v": "x"})])
    dataset.query(
        "CREATE ROW ACCESS POLICY p ON `{d}.s` GRANT TO ('user:a@example.com') "
        "FILTER USING (id > 5)"
    )
    with pytest.raises(TargetError, match="'s' has row access policies"):
        dataset.load([schema("s", {"id": INTEGER, "v": INTEGER}), record("s", {"id": 2, "v": 1})])
