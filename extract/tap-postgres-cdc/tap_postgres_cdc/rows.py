"""Functions made for one relation that turn its rows into RECORD lines.

A general decoder asks of every value what it is; a function written out for the columns of one
relation knows, which makes it several times faster. The source of such functions is built here
from the columns' names and the expressions in `datatypes`.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from tap_postgres_cdc import values
from tap_postgres_cdc.datatypes import Datatype
from tap_postgres_cdc.pgoutput import KIND_AND_LENGTH, NULL, TUPLE, VALUE, Values
from tap_postgres_cdc.values import UNREPRESENTABLE, Loss

_UNESCAPED: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_LOST: Final = re.compile(r"\blost\b")
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
# Of how many rows the keys are named.
_MOST_NAMED: Final = 20


class Column(NamedTuple):
    """A column of a relation, in the relation's order.

    Attributes:
        name: Its name, also of the property.
        datatype: How its values are written.
        selected: Whether records hold it.
        is_key: Whether it is one of the stream's key properties.
    """

    name: str
    datatype: Datatype
    selected: bool
    is_key: bool


class ValueLossError(ValueError):
    """A value can't be written, and may not be left out.

    Attributes:
        stream: Name of the stream.
        column: Name of the column.
    """

    def __init__(self, message: str, stream: str, column: str) -> None:
        """Keep where it is; `args` make the same error again in another process."""
        super().__init__(message, stream, column)
        self.stream = stream
        self.column = column

    def __str__(self) -> str:
        """The message."""
        return str(self.args[0])


class KeyLossError(ValueLossError):
    """A key column holds a value that JSON can't: a null would make one row out of several."""


class Losses(Counter[tuple[str, str, Loss]]):
    """How many values could not be written, by stream, column and why.

    Attributes:
        fail: Whether the first one ends the run: setting `on_bad_value`.
        show: Whether the keys of some rows are named: setting `show_values`.
    """

    fail: bool = False
    show: bool = False

    def lines(self) -> list[str]:
        """A line for each stream, column and reason, without any value."""
        return [
            f"Stream {stream}, column {column}: values that {loss.became}, as {loss.why}: {count:,}"
            for (stream, column, loss), count in sorted(self.items())
        ]


class RowFunction(Protocol):
    """Turns a message with its header and padding into a line.

    Gives None for a row with unchanged values. `prefix` and `suffix` surround the number of the
    change in its transaction.
    """

    def __call__(self, data: bytes, prefix: bytes, number: int, suffix: bytes, /) -> bytes | None:
        """Make the line."""


class RowFunctions(NamedTuple):
    """What is made for a relation.

    Attributes:
        row: For an Insert, and an Update without old tuple.
        key: For a Delete: a line of the key columns.
        values: The same as `row` for values that were already read, without any `Missing`.
        key_values: The same as `key` for values that were already read.
    """

    row: RowFunction
    key: RowFunction
    values: Callable[[Values, bytes, int, bytes], bytes]
    key_values: Callable[[Values, bytes, int, bytes], bytes]


def row_functions(stream: str, columns: Sequence[Column], losses: Losses) -> RowFunctions:
    """Make the functions for the rows of a relation.

    Args:
        stream: Name of the stream.
        columns: All columns of the relation, in its order.
        losses: Counts the values that can't be written.
    """
    row = [i for i, column in enumerate(columns) if column.selected]
    key = [i for i, column in enumerate(columns) if column.is_key]
    source = [
        *_message_function("row", stream, columns, row, losses),
        *_message_function("key", stream, columns, key, losses),
        *_values_function("values", stream, columns, row, losses),
        *_values_function("key_values", stream, columns, key, losses),
    ]
    names = _compile(source, stream, columns, losses)
    return RowFunctions(names["row"], names["key"], names["values"], names["key_values"])


def copy_function(
    stream: str, columns: Sequence[Column], suffix: bytes, losses: Losses
) -> Callable[[Iterable[bytes]], list[bytes]]:
    """Make the function for lines of `COPY … TO STDOUT` that hold the given columns.

    Args:
        stream: Name of the stream.
        columns: What was selected, in order.
        suffix: The end of every record, after the last column's value.
        losses: Counts the values that can't be written.

    See https://www.postgresql.org/docs/current/sql-copy.html for the text format.
    """
    fields = [f"c{i}" for i in range(len(columns))]
    source = [
        "def copy(rows):",
        " lines = []",
        " add = lines.append",
        " for row in rows:",
        f"  {', '.join(fields)}, = row[:-1].split(b'\\t')" if fields else "  pass",
        "  if b'\\\\' in row:",
        "   pass",
    ]
    for field, column in zip(fields, columns, strict=True):
        source += [f"   if {field} == b'\\\\N':", f"    {field} = b'null'"]
        if column.datatype.expression != "v" or column.datatype.escapes:
            source += ["   else:", f"    v = {field}"]
            if column.datatype.escapes:
                source += ["    if b'\\\\' in v:", "     v = unescape(v)"]
            source.append(f"    {field} = {_expression(column, fields.index(field))}")
    conversions = [
        f"   v = {field}; {field} = {_expression(column, i)}"
        for i, (field, column) in enumerate(zip(fields, columns, strict=True))
        if column.datatype.expression != "v"
    ]
    source += ["  else:", *(conversions or ["   pass"])]
    line = _format(stream, columns).partition(b"%b%016X%b")[0] + suffix.replace(b"%", b"%%")
    key = [i for i, column in enumerate(columns) if column.is_key]
    source += [f" {one}" for one in _name_row(key, losses)]
    source += [f"  add({line!r} % ({''.join(f'{field}, ' for field in fields)}))", " return lines"]
    function: Callable[[Iterable[bytes]], list[bytes]] = _compile(source, stream, columns, losses)[
        "copy"
    ]
    return function


def unescape(field: bytes) -> bytes:
    """Undo the backslash escapes of COPY's text format."""
    return _ESCAPE.sub(lambda match: _UNESCAPED.get(match[1], match[1]), field)


def _message_function(
    name: str, stream: str, columns: Sequence[Column], wanted: Sequence[int], losses: Losses
) -> list[str]:
    source = [f"def {name}(data, prefix, number, suffix):", f" p = {TUPLE + 2}"]
    if losses.show:
        source.append(" unnamed.clear()")  # of a row that was given up in its middle
    for i, column in enumerate(columns[: max(wanted, default=-1) + 1]):
        source.append(" k, n = unpack(data, p)")
        if i not in wanted:
            source.append(f" p = p + 5 + n if k == {VALUE} else p + 1")
            continue
        value = "data[q:p]"
        convert = f"v = {value}; c{i} = {_expression(column, i)}"
        if column.datatype.expression == "v":
            convert = f"c{i} = {value}"
        source += [
            f" if k == {VALUE}:",
            "  q = p + 5; p = q + n",
            f"  {convert}",
            f" elif k == {NULL}:",
            f"  c{i} = b'null'; p += 1",
            " else:",
            "  return None",
        ]
    return [*source, *_return(stream, columns, wanted, losses)]


def _values_function(
    name: str, stream: str, columns: Sequence[Column], wanted: Sequence[int], losses: Losses
) -> list[str]:
    source = [f"def {name}(values, prefix, number, suffix):"]
    for i in wanted:
        converted = f"({_expression(columns[i], i)})"
        source += [f" v = values[{i}]", f" c{i} = b'null' if v is None else {converted}"]
    return [*source, *_return(stream, columns, wanted, losses)]


def _return(
    stream: str, columns: Sequence[Column], wanted: Sequence[int], losses: Losses
) -> list[str]:
    key = [i for i in wanted if columns[i].is_key]
    line = _format(stream, [columns[i] for i in wanted])
    end = f" return {line!r} % ({''.join(f'c{i}, ' for i in wanted)}prefix, number, suffix)"
    return [*_name_row(key, losses), end]


def _name_row(key: Sequence[int], losses: Losses) -> list[str]:
    """Code that names the row of values which could not be written, if that is wanted."""
    if not losses.show:
        return []
    return [f" if unnamed: name_row(({''.join(f'c{i}, ' for i in key)}))"]


def _format(stream: str, columns: Sequence[Column]) -> bytes:
    """The line with a place for each value, then for prefix, number and suffix."""
    properties = "".join(f"{json.dumps(column.name)}:\0," for column in columns)
    line = f'{{"type":"RECORD","stream":{json.dumps(stream)},"record":{{{properties}'
    return line.encode().replace(b"%", b"%%").replace(b"\0", b"%b") + b"%b%016X%b"


def _expression(column: Column, i: int) -> str:
    return _LOST.sub(f"lost{i}", column.datatype.expression)


class _Lost(NamedTuple):
    """Called with a value of a column that can't be written; gives what is written instead."""

    losses: Losses
    stream: str
    column: str
    is_key: bool
    unnamed: list[tuple[str, Loss]]

    def __call__(self, loss: Loss = UNREPRESENTABLE, instead: bytes = b"null") -> bytes:
        holds = (
            f"column {self.column} holds values that can't be written, as {loss.why}: change them"
        )
        if self.is_key:
            message = f"stream {self.stream}: key {holds}, or deselect the table"
            raise KeyLossError(message, self.stream, self.column)
        if self.losses.fail:
            message = f"stream {self.stream}: {holds}, or set on_bad_value to null"
            raise ValueLossError(message, self.stream, self.column)
        if self.losses.show:
            self.unnamed.append((self.column, loss))
        else:
            self.losses[self.stream, self.column, loss] += 1
        return instead


def _compile(
    source: list[str], stream: str, columns: Sequence[Column], losses: Losses
) -> dict[str, Any]:
    names: dict[str, Any] = {
        "array": values.array,
        "base64": values.base64,
        "ONE_LINE": values.ONE_LINE,
        "json_text": values.json_text,
        "json_value": values.json_value,
        "text": values.text,
        "utf8": values.utf8,
        "zoned_time": values.zoned_time,
        "unescape": unescape,
        "unpack": KIND_AND_LENGTH.unpack_from,
    }
    unnamed: list[tuple[str, Loss]] = []

    def name_row(key: tuple[bytes, ...]) -> None:
        """Count what a row lost, apart from others as long as there are few."""
        for column, loss in unnamed:
            shown = loss.of_row(b", ".join(key).decode()) if len(losses) < _MOST_NAMED else loss
            losses[stream, column, shown] += 1
        unnamed.clear()

    names |= {"unnamed": unnamed, "name_row": name_row}
    for i, column in enumerate(columns):
        names[f"lost{i}"] = _Lost(losses, stream, column.name, column.is_key, unnamed)
    # The source holds names of columns only as literals made by repr().
    exec("\n".join(source), names)  # noqa: S102
    return names
