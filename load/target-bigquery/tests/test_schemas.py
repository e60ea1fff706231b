"""Tables follow their streams' schemas: names, new columns, wider types, and what is refused."""

from typing import Any

import pytest
from google.cloud import bigquery

from sandbox.singer import INTEGER, MOMENT, NUMBER, TEXT, activate, decimal, record, schema, state
from target_bigquery.errors import TargetError
from target_bigquery.marks import described_columns, trusted_columns, with_columns
from target_bigquery.names import column_names, snake_case, valid_name
from target_bigquery.warehouse import Warehouse


def row(**values: Any) -> dict[str, Any]:
    return record("s", values)


def test_a_new_column_is_added_in_mid_stream(dataset: Any) -> None:
    messages = [
        schema("s", {"id": INTEGER, "a": TEXT}),
        row(id=1, a="x"),
        schema("s", {"id": INTEGER, "a": TEXT, "b": decimal(30, 12), "c": {"type": "object"}}),
        row(id=2, a="y", b="1.123456789012", c={"k": 1}),
        state(1),
    ]
    assert dataset.load(messages) == [1]
    assert [(i, a, b and str(b)) for i, a, b in dataset.rows("s", "id, a, b")] == [
        (1, "x", None),
        (2, "y", "1.123456789012"),
    ]
    assert dataset.types("s")["c"] == "JSON"


def test_a_column_that_is_gone_stays_and_gets_null_in_new_rows(dataset: Any) -> None:
    dataset.load([schema("s", {"id": INTEGER, "a": TEXT, "b": TEXT}), row(id=1, a="x", b="y")])
    dataset.load([schema("s", {"id": INTEGER, "a": TEXT}), row(id=2, a="z")])
    assert dataset.rows("s", "id, a, b") == [(1, "x", "y"), (2, "z", None)]


@pytest.mark.parametrize(
    ("before", "after", "value", "column_type"),
    [
        (INTEGER, decimal(20, 4), "2.5000", "NUMERIC"),
        (INTEGER, NUMBER, 2.5, "FLOAT64"),
        (INTEGER, decimal(), "2.5", "BIGNUMERIC"),
        (decimal(20, 4), decimal(), "2.5", "BIGNUMERIC"),
        (decimal(20, 4), NUMBER, 2.5, "FLOAT64"),
    ],
)
def test_types_are_widened_in_mid_stream(
    dataset: Any, before: Any, after: Any, value: Any, column_type: str
) -> None:
    first = 1 if before is INTEGER else "1.0000"
    dataset.load(
        [
            schema("s", {"id": INTEGER, "v": before}),
            row(id=1, v=first),
            schema("s", {"id": INTEGER, "v": after}),
            row(id=2, v=value),
        ]
    )
    assert [(i, float(v)) for i, v in dataset.rows("s", "id, v")] == [(1, 1.0), (2, 2.5)]
    assert dataset.types("s")["v"] == column_type


def test_a_narrower_type_goes_into_the_wider_column(dataset: Any) -> None:
    dataset.load([schema("s", {"id": INTEGER, "v": NUMBER}), row(id=1, v=1.5)])
    dataset.load([schema("s", {"id": INTEGER, "v": INTEGER}), row(id=2, v=2)])
    dataset.load([schema("s", {"id": INTEGER, "v": decimal(9, 2)}), row(id=3, v="3.25")])
    assert dataset.rows("s", "id, v") == [(1, 1.5), (2, 2.0), (3, 3.25)]
    assert dataset.types("s")["v"] == "FLOAT64"


def test_names_that_bigquery_refuses_are_made_valid_and_stay_unique(dataset: Any) -> None:
    properties = {
        "id": INTEGER,
        **dict.fromkeys(["a b", "a-b", "a_b", "A_B", "1st", "_TABLE_x", "é"], TEXT),
    }
    for value in ("1", "2"):
        dataset.load(
            [schema("s", properties), row(id=1, **{n: n + value for n in properties if n != "id"})]
        )
    values = {v for v in dataset.query("SELECT * FROM `{d}.s`")[0].values() if isinstance(v, str)}
    assert values == {n + "2" for n in properties if n != "id"}
    assert {"a_b", "_1st", "x_TABLE_x", "_"} <= set(dataset.types("s"))


def test_a_column_stays_with_its_property_when_a_similar_one_comes_first(dataset: Any) -> None:
    dataset.load([schema("s", {"id": INTEGER, "a b": TEXT}), row(id=1, **{"a b": "x"})])
    properties = {"a-b": TEXT, "A_b": TEXT, "a b": TEXT, "id": INTEGER}
    dataset.load([schema("s", properties), row(id=1, **{"a b": "y", "a-b": "z", "A_b": "q"})])
    assert dataset.rows("s", "id, a_b") == [(1, "y")]


def test_a_column_is_the_propertys_in_whatever_case(dataset: Any) -> None:
    dataset.load([schema("other", {"id": INTEGER})])
    dataset.query(
        "CREATE TABLE `{d}.s` (ID INT64, A STRING, N INT64, _SDC_DELETED_AT TIMESTAMP, "
        "_SDC_SEQUENCE INT64)"
    )
    dataset.query("INSERT INTO `{d}.s` (ID, A, N) VALUES (1, 'x', 5), (2, 'y', 5), (3, 'z', 5)")
    properties = {"id": INTEGER, "a": TEXT, "n": INTEGER, "_sdc_Deleted_at": MOMENT}
    stream = schema("s", properties, keys=("Id",), order="n")
    late, gone = row(id=1, a="late", n=4), row(id=2, n=6, _sdc_Deleted_at="2024-01-01T00:00:00Z")
    for mode in ("soft", "hard"):
        dataset.load([stream, late, row(id=3, a="new", n=6), gone], delete_mode=mode)
        alive = dataset.query("SELECT * FROM `{d}.s` WHERE _SDC_DELETED_AT IS NULL ORDER BY ID")
        assert [(r["ID"], r["A"]) for r in alive] == [(1, "x"), (3, "new")]
        assert len(dataset.rows("s")) == {"soft": 3, "hard": 2}[mode]
    names = [name.lower() for name in dataset.types("s")]
    assert len(names) == len(set(names)) == 9  # the four, and five of the loader's own


def test_properties_that_differ_in_case_keep_their_columns(dataset: Any) -> None:
    both = schema("s", {"id": INTEGER, "ID": TEXT, "v": TEXT}, keys=("id", "ID"))
    for n in range(2):
        dataset.load([both, row(id=1, ID="a", v=str(n)), row(id=1, ID="b", v=str(n))])
    dataset.load([schema("s", {"ID": TEXT, "id": INTEGER, "v": TEXT}, keys=("ID", "id"))])
    assert dataset.rows("s", "id, v") == [(1, "1"), (1, "1")]
    other = next(name for name in dataset.types("s") if name.startswith("ID_"))
    assert [value for (value,) in dataset.rows("s", other)] == ["a", "b"]


def test_descriptions_of_columns_are_the_peoples(dataset: Any) -> None:
    stream = schema("s", {"id": INTEGER, "a b": TEXT, "a-b": TEXT})
    dataset.load([stream, row(id=1, **{"a b": "x", "a-b": "y"})])
    table = dataset.client.get_table(f"{dataset.project}.{dataset.name}.s")
    described = [
        field.to_api_repr() | {"description": "Singer property!"} for field in table.schema
    ]
    table.schema = [bigquery.SchemaField.from_api_repr(field) for field in described]
    dataset.client.update_table(table, ["schema"])
    before = set(dataset.types("s"))
    dataset.load([stream, row(id=1, **{"a b": "new", "a-b": "old"})])
    assert set(dataset.types("s")) == before
    assert dataset.rows("s", "id, a_b") == [(1, "new")]


MEMORY = 'Columns of Singer properties: {"a b": "a_b"}'


@pytest.mark.parametrize(
    ("description", "remembered", "says"),
    [
        (f"Of the people\n{MEMORY}\nand more", True, None),
        ("Of the people", False, "is gone"),
        (f"{MEMORY[:-2]}", False, "it is not a JSON object"),
        (MEMORY.replace('"a_b"', '"id"'), False, "'a b' has no such column"),
        (MEMORY.replace("}", ', "a-b": "A_B"}'), True, "column 'A_B' is there twice"),
    ],
    ids=["kept", "gone", "cut", "another column", "twice"],
)
def test_the_tables_description_tells_what_names_do_not(
    dataset: Any,
    caplog: pytest.LogCaptureFixture,
    description: str,
    remembered: bool,
    says: str | None,
) -> None:
    dataset.load([schema("s", {"id": INTEGER, "a b": TEXT}), row(id=1, **{"a b": "x"})])
    table = dataset.client.get_table(f"{dataset.project}.{dataset.name}.s")
    assert table.description == MEMORY
    table.description = description
    dataset.client.update_table(table, ["description"])
    both = schema("s", {"id": INTEGER, "a_b": TEXT, "a b": TEXT})
    for _ in range(2):
        dataset.load([both, row(id=1, **{"a b": "mine", "a_b": "other"})])
    assert dataset.rows("s", "id, a_b") == [(1, "mine" if remembered else "other")]
    warnings = [text for text in caplog.messages if "renamed properties" in text]
    assert len(warnings) == (says is not None)
    assert says is None or says in warnings[0]
    mended = dataset.client.get_table(table.reference).description
    others = [line for line in description.split("\n") if not line.startswith(MEMORY[:20])]
    assert mended.split("\n")[:-1] == others


def test_streams_whose_names_collide_get_tables_of_their_own(dataset: Any) -> None:
    names = ["a-b", "a.b", "a_b", "A_B"]
    for order in (names, names[::-1]):
        messages = [m for n in order for m in (schema(n, {"id": TEXT}), record(n, {"id": n}))]
        dataset.load(messages)
        dataset.load(messages[:2])
    tables = dataset.tables()
    assert len(tables) == 4
    assert sorted(dataset.rows(table, "id")[0][0] for table in tables) == sorted(names)
    for table in tables:
        assert len(dataset.rows(table)) == 1


def test_snake_case_columns(dataset: Any) -> None:
    stream = schema("s", {"userId": INTEGER, "HTTPStatus": TEXT}, keys=("userId",))
    for value in ("1", "2"):
        dataset.load([stream, row(userId=1, HTTPStatus=value)], column_names="snake_case")
    assert dataset.rows("s", "user_id, http_status") == [(1, "2")]


def test_names() -> None:
    assert snake_case("someHTTPServerName2") == "some_http_server_name2"
    assert valid_name("2024 + é") == "_2024____"
    assert valid_name("_PARTITIONTIME") == "x_PARTITIONTIME"
    assert valid_name("") == "_"
    assert column_names(["a_b", "a b"], known={"a b": "a_b"})["a b"] == "a_b"
    names = column_names(["x", "X", "x ", "x-", "x_"])
    assert len({name.lower() for name in names.values()}) == 5
    assert column_names(["x ", "X", "x-"], existing=names.values()) == {
        name: names[name] for name in ("x ", "X", "x-")
    }
    assert column_names(["userId"], snake=True, existing=["UserID"]) == {"userId": "UserID"}
    assert column_names(["é"], existing=["É"]) == {"é": "É"}
    assert column_names(["_SDC x"], reserved=["_sdc_x"])["_SDC x"].startswith("_SDC_x_")


def test_a_description_has_renamed_properties_as_far_as_they_fit() -> None:
    few = {"é\u2028": "__", 'a "b"': "a__b_"}
    written = with_columns("Of\r\nothers", few)
    assert trusted_columns(described_columns(written), few.values()) == (few, [])
    assert with_columns(written, few) == written
    assert with_columns(written, {}) == "Of\r\nothers"
    assert with_columns(None, {}) is None
    many = {f"{n:050}": f"_{n:050}" for n in range(300)}
    full = with_columns("Of others", many)
    assert full is not None
    assert len(full) < 16_384
    assert trusted_columns(described_columns(full), many.values()) == ({}, [])


def test_new_tables_are_clustered_by_their_keys(dataset: Any) -> None:
    stream = schema("s", {"a": NUMBER, "b": TEXT, "c": INTEGER}, keys=("a", "b", "c"))
    dataset.load([stream])
    table = dataset.client.get_table(f"{dataset.project}.{dataset.name}.s")
    assert table.clustering_fields == ["b", "c"]


def test_a_table_that_asks_for_a_filter_by_partition_is_loaded(dataset: Any) -> None:
    dataset.load([schema("other", {"id": INTEGER})])  # makes the dataset
    dataset.query(
        "CREATE TABLE `{d}.s` (id INT64, day DATE, _sdc_deleted_at TIMESTAMP) "
        "PARTITION BY day OPTIONS (require_partition_filter = TRUE)"
    )
    for keys in (("id", "day"), ("id",)):
        day = {"type": "string", "format": "date"}
        stream = schema("s", {"id": INTEGER, "day": day, "a": TEXT}, keys)
        version = 3 - len(keys)  # the key becomes another
        for a in ("x", "y"):
            rows = [{"id": n, "day": f"2024-01-0{n}", "a": a} for n in (1, 2)]
            dataset.load([stream, *(record("s", row, version) for row in rows)])
        dataset.load([stream, activate("s", version)])
    found = dataset.query("SELECT id, a FROM `{d}.s` WHERE day > '2000-01-01' ORDER BY id")
    assert found == [{"id": 1, "a": "y"}, {"id": 2, "a": "y"}]


def test_clustering_and_partitioning_by_stream_pattern(dataset: Any) -> None:
    stream = schema("events", {"id": INTEGER, "sent at": MOMENT, "kind": TEXT})
    dataset.load(
        [
            stream,
            schema("other", {"id": INTEGER}),
            record("events", {"id": 1, "sent at": "2024-01-01T00:00:00Z"}),
        ],
        clustering={"event*": ["KIND", "Sent At", "_SDC_sequence"]},
        partitioning={"event*": {"column": "SENT_at", "granularity": "month"}},
    )
    table = dataset.client.get_table(f"{dataset.project}.{dataset.name}.events")
    assert table.clustering_fields == ["kind", "sent_at", "_sdc_sequence"]
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("MONTH", "sent_at")
    other = dataset.client.get_table(f"{dataset.project}.{dataset.name}.other")
    assert other.time_partitioning is None
    assert other.clustering_fields == ["id"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"clustering": ["nope"]}, "column 'nope'"),
        ({"partitioning": {"*": {"column": "nope"}}}, "'nope', which does not exist"),
        ({"partitioning": {"*": {"column": "id"}}}, "'id', which is INT64"),
    ],
)
def test_columns_that_cant_be_clustered_or_partitioned_by(
    dataset: Any, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(TargetError, match=says):
        dataset.load([schema("s", {"id": INTEGER})], **settings)


def test_a_key_that_is_not_in_the_schema_is_an_error(dataset: Any) -> None:
    with pytest.raises(TargetError, match="key_properties has 'nope'"):
        dataset.load([schema("s", {"id": INTEGER}, keys=("nope",))])


def test_a_schema_repeated_unchanged_is_no_flush(
    dataset: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stream = schema("s", {"id": INTEGER})
    with caplog.at_level("INFO"):
        dataset.load([m for n in range(20) for m in (stream, row(id=n))])
    assert sum("rows loaded into s" in message for message in caplog.messages) == 1
    assert len(dataset.rows("s")) == 20


def test_properties_that_the_schema_does_not_have_are_named(
    dataset: Any, caplog: pytest.LogCaptureFixture
) -> None:
    dataset.load([schema("s", {"id": INTEGER}), row(id=1, extra=2), row(id=2, extra=3)])
    assert caplog.text.count("not loaded, as the schema does not have them: extra") == 1
    assert dataset.rows("s", "id") == [(1,), (2,)]


def test_a_table_that_is_there_already_is_used(dataset: Any) -> None:
    dataset.load([schema("other", {"id": INTEGER})])
    dataset.query("CREATE TABLE `{d}.public_s` (id INT64, a STRING)")
    dataset.load(
        [schema("public-s", {"id": INTEGER, "a": TEXT}), record("public-s", {"id": 1, "a": "x"})]
    )
    assert dataset.rows("public_s", "id, a") == [(1, "x")]


NAMES = [
    *('a"b', "a\\b", "a\x01b", "\x00", "a\nb", "😀", "", "`", "x" * 400, "x" * 401, "X" * 400),
    *("_sdc_staged_sequence", "_sdc_staged_present", "__order", "__key0", "__deleted", "__segment"),
    *("__newest", "__group0", "T", "staged", "select", "_PARTITIONTIME", "_FILE_x", "c0"),
]


def test_a_property_of_any_name_has_a_column(dataset: Any) -> None:
    """Also of names that the loader's own SQL uses, and those that its decoder can't take."""
    stream = schema("s", {"id": INTEGER, **dict.fromkeys(NAMES, TEXT), "_sdc_deleted_at": TEXT})
    values = {name: str(n) for n, name in enumerate(NAMES)}
    for keep, gone in (("null", {}), ("keep", {"id": 2, "_sdc_deleted_at": "x"})):
        records = [record("s", {"id": 1, **values}), *([record("s", gone)] if gone else [])]
        dataset.load([stream, *records], missing_properties=keep)
    stored = dataset.query("SELECT * FROM `{d}.s` WHERE id = 1")[0]
    assert [value for value in stored.values() if isinstance(value, str)] == [*values.values()]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("CREATE VIEW `{d}.s` AS SELECT 1 AS id", "s is of type view, and rows can be loaded into"),
        ("CREATE SNAPSHOT TABLE `{d}.s` CLONE `{d}.other`", "s is of type snapshot, and rows"),
        ("CREATE TABLE `{d}.s` (id INT64, b STRING NOT NULL)", "column 'b' of table 's' is REQUIR"),
    ],
)
def test_what_cant_be_loaded_into_is_refused(dataset: Any, made: str, says: str) -> None:
    dataset.load([schema("other", {"id": INTEGER})])
    dataset.query(made)
    with pytest.raises(TargetError, match=says) as why:
        dataset.load([schema("s", {"id": INTEGER}), row(id=1), state(1)])
    assert "\n" not in str(why.value)


def test_columns_that_people_drop_rename_and_widen(
    dataset: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stream = schema("s", {"id": INTEGER, "a": TEXT, "b": TEXT, "c": INTEGER, "d-d": TEXT})
    first = row(id=1, a="x", b="x", c=1, **{"d-d": "x"})
    dataset.load([stream, first])
    table = dataset.client.get_table(f"{dataset.project}.{dataset.name}.s")
    for change in (
        "DROP COLUMN a",
        "RENAME COLUMN b TO bb",
        "ALTER COLUMN c SET DATA TYPE FLOAT64",
        "DROP COLUMN d_d",
        "ADD COLUMN e INT64 DEFAULT 5",
    ):
        dataset.query(f"ALTER TABLE `{{d}}.s` {change}")
    # The emulator's catalogue does not follow.
    fields = {f.name: f for f in table.schema if f.name not in {"a", "b", "c", "d_d"}}
    made = (("bb", "STRING"), ("c", "FLOAT"), ("e", "INT64"))
    new = [bigquery.SchemaField(*pair) for pair in made]
    table.schema = [*fields.values(), *new]
    dataset.client.update_table(table, ["schema"])
    with caplog.at_level("INFO"):
        dataset.load([stream, row(id=2, a="y", b="y", c=2, **{"d-d": "y"})])
        dataset.load([stream])
    rows = dataset.rows("s", "id, a, b, bb, c, d_d")
    assert rows == [(1, None, None, "x", 1.0, None), (2, "y", "y", None, 2.0, "y")]
    assert caplog.text.count("adding columns a, b, d_d, NULL in the rows so far") == 1


def test_a_table_that_is_dropped_within_a_run_is_an_error_and_made_by_the_next(
    dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [schema("s", {"id": INTEGER}), row(id=1), state(1)]
    load = Warehouse.load

    def drop_first(warehouse: Warehouse, *args: Any) -> None:
        warehouse.drop("s")
        load(warehouse, *args)

    with monkeypatch.context() as broken:
        broken.setattr(Warehouse, "load", drop_first)
        with pytest.raises(TargetError) as why:
            dataset.load(messages)
    assert "stream 's', table 's'" in str(why.value)
    assert "\n" not in str(why.value)
    assert dataset.load(messages) == [1]
    assert dataset.rows("s", "id") == [(1,)]


def test_in_a_dataset_of_any_case_a_table_is_found_in_any(
    dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.load([schema("other", {"id": INTEGER})])
    dataset.query("CREATE TABLE `{d}.ORDERS` (id INT64)")
    stream = schema("orders", {"id": INTEGER})
    monkeypatch.setattr(bigquery.Dataset, "is_case_insensitive", True)
    dataset.load([stream, record("orders", {"id": 1})])
    assert dataset.tables() == ["ORDERS", "other"]
    assert dataset.rows("ORDERS", "id") == [(1,)]
