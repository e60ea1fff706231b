"""The tables that events happen to, and changes of their rows."""

from typing import Final

ROWS: Final = "INSERT INTO t SELECT i, i, 'b' || i FROM generate_series(1, 200) i"
PLAIN: Final = ("CREATE TABLE t (id int PRIMARY KEY, a int, b text)", ROWS)
# Without a column that could be large, a rewrite touches no TOAST table.
NUMBERS: Final = (
    "CREATE TABLE t (id int PRIMARY KEY, a int)",
    "INSERT INTO t SELECT i, i FROM generate_series(1, 200) i",
)
KEYLESS: Final = ("CREATE TABLE t (id int, a int, b text)", ROWS)
FULL: Final = (*PLAIN, "ALTER TABLE t REPLICA IDENTITY FULL")
PARTED: Final = (
    "CREATE TABLE t (id int PRIMARY KEY, a int, b text) PARTITION BY RANGE (id)",
    "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (60)",
    "CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (60) TO (120)",
    "CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (120) TO (2000)",
    ROWS,
)
PARTED_KEYLESS: Final = (PARTED[0].replace(" PRIMARY KEY", ""), *PARTED[1:])
PARTED_TWICE: Final = (
    *PARTED[:1],
    "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (60)",
    "CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (60) TO (2000) PARTITION BY RANGE (id)",
    "CREATE TABLE t_2_1 PARTITION OF t_2 FOR VALUES FROM (60) TO (120)",
    "CREATE TABLE t_2_2 PARTITION OF t_2 FOR VALUES FROM (120) TO (2000)",
    ROWS,
)
ONE_PART: Final = (PARTED[0], "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (2000)", ROWS)
# Large enough for a copy of several ranges, and for values that an update leaves out of the log.
LARGE: Final = (
    "CREATE TABLE t (id int PRIMARY KEY, a int, b text)",
    "ALTER TABLE t ALTER b SET STORAGE EXTERNAL",
    "INSERT INTO t SELECT i, i, repeat(md5(i::text), 50 + i % 2 * 50)"
    " FROM generate_series(1, 400) i",
)


def changes(number: int, table: str = "t") -> tuple[str, ...]:
    """Inserts, updates, key changes and deletes of rows that no other number touches."""
    new, row = 900 + 10 * number, 150 + 10 * number
    return (
        f"INSERT INTO {table} (id, a) VALUES ({new}, {new})",
        f"UPDATE {table} SET a = -{number + 1} WHERE id = {row}",
        f"UPDATE {table} SET id = {new + 1} WHERE id = {row + 1}",
        f"DELETE FROM {table} WHERE id = {row + 2}",
    )


def key_changes(number: int, table: str = "t") -> tuple[str, ...]:
    """Changes that name no column but the key."""
    new, row = 900 + 10 * number, 150 + 10 * number
    return (
        f"INSERT INTO {table} (id) VALUES ({new})",
        f"UPDATE {table} SET id = {new + 1} WHERE id = {row + 1}",
        f"DELETE FROM {table} WHERE id = {row + 2}",
    )


def inserts(number: int, table: str = "t") -> tuple[str, ...]:
    """Rows of a table without a key."""
    new = 900 + 10 * number
    return (f"INSERT INTO {table} (id, a) VALUES ({new}, {new}), ({new + 1}, NULL)",)


BEFORE, AFTER, LATER = changes(0), changes(1), changes(2)
