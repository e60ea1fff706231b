"""The text of the statements that load a batch: what `golden/` has, to be read there.

To write it anew: WRITE_GOLDEN=1 make test ARGS=load/target-bigquery/tests/test_sql.py
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pyarrow as pa
import pytest

from sandbox.singer import INTEGER, MOMENT, NUMBER, OBJECT, TEXT, decimal, schema
from target_bigquery.errors import TargetError
from target_bigquery.marks import mark_of
from target_bigquery.merging import merge
from target_bigquery.messages import SchemaMessage
from target_bigquery.partitions import Partitions
from target_bigquery.settings import settings
from target_bigquery.spool import Spool
from target_bigquery.sql import append, next_version, remove_older_versions
from target_bigquery.streams import OpenedStream, open_stream
from target_bigquery.tables import StoredColumn, StoredTable, plan
from target_bigquery.versions import remove_older_versions as remove_in_parts

if TYPE_CHECKING:
    from target_bigquery.warehouse import Warehouse

GOLDEN = Path(__file__).with_name("golden")
DAY = {"type": "string", "format": "date"}
GONE = "2024-05-06T07:08:09Z"
CDC = {"id": INTEGER, "name": TEXT, "_ab_cdc_deleted_at": MOMENT, "_ab_cdc_sequence": TEXT}
CHANGES = [
    {"id": 7, "name": "x", "_ab_cdc_sequence": "0001"},
    {"id": 12, "_ab_cdc_deleted_at": GONE, "_ab_cdc_sequence": "0002"},
]


@dataclass
class Case:
    """A stream, the records of a batch, and the table if it is there already."""

    properties: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    keys: Sequence[str] = ("id",)
    order: str | None = None
    partitions: Partitions | None = None
    clustering: tuple[str, ...] = ()
    floor: int | None = None
    collated: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def message(self) -> dict[str, Any]:
        return schema("s", self.properties, self.keys, self.order)

    def stored(self) -> StoredTable | None:
        if not (self.partitions or self.clustering or self.floor or self.collated):
            return None
        new = plan(
            "s", self.message()["schema"], None, snake=False, metadata=True, convert=False
        ).add
        columns = [StoredColumn(c.name, c.type, collated=self.collated) for c in new]
        mark = mark_of("s", self.keys, self.floor)
        return StoredTable(
            "s",
            "p.d.s",
            tuple(columns),
            mark,
            partitions=self.partitions,
            clustering=self.clustering,
        )

    def open(self) -> OpenedStream:
        stored = self.stored()
        catalogue = cast("Warehouse", Catalogue(stored, self.collated))
        config = {"project": "project", "dataset": "dataset", **self.settings}
        message = msgspec.convert(self.message(), SchemaMessage)
        names = [stored.name] if stored else []
        return open_stream(message, settings(config, {}), catalogue, names, ())

    def statements(self) -> list[str]:
        """Return what loads the records, as the loader sends it."""
        return self.prepared()[0]

    def prepared(self) -> tuple[list[str], dict[str, Any]]:
        """Return the statements, and the columns of their tables."""
        stream = self.open().stream
        now = datetime(2024, 1, 1, tzinfo=UTC)
        lines = [{"type": "RECORD", "stream": "s", "record": record} for record in self.records]
        spool = Spool()
        batch = stream.new_batch(now, spool)
        messages = [stream.decode(json.dumps(line).encode()) for line in lines]
        batch.add(messages, pa.array(range(len(messages))), now)
        load = batch.described(replace(stream.load, staging="`project.dataset._sdc_staging_s_1`"))
        statement = merge if stream.upsert else append
        parts, staged = batch.parts(), batch.staged_columns()
        batch.close()
        spool.close()
        tables = {
            "project.dataset.s": [(c.name, c.type.name) for c in load.columns],
            "project.dataset._sdc_staging_s_1": [(c.name, c.type.name) for c in staged],
        }
        return [statement(replace(load, part=part)) for part in parts], tables


@dataclass
class Catalogue:
    """What `open_stream` asks a warehouse."""

    stored: StoredTable | None
    collated: bool

    def table(self, name: str) -> StoredTable | None:
        return self.stored

    def path(self, name: str) -> str:
        return f"`project.dataset.{name}`"

    def table_key(self, name: str) -> str:
        return name


CASES = {
    "single_key": Case({"id": INTEGER, "name": TEXT}, [{"id": 7}, {"id": 12}]),
    "composite_key": Case(
        {"tenant": TEXT, "id": INTEGER, "name": TEXT},
        [{"tenant": "acme", "id": 3}, {"tenant": "it's", "id": 5}, {"tenant": "zoë\n", "id": 9999}],
        keys=("tenant", "id"),
    ),
    "far_keys_of_a_clustered_table": Case(
        {"id": INTEGER, "name": TEXT}, [{"id": key} for key in (5, 6, 40_000, 90_000, 90_001)]
    ),
    "order_and_versions": Case(
        {"id": INTEGER, "updated_at": MOMENT},
        [{"id": 7, "updated_at": "2024-01-01T00:00:00Z"}],
        order="updated_at",
    ),
    "records_without_order": Case(
        {"id": INTEGER, "updated_at": MOMENT}, [{"id": 7, "updated_at": None}], order="updated_at"
    ),
    "soft_deletes": Case(CDC, CHANGES, order="_ab_cdc_sequence"),
    "hard_deletes": Case(CDC, CHANGES, order="_ab_cdc_sequence", settings={"delete_mode": "hard"}),
    "partial_records": Case(
        {"id": INTEGER, "a": TEXT, "b": TEXT},
        [{"id": 7, "a": "x"}],
        settings={"missing_properties": "keep"},
    ),
    "json_and_decimals": Case(
        {"id": decimal(38, 2), "rate": NUMBER, "doc": OBJECT, "big": decimal()},
        [{"id": "7.50", "rate": 0.0, "doc": {}, "big": "-1.5"}],
        keys=("id", "rate", "doc", "big"),
    ),
    "required_partition_filter": Case(
        {"id": INTEGER, "at": MOMENT},
        [{"id": 7, "at": "2024-01-01T00:00:00Z"}],
        partitions=Partitions("at", "TIMESTAMP", filtered=True),
    ),
    "partitioned_by_a_key": Case(
        {"day": DAY, "id": INTEGER},
        [{"day": "2024-01-31", "id": 7}, {"day": "2024-02-02", "id": 8}],
        keys=("day", "id"),
        partitions=Partitions("day", "DATE", filtered=True),
        clustering=("id",),
    ),
    "more_partitions_than_a_job_may_change": Case(
        {"id": INTEGER, "n": INTEGER},
        [{"id": n, "n": n * 10} for n in range(4500)],
        partitions=Partitions("n", "INT64", None, 0, 100_000, 10),
    ),
    "another_key": Case({"id": INTEGER, "name": TEXT}, [{"id": 7}], floor=5),
    "append": Case({"id": INTEGER, "doc": OBJECT}, [{"id": 7}], settings={"write_mode": "append"}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_statements_are_those_of_the_golden_files(name: str, judged: Any) -> None:
    path = GOLDEN / f"{name}.sql"
    statements, tables = CASES[name].prepared()
    for statement in statements:
        judged(statement, tables)
    text = "".join(f"{statement};\n" for statement in statements)
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_there_is_no_golden_file_without_its_case() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


def test_a_text_that_is_not_compared_by_its_characters_has_no_bounds() -> None:
    """In a table with a collation that ignores case, `a` may be stored where `B` is the least."""
    case = Case({"id": TEXT, "n": INTEGER}, [{"id": "B", "n": 1}], keys=("id", "n"))
    assert "AND __T.`id` BETWEEN 'B' AND 'B'\n" in case.statements()[0]
    bounded = replace(case, collated=True).statements()[0].replace("\n  AND", " AND")
    assert "__T.`id` = __S.`id` AND __T.`n` = __S.`n` AND __T.`n` BETWEEN 1 AND 1\n" in bounded


@pytest.mark.parametrize("column", ["at", "_PARTITIONTIME"])
def test_every_statement_filters_a_table_that_asks_for_it(column: str, judged: Any) -> None:
    partitions = Partitions(column, "TIMESTAMP", filtered=True)
    case = replace(CASES["required_partition_filter"], partitions=partitions)
    load = case.open().stream.load
    always = f"(`{column}` IS NULL OR `{column}` IS NOT NULL)"
    older = f"WHERE (_sdc_table_version IS NULL OR _sdc_table_version < 5) AND {always}"
    for deleted in (None, "_sdc_deleted_at"):
        assert older in remove_older_versions(load, 5, deleted=deleted)
    assert next_version(load).endswith(f" WHERE {always}")
    (statement,), tables = case.prepared()
    judged(statement, tables)
    matches = statement.split("\nON ")[1]
    assert (
        f"BETWEEN 7 AND 7\n  AND (__T.`{column}` IS NULL OR __T.`{column}` IS NOT NULL)\n"
        in matches
    )


@pytest.mark.parametrize(
    "partitions",
    [
        Partitions("at", "TIMESTAMP", "hour"),
        Partitions("at", "TIMESTAMP", "month", filtered=True),
        Partitions("_PARTITIONTIME", "TIMESTAMP"),
        Partitions("id", "INT64", None, -50, 99_950, 10),
    ],
)
def test_older_versions_in_too_many_partitions_are_deleted_in_parts(
    partitions: Partitions, judged: Any
) -> None:
    case = replace(CASES["required_partition_filter"], partitions=partitions)
    asked: list[str] = []
    begins: list[Any] = list(range(-50, 49_950, 10))
    if partitions.unit:
        begins = [datetime(1200 + n // 12, n % 12 + 1, 1, tzinfo=UTC) for n in range(5000)]

    class Refusing:
        def run(self, sql: str) -> None:
            asked.append(sql)
            if len(asked) == 1:
                raise TargetError("Too many partitions produced by query, allowed 4000")

        def query(self, sql: str) -> list[tuple[Any]]:
            asked.append(sql)
            return [(begin,) for begin in begins]

    load = case.open().stream.load
    remove_in_parts(load, cast("Warehouse", Refusing()), 5, deleted=None)
    whole, question, *parts = asked
    assert question.startswith("SELECT DISTINCT ")
    assert len(parts) == 3
    assert all(part.startswith(f"{whole} AND ") for part in parts)
    assert parts[0].endswith(" IS NULL)")
    for statement in asked:
        judged(statement, case.prepared()[1])


def test_a_column_that_cant_cluster_is_named() -> None:
    for name, kind in {"id": "FLOAT64", "gone": None}.items():
        case = Case({"id": NUMBER}, [], settings={"clustering": [name]})
        what = f"column '{name}', which is {kind or 'not there'}"
        with pytest.raises(TargetError, match=what):
            case.open()


def test_a_new_table_is_clustered_by_every_key_that_bigquery_can_cluster_by() -> None:
    local = {**MOMENT, "airbyte_type": "timestamp_without_timezone"}
    for kinds in (
        {"big": decimal(), "flag": {"type": "boolean"}, "day": DAY, "local": local},
        {"n": INTEGER, "numeric": decimal(9, 2), "text": TEXT, "at": MOMENT},
    ):
        more = {"float": NUMBER, "doc": OBJECT, "bytes": {**TEXT, "contentEncoding": "base64"}}
        assert Case({**more, **kinds}, [], keys=(*more, *kinds)).open().clustering == tuple(kinds)
