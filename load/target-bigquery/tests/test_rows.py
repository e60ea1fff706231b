"""Which rows a table has after records, deletes, versions and replays."""

from typing import Any

import pytest

from sandbox.singer import INTEGER, MOMENT, TEXT, activate, decimal, record, schema, state

FIRST, SECOND, THIRD = (f"2024-01-0{day}T00:00:00Z" for day in (1, 2, 3))
PLAIN = schema("s", {"id": INTEGER, "a": TEXT, "b": TEXT})
ORDERED = schema("s", {"id": INTEGER, "at": MOMENT, "a": TEXT, "b": TEXT}, order="at")
CDC = schema(
    "s",
    {
        "id": INTEGER,
        "a": TEXT,
        "b": TEXT,
        "_ab_cdc_deleted_at": MOMENT,
        "_ab_cdc_lsn": INTEGER,
        "n": INTEGER,
    },
    order="n",
)
CDC_COLUMNS = "id, a, b, n, _ab_cdc_lsn, _ab_cdc_deleted_at IS NOT NULL"


def row(**values: Any) -> dict[str, Any]:
    return record("s", values)


def deleted(key: int, n: int, **values: Any) -> dict[str, Any]:
    return record(
        "s", {"id": key, "n": n, "_ab_cdc_lsn": n, "_ab_cdc_deleted_at": SECOND, **values}
    )


def test_the_last_record_of_a_key_wins_without_an_order(dataset: Any) -> None:
    dataset.load([PLAIN, row(id=1, a="old"), row(id=2, a="x"), row(id=1, a="new")])
    assert dataset.rows("s", "id, a") == [(1, "new"), (2, "x")]
    dataset.assert_unique("s", "id")


def test_the_newest_record_of_a_key_wins_in_whatever_order_they_come(dataset: Any) -> None:
    dataset.load([ORDERED, row(id=1, at=SECOND, a="new"), row(id=1, at=FIRST, a="old")])
    assert dataset.rows("s", "id, a") == [(1, "new")]


def test_an_older_record_does_not_change_a_stored_row(dataset: Any) -> None:
    dataset.load([ORDERED, row(id=1, at=SECOND, a="new")])
    dataset.load([ORDERED, row(id=1, at=FIRST, a="old"), row(id=2, at=FIRST, a="other")])
    assert dataset.rows("s", "id, a") == [(1, "new"), (2, "other")]
    dataset.assert_unique("s", "id")


def test_a_record_of_equal_order_is_harmless(dataset: Any) -> None:
    for _ in range(2):
        dataset.load([ORDERED, row(id=1, at=FIRST, a="x")])
    assert dataset.rows("s", "id, a") == [(1, "x")]


def test_the_later_of_two_records_of_equal_order_wins(dataset: Any) -> None:
    dataset.load([ORDERED, row(id=1, at=FIRST, a="x"), row(id=1, at=FIRST, a="y")])
    assert dataset.rows("s", "id, a") == [(1, "y")]


def test_a_record_without_order_is_taken_as_it_comes(dataset: Any) -> None:
    dataset.load([ORDERED, row(id=1, at=SECOND, a="x"), row(id=2, at=FIRST, a="x")])
    dataset.load(
        [
            ORDERED,
            row(id=1, at=None, a="y"),
            row(id=2, at=SECOND, a="y"),
            row(id=2, at=FIRST, a="z"),
        ]
    )
    assert dataset.rows("s", "id, a") == [(1, "y"), (2, "y")]
    dataset.load([ORDERED, row(id=1, at=FIRST, a="z")])
    assert dataset.rows("s", "id, a")[0] == (1, "z")


EITHER = {"anyOf": [MOMENT, TEXT]}
BOOKMARKS: list[tuple[str, str, Any, str, str, bool]] = [
    ("number", "v", TEXT, "9", "10", False),
    ("zones", "v", EITHER, f"{FIRST[:-1]}+09:00", f"{FIRST[:-1]}+00:00", False),
    ("fractions", "v", EITHER, FIRST, f"{FIRST[:-1]}.5Z", False),
    ("clock", "v", {"type": "string", "format": "time"}, "23:00:00", "01:00:00", False),
    ("cdc", "_ab_cdc_sequence", TEXT, "000A/9", "000B/1", True),
    ("padded", "v", TEXT, "09", "10", True),
]


def test_only_text_that_is_known_to_sort_orders_records(dataset: Any) -> None:
    """What comes last wins; where the text sorts, what comes late does not."""
    messages = [
        schema(name, {"id": INTEGER, column: kind, "a": TEXT}, order=column)
        for name, column, kind, *_ in BOOKMARKS
    ]

    def values_after(turn: int) -> list[str]:
        for name, column, _, *values, _ in BOOKMARKS:
            messages.append(record(name, {"id": 1, column: values[turn], "a": values[turn]}))
        dataset.load(messages, order_by_string={"pad*": True})
        del messages[len(BOOKMARKS) :]
        return [dataset.rows(name, "a")[0][0] for name, *_ in BOOKMARKS]

    values_after(0)
    assert values_after(1) == [later for *_, later, _ in BOOKMARKS]
    assert values_after(0) == [later if sorts else first for *_, first, later, sorts in BOOKMARKS]


def test_keys_are_unique_after_the_first_flush_too(dataset: Any) -> None:
    dataset.load([PLAIN, *(row(id=n % 7, a=str(n)) for n in range(50))])
    assert dataset.rows("s", "id, a") == [(n, str(max(range(n, 50, 7)))) for n in range(7)]
    dataset.assert_unique("s", "id")


def test_small_flushes_end_in_the_same_table(dataset: Any) -> None:
    messages = [ORDERED, *(row(id=n % 5, at=FIRST, a=str(n)) for n in range(40)), state({"n": 40})]
    assert dataset.load(messages, flush_rows=7) == [{"n": 40}]
    assert dataset.rows("s", "id, a") == [(n, str(n + 35)) for n in range(5)]
    dataset.assert_unique("s", "id")


def test_append_keeps_every_record(dataset: Any) -> None:
    for _ in range(2):
        dataset.load([PLAIN, row(id=1, a="x"), row(id=1, a="y")], write_mode="append")
    assert dataset.rows("s", "id, a", "a") == [(1, "x"), (1, "x"), (1, "y"), (1, "y")]


def test_append_by_stream_pattern(dataset: Any) -> None:
    events = schema("events-log", {"id": INTEGER})
    dataset.load(
        [events, PLAIN, *(record("events-log", {"id": 1}) for _ in range(3)), row(id=1), row(id=1)],
        write_mode={"events-*": "append"},
    )
    assert len(dataset.rows("events_log")) == 3
    assert len(dataset.rows("s")) == 1


def test_a_stream_without_keys_appends(dataset: Any) -> None:
    dataset.load([schema("s", {"a": TEXT}, keys=()), row(a="x"), row(a="x")])
    assert dataset.rows("s", "a") == [("x",), ("x",)]


def test_a_soft_delete_keeps_the_other_values(dataset: Any) -> None:
    dataset.load([CDC, row(id=1, a="x", b="y", n=1, _ab_cdc_lsn=1), row(id=2, a="z", n=1)])
    dataset.load([CDC, deleted(1, 5)])
    assert dataset.rows("s", CDC_COLUMNS) == [
        (1, "x", "y", 5, 5, True),
        (2, "z", None, 1, None, False),
    ]


def test_a_soft_delete_keeps_values_that_came_in_the_same_batch(dataset: Any) -> None:
    dataset.load([CDC, row(id=1, a="x", b="y", n=1), row(id=1, a="x2", b=None, n=2), deleted(1, 3)])
    assert dataset.rows("s", CDC_COLUMNS) == [(1, "x2", None, 3, 3, True)]


def test_a_soft_delete_ignores_other_values_it_carries(dataset: Any) -> None:
    dataset.load([CDC, row(id=1, a="x", b="y", n=1)])
    dataset.load([CDC, deleted(1, 2, a="changed", b=None)])
    assert dataset.rows("s", CDC_COLUMNS) == [(1, "x", "y", 2, 2, True)]


def test_a_soft_delete_of_an_unknown_key_leaves_a_tombstone(dataset: Any) -> None:
    dataset.load([CDC, deleted(9, 4)])
    assert dataset.rows("s", CDC_COLUMNS) == [(9, None, None, 4, 4, True)]


def test_a_tombstone_keeps_an_older_record_out(dataset: Any) -> None:
    dataset.load([CDC, deleted(9, 4)])
    dataset.load([CDC, row(id=9, a="late", n=3)])
    assert dataset.rows("s", CDC_COLUMNS) == [(9, None, None, 4, 4, True)]


def test_a_hard_delete_removes_the_row(dataset: Any) -> None:
    dataset.load([CDC, row(id=1, a="x", n=1), row(id=2, a="y", n=1)], delete_mode="hard")
    dataset.load([CDC, deleted(1, 2), deleted(7, 2)], delete_mode="hard")
    assert dataset.rows("s", CDC_COLUMNS) == [(2, "y", None, 1, None, False)]


def test_an_older_delete_changes_nothing(dataset: Any) -> None:
    for mode in ("soft", "hard"):
        dataset.load([CDC, row(id=1, a="x", n=8)], delete_mode=mode)
        dataset.load([CDC, deleted(1, 7)], delete_mode=mode)
        assert dataset.rows("s", CDC_COLUMNS) == [(1, "x", None, 8, None, False)]


def test_an_older_value_does_not_come_in_with_a_newer_delete(dataset: Any) -> None:
    dataset.load([CDC, row(id=1, a="stored", n=5)])
    dataset.load([CDC, row(id=1, a="older", n=3), deleted(1, 6)])
    assert dataset.rows("s", CDC_COLUMNS) == [(1, "stored", None, 6, 6, True)]


@pytest.mark.parametrize("mode", ["soft", "hard"])
@pytest.mark.parametrize("flush_rows", [1, 100])
def test_a_row_inserted_again_is_alive(dataset: Any, mode: str, flush_rows: int) -> None:
    messages = [CDC, row(id=1, a="x", b="y", n=1), deleted(1, 2), row(id=1, a="z", n=3)]
    dataset.load(messages, delete_mode=mode, flush_rows=flush_rows)
    assert dataset.rows("s", CDC_COLUMNS) == [(1, "z", None, 3, None, False)]
    dataset.assert_unique("s", "id")


def test_the_sdk_column_marks_deletes_too(dataset: Any) -> None:
    stream = schema("s", {"id": INTEGER, "a": TEXT, "_sdc_deleted_at": MOMENT})
    dataset.load([stream, row(id=1, a="x"), row(id=2, a="y")])
    dataset.load([stream, row(id=1, _sdc_deleted_at=FIRST)])
    assert dataset.rows("s", "id, a, _sdc_deleted_at IS NULL") == [(1, "x", False), (2, "y", True)]


def test_a_missing_property_means_null(dataset: Any) -> None:
    dataset.load([PLAIN, row(id=1, a="x", b="y")])
    dataset.load([PLAIN, row(id=1, a="z")])
    assert dataset.rows("s", "id, a, b") == [(1, "z", None)]


def test_a_missing_property_is_kept_if_asked_for(dataset: Any) -> None:
    keep = {"missing_properties": {"s": "keep"}}
    dataset.load([PLAIN, row(id=1, a="x", b="y"), row(id=2, b="q")], **keep)
    dataset.load([PLAIN, row(id=1, a="z"), row(id=2, b=None)], **keep)
    assert dataset.rows("s", "id, a, b") == [(1, "z", "y"), (2, None, None)]


@pytest.mark.parametrize("flush_rows", [1, 100])
def test_partial_records_of_a_key_are_combined_in_order(dataset: Any, flush_rows: int) -> None:
    keep = {"missing_properties": "keep", "flush_rows": flush_rows}
    messages = [
        CDC,
        row(id=1, a="1", n=1),
        row(id=1, b="2", n=2),
        row(id=1, a=None, n=3),
        row(id=1, b="4", n=4),
    ]
    dataset.load(messages, **keep)
    assert dataset.rows("s", "id, a, b, n") == [(1, None, "4", 4)]
    dataset.load([CDC, row(id=1, a="old", n=2), row(id=1, b="6", n=6), deleted(1, 7)], **keep)
    assert dataset.rows("s", CDC_COLUMNS) == [(1, None, "6", 7, 7, True)]


@pytest.mark.parametrize("flush_rows", [1, 100])
def test_a_partial_record_after_a_hard_delete_starts_from_nothing(
    dataset: Any, flush_rows: int
) -> None:
    keep = {"missing_properties": "keep", "delete_mode": "hard", "flush_rows": flush_rows}
    dataset.load([CDC, row(id=1, a="1", b="1", n=1)], **keep)
    dataset.load([CDC, row(id=1, b="2", n=2), deleted(1, 3), row(id=1, a="4", n=4)], **keep)
    assert dataset.rows("s", "id, a, b, n") == [(1, "4", None, 4)]


def versioned(values: dict[str, Any], version: int) -> dict[str, Any]:
    return record("s", values, version)


def test_a_new_version_soft_deletes_the_rows_of_older_ones(dataset: Any) -> None:
    dataset.load(
        [
            PLAIN,
            versioned({"id": 1, "a": "x"}, 1),
            versioned({"id": 2, "a": "y"}, 1),
            activate("s", 1),
        ]
    )
    assert dataset.rows("s", "id, _sdc_deleted_at IS NULL") == [(1, True), (2, True)]
    dataset.load([PLAIN, versioned({"id": 2, "a": "z"}, 2), activate("s", 2), state({"v": 2})])
    assert dataset.rows("s", "id, a, _sdc_deleted_at IS NULL") == [(1, "x", False), (2, "z", True)]
    dataset.load([PLAIN, versioned({"id": 1, "a": "back"}, 2)])
    assert dataset.rows("s", "id, a, _sdc_deleted_at IS NULL") == [
        (1, "back", True),
        (2, "z", True),
    ]


def test_a_new_version_hard_deletes_the_rows_of_older_ones(dataset: Any) -> None:
    dataset.load([PLAIN, row(id=1), row(id=2)], delete_mode="hard")
    out = dataset.load(
        [PLAIN, versioned({"id": 2}, 2), activate("s", 2), versioned({"id": 3}, 2), state("end")],
        delete_mode="hard",
    )
    assert out == ["end"]
    assert dataset.rows("s", "id") == [(2,), (3,)]


def test_a_record_behind_the_activation_stays_whatever_its_version(dataset: Any) -> None:
    before = [versioned({"id": 1}, 1), versioned({"id": 2}, 2), activate("s", 2)]
    behind = [row(id=3), versioned({"id": 4}, 1), versioned({"id": 5}, 2), state("end")]
    assert dataset.load([PLAIN, *before, *behind], delete_mode="hard") == ["end"]
    assert dataset.rows("s", "id") == [(2,), (3,), (4,), (5,)]


def test_full_copies_of_small_tables_are_loaded_together(dataset: Any) -> None:
    copies = [
        message
        for name in ("first", "second", "third")
        for message in (
            schema(name, {"id": INTEGER}),
            record(name, {"id": 1}, 1),
            record(name, {"id": 2}, 2),
            activate(name, 2),
            state(name),
        )
    ]
    assert dataset.load(copies, delete_mode="hard") == ["third"]
    for name in ("first", "second", "third"):
        assert dataset.rows(name, "id") == [(2,)]


@pytest.mark.parametrize("has_delete", [False, True])
def test_a_row_of_a_new_version_counts_whatever_its_order(dataset: Any, has_delete: bool) -> None:
    """A database that moved to another server starts its log, and so the order, anew."""
    old = {"id": 1, "a": "old", "n": 1000}
    dataset.load([CDC, versioned(old, 1), versioned({**old, "id": 2}, 1), activate("s", 1)])
    new = [versioned({"id": 1, "a": "new", "n": 5}, 2)]
    if has_delete:
        gone = {"id": 3, "n": 6, "_ab_cdc_deleted_at": SECOND}
        new += [versioned({"id": 3, "n": 5}, 2), versioned(gone, 2)]
    dataset.load([CDC, *new, activate("s", 2)])
    rows = dataset.rows("s", "id, a, n, _ab_cdc_deleted_at IS NULL")
    assert rows[:2] == [(1, "new", 5, True), (2, "old", 1000, False)]
    dataset.load([CDC, versioned({"id": 1, "a": "late", "n": 4}, 2)])
    assert dataset.rows("s", "id, a, n")[0] == (1, "new", 5)


def test_a_new_version_replaces_a_stream_without_keys(dataset: Any) -> None:
    stream = schema("s", {"a": TEXT}, keys=())
    for version in (1, 2):
        dataset.load(
            [stream, *(versioned({"a": a}, version) for a in "xy"), activate("s", version)],
            delete_mode="hard",
        )
    assert dataset.rows("s", "a, _sdc_table_version") == [("x", 2), ("y", 2)]


def test_the_streams_own_delete_column_marks_rows_of_older_versions(dataset: Any) -> None:
    dataset.load(
        [CDC, versioned({"id": 1, "n": 1}, 1), versioned({"id": 2, "n": 1}, 2), activate("s", 2)]
    )
    assert dataset.rows("s", "id, _ab_cdc_deleted_at IS NULL") == [(1, False), (2, True)]
    assert "_sdc_deleted_at" not in dataset.types("s")


def test_a_delete_column_of_text_marks_rows_of_older_versions(dataset: Any) -> None:
    stream = schema("s", {"id": INTEGER, "_ab_cdc_deleted_at": TEXT})
    dataset.load([stream, versioned({"id": 1}, 1), versioned({"id": 2}, 2), activate("s", 2)])
    assert dataset.rows("s", "id, _ab_cdc_deleted_at IS NULL") == [(1, False), (2, True)]


def test_versions_without_their_column_are_refused(dataset: Any) -> None:
    result = dataset.run([PLAIN, versioned({"id": 1}, 1), state(1)], add_record_metadata=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "set add_record_metadata: true" in result.stderr


def test_streams_may_be_interleaved(dataset: Any) -> None:
    other = schema("other", {"id": INTEGER, "v": INTEGER})
    messages = [PLAIN, other]
    for n in range(30):
        messages += [row(id=n % 3, a=str(n)), record("other", {"id": n % 4, "v": n}), state(n)]
    assert dataset.load(messages, flush_rows=11)[-1] == 29
    assert dataset.rows("s", "id, a") == [(0, "27"), (1, "28"), (2, "29")]
    assert dataset.rows("other", "id, v") == [(0, 28), (1, 29), (2, 26), (3, 27)]


def test_keys_of_any_type(dataset: Any) -> None:
    """Also where a batch is bounded by one or two of the keys that the table has."""
    kinds: dict[str, tuple[Any, list[Any]]] = {
        "text": (TEXT, ["é", "E", "", "it's", 'a\\"b\n', "a\\", "😀", "\u0000", "x" * 300]),
        "number": ({"type": "number"}, [1.5, -0.25, 1e300, 0.0]),
        "integer": (INTEGER, [-(2**63), 2**63 - 1, 0, 5000]),
        "widened": (INTEGER, [5000, 0, 7]),
        "decimal": ({"type": "string", "format": "singer.decimal"}, ["1.5", "2.50", "-3"]),
        "flag": ({"type": "boolean"}, [True, False]),
        "moment": (MOMENT, [FIRST, SECOND, "0001-01-01T00:00:00.000001Z"]),
        "day": ({"type": "string", "format": "date"}, ["2024-01-01", "2024-01-02"]),
        "bytes": ({"type": "string", "contentEncoding": "base64"}, ["AA==", "/w=="]),
        "json": ({"type": ["object", "string"]}, [{"a": 1}, "x", {"a": 2}]),
    }

    def load(chosen: slice, **values: Any) -> None:
        messages: list[Any] = []
        for name, (kind, keys) in kinds.items():
            messages.append(schema(name, {"id": kind, "a": TEXT, "_sdc_deleted_at": MOMENT}))
            messages += [record(name, {"id": key, **values}) for key in (keys * 2)[chosen]]
        dataset.load(messages)

    load(slice(None), a="1")
    load(slice(None), a="2")
    load(slice(1, 2), a="3")
    load(slice(2), _sdc_deleted_at=FIRST)
    load(slice(1), a="4")
    for name, (_, keys) in kinds.items():
        dataset.assert_unique(name, "id")
        found = dataset.rows(name, "a, _sdc_deleted_at IS NULL")
        expected = [("2", True)] * (len(keys) - 2) + [("3", False), ("4", True)]
        assert sorted(found) == expected, name
    minus = '{"type":"RECORD","stream":"number","record":{"id":-0.0,"a":"5"}}'
    number = schema("number", {"id": {"type": "number"}, "a": TEXT})
    widened = schema("widened", {"id": decimal(38, 9), "a": TEXT})
    dataset.load([number, minus, widened, record("widened", {"id": "7.000", "a": "5"})])
    for name in ("number", "widened"):
        found = dataset.rows(name, "a, id", "id")
        assert (len(found), found[1][0]) == (len(kinds[name][1]), "5")


def test_keys_of_several_columns(dataset: Any) -> None:
    stream = schema("s", {"x": INTEGER, "y": TEXT, "a": TEXT}, keys=("x", "y"))
    for values in ("1", "2"):
        dataset.load([stream, *(row(x=x, y=y, a=values) for x in (1, 2) for y in "ab")])
    assert dataset.rows("s", "x, y, a", "1, 2") == [(x, y, "2") for x in (1, 2) for y in "ab"]


def test_columns_may_be_named_as_the_statements_name_things(dataset: Any) -> None:
    """`make test-sql` has a better eye for it: BigQuery takes a column `t` for a table `T`."""
    names = ["t", "S", "staged", "fresh", "marked", "picked", "__deleted", "__newest", "__t"]
    stream = schema("s", {"id": INTEGER, **dict.fromkeys(names, TEXT), "_sdc_deleted_at": MOMENT})
    dataset.load([stream, row(id=1, **dict.fromkeys(names, "x")), row(id=2)])
    dataset.load([stream, row(id=1, **dict.fromkeys(names, "y")), row(id=2, _sdc_deleted_at=FIRST)])
    columns = ", ".join(f"`{name}`" for name in names)
    assert dataset.rows("s", f"{columns}, id", "id") == [(*["y"] * 9, 1), (*[None] * 9, 2)]


def test_a_table_of_keys_only(dataset: Any) -> None:
    stream = schema("s", {"id": INTEGER})
    for _ in range(2):
        dataset.load([stream, row(id=1), row(id=2)], add_record_metadata=False)
    assert dataset.rows("s") == [(1,), (2,)]


def test_metadata_columns_tell_when_and_in_which_order(dataset: Any) -> None:
    stamped = {**row(id=1), "time_extracted": FIRST}
    dataset.load([PLAIN, stamped, row(id=2)])
    columns = "id, _sdc_extracted_at, _sdc_received_at, _sdc_batched_at, _sdc_sequence"
    first, second = dataset.rows("s", columns)
    assert first[1].isoformat() == "2024-01-01T00:00:00+00:00"
    assert second[1] is None
    assert first[2] >= first[3]
    assert second[4] == first[4] + 1
