"""Between which literals the keys of a batch are, and by which parts it goes into partitions."""

import re
import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_bigquery.bounds import LONGEST_TEXT, MOST_RANGES, MOST_TEXTS, Bounds, Ranges
from target_bigquery.errors import TargetError
from target_bigquery.partitions import (
    ARRIVAL,
    MOST_OF_A_PART,
    MOST_OF_A_TABLE,
    Partitions,
    Touched,
    stored_partitions,
)
from target_bigquery.values import ARROW_TYPES


def ranges(kind: str, values: list[Any], *, split: bool = True, chunk: int = 3) -> Ranges:
    bounds = Bounds(kind, split=split)
    for start in range(0, len(values), chunk):
        bounds.add(pa.array(values[start : start + chunk], ARROW_TYPES[kind]))
    return bounds.ranges()


NOON = datetime(2024, 5, 6, 12, 0, 0, 1)  # noqa: DTZ001  # of a DATETIME


@pytest.mark.parametrize(
    ("kind", "values", "low", "high"),
    [
        ("INT64", [5, -(2**63), 2**63 - 1], "-9223372036854775808", "9223372036854775807"),
        ("BOOL", [True, False], "FALSE", "TRUE"),
        ("BIGNUMERIC", ["5e38", "-1e-38"], f"-0.{'0' * 37}1", f"5{'0' * 38}"),
        ("DATE", [date(9999, 12, 31), date.min], "0001-01-01", "9999-12-31"),
        ("DATETIME", [NOON], "2024-05-06 12:00:00.000001", "2024-05-06 12:00:00.000001"),
        (
            "TIMESTAMP",
            [NOON.replace(tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)],
            "0001-01-01 00:00:00+00:00",
            "2024-05-06 12:00:00.000001+00:00",
        ),
    ],
)
def test_bounds_are_literals_of_the_columns_type(
    kind: str, values: list[Any], low: str, high: str
) -> None:
    written = "{}" if kind in {"BOOL", "INT64"} else f"{kind} '{{}}'"
    assert ranges(kind, values, split=False) == ((written.format(low), written.format(high)),)


def test_a_text_is_bounded_by_what_can_be_read_in_a_statement() -> None:
    def bounds(*texts: str) -> tuple[str, str | None]:
        return ranges("STRING", list(texts), split=False)[0]

    assert bounds("it's", "a\\", '"é😀"') == (r"""'"é😀"'""", r"'it\'s'")
    assert bounds("a\\") == (r"'a\\'", r"'a\\'")
    assert bounds("a\nb\x00") == ("'a'", "'b'")
    assert bounds("x" * 500) == (f"'{'x' * LONGEST_TEXT}'", f"'{'x' * (LONGEST_TEXT - 1)}y'")
    assert bounds("\x00", "\U0010fffd") == ("''", None)
    assert bounds("~\t") == ("'~'", "'\xa1'")  # what comes between can't be seen


@given(st.lists(st.text(), min_size=1))
def test_no_text_is_out_of_its_bounds(texts: list[str]) -> None:
    for split in (True, False):
        found = [
            [None if end is None else re.sub(r"\\(.)", r"\1", end[1:-1]).encode() for end in ends]
            for ends in ranges("STRING", texts, split=split)
        ]
        for text in map(str.encode, texts):  # what BigQuery compares
            assert any(
                low is not None and low <= text and (high is None or text <= high)
                for low, high in found
            )


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_no_number_is_out_of_its_ranges(numbers: list[int]) -> None:
    found = [(int(low), int(high or 0)) for low, high in ranges("INT64", numbers)]
    assert found == sorted(found)
    assert all(any(low <= n <= high for low, high in found) for n in numbers)
    assert {end for ends in found for end in ends} <= set(numbers)


def test_keys_far_apart_are_in_ranges_of_their_own() -> None:
    tail = list(range(10**8, 10**8 + 500))
    assert ranges("INT64", [7, *tail, 8, 5000]) == (("7", "5000"), ("100000000", "100000499"))
    assert len(ranges("INT64", [n * 10**6 for n in range(1000)])) == MOST_RANGES
    assert len(ranges("INT64", [n * 100 for n in range(10_000)], chunk=512)) == 1
    days = [date(2024, 1, 1), date(2024, 1, 2), date(2020, 1, 1)]
    assert [low for low, _ in ranges("DATE", days)] == ["DATE '2020-01-01'", "DATE '2024-01-01'"]
    moments = [NOON, NOON + timedelta(seconds=1), NOON - timedelta(days=900)]
    assert len(ranges("DATETIME", moments)) == 2


def test_texts_far_apart_are_in_ranges_of_their_own() -> None:
    uuids = [str(uuid.UUID(int=(n << 128) // 50 + n)) for n in range(50)]
    assert len(ranges("STRING", uuids, chunk=5)) == 50
    near = [f"2024-05-06-{n:06}" for n in range(500)]
    assert ranges("STRING", [*near, "2019-01-01-000001"]) == (
        ("'2019-01-01-000001'", "'2019-01-01-000001'"),
        ("'2024-05-06-000000'", "'2024-05-06-000499'"),
    )
    many = [f"{n:06}" for n in [*range(MOST_TEXTS), 999_999]]
    assert ranges("STRING", many, chunk=4096) == (("'000000'", "'999999'"),)
    assert len(ranges("STRING", [*many[:100], many[-1]], chunk=4096)) == 2


def test_a_batch_of_few_partitions_is_one_part() -> None:
    touched = Touched(Partitions("at", "TIMESTAMP", "month"))
    moments = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(5000)]
    touched.add(pa.array([*moments, None], ARROW_TYPES["TIMESTAMP"]))
    assert touched.parts() == [None]


def days(number: int) -> pa.Array:
    return pa.array([date.min + timedelta(days=n) for n in range(number)])


@pytest.mark.parametrize("unit", ["hour", "day"])
def test_each_partition_is_in_one_part_and_no_part_has_too_many(unit: str) -> None:
    touched = Touched(Partitions("p", "TIMESTAMP", unit))
    step = timedelta(**{f"{unit}s": 1})
    begins = [datetime(1999, 12, 31, tzinfo=UTC) + step * n for n in range(2 * MOST_OF_A_PART + 1)]
    touched.add(pa.array(begins, ARROW_TYPES["TIMESTAMP"]))
    touched.add(pa.array([begin + step / 3 for begin in begins], ARROW_TYPES["TIMESTAMP"]))
    cuts = [f"TIMESTAMP '{begins[MOST_OF_A_PART * n]}'" for n in (1, 2)]
    assert touched.parts() == [
        f"(`p` < {cuts[0]} OR `p` IS NULL)",
        f"`p` >= {cuts[0]} AND `p` < {cuts[1]}",
        f"`p` >= {cuts[1]}",
    ]


def test_more_partitions_than_a_table_may_have_are_refused_before_loading() -> None:
    touched = Touched(Partitions("day", "DATE"))
    touched.add(days(MOST_OF_A_TABLE))
    assert len(touched.parts()) == 5
    touched.add(days(MOST_OF_A_TABLE + 1))
    with pytest.raises(TargetError, match="10,001 partitions by day of column 'day'"):
        touched.parts()


def test_integers_outside_of_all_ranges_are_in_one_partition() -> None:
    touched = Touched(Partitions("n", "INT64", None, -100, 29_900, 10))
    touched.add(pa.array([-101, *range(30_000, 90_000), *range(-100, 20_000)]))
    assert touched.parts() == ["(`n` < 19900 OR `n` IS NULL)", "`n` >= 19900"]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, None),
        ({"timePartitioning": {"type": "HOUR"}}, Partitions(ARRIVAL, "TIMESTAMP", "hour")),
        (
            {
                "schema": {"fields": [{"name": "d", "type": "DATE"}]},
                "timePartitioning": {"type": "DAY", "field": "d"},
                "requirePartitionFilter": True,
            },
            Partitions("d", "DATE", filtered=True),
        ),
        (
            {"timePartitioning": {"type": "DAY", "requirePartitionFilter": True}},
            Partitions(ARRIVAL, "TIMESTAMP", filtered=True),
        ),
        (
            {
                "rangePartitioning": {
                    "field": "n",
                    "range": {"start": "-5", "interval": "10", "end": "95"},
                }
            },
            Partitions("n", "INT64", None, -5, 95, 10),
        ),
    ],
)
def test_how_a_stored_table_is_partitioned(table: dict[str, Any], expected: Any) -> None:
    assert stored_partitions(table) == expected
