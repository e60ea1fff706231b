"""What a comparison finds, and how rows are compared by value."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from sandbox.diff.columns import Column
from sandbox.diff.warehouse import Position

_MOST_NAMED: Final = 100


class Difference(NamedTuple):
    """A row that is not the same on both sides.

    Attributes:
        kind: missing: only the source has it; extra: only the warehouse has it; changed: columns
            differ; twice: several rows of the warehouse have its key, deleted ones counted.
        key: Values of the key's columns.
        columns: Of a changed row: values in the source and in the warehouse, by column.
    """

    kind: Literal["missing", "extra", "changed", "twice"]
    key: dict[str, Any]
    columns: dict[str, tuple[Any, Any]]


@dataclass
class TableReport:
    """What was found of a table.

    Attributes:
        table: Schema and name in the source.
        source_rows: How many rows the source has.
        warehouse_rows: How many the warehouse has that are not marked as deleted.
        problem: What else is wrong, such as a table or column that the warehouse lacks.
        note: What was not compared.
        different: How many rows differ.
        rows: The first hundred of them.
        keeps_dropped: Rows that only the warehouse has are of dropped partitions: no difference.
        kept: How many of these there are.
    """

    table: str
    source_rows: int = 0
    warehouse_rows: int = 0
    problem: str = ""
    note: str = ""
    different: int = 0
    rows: list[Difference] = field(default_factory=list)
    keeps_dropped: bool = False
    kept: int = 0

    @property
    def is_equal(self) -> bool:
        """Whether the warehouse holds what the source holds."""
        return not (self.different or self.problem)

    def add(self, *found: Difference) -> None:
        """Count differences, and keep the first of them."""
        self.different += len(found)
        self.rows += found[: _MOST_NAMED - len(self.rows)]


def compare_values(
    report: TableReport,
    columns: Sequence[Column],
    expected: Mapping[Position, Position],
    stored: Iterable[Position],
) -> None:
    """Compare rows of the source with those that the warehouse has for the same keys.

    Args:
        report: Is told what is found.
        columns: What the rows consist of, those of the key first.
        expected: Rows of the source by their key.
        stored: Rows of the warehouse.
    """
    keys = [column.name for column in columns if column.is_key]
    report.source_rows += len(expected)
    seen: set[Position] = set()
    for row in stored:
        report.warehouse_rows += 1
        key = row[: len(keys)]
        wanted = expected.get(key)
        if wanted is None:
            if report.keeps_dropped:
                report.kept += 1
            else:
                report.add(Difference("extra", dict(zip(keys, key, strict=True)), {}))
            continue
        seen.add(key)
        if wanted != row:
            pairs = zip(columns, wanted, row, strict=True)
            changed = {
                column.name: (ours, theirs) for column, ours, theirs in pairs if ours != theirs
            }
            report.add(Difference("changed", dict(zip(keys, key, strict=True)), changed))
    for key in expected:
        if key not in seen:
            report.add(Difference("missing", dict(zip(keys, key, strict=True)), {}))
