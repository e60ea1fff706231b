"""Literal bounds of a batch's keys: with them in its ON, a MERGE reads only a part of its table.

BigQuery skips partitions, and blocks of a clustered table, by what it knows before a statement
runs, so not by what a join turns out to need. A key of the batch is always within them, and ON asks
for an equal key anyway: they change what is read and billed, never a result.
https://cloud.google.com/bigquery/docs/clustered-tables#block-pruning
https://cloud.google.com/bigquery/docs/using-dml-with-partitioned-tables#pruning_partitions_when_using_a_merge_statement
"""

import sys
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import takewhile
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from target_bigquery.literals import literal
from target_bigquery.tables import StoredTable

# By nothing else can a table be clustered or partitioned, so a bound would save nothing.
BOUNDED = {"BIGNUMERIC", "BOOL", "DATE", "DATETIME", "INT64", "NUMERIC", "STRING", "TIMESTAMP"}
LONGEST_TEXT = 128  # characters of a bound
MOST_RANGES = 100
LEAST_SHARE = 1000  # narrower than this part of all that is spanned, no gap is worth a range
MOST_TEXTS = 10_000  # to look for gaps between; with more there are hardly any
_LEAST_GAPS = {"INT64": 1000, "DATE": 2, "DATETIME": 1000, "TIMESTAMP": 1000, "STRING": 1}  # or µs
_TAIL = 12  # characters that tell how far texts are apart
_INTEGERS = {"DATE": pa.int32()}  # what Arrow holds; the others are of 64 bits

Ranges = tuple[tuple[str, str | None], ...]  # literals: from, to; both included; None: no end


def bounded_keys(
    types: Mapping[str, str], keys: Iterable[str], stored: StoredTable | None, *, collated: bool
) -> list[str]:
    """Return which key columns to bound.

    Args:
        types: of the columns.
        keys: names of columns.
        stored: the table; None if it is new.
        collated: in a new one, what is equal or less is not told by the characters alone.
    """

    def by_characters(key: str) -> bool:
        column = stored.column(key) if stored else None
        return not (column.collated if column else collated)

    return [
        key
        for key in keys
        if types[key] in BOUNDED and (types[key] != "STRING" or by_characters(key))
    ]


class Bounds:
    """Between which values a key column of a batch is.

    Args:
        kind: type of the column, one of `BOUNDED`.
        split: find several ranges if the values are far apart: where the table is clustered or
            partitioned by this column first. Takes 8 bytes a row.
    """

    def __init__(self, kind: str, *, split: bool = False) -> None:
        self._kind = kind
        self._split = split and kind in _LEAST_GAPS
        self._ends: list[Any] = []
        self._values: list[pa.Array] = []  # if it is to be split
        self._count = 0

    def add(self, values: pa.Array) -> None:
        """Take some of the column, as it is staged; it has no nulls."""
        if self._split:
            self._values.append(values)
            self._count += len(values)
            if self._kind != "STRING" or self._count <= MOST_TEXTS:
                return
            self._split = False
            values = pa.concat_arrays(self._values)
            self._values.clear()
        if self._kind == "BIGNUMERIC":  # staged as text
            self._widen(map(Decimal, values.to_pylist()))
        else:
            self._widen(pc.min_max(values).as_py().values())

    def _widen(self, values: Any) -> None:
        found = [*self._ends, *values]
        self._ends = [min(found), max(found)]

    def ranges(self) -> Ranges:
        """Return ranges that hold all values, in order; none if there is nothing to say."""
        ends = self._split_ends() if self._values else [self._ends] if self._ends else []
        if self._kind == "STRING":
            ends = [[_printable(low), _above(high)] for low, high in ends]
        return tuple(
            (literal(self._kind, low), None if high is None else literal(self._kind, high))
            for low, high in ends
        )

    def _split_ends(self) -> list[list[Any]]:
        """Return the ranges that are left between the largest gaps."""
        values = pa.concat_arrays(self._values).sort()
        if self._kind == "STRING":
            numbers = pa.array(_places(values.to_pylist()))
        else:
            numbers = values.view(_INTEGERS.get(self._kind, pa.int64())).cast(pa.int64())
        gaps = pc.pairwise_diff(numbers)[1:].view(pa.uint64())  # read so, no gap overflows
        span = numbers[-1].as_py() - numbers[0].as_py()
        least = max(_LEAST_GAPS[self._kind], span // LEAST_SHARE)
        largest = pc.select_k_unstable(gaps, MOST_RANGES - 1, [("", "descending")]).to_pylist()
        cuts = sorted(at for at in largest if gaps[at].as_py() >= least)
        lows = values.take(pa.array([0, *(at + 1 for at in cuts)])).to_pylist()
        highs = values.take(pa.array([*cuts, len(values) - 1])).to_pylist()
        return [list(ends) for ends in zip(lows, highs, strict=True)]


def _places(texts: list[str]) -> list[int]:
    """Return where sorted texts are between the first and the last, as numbers up to 2^62.

    They are read as numbers whose digits are the characters that occur, so that of random UUIDs,
    hexadecimal, all places are alike.
    """
    ends = zip(texts[0], texts[-1], strict=False)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
    tails = [text[common : common + _TAIL] for text in texts]
    digits = {char: digit for digit, char in enumerate(sorted(set().union(*tails)), 1)}
    base = len(digits) + 1  # 0 is the end
    places = [
        sum(digits[char] * base ** (_TAIL - at) for at, char in enumerate(tail, 1))
        for tail in tails
    ]
    return [(place << 62) // base**_TAIL for place in places]


def _printable(text: str) -> str:
    """Return the beginning of a text that can stand in a statement as it is."""
    short = text[:LONGEST_TEXT]
    return next((short[:at] for at, char in enumerate(short) if not char.isprintable()), short)


def _above(text: str) -> str | None:
    """Return a printable text that is not below this one, as BigQuery compares: by code points."""
    begin = _printable(text)
    if begin == text:
        return text
    following = map(chr, range(ord(begin[-1]) + 1, sys.maxunicode)) if begin else ()
    return next((begin[:-1] + char for char in following if char.isprintable()), None)
