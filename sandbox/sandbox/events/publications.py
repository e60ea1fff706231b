"""Events of the publication, the slot and the database: what the log has, and for whom."""

from typing import Any, Final

from sandbox.events.event import RUN, Event, Outcome, When
from sandbox.events.shapes import PARTED, PLAIN, changes

EQUAL, COPIED, REFUSED = Outcome.EQUAL, Outcome.COPIED, Outcome.REFUSED
ALTER: Final = "ALTER PUBLICATION"
FUNCTIONS: Final = "Replication functions"
OUT: Final = "ALTER PUBLICATION oso_publication DROP TABLE t"
BACK: Final = "ALTER PUBLICATION oso_publication ADD TABLE t"
INSERTS_ONLY: Final = "ALTER PUBLICATION oso_publication SET (publish = 'insert')"
ALL_KINDS: Final = (
    "ALTER PUBLICATION oso_publication SET (publish = 'insert, update, delete, truncate')"
)
VIA_PARTITIONS: Final = "ALTER PUBLICATION oso_publication SET (publish_via_partition_root = false)"
VIA_ROOT: Final = "ALTER PUBLICATION oso_publication SET (publish_via_partition_root = true)"
DROP_SLOT: Final = "SELECT pg_drop_replication_slot('oso_slot')"
MAKE_SLOT: Final = "SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput')"
MAKE: Final = "CREATE PUBLICATION oso_publication FOR TABLE t, public.other"
REMADE: Final = ("DROP PUBLICATION oso_publication", *changes(3), MAKE)
IN_SCHEMA: Final = "FOR TABLES IN SCHEMA home"
MOVED: Final = (
    "CREATE SCHEMA home_away",
    "ALTER TABLE t SET SCHEMA home_away",
    *changes(3, "home_away.t"),
    "ALTER TABLE home_away.t SET SCHEMA home",
)
FILTERED: Final = "ALTER PUBLICATION oso_publication ADD TABLE t WHERE (id > 100)"
LISTED: Final = "ALTER PUBLICATION oso_publication ADD TABLE t (id, a)"
# Both tables, as the whole publication is another.
ALL_TABLES: Final[dict[str, Any]] = {"is_alone": True, "spares_other": False}

_PUBLICATION: Final = (
    Event("DROP and ADD TABLE, with changes in between", ALTER, (OUT, *changes(3), BACK), COPIED),
    Event("DROP TABLE, a run, ADD TABLE", ALTER, (OUT, *changes(3), RUN, BACK), COPIED),
    Event("DROP TABLE from the publication", ALTER, (OUT,), Outcome.ABSENT),
    Event("ADD TABLE of another table", ALTER,
        ("ALTER PUBLICATION oso_publication ADD TABLE u",), COPIED,
        setup=(*PLAIN, "CREATE TABLE u AS TABLE t"), affected=("u",)),
    Event("A row filter set", ALTER, (OUT, FILTERED), COPIED),
    Event("A row filter set and removed, with changes in between", ALTER,
        (OUT, FILTERED, "UPDATE t SET a = 1000 WHERE id < 50", OUT, BACK), COPIED),
    Event("A row filter set, a run, and removed", ALTER,
        (OUT, FILTERED, "UPDATE t SET a = 1000 WHERE id < 50", RUN, OUT, BACK), COPIED),
    Event("A column list set", ALTER, (OUT, LISTED), COPIED),
    Event("A column list set and removed, with changes in between", ALTER,
        (OUT, LISTED, "UPDATE t SET b = 'new' WHERE id < 50", OUT, BACK), COPIED),
    Event("A column list set, a run, and removed", ALTER,
        (OUT, LISTED, "UPDATE t SET b = 'new' WHERE id < 50", RUN, OUT, BACK), COPIED),
    Event("SET TABLE with the same tables", ALTER,
        ("ALTER PUBLICATION oso_publication SET TABLE t, public.other",), EQUAL, is_alone=True),
    Event("SET TABLE without the table, and with it again", ALTER,
        ("ALTER PUBLICATION oso_publication SET TABLE public.other", *changes(3),
         "ALTER PUBLICATION oso_publication SET TABLE t, public.other"), COPIED, is_alone=True),
    Event("SET TABLE with a row filter, and without", ALTER,
        ("ALTER PUBLICATION oso_publication SET TABLE t WHERE (id > 100), public.other",
         *changes(3), "ALTER PUBLICATION oso_publication SET TABLE t, public.other"), COPIED,
        is_alone=True),
    Event("SET SCHEMA away and back, tables of a schema published", "ALTER TABLE", MOVED, COPIED,
        publication=IN_SCHEMA),
    Event("SET SCHEMA away, a run, and back, tables of a schema published", "ALTER TABLE",
        (*MOVED[:-1], RUN, MOVED[-1]), COPIED, publication=IN_SCHEMA),
    Event("DROP and ADD TABLES IN SCHEMA, with changes in between", ALTER,
        ("ALTER PUBLICATION oso_publication DROP TABLES IN SCHEMA home", *changes(3),
         "ALTER PUBLICATION oso_publication ADD TABLES IN SCHEMA home"), COPIED,
        publication=IN_SCHEMA),
    Event("RENAME of the schema away and back, tables of a schema published", "ALTER SCHEMA",
        ("ALTER SCHEMA home RENAME TO home_away", *changes(3, "home_away.t"),
         "ALTER SCHEMA home_away RENAME TO home"), EQUAL, publication=IN_SCHEMA),
    Event("publish = 'insert' for a while", ALTER, (INSERTS_ONLY, *changes(3), ALL_KINDS), COPIED,
        **ALL_TABLES),
    Event("publish = 'insert' for a while, with a run", ALTER,
        (INSERTS_ONLY, *changes(3), RUN, *changes(4), ALL_KINDS), COPIED, **ALL_TABLES),
    Event("publish_via_partition_root off and on, with changes in between", ALTER,
        (VIA_PARTITIONS, *changes(3), VIA_ROOT), COPIED, setup=PARTED, **ALL_TABLES),
    Event("publish_via_partition_root off, a run, and on", ALTER,
        (VIA_PARTITIONS, *changes(3), RUN, *changes(4), VIA_ROOT), COPIED, setup=PARTED,
        **ALL_TABLES),
    Event("A publication dropped and made again", "DROP PUBLICATION", REMADE, COPIED,
        versions=(18,), **ALL_TABLES),
    Event("A publication dropped and made again", "DROP PUBLICATION", REMADE, REFUSED,
        versions=(15,), is_alone=True, words=r"did not exist when .* --full-refresh",
        remedy=(DROP_SLOT, MAKE_SLOT)),
    Event("A publication dropped", "DROP PUBLICATION", ("DROP PUBLICATION oso_publication",),
        REFUSED, is_alone=True, words='publication "oso_publication" does not exist',
        remedy=(MAKE, DROP_SLOT, MAKE_SLOT)),
)  # fmt: skip

_SLOT: Final = (
    Event("A slot dropped", FUNCTIONS, (DROP_SLOT,), REFUSED, is_alone=True,
        words='slot "oso_slot" does not exist', remedy=(MAKE_SLOT,)),
    Event("A slot dropped and made again", FUNCTIONS, (*changes(3), DROP_SLOT, MAKE_SLOT), REFUSED,
        is_alone=True, words="made anew"),
    Event("A slot read by someone else", FUNCTIONS,
        (*changes(3), "SELECT pg_replication_slot_advance('oso_slot', pg_current_wal_lsn())"),
        REFUSED, is_alone=True, words="read by someone else"),
    Event("A slot with two_phase", FUNCTIONS,
        (DROP_SLOT,
         "SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput', false, true)"),
        REFUSED, is_alone=True, when=When.FIRST, words="two_phase", remedy=(DROP_SLOT, MAKE_SLOT)),
    Event("A slot dropped and made again with two_phase", FUNCTIONS,
        (DROP_SLOT,
         "SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput', false, true)"),
        REFUSED, is_alone=True, words="two_phase|made anew", remedy=(DROP_SLOT, MAKE_SLOT)),
    Event("A slot that another plugin decodes", FUNCTIONS,
        (DROP_SLOT, "SELECT pg_create_physical_replication_slot('oso_slot')"), REFUSED,
        is_alone=True, words="physical", remedy=(DROP_SLOT, MAKE_SLOT)),
)  # fmt: skip

EVENTS: Final = _PUBLICATION + _SLOT
