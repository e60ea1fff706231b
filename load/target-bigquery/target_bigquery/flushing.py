"""What a flush does with the warehouse: batches into tables, and older versions out of them.

Streams are worked on at once. Each batch is loaded into a staging table, small ones of several
streams into one together, and then brought into its table by one statement.
"""

import itertools
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from target_bigquery import sql
from target_bigquery.batch import Batch
from target_bigquery.errors import TargetError
from target_bigquery.jobs import working_for
from target_bigquery.merging import merge
from target_bigquery.partitions import ADVICE, TOO_MANY
from target_bigquery.rekeying import keep_apart, remove_rows_of_the_old_key
from target_bigquery.settings import Settings
from target_bigquery.streams import Stream
from target_bigquery.tables import DELETE_COLUMNS, TablePlan, new_delete_column
from target_bigquery.together import groups, together
from target_bigquery.versions import remove_older_versions
from target_bigquery.warehouse import Warehouse

PARALLEL_LOADS = 8

logger = logging.getLogger(__name__)


class Flusher:
    """Commits what waits.

    Args:
        settings: the checked settings.
        warehouse: where to.
    """

    def __init__(self, settings: Settings, warehouse: Warehouse) -> None:
        self._settings = settings
        self._warehouse = warehouse
        self._stagings = itertools.count(1)
        self._streams = ThreadPoolExecutor(PARALLEL_LOADS, "stream")
        self._drops = ThreadPoolExecutor(PARALLEL_LOADS, "drop")

    def close(self) -> None:
        """Wait for what is on."""
        self._streams.shutdown()
        self._drops.shutdown()

    def commit(
        self, batches: list[tuple[Stream, Batch]], activations: list[tuple[Stream, int]]
    ) -> None:
        """Load and merge the batches, then delete the rows of older versions.

        Raises:
            TargetError: of the first stream that failed; the others were worked on.
        """
        try:
            alone = dict(enumerate(batches))
            small = [
                [alone.pop(number) for number in group]
                for group in groups([batch for _, batch in batches])
            ]
            begun = self._begin(self._load, alone.values())
            for group in small:
                begun += self._begin_together(group)
            _finish(begun)
        finally:
            for _, batch in batches:
                batch.close()
        _finish(self._begin(self._activate, activations))

    def _begin(
        self, work: Callable[..., None], items: Iterable[tuple[Any, ...]]
    ) -> list[Future[None]]:
        """Work on items at once: the first part of each is a stream."""

        def work_on(stream: Stream, *item: Any) -> None:
            try:
                with working_for(stream.name):
                    work(stream, *item)
            except TargetError as error:
                where = f"stream {stream.name!r}, table {stream.table!r}"
                advice = ADVICE if TOO_MANY in str(error) else ""
                raise TargetError(f"{where}: {error}{advice}") from error

        return [self._streams.submit(work_on, *item) for item in items]

    def _load(self, stream: Stream, batch: Batch) -> None:
        """Load and merge a batch that has a staging table of its own."""
        batch.parts()  # what no table can hold is refused before it is uploaded
        staging = self._warehouse.staging_name(stream.table, next(self._stagings))
        try:
            self._warehouse.load(staging, batch.staged_columns(), batch.finish())
            self._merge(stream, batch, self._warehouse.path(staging))
        finally:
            self._drops.submit(self._drop, staging)

    def _begin_together(self, batches: list[tuple[Stream, Batch]]) -> list[Future[None]]:
        """Load batches into one staging table, and begin to merge them.

        If that is refused, each is loaded by itself, and the one at fault is told.
        """
        staging = self._warehouse.staging_name(batches[0][0].table, next(self._stagings))
        begun: list[Future[None]] = []
        try:
            one = together([batch for _, batch in batches])
            with one.parquet:
                self._warehouse.load(staging, one.columns, one.parquet)
            path = self._warehouse.path(staging)
            sources = [selection.format(staging=path) for selection in one.selections]
            begun = self._begin(
                self._merge,
                [(*item, source) for item, source in zip(batches, sources, strict=True)],
            )
        except TargetError as error:
            logger.warning("%s; loading %d streams one by one", error, len(batches))
            begun = self._begin(self._load, batches)
        self._drops.submit(self._drop, staging, begun)
        return begun

    def _merge(self, stream: Stream, batch: Batch, source: str) -> None:
        """Bring a batch into its table from a staging table, or from a query for its rows."""
        keep_apart(stream, self._warehouse, source)
        load = batch.described(replace(stream.load, staging=source))
        statement = merge if stream.upsert else sql.append
        for part in batch.parts():
            self._warehouse.run(statement(replace(load, part=part)))

    def _drop(self, staging: str, users: Iterable[Future[None]] = ()) -> None:
        """Drop a staging table when it is not used any more; nothing waits for that."""
        for user in users:
            user.exception()
        try:
            self._warehouse.drop(staging)
        except TargetError as error:
            logger.warning("%s; it goes by itself within a day", error)

    def _activate(self, stream: Stream, version: int) -> None:
        """Delete the rows of older versions."""
        if not self._settings.add_record_metadata:
            raise TargetError(
                "ACTIVATE_VERSION needs the column _sdc_table_version; set add_record_metadata: "
                "true"
            )
        remove_rows_of_the_old_key(stream, self._warehouse, version)
        hard = self._settings.delete_mode == "hard"
        marks = [*stream.load.deletes, *stream.load.revived]
        if not marks and not hard:
            self._warehouse.change_table(stream.table, TablePlan((), (new_delete_column(),)))
            stream.load = replace(stream.load, revived=(DELETE_COLUMNS[0],))
            marks = [DELETE_COLUMNS[0]]
        logger.info("%s: version %d is complete, deleting rows of older ones", stream.name, version)
        remove_older_versions(
            stream.load,
            self._warehouse,
            version,
            deleted=None if hard else marks[0],
            text=stream.is_text(marks[0]) if marks else False,
        )


def _finish(begun: Iterable[Future[None]]) -> None:
    """Wait for all, then raise the first error."""
    errors = [error for future in begun if (error := future.exception()) is not None]
    if errors:
        raise errors[0]
