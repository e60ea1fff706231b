"""An owner who works on the tables of `sandbox.writers` while they are written to and captured."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import psycopg

from sandbox.writers import NAMES

_UNIQUE: Final = "CREATE UNIQUE INDEX IF NOT EXISTS plain_i_id ON plain (id)"
_ATTACH: Final = """
DO $$ BEGIN
  ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (500) TO (1000000);
EXCEPTION WHEN datatype_mismatch THEN  -- a column was added meanwhile
  DROP TABLE parted_2;
  CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (500) TO (1000000);
END $$
"""

# What an owner does, by name, and on which tables: statements that work whenever they come, and
# leave the tables with the columns and partitions that they had.
ACTIONS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "vacuum full": (NAMES, ("VACUUM FULL {t}",)),
    "analyze": (NAMES, ("ANALYZE {t}",)),
    "cluster": (("plain", "pairs", "whole", "other"), ("CLUSTER {t} USING {t}_pkey",)),
    "reindex": (NAMES, ("REINDEX TABLE {t}",)),
    "index": (("plain", "whole", "other", "parted"), (
        "CREATE INDEX IF NOT EXISTS {t}_i ON {t} (name)", "DROP INDEX IF EXISTS {t}_i")),
    "storage": (("plain", "pairs", "whole", "other"), ("ALTER TABLE {t} SET (fillfactor = 70)",)),
    "grant": (NAMES, ("GRANT SELECT ON {t} TO pg_monitor",)),
    "truncate": (NAMES, ("TRUNCATE {t}",)),
    "truncate a partition": (("parted",), ("TRUNCATE parted_1",)),
    "type": (("plain", "whole", "other", "parted"), (
        "ALTER TABLE {t} ALTER name TYPE text USING left(name, 8) || '~'",)),
    "precision": (("plain",), (
        "ALTER TABLE plain ALTER amount TYPE numeric(12, 1)",
        "ALTER TABLE plain ALTER amount TYPE numeric(12, 2)")),
    "column": (("plain", "whole", "other"), (
        "ALTER TABLE {t} ADD COLUMN IF NOT EXISTS extra int DEFAULT 5",
        "ALTER TABLE {t} DROP COLUMN IF EXISTS extra")),
    "column of the same name": (("plain", "whole", "other", "parted"), (
        "ALTER TABLE {t} DROP COLUMN IF EXISTS name",
        "ALTER TABLE {t} ADD COLUMN IF NOT EXISTS name text")),
    "rename a column": (("plain", "whole", "other", "parted"), (
        "ALTER TABLE {t} RENAME name TO nom", "ALTER TABLE {t} RENAME nom TO name")),
    "rename a table": (("plain", "whole", "parted"), (
        "ALTER TABLE {t} RENAME TO {t}_away", "ALTER TABLE {t}_away RENAME TO {t}")),
    # Another index keeps the rows apart while there is no key, and a key without nulls.
    "key": (("plain",), (
        _UNIQUE, "ALTER TABLE plain DROP CONSTRAINT plain_pkey",
        "ALTER TABLE plain ADD PRIMARY KEY (id)")),
    "finer key": (("plain",), (
        _UNIQUE, "ALTER TABLE plain DROP CONSTRAINT plain_pkey, ALTER amount SET DEFAULT 0,"
        " ALTER amount TYPE numeric(12, 2) USING coalesce(amount, 0), ADD PRIMARY KEY (id, amount)",
        "ALTER TABLE plain DROP CONSTRAINT plain_pkey, ALTER amount DROP NOT NULL,"
        " ALTER amount DROP DEFAULT, ADD PRIMARY KEY (id)")),
    "identity": (("whole",), (
        "ALTER TABLE whole REPLICA IDENTITY DEFAULT", "ALTER TABLE whole REPLICA IDENTITY FULL")),
    "identity by index": (("other",), (
        "ALTER TABLE other REPLICA IDENTITY DEFAULT",
        "ALTER TABLE other REPLICA IDENTITY USING INDEX other_code_key")),
    "partition": (("parted",), (
        "ALTER TABLE parted DETACH PARTITION parted_2", "DELETE FROM parted_2 WHERE id % 3 = 0",
        "UPDATE parted_2 SET name = name || '!' WHERE id % 7 = 0", _ATTACH)),
    "publish inserts only": (("plain",), (
        "ALTER PUBLICATION oso_publication SET (publish = 'insert')",
        "ALTER PUBLICATION oso_publication SET (publish = 'insert, update, delete, truncate')")),
    "partitions of their own": (("parted",), (
        "ALTER PUBLICATION oso_publication SET (publish_via_partition_root = false)",
        "ALTER PUBLICATION oso_publication SET (publish_via_partition_root = true)")),
}  # fmt: skip


class Owner(threading.Thread):
    """Does one action after another until it is told to stop; what it began it brings to its end.

    Args:
        connect: Opens a connection in autocommit mode.
        seed: Of which actions it takes, on which tables, and how long it waits in between.
        pause: Mean seconds between two statements.

    `done` counts the actions by name, `error` is what it failed with, other than a lost server.
    """

    def __init__(
        self, connect: Callable[[], psycopg.Connection], seed: int, *, pause: float = 0.5
    ) -> None:
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.connect = connect
        self.pause = pause
        self.halt = threading.Event()
        self.done: Counter[str] = Counter()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Act."""
        try:
            while not self.halt.wait(self.random.random() * 2 * self.pause):
                name = self.random.choice([*ACTIONS])
                tables, statements = ACTIONS[name]
                table = self.random.choice(tables)
                for statement in statements:
                    self._do(statement.format(t=table))
                    self.halt.wait(self.random.random() * 2 * self.pause)
                self.done[name] += 1
        except BaseException as error:
            self.error = error
            raise

    def _do(self, statement: str) -> None:
        """Run a statement, again and again where the server was lost or a lock was not to be had.

        A server that is lost may have done it, so a second time it may be in vain.
        """
        was_lost = False
        while True:
            try:
                with self.connect() as connection:
                    # Writers and runs of the tap are not to queue behind it.
                    connection.execute("SET lock_timeout = '300ms'")
                    connection.execute(statement.encode())
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                pass
            except psycopg.OperationalError:
                was_lost = True
            except (psycopg.ProgrammingError, psycopg.NotSupportedError):
                if not was_lost:
                    raise
                return
            else:
                return
            time.sleep(0.05)
