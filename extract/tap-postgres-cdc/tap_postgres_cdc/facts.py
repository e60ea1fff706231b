"""What the catalog said of a table when it was captured last, and what that means for the next run.

Much can happen to a table between two runs that the log does not hold: its values change with their
type, a partition goes and comes back, the publication pauses. The catalog tells, if one remembers
what it said: numbers that are never given twice, and where things can go away and come back, the
transaction that wrote their row last (`xmin`). Of most of it a digest is enough.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import Final, NamedTuple, Self

from tap_postgres_cdc.discovery import Part, Table, TableColumn
from tap_postgres_cdc.typecatalog import TypeCatalog

# Characters of base64, of 6 bits each: of the name of a column, and of the form of its values.
_NAME: Final = 3
_COLUMN: Final = 6
_LINK: Final = 4
_NONE: Final = "-"


class PartFacts(NamedTuple):
    """What is kept of a table's part: see `discovery.Part`; `link` is a digest or empty."""

    relfilenode: int
    toast: int
    link: str


@dataclass(frozen=True)
class TableFacts:
    """What is kept of a table.

    Attributes:
        table: Its oid.
        membership: Digest of how it is published.
        key: Digest of its key's columns, in order, and of the constraint.
        attributes: Number of its newest column, captured or not.
        columns: Digests of name and form of values, one after the other, of the captured columns by
            number.
        gone: Digests of the names of columns that were captured once, and whose old values the
            warehouse may still have.
        newest_label: See `TypeCatalog.form`.
        attribute_changes: Digest, see `Table`.
        parts: By the part's oid.
    """

    table: int
    membership: str
    key: str
    attributes: int
    columns: Mapping[int, str]
    gone: frozenset[str]
    newest_label: int
    attribute_changes: str
    parts: Mapping[int, PartFacts]

    @classmethod
    def of(
        cls,
        table: Table,
        columns: Sequence[TableColumn],
        types: TypeCatalog,
        newest_label: int | None = None,
    ) -> Self:
        """Facts of a table as it was discovered.

        Args:
            table: As discovered.
            columns: The captured ones.
            types: Has the columns' types.
            newest_label: The one to leave out later labels of enums by; by default the newest.
        """
        if newest_label is None:
            newest_label = max((types.newest_label(c.type_oid) for c in columns), default=0)
        forms = {c.attnum: (c.name, types.form(c.type_oid, newest_label)) for c in columns}
        return cls(
            table=table.oid,
            membership=_digest(table.membership),
            key=_digest(f"{table.key} {table.key_identity}"),
            attributes=table.attributes,
            columns={
                n: _digest(name, _NAME) + _digest(form, _NAME) for n, (name, form) in forms.items()
            },
            gone=frozenset(),
            newest_label=newest_label,
            # It matters only where there is no TOAST table to tell.
            attribute_changes=_NONE
            if all(part.toast for part in table.parts)
            else _digest(table.attribute_changes),
            parts={
                part.oid: PartFacts(part.relfilenode, part.toast, _link(part))
                for part in table.parts
            },
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `__str__` writes.

        Raises:
            ValueError: It is something else.
        """
        table, membership, key, attributes, columns, gone, label, changes, parts = text.split(" ")
        return cls(
            table=int(table),
            membership=membership,
            key=key,
            attributes=int(attributes),
            columns=dict(_parse_columns(columns)),
            gone=frozenset(_chunks("" if gone == _NONE else gone, _NAME)),
            newest_label=int(label),
            attribute_changes=changes,
            parts=dict(_parse_parts(parts, int(table))),
        )

    def __str__(self) -> str:
        columns = (self.columns.get(n, _NONE) for n in range(1, max(self.columns, default=0) + 1))
        # The oid and file of a table that is no partition are mostly its own, and left out.
        parts = (
            f"{_other(oid, self.table)}.{_other(part.relfilenode, oid)}.{part.toast}"
            + (f".{part.link}" if part.link else "")
            for oid, part in self.parts.items()
        )
        fields = (
            self.table,
            self.membership,
            self.key,
            self.attributes,
            "".join(columns) or _NONE,
            "".join(sorted(self.gone)) or _NONE,
            self.newest_label,
            self.attribute_changes,
            ",".join(parts) or _NONE,
        )
        return " ".join(map(str, fields))

    @property
    def names(self) -> frozenset[str]:
        """Digests of the captured columns' names."""
        return frozenset(column[:_NAME] for column in self.columns.values())


@dataclass
class Verdict:
    """What has become of a table since facts of it were kept.

    Attributes:
        reason: Why it has to be copied from its first row, empty if it need not be.
        new_parts: Partitions that it did not have.
        emptied: Partitions that may have been truncated by themselves, or rewritten.
        unlogged: Parts that may have been rewritten, truncated, or not logged for a while.
    """

    reason: str = ""
    new_parts: list[Part] = field(default_factory=list)
    emptied: list[Part] = field(default_factory=list)
    unlogged: list[Part] = field(default_factory=list)


def judge(
    known: TableFacts,
    now: TableFacts,
    table: Table,
    columns: Sequence[TableColumn],
    *,
    keeps_dropped: bool,
) -> Verdict:
    """Compare a table with what was kept of it.

    Args:
        known: As of the last run.
        now: As of this one, without the labels of enums that are newer than `known`.
        table: As it is now.
        columns: Those of its columns that are captured.
        keeps_dropped: Whether rows of dropped partitions stay.
    """
    verdict = Verdict()
    if known.table != now.table:
        verdict.reason = "it was dropped and made again"
    elif known.membership != now.membership:
        verdict.reason = "it was not always published as it is now, so changes may be missing"
    elif known.key != now.key:
        verdict.reason = "its key changed or was made again"
    else:
        reasons = chain(
            _columns(known, now, columns),
            _dropped(known, now, keeps_dropped=keeps_dropped),
            _parts(known, now, table, verdict),
        )
        verdict.reason = next(reasons, "")
    return verdict


def carried(known: TableFacts, now: TableFacts, kept: Iterable[int]) -> TableFacts:
    """The facts of now, with what has to be remembered of before.

    The loader leaves the old values of a column that is gone where they are. And a partition whose
    rows were kept may come back.

    Args:
        known: As of the last run.
        now: As of this one.
        kept: oids of partitions that are not the table's any more, but still exist.
    """
    gone = (known.gone | known.names) - now.names
    parts = {oid: known.parts[oid] for oid in kept if oid in known.parts}
    return replace(now, gone=gone, parts={**parts, **now.parts})


def _columns(known: TableFacts, now: TableFacts, columns: Iterable[TableColumn]) -> Iterator[str]:
    """Reasons that columns give."""
    is_rewritten = any(
        part.relfilenode != known.parts[oid].relfilenode
        for oid, part in now.parts.items()
        if oid in known.parts
    )
    for column in columns:
        before, after = known.columns.get(column.attnum), now.columns[column.attnum]
        if before is None:
            is_reused = after[:_NAME] in known.names | known.gone
            if column.has_default or is_rewritten or is_reused or column.attnum <= known.attributes:
                yield f"rows have values in column {column.name}, which was not captured before"
        elif before[:_NAME] != after[:_NAME]:
            yield f"a column was renamed to {column.name}"
        elif before != after:
            yield f"the type of column {column.name} changed, or what its values are written as"


def _dropped(known: TableFacts, now: TableFacts, *, keeps_dropped: bool) -> Iterator[str]:
    """The reason that partitions give which are not there any more."""
    if not keeps_dropped and not known.parts.keys() <= now.parts.keys():
        yield "a partition was dropped or detached"


def _parts(known: TableFacts, now: TableFacts, table: Table, verdict: Verdict) -> Iterator[str]:
    """Reasons that parts give; what has to be looked at goes into the verdict."""
    for part in table.parts:
        before, after = known.parts.get(part.oid), now.parts[part.oid]
        if before is None:
            verdict.new_parts.append(part)
        elif before.link != after.link:
            yield f"its partition {part.name} was detached and attached again"
        elif before.relfilenode == after.relfilenode:
            continue
        elif before.toast:
            if before.toast != after.toast:
                yield "it was rewritten by ALTER TABLE"
            if part.oid != table.oid:
                verdict.emptied.append(part)
        elif known.attribute_changes != now.attribute_changes:
            yield "it was rewritten, and a column was altered"
        elif part.oid != table.oid or not table.is_named:
            verdict.unlogged.append(part)


@lru_cache(1 << 14)
def _digest(text: str, length: int = _COLUMN) -> str:
    return b64encode(blake2b(text.encode(), digest_size=6).digest()).decode()[:length]


def _link(part: Part) -> str:
    return _digest(part.link, _LINK) if part.link else ""


def _parse_columns(text: str) -> Iterator[tuple[int, str]]:
    number = at = 0
    while at < len(text):
        number += 1
        size = 1 if text[at] == _NONE else _COLUMN
        if size == _COLUMN:
            yield number, text[at : at + size]
        at += size


def _other(number: int, usual: int) -> str:
    return "" if number == usual else str(number)


def _parse_parts(text: str, table: int) -> Iterator[tuple[int, PartFacts]]:
    for part in () if text == _NONE else text.split(","):
        oid, relfilenode, toast, *link = part.split(".")
        number = int(oid or table)
        yield number, PartFacts(int(relfilenode or number), int(toast), "".join(link))


def _chunks(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))
