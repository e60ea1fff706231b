"""Messages of the pgoutput plugin, protocol version 1: bytes in, values out.

Rows are decoded by functions made for their relation (see `rows`); what is here reads the other
messages, and rows that need a second look.

See https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html.
"""

from enum import Enum
from struct import Struct
from typing import Final, NamedTuple

from tap_postgres_cdc.errors import CaptureError

# What comes before a message within the copy stream: a type, two LSNs and a time.
HEADER: Final = 25
# Where the tuple of an Insert, Update or Delete starts: type, relation, kind of tuple.
TUPLE: Final = HEADER + 6
# Room for reading kind and length at once, even of a null at the end of a message.
PADDING: Final = bytes(4)

KIND_AND_LENGTH: Final = Struct(">BI")
_COUNT: Final = Struct(">H")
_BEGIN: Final = Struct(">QqI")
_COMMIT: Final = Struct(">BQQq")
_COLUMN: Final = Struct(">Ii")
_OID: Final = Struct(">I")

NULL: Final = ord("n")
UNCHANGED: Final = ord("u")
VALUE: Final = ord("t")


# Begin, Commit, Origin, Relation, Type, Insert, Update, Delete and Truncate: what protocol
# version 1 sends to those who do not ask for more.
KNOWN: Final = frozenset(b"BCORYIUDT")


class Missing(Enum):
    """What stands for the value of a large column that an update left as it was."""

    UNCHANGED = "unchanged"


Values = list[bytes | Missing | None]


class Begin(NamedTuple):
    """Start of a transaction: LSN of its commit, commit time (µs since 2000), 32-bit xid."""

    commit_lsn: int
    commit_time: int
    xid: int


class RelationColumn(NamedTuple):
    """A published column: whether it is part of the replica identity, its name and type."""

    in_identity: bool
    name: str
    type_oid: int
    typmod: int


class Relation(NamedTuple):
    """A table as it was when the rows that follow were written."""

    oid: int
    schema: str
    table: str
    identity: str
    columns: tuple[RelationColumn, ...]


def check_known(kind: int) -> None:
    """Refuse a message of a type that is not `KNOWN`: what it says would be lost.

    Raises:
        CaptureError: It is not.
    """
    if kind not in KNOWN:
        raise CaptureError(
            f'the server sent a message of type "{chr(kind)}", which the tap does not know: check '
            "that the slot was made without two_phase, and that nothing between tap and server "
            "changes what is sent; or a newer version of the tap may know it"
        )


def parse_begin(data: bytes) -> Begin:
    """Read a Begin message with its header."""
    return Begin(*_BEGIN.unpack_from(data, HEADER + 1))


def parse_commit(data: bytes) -> int:
    """Read a Commit message with its header: the LSN after the transaction."""
    end: int = _COMMIT.unpack_from(data, HEADER + 1)[2]
    return end


def parse_truncate(data: bytes) -> tuple[int, ...]:
    """Read a Truncate message with its header: the relations' oids."""
    (count,) = _OID.unpack_from(data, HEADER + 1)
    return tuple(_OID.unpack_from(data, HEADER + 6 + 4 * i)[0] for i in range(count))


def parse_relation(data: bytes) -> Relation:
    """Read a Relation message with its header."""
    (oid,) = _OID.unpack_from(data, HEADER + 1)
    schema, at = _string(data, HEADER + 5)
    table, at = _string(data, at)
    identity = chr(data[at])
    (count,) = _COUNT.unpack_from(data, at + 1)
    at += 3
    columns = []
    for _ in range(count):
        in_identity = data[at] & 1 == 1
        name, at = _string(data, at + 1)
        columns.append(RelationColumn(in_identity, name, *_COLUMN.unpack_from(data, at)))
        at += 8
    # An empty name stands for pg_catalog.
    return Relation(oid, schema or "pg_catalog", table, identity, tuple(columns))


def parse_tuple(data: bytes, at: int) -> tuple[Values, int]:
    """Read the tuple that starts with its number of columns; also gives where it ends."""
    (count,) = _COUNT.unpack_from(data, at)
    at += 2
    values: Values = []
    for _ in range(count):
        kind, length = KIND_AND_LENGTH.unpack_from(data, at)
        if kind == VALUE:
            values.append(data[at + 5 : at + 5 + length])
            at += 5 + length
        else:
            values.append(None if kind == NULL else Missing.UNCHANGED)
            at += 1
    return values, at


def _string(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    # Where the encoding is SQL_ASCII, names of tables that nobody selected may be anything.
    return data[at:end].decode(errors="replace"), end + 1
