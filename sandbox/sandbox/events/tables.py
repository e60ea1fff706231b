"""Events of tables that leave every value where it is, or take whole columns: no type, no key."""

from typing import Any, Final

from sandbox.events.event import RUN, Event, Outcome, When
from sandbox.events.shapes import (
    FULL,
    KEYLESS,
    NUMBERS,
    PLAIN,
    ROWS,
    changes,
    inserts,
    key_changes,
)

EQUAL, COPIED, ABSENT = Outcome.EQUAL, Outcome.COPIED, Outcome.ABSENT

ALTER, VACUUM, CLUSTER, REINDEX = "ALTER TABLE", "VACUUM", "CLUSTER", "REINDEX"
CHILD: Final = (*PLAIN, "CREATE TABLE child (id int PRIMARY KEY, a int, b text)")
WITHOUT_A: Final[dict[str, Any]] = {"after": key_changes(1), "later": key_changes(2)}
UNLOGGED: Final = (
    "ALTER TABLE t SET UNLOGGED",
    "UPDATE t SET a = 1000 WHERE id <= 20",
    "DELETE FROM t WHERE id = 21",
    "INSERT INTO t (id, a) VALUES (1001, 1)",
    "ALTER TABLE t SET LOGGED",
)
ALL: Final = "FOR ALL TABLES"

# Names of what they do are their own docs: page, what the owner does, statements.
_HARMLESS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    (VACUUM, "VACUUM", ("VACUUM t",)),
    (VACUUM, "VACUUM FULL", ("VACUUM FULL t",)),
    (VACUUM, "VACUUM FREEZE", ("VACUUM (FREEZE, ANALYZE) t",)),
    ("ANALYZE", "ANALYZE", ("ANALYZE t",)),
    (CLUSTER, "CLUSTER USING an index, and once more", ("CLUSTER t USING t_pkey", "CLUSTER t")),
    (ALTER, "CLUSTER ON, SET WITHOUT CLUSTER", (
        "ALTER TABLE t CLUSTER ON t_pkey", "ALTER TABLE t SET WITHOUT CLUSTER")),
    (REINDEX, "REINDEX TABLE", ("REINDEX TABLE t",)),
    (REINDEX, "REINDEX INDEX", ("REINDEX INDEX t_pkey",)),
    (REINDEX, "REINDEX TABLE CONCURRENTLY", ("REINDEX TABLE CONCURRENTLY t",)),
    (REINDEX, "REINDEX SCHEMA", ("REINDEX SCHEMA home",)),
    ("CREATE INDEX", "CREATE INDEX", ("CREATE INDEX ON t (a)",)),
    ("CREATE INDEX", "CREATE UNIQUE INDEX", ("CREATE UNIQUE INDEX ON t (a, id)",)),
    ("CREATE INDEX", "CREATE INDEX CONCURRENTLY", ("CREATE INDEX CONCURRENTLY ON t (a)",)),
    ("DROP INDEX", "DROP INDEX", ("CREATE INDEX i ON t (a)", "DROP INDEX i")),
    ("ALTER INDEX", "Rename the key's index", ("ALTER INDEX t_pkey RENAME TO k",)),
    ("ALTER INDEX", "Set a storage parameter of an index", (
        "ALTER INDEX t_pkey SET (fillfactor = 50)", "ALTER INDEX t_pkey RESET (fillfactor)")),
    ("ALTER INDEX", "Set statistics of an index", (
        "CREATE INDEX i ON t ((a + 1))", "ALTER INDEX i ALTER 1 SET STATISTICS 50")),
    ("GRANT", "GRANT and REVOKE on a table", (
        "GRANT SELECT ON t TO pg_monitor", "REVOKE SELECT ON t FROM pg_monitor")),
    ("GRANT", "GRANT on a column", ("GRANT SELECT (a) ON t TO pg_monitor",)),
    ("COMMENT", "COMMENT ON a table and a column", (
        "COMMENT ON TABLE t IS 'x'", "COMMENT ON COLUMN t.a IS 'x'")),
    ("CREATE STATISTICS", "CREATE STATISTICS", ("CREATE STATISTICS s ON id, a FROM t",)),
    ("CREATE TRIGGER", "CREATE and DROP TRIGGER", (
        "CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()", "DROP TRIGGER x ON t")),
    (ALTER, "DISABLE and ENABLE TRIGGER", (
        "CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "ALTER TABLE t DISABLE TRIGGER ALL", "ALTER TABLE t ENABLE ALWAYS TRIGGER x",
        "ALTER TABLE t ENABLE REPLICA TRIGGER x")),
    ("CREATE RULE", "CREATE, DISABLE, ENABLE and DROP RULE", (
        "CREATE RULE r AS ON DELETE TO t DO ALSO NOTIFY x", "ALTER TABLE t DISABLE RULE r",
        "ALTER TABLE t ENABLE RULE r", "DROP RULE r ON t")),
    ("CREATE POLICY", "A policy that hides no row from the tap's role", (
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON t USING (true)")),
    (ALTER, "DISABLE ROW LEVEL SECURITY", (
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "ALTER TABLE t FORCE ROW LEVEL SECURITY",
        "ALTER TABLE t NO FORCE ROW LEVEL SECURITY", "ALTER TABLE t DISABLE ROW LEVEL SECURITY")),
    (ALTER, "ALTER COLUMN SET STATISTICS", ("ALTER TABLE t ALTER a SET STATISTICS 500",)),
    (ALTER, "ALTER COLUMN SET STORAGE", ("ALTER TABLE t ALTER b SET STORAGE EXTERNAL",)),
    (ALTER, "ALTER COLUMN SET COMPRESSION", ("ALTER TABLE t ALTER b SET COMPRESSION pglz",)),
    (ALTER, "ALTER COLUMN SET (n_distinct)", (
        "ALTER TABLE t ALTER a SET (n_distinct = 5)", "ALTER TABLE t ALTER a RESET (n_distinct)")),
    (ALTER, "SET and DROP DEFAULT", (
        "ALTER TABLE t ALTER b SET DEFAULT 'd'", "INSERT INTO t (id) VALUES (1001)",
        "ALTER TABLE t ALTER b DROP DEFAULT")),
    (ALTER, "SET and DROP NOT NULL", (
        "ALTER TABLE t ALTER a SET NOT NULL", "ALTER TABLE t ALTER a DROP NOT NULL")),
    (ALTER, "Set and reset storage parameters", (
        "ALTER TABLE t SET (fillfactor = 70, autovacuum_enabled = off)",
        "ALTER TABLE t RESET (autovacuum_enabled)")),
    (ALTER, "ADD COLUMN without default", ("ALTER TABLE t ADD c int",)),
    (ALTER, "ADD COLUMN of text without default", (
        "ALTER TABLE t ADD c text", "UPDATE t SET c = 'set' WHERE id < 10")),
    (ALTER, "ADD COLUMN, its default afterwards", (
        "ALTER TABLE t ADD c int", "ALTER TABLE t ALTER c SET DEFAULT 5")),
    (ALTER, "ADD and DROP COLUMN", (
        "ALTER TABLE t ADD c int DEFAULT 5", "ALTER TABLE t DROP c")),
    (ALTER, "ADD and DROP a CHECK constraint", (
        "ALTER TABLE t ADD CONSTRAINT x CHECK (id > 0)", "ALTER TABLE t DROP CONSTRAINT x")),
    (ALTER, "ADD a constraint NOT VALID and VALIDATE it", (
        "ALTER TABLE t ADD CONSTRAINT x CHECK (id > 0) NOT VALID",
        "ALTER TABLE t VALIDATE CONSTRAINT x")),
    (ALTER, "ADD and DROP a UNIQUE constraint", (
        "ALTER TABLE t ADD CONSTRAINT x UNIQUE (a)", "ALTER TABLE t DROP CONSTRAINT x")),
    (ALTER, "ADD a constraint USING INDEX", (
        "CREATE UNIQUE INDEX i ON t (a)", "ALTER TABLE t ADD CONSTRAINT x UNIQUE USING INDEX i")),
    (ALTER, "ADD an EXCLUDE constraint", (
        "ALTER TABLE t ADD CONSTRAINT x EXCLUDE USING btree (a WITH =)",)),
    (ALTER, "RENAME CONSTRAINT of the key", ("ALTER TABLE t RENAME CONSTRAINT t_pkey TO k",)),
    (ALTER, "OWNER TO", ("ALTER TABLE t OWNER TO pg_monitor",)),
    (ALTER, "SET TABLESPACE", ("ALTER TABLE t SET TABLESPACE pg_default",)),
    (ALTER, "SET ACCESS METHOD", ("ALTER TABLE t SET ACCESS METHOD heap",)),
    (ALTER, "SET WITHOUT OIDS", ("ALTER TABLE t SET WITHOUT OIDS",)),
    (ALTER, "SET LOGGED of a logged table", ("ALTER TABLE t SET LOGGED",)),
    (ALTER, "REPLICA IDENTITY to what it was", ("ALTER TABLE t REPLICA IDENTITY DEFAULT",)),
    (ALTER, "REPLICA IDENTITY FULL for a while", (
        "ALTER TABLE t REPLICA IDENTITY FULL", *changes(3),
        "ALTER TABLE t REPLICA IDENTITY DEFAULT")),
    (ALTER, "REPLICA IDENTITY FULL for a while, with a run", (
        "ALTER TABLE t REPLICA IDENTITY FULL", *changes(3), RUN, *changes(4),
        "ALTER TABLE t REPLICA IDENTITY DEFAULT")),
    (ALTER, "REPLICA IDENTITY FULL", ("ALTER TABLE t REPLICA IDENTITY FULL",)),
    (ALTER, "REPLICA IDENTITY NOTHING for a while", (
        "ALTER TABLE t REPLICA IDENTITY NOTHING", "INSERT INTO t VALUES (1001, 1, 'x')",
        "ALTER TABLE t REPLICA IDENTITY DEFAULT")),
    (ALTER, "RENAME a table away and back", (
        "ALTER TABLE t RENAME TO u", *changes(3, "u"), "ALTER TABLE u RENAME TO t")),
    ("ALTER SCHEMA", "RENAME a schema away and back", (
        "ALTER SCHEMA home RENAME TO home_away", *changes(3, "home_away.t"),
        "ALTER SCHEMA home_away RENAME TO home")),
    ("ALTER SCHEMA", "OWNER TO of the schema", ("ALTER SCHEMA home OWNER TO pg_monitor",)),
    ("TRUNCATE", "TRUNCATE", ("TRUNCATE t", "INSERT INTO t VALUES (1, 1, 'again')")),
    ("TRUNCATE", "TRUNCATE RESTART IDENTITY CASCADE", ("TRUNCATE t RESTART IDENTITY CASCADE",)),
    ("TRUNCATE", "TRUNCATE, then VACUUM FULL", (
        "TRUNCATE t", "INSERT INTO t VALUES (1, 1, 'again')", "VACUUM FULL t")),
    ("TRUNCATE", "A TRUNCATE that is rolled back", ("BEGIN", "TRUNCATE t", "ROLLBACK")),
    (ALTER, "A rewrite that is rolled back", (
        "BEGIN", "ALTER TABLE t ALTER a TYPE int USING a * 100", "ROLLBACK")),
    ("COPY", "COPY FREEZE after a TRUNCATE", (
        "BEGIN", "TRUNCATE t",
        "COPY t (id, a) FROM PROGRAM 'printf \"1\\t1\\n2\\t2\\n\"' WITH (FREEZE)", "COMMIT")),
    ("SAVEPOINT", "SAVEPOINTs that are rolled back", (
        "BEGIN", "UPDATE t SET a = 5 WHERE id < 10", "SAVEPOINT s", "DELETE FROM t",
        "ROLLBACK TO s", "UPDATE t SET a = a + 1 WHERE id < 20", "COMMIT")),
    ("CREATE TABLE AS", "Make tables that are not published", (
        "CREATE TABLE u AS TABLE t", "CREATE TEMPORARY TABLE w AS TABLE t",
        "CREATE UNLOGGED TABLE v AS TABLE t")),
    ("CREATE VIEW", "Views of the table", (
        "CREATE VIEW v AS SELECT id FROM t", "CREATE MATERIALIZED VIEW m AS SELECT a FROM t",
        "REFRESH MATERIALIZED VIEW m")),
)  # fmt: skip

_WITH_OTHER_SHAPES: Final = (
    Event("ADD COLUMN to a table of numbers", ALTER, ("ALTER TABLE t ADD c int",), EQUAL,
        setup=NUMBERS),
    Event("ADD COLUMN of text to a table of numbers", ALTER, ("ALTER TABLE t ADD c text",), EQUAL,
        setup=NUMBERS),
    Event("VACUUM FULL of a table of numbers", VACUUM, ("VACUUM FULL t",), EQUAL, setup=NUMBERS),
    Event("VACUUM FULL of a table without key", VACUUM, ("VACUUM FULL t",), EQUAL, setup=KEYLESS,
        before=inserts(0), after=inserts(1), later=inserts(2)),
    Event("TRUNCATE of a table without key", "TRUNCATE", ("TRUNCATE t", *inserts(5)), EQUAL,
        setup=KEYLESS, before=inserts(0), after=inserts(1), later=inserts(2)),
    Event("VACUUM FULL with REPLICA IDENTITY FULL", VACUUM, ("VACUUM FULL t",), EQUAL, setup=FULL),
    Event("TRUNCATE, with a run before VACUUM FULL", "TRUNCATE",
        ("TRUNCATE t", "INSERT INTO t VALUES (1, 1, 'x')", RUN, "VACUUM FULL t"), EQUAL),
    Event("DROP COLUMN", ALTER, ("ALTER TABLE t DROP a",), EQUAL, **WITHOUT_A),
    Event("DROP COLUMN, then VACUUM FULL", ALTER, ("ALTER TABLE t DROP a", "VACUUM FULL t"), EQUAL,
        **WITHOUT_A),
    Event("A FOREIGN KEY added, renamed and dropped", ALTER, (
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "INSERT INTO parent SELECT a FROM t WHERE a IS NOT NULL",
        "ALTER TABLE t ADD CONSTRAINT x FOREIGN KEY (a) REFERENCES parent",
        "ALTER TABLE t ALTER CONSTRAINT x DEFERRABLE",
        "ALTER TABLE t RENAME CONSTRAINT x TO y", "ALTER TABLE t DROP CONSTRAINT y"), EQUAL),
    Event("A delete that cascades to the table", "CREATE TABLE",
        ("DELETE FROM parent WHERE id BETWEEN 5 AND 9", "UPDATE parent SET id = 2777 WHERE id = 4"),
        EQUAL, setup=(
            "CREATE TABLE parent (id int PRIMARY KEY)",
            "INSERT INTO parent SELECT generate_series(-10, 1000)",
            "CREATE TABLE t (id int PRIMARY KEY, a int REFERENCES parent"
            " ON DELETE CASCADE ON UPDATE CASCADE, b text)", ROWS)),
    Event("INHERIT of a child", ALTER,
        ("ALTER TABLE child INHERIT t", "INSERT INTO child VALUES (5000, 1, 'child')"), EQUAL,
        setup=CHILD),
    Event("NO INHERIT of a child", ALTER, ("ALTER TABLE child NO INHERIT t",), EQUAL,
        setup=(*PLAIN, "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (t)"), affected=("child",)),
    Event("Restart of an identity column", ALTER, (
        "ALTER TABLE t ALTER n RESTART WITH 5000", "ALTER TABLE t ALTER n SET INCREMENT BY 2",
        "ALTER TABLE t ALTER n SET GENERATED ALWAYS"), EQUAL,
        setup=("CREATE TABLE t (id int PRIMARY KEY, a int, b text,"
               " n int GENERATED BY DEFAULT AS IDENTITY)",
               ROWS)),
    Event("DROP IDENTITY", ALTER, ("ALTER TABLE t ALTER n DROP IDENTITY", "ALTER TABLE t ALTER n"
        " DROP NOT NULL"), EQUAL,
        setup=("CREATE TABLE t (id int PRIMARY KEY, a int, b text,"
               " n int GENERATED BY DEFAULT AS IDENTITY)",
               ROWS)),
    Event("ADD IDENTITY to a column", ALTER, (
        "ALTER TABLE t ALTER n DROP DEFAULT", "ALTER TABLE t ALTER n SET NOT NULL",
        "ALTER TABLE t ALTER n ADD GENERATED BY DEFAULT AS IDENTITY (START 1000)"), EQUAL,
        setup=("CREATE TABLE t (id int PRIMARY KEY, a int, b text, n int DEFAULT 7)", ROWS)),
    Event("Restart and rename of a sequence", "ALTER SEQUENCE",
        ("ALTER SEQUENCE t_n_seq RESTART 700", "ALTER SEQUENCE t_n_seq RENAME TO s"), EQUAL,
        setup=("CREATE TABLE t (id int PRIMARY KEY, a int, b text, n serial)", ROWS)),
    Event("OF a composite type, and NOT OF", ALTER, (
        "CREATE TYPE shape AS (id int, a int, b text)",
        "ALTER TABLE t OF shape", "ALTER TABLE t NOT OF"), EQUAL),
    # What follows takes columns or whole tables.
    Event("ADD COLUMN with a constant default", ALTER, ("ALTER TABLE t ADD c int DEFAULT 5",),
        COPIED),
    Event("ADD COLUMN with a constant default, taken away at once", ALTER,
        ("ALTER TABLE t ADD c int DEFAULT 5", "ALTER TABLE t ALTER c DROP DEFAULT"), COPIED),
    Event("ADD COLUMN with a default, then VACUUM FULL", ALTER,
        ("ALTER TABLE t ADD c int DEFAULT 5", "VACUUM FULL t"), COPIED),
    Event("ADD COLUMN with a default to a table of numbers, then VACUUM FULL", ALTER,
        ("ALTER TABLE t ADD c int DEFAULT 5", "VACUUM FULL t"), COPIED, setup=NUMBERS),
    Event("ADD COLUMN with a volatile default", ALTER,
        ("ALTER TABLE t ADD c text DEFAULT md5(random()::text)",), COPIED),
    Event("ADD COLUMN serial", ALTER, ("ALTER TABLE t ADD c serial",), COPIED),
    Event("ADD COLUMN GENERATED AS IDENTITY", ALTER,
        ("ALTER TABLE t ADD c int GENERATED BY DEFAULT AS IDENTITY",), COPIED, setup=NUMBERS),
    Event("ADD COLUMN of a domain with a default", ALTER,
        ("CREATE DOMAIN grade AS int DEFAULT 3", "ALTER TABLE t ADD c grade"), COPIED),
    Event("DROP COLUMN, ADD COLUMN of the same name", ALTER,
        ("ALTER TABLE t DROP a", "ALTER TABLE t ADD a int"), COPIED),
    Event("DROP COLUMN, a run, ADD COLUMN of the same name", ALTER,
        ("ALTER TABLE t DROP a", RUN, "ALTER TABLE t ADD a int"), COPIED),
    Event("RENAME COLUMN", ALTER, ("ALTER TABLE t RENAME a TO c",), COPIED, **WITHOUT_A),
    Event("RENAME COLUMN away and back", ALTER,
        ("ALTER TABLE t RENAME a TO c", "UPDATE t SET c = 5 WHERE id = 7",
         "ALTER TABLE t RENAME c TO a"), COPIED),
    Event("RENAME COLUMN away, a run, and back", ALTER,
        ("ALTER TABLE t RENAME a TO c", "UPDATE t SET c = 5 WHERE id = 7", RUN,
         "ALTER TABLE t RENAME c TO a"), COPIED),
    Event("Two columns swapped by RENAME", ALTER,
        ("ALTER TABLE t RENAME a TO x", "ALTER TABLE t RENAME c TO a",
         "ALTER TABLE t RENAME x TO c"), COPIED,
        setup=("CREATE TABLE t (id int PRIMARY KEY, a int, c int)",
               "INSERT INTO t SELECT i, i, -i FROM generate_series(1, 200) i")),
    Event("SET UNLOGGED, changes, SET LOGGED", ALTER, UNLOGGED, COPIED, publication=ALL),
    Event("SET UNLOGGED, changes, SET LOGGED of a table of numbers", ALTER, UNLOGGED, COPIED,
        publication=ALL, setup=NUMBERS),
    Event("SET UNLOGGED, a run, SET LOGGED", ALTER, (*UNLOGGED[:4], RUN, UNLOGGED[4]), COPIED,
        publication=ALL),
    Event("SET UNLOGGED", ALTER, ("ALTER TABLE t SET UNLOGGED",), ABSENT, publication=ALL),
    Event("DROP TABLE", "DROP TABLE", ("DROP TABLE t",), ABSENT, after=(), later=()),
    Event("RENAME a table", ALTER, ("ALTER TABLE t RENAME TO u",), COPIED, affected=("u",),
        after=changes(1, "u"), later=changes(2, "u")),
    Event("A table dropped and made again", "CREATE TABLE",
        ("DROP TABLE t", *PLAIN, "ALTER PUBLICATION oso_publication ADD TABLE t"), COPIED),
    Event("Two tables swapped by RENAME", ALTER,
        ("ALTER TABLE t RENAME TO x", "ALTER TABLE u RENAME TO t", "ALTER TABLE x RENAME TO u"),
        COPIED, setup=(*PLAIN, "CREATE TABLE u (id int PRIMARY KEY, a int, b text)",
            "INSERT INTO u SELECT i, -i, 'u' || i FROM generate_series(100, 300) i"),
        publication="FOR TABLE t, u", affected=("t", "u")),
    Event("A table replaced by a copy of itself, by RENAME", ALTER,
        ("CREATE TABLE n (LIKE t INCLUDING ALL)", "INSERT INTO n SELECT id, a, b || '!' FROM t",
         "ALTER TABLE t RENAME TO old", "ALTER TABLE n RENAME TO t",
         "ALTER PUBLICATION oso_publication DROP TABLE old",
         "ALTER PUBLICATION oso_publication ADD TABLE t"), COPIED),
    Event("VACUUM FULL", VACUUM, ("VACUUM FULL t",), COPIED, when=When.PAUSED),
    Event("Changes of rows", "INSERT", changes(3), COPIED, when=When.PAUSED),
    Event("TRUNCATE", "TRUNCATE", ("TRUNCATE t",), COPIED, when=When.PAUSED),
    Event("RENAME COLUMN", ALTER, ("ALTER TABLE t RENAME a TO c",), COPIED, when=When.PAUSED,
        **WITHOUT_A),
)  # fmt: skip

EVENTS: Final = (
    *(Event(name, page, statements, EQUAL) for page, name, statements in _HARMLESS),
    *_WITH_OTHER_SHAPES,
)
