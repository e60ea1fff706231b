"""What the SDK knows of a table: its schema, key and selection."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from psycopg import sql
from singer_sdk import Stream
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.singerlib import Catalog, CatalogEntry, MetadataMapping, Schema
from singer_sdk.singerlib.catalog import Metadata

from tap_postgres_cdc.captured import selected_columns
from tap_postgres_cdc.copying import Copier, CopyJob
from tap_postgres_cdc.datatypes import JsonSchema
from tap_postgres_cdc.discovery import Table
from tap_postgres_cdc.records import METADATA, SEQUENCE, record_schema, snapshot_suffix
from tap_postgres_cdc.rows import Column

if TYPE_CHECKING:
    from tap_postgres_cdc.tap import TapPostgresCDC


class PostgresStream(Stream):
    """A published table."""

    # Records are made by rules of their own; the SDK has nothing to add.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    _tap: "TapPostgresCDC"

    def __init__(self, tap: "TapPostgresCDC", table: Table) -> None:
        columns = [
            Column(column.name, column.datatype, selected=True, is_key=column.name in table.key)
            for column in table.columns
        ]
        super().__init__(tap, record_schema(columns), table.stream)
        self.table = table
        self.forced_replication_method = "LOG_BASED"
        self.primary_keys = table.key
        self.replication_key = SEQUENCE

    @property
    def metadata(self) -> MetadataMapping:
        """Catalog metadata, in which the columns of change data capture are always included."""
        if self._metadata is None:
            metadata = super().metadata
            metadata.root.schema_name = self.table.schema
            for name in METADATA:
                metadata["properties", name].inclusion = Metadata.InclusionType.AUTOMATIC
        return super().metadata

    def apply_catalog(self, catalog: Catalog) -> None:
        """Take selection and replication method from a catalog; the key is the table's."""
        super().apply_catalog(catalog)
        self._metadata = self._mask = None
        self.primary_keys = self.table.key
        self.replication_key = SEQUENCE
        # The SDK puts its own before that of the catalog.
        self.forced_replication_method = self._tap.selection.of(self.name).replication_method

    @property
    def catalog_entry(self) -> dict[str, Any]:
        """What the catalog has of it."""
        entry = CatalogEntry(
            tap_stream_id=self.tap_stream_id,
            stream=self.name,
            schema=Schema(),
            metadata=self.metadata,
            key_properties=self.primary_keys,
            replication_key=self.replication_key,
            replication_method=self.replication_method,
        )
        return {**entry.to_dict(), "schema": self.schema}

    def is_column_selected(self, name: str) -> bool:
        """Whether records hold the column."""
        return bool(self.mask["properties", name])

    def write_schema(self, schema: JsonSchema, key: tuple[str, ...]) -> None:
        """Take a schema that may have changed at the source, and write it as maps change it."""
        self._schema = schema
        self.primary_keys = key
        self._stream_maps = None
        self._tap.mapper.register_raw_stream_schema(self.name, schema, self.primary_keys)
        self._write_schema_message()

    def write_record(self, record: dict[str, Any], version: int) -> None:
        """Write a record as maps change it."""
        self._stream_version = version
        self._write_record_message(record)

    def write_version(self, version: int) -> None:
        """Write ACTIVATE_VERSION for every stream the maps make of this one."""
        self._write_activate_version_message(version)

    def get_records(self, context: Any) -> Iterable[dict[str, Any]]:  # noqa: ARG002
        """The first rows of the table, for `--test`."""
        columns = selected_columns(self.table, self)
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
        table = sql.Identifier(self.table.schema, self.table.name)
        limit = self.ABORT_AT_RECORD_COUNT or 1
        query = sql.SQL("COPY (SELECT {} FROM {} LIMIT {}) TO STDOUT").format(names, table, limit)
        suffix = snapshot_suffix(0, datetime.now(UTC), 0)
        with self._tap.connection() as connection:
            job = CopyJob(self.name, query.as_string(), columns, suffix)
            for batch in Copier(lambda: connection).copy(job):
                for line in batch.lines.splitlines():
                    yield json.loads(line, parse_float=Decimal)["record"]
