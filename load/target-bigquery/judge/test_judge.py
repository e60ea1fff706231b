"""Our SQL before Google's own analyzer and evaluator, in WebAssembly: https://pypi.org/project/zetasql.

`make test-sql` runs it, after `make test`, which keeps what the loader asks. Both know more than
BigQuery does, so what they accept is only likely to be right there; what they refuse is wrong.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from zetasql.api import Analyzer, CatalogBuilder, PreparedQuery, TableBuilder
from zetasql.core import ZetaSQLError, wasm_client
from zetasql.types import (
    AnalyzerOptions,
    LanguageFeature,
    LanguageOptions,
    ProductMode,
    SimpleCatalog,
    TypeKind,
    ZetaSQLBuiltinFunctionOptions,
)

from sandbox.bigquery import BigQueryEmulator
from target_bigquery.column_types import INT64, STRING, BigQueryType
from target_bigquery.literals import literal
from target_bigquery.merging import source
from target_bigquery.partitions import ARRIVAL
from target_bigquery.sql import PRESENT, SEQUENCE, Load, TargetColumn

BATCHES = 25
ROOT = Path(__file__).parents[3]
KINDS = {"INTEGER": "INT64", "FLOAT": "DOUBLE", "FLOAT64": "DOUBLE", "BOOLEAN": "BOOL"}
Tables = Mapping[str, Sequence[Sequence[str]]]
Row = dict[str, Any]


class GoogleSQL:
    """The analyzer and the evaluator; to compile them takes 20 seconds, so that is kept."""

    def __init__(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wasm_client, "Config", _caching_config)
            language = LanguageOptions.maximum_features()
        language.product_mode = ProductMode.PRODUCT_EXTERNAL
        language.enabled_language_features.append(
            LanguageFeature.FEATURE_ALTER_COLUMN_SET_DATA_TYPE
        )
        self._functions = ZetaSQLBuiltinFunctionOptions(language_options=language)
        self._options = AnalyzerOptions(language_options=language)

    def _catalog(self, tables: Tables) -> SimpleCatalog:
        catalog = CatalogBuilder("project")
        for path, columns in tables.items():
            table = TableBuilder(path)
            for name, kind in [*columns, (ARRIVAL, "TIMESTAMP")]:
                table.add_column(name, getattr(TypeKind, f"TYPE_{KINDS.get(kind, kind)}"))
            catalog.add_table(table.build())
        return catalog.with_builtin_functions(self._functions).build()

    def refusal(self, sql: str, tables: Tables) -> str | None:
        """Return what is wrong with a statement, None if nothing is."""
        try:
            Analyzer(self._options, self._catalog(tables)).analyze_statement(sql)
        except ZetaSQLError as error:
            return str(error)
        return None

    def rows(self, query: str) -> list[Row]:
        """Return what a query gives that reads no table."""
        builder = PreparedQuery.builder().set_sql(f"SELECT TO_JSON_STRING(r) FROM ({query}) AS r")
        builder.set_analyzer_options(self._options).set_catalog(self._catalog({}))
        with builder.prepare() as prepared:
            found = prepared.execute().content.table_data.row
        return [json.loads(row.cell[0].string_value) for row in found]


def _caching_config() -> Any:
    config = wasmtime.Config()
    config.cache = True
    return config


@pytest.fixture(scope="module")
def google() -> GoogleSQL:
    return GoogleSQL()


def recorded() -> list[tuple[str, Tables]]:
    """Return the statements that the loader's tests sent; those that differ by names once."""
    path = ROOT / ".pytest_cache/d/statements/target-bigquery.jsonl"
    if not path.exists():
        pytest.fail("nothing to judge: run `make test ARGS=load/target-bigquery/tests` first")
    found: dict[str, Any] = {}
    for line in path.read_text().splitlines():
        dataset = re.search(r"`[^`.]+[.]([^`.]+)[.]", line)
        assert dataset, line
        alike = line.replace(dataset[1], "d")
        statement = json.loads(re.sub(r"_[0-9a-f]{12}_\d+`", "_staged`", alike))
        found[statement["sql"]] = json.loads(line)
    return [(line["sql"], line["tables"]) for line in found.values()]


def test_google_accepts_every_statement_that_the_tests_sent(google: GoogleSQL) -> None:
    statements = recorded()
    kinds = {sql.split()[0] for sql, _ in statements}
    assert kinds >= {"ALTER", "DELETE", "INSERT", "MERGE", "SELECT", "UPDATE"}, (
        "only some of the tests were run before: run `make test ARGS=load/target-bigquery/tests`"
    )
    refused = {sql: why for sql, tables in statements if (why := google.refusal(sql, tables))}
    assert refused == {}


def test_google_refuses_what_is_wrong(google: GoogleSQL) -> None:
    sql = "SELECT a FROM `p.d.t` WHERE {} BETWEEN 1 AND 2"
    tables = {"p.d.t": [("a", "STRING"), ("b", "INTEGER")]}
    assert google.refusal(sql.format("b"), tables) is None
    assert "No matching signature" in str(google.refusal(sql.format("a"), tables))
    assert "Unrecognized name: c" in str(google.refusal(sql.format("c"), tables))


DELETED = "_sdc_deleted_at"
VALUES = ("a", "b")
TYPES: dict[str, BigQueryType] = {
    "k": STRING, "id": INT64, "n": INT64, DELETED: STRING, "a": STRING, "b": INT64,
    "_sdc_table_version": INT64, SEQUENCE: INT64, PRESENT: STRING,
}  # fmt: skip


class Batch:
    """Records of a few keys, and what they come to by a plain reading of the rules."""

    def __init__(self, seed: int) -> None:
        pick = random.Random(seed)
        self.keys = pick.choice([("id",), ("k", "id")])
        self.order = pick.choice([None, "n"])
        self.hard, self.partial, self.deletes, self.unordered = (
            pick.random() < 0.5 for _ in range(4)
        )
        self.records = [self._record(pick, sequence) for sequence in range(1, 25)]
        self.has_deletes = any(record[DELETED] for record in self.records)
        self.has_partial = any("0" in record[PRESENT] for record in self.records)
        self.has_null_order = bool(self.order) and any(r["n"] is None for r in self.records)

    def _record(self, pick: random.Random, sequence: int) -> Row:
        gone = self.deletes and pick.random() < 0.3
        present = {name: not self.partial or pick.random() < 0.5 for name in VALUES}
        flags = [present.get(name, True) for name in list(TYPES)[:6]]
        return {
            "k": pick.choice(["x", "it's"]),
            "id": pick.randrange(3),
            "n": None if self.unordered and pick.random() < 0.2 else pick.randrange(6),
            DELETED: f"at {sequence}" if gone else None,
            "a": pick.choice([None, "é😀\\", f"a{sequence}"]) if present["a"] else None,
            "b": pick.choice([None, sequence]) if present["b"] else None,
            "_sdc_table_version": pick.choice([None, 1, 2]),
            SEQUENCE: sequence,
            PRESENT: "".join("01"[flag] for flag in flags),
        }

    def query(self) -> str:
        """Return the query of the MERGE, its staging table replaced by the records."""
        columns = [TargetColumn(n, TYPES[n], position=i) for i, n in enumerate(list(TYPES)[:6])]
        version = TargetColumn("_sdc_table_version", INT64)
        sequence = TargetColumn("_sdc_sequence", INT64, source=SEQUENCE)
        return source(
            Load(
                "`t`",
                f"UNNEST({self._array()})",
                (*columns, version, sequence),
                keys=self.keys,
                order=self.order,
                version="_sdc_table_version",
                deletes=(DELETED,),
                metadata=frozenset({DELETED, "_sdc_table_version", "_sdc_sequence"}),
                hard=self.hard,
                has_deletes=self.has_deletes,
                has_partial=self.has_partial,
                has_null_order=self.has_null_order,
            )
        )

    def _array(self) -> str:
        fields = ", ".join(f"`{name}` {kind}" for name, kind in TYPES.items())
        rows = [
            ", ".join(
                "NULL" if record[name] is None else literal(kind.name, record[name])
                for name, kind in TYPES.items()
            )
            for record in self.records
        ]
        return f"ARRAY<STRUCT<{fields}>>[{', '.join(f'({row})' for row in rows)}]"

    def expected(self) -> list[Row]:
        """Return the row of each key, its values only if they are to be written."""
        by_key: dict[Any, list[Row]] = {}
        for record in self.records:
            by_key.setdefault(tuple(record[key] for key in self.keys), []).append(record)
        return [self._row(records) for records in by_key.values()]

    def _row(self, records: list[Row]) -> Row:
        fresh: list[Row] = []
        greatest = None  # since the last record without an order, which starts anew
        for record in records:
            order = record["n"] if self.order else None
            if order is None or greatest is None or order >= greatest:
                fresh.append(record)
                greatest = order
        newest = fresh[-1]
        row = {name: newest[name] for name in (*self.keys, DELETED, "_sdc_table_version")}
        row["_sdc_sequence"] = newest[SEQUENCE]
        erased = max((r[SEQUENCE] for r in fresh if r[DELETED]), default=-1)
        for name in (n for n in ("k", "id", "n", *VALUES) if n not in row):
            at = list(TYPES).index(name)
            given = [r for r in fresh if not r[DELETED] and r[PRESENT][at] == "1"]
            if self.hard and self.has_partial:
                given = [r for r in given if r[SEQUENCE] > erased]
            if name == self.order:
                given = [newest]
            if given:
                row[name] = given[-1][name]
        return row


def written(batch: Batch, rows: Sequence[Row]) -> list[Row]:
    """Return rows of the query in the form of those expected: without what is not to be written."""
    head = [*batch.keys, DELETED, "_sdc_table_version", "_sdc_sequence"]
    head += [batch.order] if batch.order else []
    values = [name for name in ("k", "id", "n", *VALUES) if name not in head]
    found = []
    for row in rows:
        kept = [*head]
        for index, name in enumerate(values):
            group = index if batch.has_partial else 0
            if row.get(f"__group{group}_found", True):
                kept.append(name)
        found.append({name: row[name] for name in kept})
    return by_key(batch, found)


def by_key(batch: Batch, rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: [str(row[key]) for key in batch.keys])


def test_a_batch_comes_to_the_same_before_google_the_emulator_and_a_model(
    google: GoogleSQL,
) -> None:
    combined = 0
    with BigQueryEmulator() as emulator:
        client = emulator.client()
        for seed in range(BATCHES):
            batch = Batch(seed)
            query, expected = batch.query(), by_key(batch, batch.expected())
            emulated = [dict(row) for row in client.query(query).result()]
            assert written(batch, google.rows(query)) == expected, f"seed {seed}"
            assert written(batch, emulated) == expected, f"seed {seed}, emulator"
            combined += "picked" in query
        client.close()  # type: ignore[no-untyped-call]
    assert 0 < combined < BATCHES
