"""Tables follow their streams' schemas: names, new columns, wider types, and what is refused."""

from typing import Any

import pytest

from sandbox.singer import INTEGER, MOMENT, NUMBER, TEXT, activate, decimal, record, schema, state
from target_bigquery.errors import TargetError
from target_bigquery.names import column_names, snake_case, valid_name


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


def test_a_type_that_cant_be_widened_stops_the_run_before_anything_is_written(dataset: Any) -> None:
    dataset.load([schema("s", {"id": INTEGER, "v": TEXT}), row(id=1, v="x"), state(1)])
    result = dataset.run([schema("s", {"id": INTEGER, "v": INTEGER}), row(id=1, v=1), state(2)])
    assert (result.returncode, result.stdout) == (1, "")
    last = result.stderr.splitlines()[-1]
    for part in (
        "column 'v'",
        "STRING",
        "INT64",
        "tap's configuration",
        "ALTER TABLE `s` RENAME COLUMN `v`",
    ):
        assert part in last
    assert dataset.rows("s", "id, v") == [(1, "x")]


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
    known = column_names(["a b"])
    assert column_names(["a-b", "a b"], known=known)["a b"] == "a_b"
    assert len(set(map(str.lower, column_names(["x", "X", "x ", "x-", "x_"]).values()))) == 5


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
    stream = schema("events", {"id": INTEGER, "at": MOMENT, "kind": TEXT})
    dataset.load(
        [
            stream,
            schema("other", {"id": INTEGER}),
            record("events", {"id": 1, "at": "2024-01-01T00:00:00Z"}),
        ],
        clustering={"event*": ["kind", "id"]},
        partitioning={"event*": {"column": "at", "granularity": "month"}},
    )
    table = dataset.client.get_table(f"{dataset.project}.{dataset.name}.events")
    assert table.clustering_fields == ["kind", "id"]
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("MONTH", "at")
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
