"""What is sent to rewrite a table, with what the emulator does not have."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud import bigquery

from target_bigquery import rewriting
from target_bigquery.column_types import BigQueryType
from target_bigquery.conversion import Conversion
from target_bigquery.errors import TargetError

FULL: dict[str, Any] = {
    "tableReference": {"projectId": "p", "datasetId": "d", "tableId": "t"},
    "type": "TABLE",
    "numRows": "7",
    "etag": "x",
    "schema": {
        "fields": [
            {
                "name": "a",
                "type": "INTEGER",
                "mode": "REQUIRED",
                "description": "how many",
                "policyTags": {"names": ["projects/p/locations/us/taxonomies/1/policyTags/2"]},
                "defaultValueExpression": "0",
            },
            {"name": "f", "type": "FLOAT", "mode": "NULLABLE"},
            {
                "name": "r",
                "type": "RECORD",
                "mode": "REPEATED",
                "fields": [{"name": "x", "type": "STRING", "mode": "NULLABLE"}],
            },
            {"name": "d", "type": "STRING", "mode": "REQUIRED", "defaultValueExpression": "'x'"},
        ]
    },
    "description": "Ours",
    "labels": {"team": "polls"},
    "clustering": {"fields": ["d", "a", "f"]},
    "expirationTime": "4102444800000",
    "encryptionConfiguration": {"kmsKeyName": "projects/p/locations/us/keyRings/k/cryptoKeys/c"},
    "timePartitioning": {"type": "HOUR", "expirationMs": "3600000"},
    "requirePartitionFilter": True,
    "tableConstraints": {"primaryKey": {"columns": ["d"]}},
}


class Recorder:
    """A warehouse that has one table, makes others, and notes what is done."""

    def __init__(self, security: Any = None) -> None:
        self.done: list[Any] = []
        self.tables = {"t": FULL}
        self.writes_ingestion_time = True
        self._security = security

    def __getattr__(self, name: str) -> Any:
        def note(*args: Any) -> list[Any]:
            self.done.append((name, *args))
            return []

        return note

    def path(self, name: str) -> str:
        return f"`p.d.{name}`"

    def reference(self, name: str) -> Any:
        return bigquery.TableReference.from_string(f"p.d.{name}")

    def overwrite(self, name: str, source: Any) -> None:
        self.done.append(("overwrite", name, source.table_id))

    def staging_name(self, name: str, number: int) -> str:
        return f"staging_{name}_{number}"

    def get_table(self, name: str) -> Any:
        return bigquery.Table.from_api_repr(json.loads(json.dumps(self.tables[name])))

    def fill(self, table: Any, columns: Any, rows: str) -> None:
        self.tables[table.table_id] = table.to_api_repr()
        self.done.append(("fill", columns, rows))

    def update_table(self, name: str, change: Any) -> None:
        table = self.get_table(name)
        change(table)
        self.tables[name] = table.to_api_repr()
        self.done.append(("update_table", name))

    def query_job(self, sql: str) -> Any:
        self.done.append(("query_job", sql))
        statistics = {"rowLevelSecurityStatistics": self._security or {}}
        return SimpleNamespace(
            _properties={"statistics": statistics}, result=lambda: [{"n0": 7, "n1": 2, "n2": 0}]
        )


TO_TIME = Conversion("a", BigQueryType("INT64"), BigQueryType("TIMESTAMP"))
TO_DECIMAL = Conversion("f", BigQueryType("FLOAT64"), BigQueryType("BIGNUMERIC", 20, 12))


def test_the_other_table_is_made_of_what_the_api_says_and_copied_over() -> None:
    """With what the emulator does not have: partitions by ingestion time, tags, keys, defaults."""
    warehouse: Any = Recorder()
    rewriting.convert_columns(warehouse, "t", [TO_TIME, TO_DECIMAL], {"a", "f"})
    made = warehouse.tables["staging_t_0"]
    for part in FULL.keys() - {"tableReference", "type", "numRows", "etag", "schema"}:
        assert made[part] == FULL[part], part
    assert "numRows" not in made
    tags = {"policyTags": FULL["schema"]["fields"][0]["policyTags"]}
    assert made["schema"]["fields"] == [
        {"name": "a", "type": "TIMESTAMP", "mode": "NULLABLE", "description": "how many", **tags},
        {"name": "f", "type": "BIGNUMERIC", "mode": "NULLABLE", "precision": "20", "scale": "12"},
        *FULL["schema"]["fields"][2:],
        {
            "name": "a_text",
            "type": "STRING",
            "mode": "NULLABLE",
            "description": "Text of `a` that TIMESTAMP can't hold",
            **tags,
        },
    ]
    every = " WHERE _PARTITIONTIME IS NOT NULL OR _PARTITIONTIME IS NULL"
    as_time, as_decimal = (
        "SAFE_CAST(CAST(`a` AS STRING) AS TIMESTAMP)",
        "SAFE_CAST(`f` AS BIGNUMERIC(20, 12))",
    )
    lost = f"`a` IS NOT NULL AND {as_time} IS NULL"
    counts = (
        f"SELECT COUNT(*) AS n0, COUNTIF({lost}) AS n1, "
        f"COUNTIF(`f` IS NOT NULL AND {as_decimal} IS NULL) AS n2 FROM `p.d.t`{every}"
    )
    rows = (
        f"SELECT _PARTITIONTIME, {as_time} AS `a`, {as_decimal} AS `f`, `r`, `d`, "
        f"IF({lost}, CAST(`a` AS STRING), NULL) AS `a_text` FROM `p.d.t`{every}"
    )
    assert warehouse.done == [
        ("query_job", counts),
        ("row_policies", "t"),
        ("fill", ["_PARTITIONTIME", "`a`", "`f`", "`r`", "`d`", "`a_text`"], rows),
        ("overwrite", "t", "staging_t_0"),
        ("drop", "staging_t_0"),
    ]


def test_a_column_that_cant_cluster_any_more_leaves_the_clustering_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warehouse: Any = Recorder()
    to_float = Conversion("a", BigQueryType("INT64"), BigQueryType("FLOAT64"))
    rewriting.convert_columns(warehouse, "t", [to_float, TO_DECIMAL], {"a", "f"})
    assert warehouse.tables["t"]["clustering"] == {"fields": ["d", "f"]}
    assert warehouse.tables["staging_t_0"]["clustering"] == {"fields": ["d", "f"]}
    steps = [step[0] for step in warehouse.done]
    assert steps.index("fill") < steps.index("update_table") < steps.index("overwrite")
    assert "it is no longer clustered by 'a'" in caplog.text


def test_a_table_of_which_policies_hide_rows_is_not_rewritten() -> None:
    warehouse: Any = Recorder({"rowLevelSecurityApplied": True})
    with pytest.raises(TargetError, match="row access policies"):
        rewriting.convert_columns(warehouse, "t", [TO_TIME, TO_DECIMAL], {"a", "f"})
    assert {step[0] for step in warehouse.done} == {"query_job", "row_policies"}
