"""Events of what names a row: primary key, replica identity."""

from typing import Any, Final

from sandbox.events.event import RUN, Event, Outcome
from sandbox.events.shapes import FULL, KEYLESS, PARTED, ROWS, changes, inserts

EQUAL, COPIED = Outcome.EQUAL, Outcome.COPIED
ALTER: Final = "ALTER TABLE"
DROP_KEY: Final = "ALTER TABLE t DROP CONSTRAINT t_pkey"
ADD_KEY: Final = "ALTER TABLE t ADD PRIMARY KEY (id)"
# Rows whose second column could be a key too.
UNIQUE: Final = (
    "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b text)",
    "INSERT INTO t SELECT i, 10000 - i, 'b' || i FROM generate_series(1, 200) i",
    "CREATE UNIQUE INDEX t_a ON t (a)",
)
USING_INDEX: Final = "ALTER TABLE t REPLICA IDENTITY USING INDEX t_a"
# Both columns of a row change, and rows go.
MOVED: Final = (
    "UPDATE t SET id = id + 2000 WHERE id BETWEEN 1 AND 5",
    "UPDATE t SET a = a + 2000 WHERE id BETWEEN 6 AND 9",
    "UPDATE t SET b = 'other' WHERE id BETWEEN 10 AND 12",
    "DELETE FROM t WHERE id BETWEEN 13 AND 15",
    "INSERT INTO t VALUES (13, 5013, 'again')",
)
COARSE: Final = (
    "CREATE TABLE t (id int, a int, b text, PRIMARY KEY (id, a))",
    ROWS,
    "INSERT INTO t SELECT i, -i, 'twice' FROM generate_series(1, 50) i",
)
APPENDED: Final[dict[str, Any]] = {"after": inserts(1), "later": inserts(2)}

EVENTS: Final = (
    Event("Key dropped, rows loaded, the same key made", ALTER,
        (DROP_KEY, "INSERT INTO t SELECT i, i FROM generate_series(1001, 1100) i", ADD_KEY),
        COPIED),
    Event("Key dropped, a run, the same key made", ALTER,
        (DROP_KEY, "INSERT INTO t SELECT i, i FROM generate_series(1001, 1100) i", RUN, ADD_KEY),
        COPIED),
    Event("Key dropped and made in one statement", ALTER,
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id)",), COPIED),
    Event("Key made from an index that was built beside it", ALTER,
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (id)",
         "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD CONSTRAINT t_pkey PRIMARY KEY USING INDEX i"),
        COPIED),
    Event("Key moved to another column", ALTER,
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (a)", *MOVED), COPIED,
        setup=UNIQUE),
    Event("Key moved to another column and back", ALTER,
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (a)", *MOVED,
         "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id)"), COPIED, setup=UNIQUE),
    Event("Key moved to another column, a run, and back", ALTER,
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (a)", *MOVED, RUN,
         "UPDATE t SET id = id + 5000 WHERE id BETWEEN 20 AND 29", "DELETE FROM t WHERE id = 30",
         "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id)"), COPIED, setup=UNIQUE),
    Event("Key moved to a column with the same values in other rows", ALTER,
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (a)",), COPIED,
        setup=("CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b text)",
               "INSERT INTO t SELECT i, 201 - i, 'b' || i FROM generate_series(1, 200) i")),
    Event("Two columns swapped by RENAME, the key with them", ALTER,
        ("ALTER TABLE t RENAME id TO x", "ALTER TABLE t RENAME a TO id",
         "ALTER TABLE t RENAME x TO a"), COPIED, setup=UNIQUE, after=(), later=()),
    Event("RENAME of the key's column", ALTER, ("ALTER TABLE t RENAME id TO number",), COPIED,
        after=("UPDATE t SET a = 5 WHERE number = 7", "DELETE FROM t WHERE number = 8"),
        later=("UPDATE t SET a = 5 WHERE number = 9", "DELETE FROM t WHERE number = 10")),
    Event("Composite key made coarser", ALTER,
        ("DELETE FROM t WHERE a < 0", "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id)"),
        COPIED, setup=COARSE, before=()),
    Event("Key made finer", ALTER,
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, a)",
         "INSERT INTO t SELECT i, -1000 - i, 'twice' FROM generate_series(1, 50) i"), COPIED),
    Event("Columns of a composite key in another order", ALTER,
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (a, id)",), COPIED, setup=COARSE),
    Event("Key given to a table without", ALTER, (ADD_KEY,), COPIED, setup=KEYLESS,
        before=inserts(0)),
    Event("Key dropped, with REPLICA IDENTITY FULL", ALTER,
        (DROP_KEY, "ALTER TABLE t REPLICA IDENTITY FULL"), COPIED, **APPENDED),
    Event("Key dropped", ALTER, (DROP_KEY,), COPIED, **APPENDED),
    Event("REPLICA IDENTITY USING INDEX", ALTER, (USING_INDEX, *MOVED), COPIED, setup=UNIQUE),
    Event("REPLICA IDENTITY USING INDEX for a while", ALTER,
        (USING_INDEX, *MOVED, "ALTER TABLE t REPLICA IDENTITY DEFAULT"), COPIED, setup=UNIQUE),
    Event("REPLICA IDENTITY USING INDEX, a run, and back", ALTER,
        (USING_INDEX, *MOVED, RUN, "DELETE FROM t WHERE id = 30",
         "ALTER TABLE t REPLICA IDENTITY DEFAULT"), COPIED, setup=UNIQUE),
    Event("REPLICA IDENTITY USING the key's own INDEX", ALTER,
        ("ALTER TABLE t REPLICA IDENTITY USING INDEX t_pkey",), EQUAL),
    Event("The index of REPLICA IDENTITY USING INDEX dropped and made", "DROP INDEX",
        ("DROP INDEX t_a", "INSERT INTO t VALUES (1001, 7001, 'x')",
         "CREATE UNIQUE INDEX t_a ON t (a)", USING_INDEX), COPIED, setup=(*UNIQUE, USING_INDEX)),
    Event("REPLICA IDENTITY FULL, the key dropped and made", ALTER,
        (DROP_KEY, *changes(3), ADD_KEY), COPIED, setup=FULL),
    Event("The key's column dropped, another key", ALTER,
        ("ALTER TABLE t DROP id", "ALTER TABLE t ADD PRIMARY KEY (a)"), COPIED, setup=UNIQUE,
        after=("UPDATE t SET b = 'new' WHERE a = 9990", "DELETE FROM t WHERE a = 9989"),
        later=("UPDATE t SET b = 'new' WHERE a = 9980", "DELETE FROM t WHERE a = 9979")),
    Event("Key of a partitioned table made finer", ALTER,
        ("ALTER TABLE t DROP CONSTRAINT t_pkey", "ALTER TABLE t ADD PRIMARY KEY (id, a)"), COPIED,
        setup=PARTED),
    Event("Deferrable key instead of the plain one", ALTER,
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id) DEFERRABLE",), COPIED,
        **APPENDED),
    Event("Keys of rows reversed by an UPDATE", "UPDATE",
        ("UPDATE t SET id = -id WHERE id <= 50", "UPDATE t SET id = id + 51 WHERE id < 0"), EQUAL),
)  # fmt: skip
