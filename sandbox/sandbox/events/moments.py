"""Events in the middle of a run: the snapshot was taken, or the log is being read."""

from typing import Any, Final

from sandbox.events.event import Event, Outcome, When
from sandbox.events.shapes import LARGE, PARTED, changes

SETTLED: Final = Outcome.SETTLED
# Updates that leave the large value out of the log, so that it is read from the table.
UNCHANGED: Final = (
    *changes(0),
    "UPDATE t SET a = a + 1 WHERE id BETWEEN 1 AND 20",
    "UPDATE t SET id = id + 1000 WHERE id BETWEEN 21 AND 25",
)
SWAPPED: Final = (
    "CREATE TABLE u (id int PRIMARY KEY, a int, b text)",
    "INSERT INTO u SELECT i, -i, repeat('u', 3000) FROM generate_series(1, 300) i",
)
SWAP: Final = (
    "ALTER TABLE t RENAME TO x",
    "ALTER TABLE u RENAME TO t",
    "ALTER TABLE x RENAME TO u",
)
PARTS: Final = (*PARTED[:4], LARGE[2])

# Name, page, statements, and what else the event needs.
_EVENTS: Final[tuple[tuple[str, str, tuple[str, ...], dict[str, Any]], ...]] = (
    ("Two tables swapped by RENAME", "ALTER TABLE", SWAP,
        {"setup": (*LARGE, *SWAPPED), "publication": "FOR TABLE t, u", "affected": ("t", "u")}),
    ("Two tables swapped by RENAME, and back before the next run", "ALTER TABLE", SWAP, {
        "setup": (*LARGE, *SWAPPED), "publication": "FOR TABLE t, u", "affected": ("t", "u"),
        "after": (*SWAP, *changes(1))}),
    ("A table swapped for one that is not published, and back before the next run",
        "ALTER TABLE", SWAP, {"setup": (*LARGE, *SWAPPED), "after": (*SWAP, *changes(1))}),
    ("A table swapped for one that is not published", "ALTER TABLE", (
        "ALTER TABLE t RENAME TO x", "ALTER TABLE u RENAME TO t"),
        {"setup": (*LARGE, *SWAPPED), "after": (), "later": ()}),
    ("TRUNCATE", "TRUNCATE", ("TRUNCATE t", "INSERT INTO t VALUES (1, 1, 'again')"), {}),
    ("A type changed with USING", "ALTER TABLE", (
        "ALTER TABLE t ALTER a TYPE int USING a * 100",), {}),
    ("A large column's type changed with USING", "ALTER TABLE", (
        "ALTER TABLE t ALTER b TYPE text USING left(b, 5)",), {}),
    ("VACUUM FULL", "VACUUM", ("VACUUM FULL t",), {}),
    ("CLUSTER", "CLUSTER", ("CLUSTER t USING t_pkey",), {}),
    ("ADD COLUMN", "ALTER TABLE", ("ALTER TABLE t ADD c int",), {}),
    ("ADD COLUMN with a default", "ALTER TABLE", ("ALTER TABLE t ADD c int DEFAULT 5",), {}),
    ("DROP COLUMN", "ALTER TABLE", ("ALTER TABLE t DROP b",), {}),
    ("DROP and ADD COLUMN", "ALTER TABLE", (
        "ALTER TABLE t DROP b", "ALTER TABLE t ADD b text"), {}),
    ("RENAME COLUMN", "ALTER TABLE", ("ALTER TABLE t RENAME b TO c",), {}),
    ("RENAME TABLE", "ALTER TABLE", ("ALTER TABLE t RENAME TO u",),
        {"after": changes(1, "u"), "later": changes(2, "u"), "affected": ("u",)}),
    ("RENAME TABLE away and back", "ALTER TABLE", (
        "ALTER TABLE t RENAME TO u", *changes(3, "u"), "ALTER TABLE u RENAME TO t"), {}),
    ("DROP TABLE", "DROP TABLE", ("DROP TABLE t",), {"after": (), "later": ()}),
    ("A table dropped and made again", "CREATE TABLE", (
        "DROP TABLE t", *LARGE, "ALTER PUBLICATION oso_publication ADD TABLE t"), {}),
    ("DROP TABLE from the publication", "ALTER PUBLICATION", (
        "ALTER PUBLICATION oso_publication DROP TABLE t",), {}),
    ("Key moved to another column", "ALTER TABLE", (
        "UPDATE t SET a = 10000 - id",
        "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (a)"), {}),
    ("Key dropped and made", "ALTER TABLE", (
        "ALTER TABLE t DROP CONSTRAINT t_pkey", "INSERT INTO t VALUES (1001, 1001, 'x')",
        "ALTER TABLE t ADD PRIMARY KEY (id)"), {}),
    ("REPLICA IDENTITY FULL", "ALTER TABLE", ("ALTER TABLE t REPLICA IDENTITY FULL",), {}),
    ("SET SCHEMA", "ALTER TABLE", (
        "CREATE SCHEMA home_away", "ALTER TABLE t SET SCHEMA home_away"),
        {"after": changes(1, "home_away.t"), "later": changes(2, "home_away.t")}),
    ("DETACH PARTITION", "ALTER TABLE", ("ALTER TABLE t DETACH PARTITION t_2",),
        {"setup": PARTS}),
    ("DETACH PARTITION, changes, ATTACH PARTITION", "ALTER TABLE", (
        "ALTER TABLE t DETACH PARTITION t_2", "UPDATE t_2 SET a = 1000",
        "ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (60) TO (120)"), {"setup": PARTS}),
    ("ATTACH PARTITION with rows", "ALTER TABLE", (
        "CREATE TABLE t_4 (LIKE t INCLUDING ALL)",
        "INSERT INTO t_4 SELECT i, i, 'loaded' FROM generate_series(5001, 5100) i",
        "ALTER TABLE t ATTACH PARTITION t_4 FOR VALUES FROM (5000) TO (6000)"),
        {"setup": PARTS}),
    ("TRUNCATE of a partition", "TRUNCATE", ("TRUNCATE t_2",), {"setup": PARTS}),
)  # fmt: skip

EVENTS: Final = tuple(
    Event(
        name,
        page,
        statements,
        SETTLED,
        when=when,
        **{
            "setup": LARGE,
            "before": UNCHANGED if when is When.STREAM else (),
            **others,
        },
    )
    for when in (When.COPY, When.RANGE, When.STREAM)
    for name, page, statements, others in _EVENTS
)
