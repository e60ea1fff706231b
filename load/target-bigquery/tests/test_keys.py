"""A stream whose key has changed: its table ends with the new copy's rows, each of them once."""

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.singer import INTEGER, MOMENT, TEXT, activate, record, schema, state
from target_bigquery.calls import Calls
from target_bigquery.errors import TargetError
from target_bigquery.marks import FLOOR_LABEL, Mark, labelled_mark, mark_of, with_mark
from target_bigquery.warehouse import Warehouse

PROPERTIES = {"a": INTEGER, "b": INTEGER, "t": TEXT, "_ab_cdc_deleted_at": MOMENT, "n": INTEGER}
GONE = "2024-01-01T00:00:00Z"
ALIVE = "a, b, t"
Rows = list[tuple[Any, ...]]


def keyed(*keys: str) -> dict[str, Any]:
    return schema("s", PROPERTIES, keys, order="n")


def copy(version: int | None, *rows: tuple[int | None, int | None, str], n: int = 1) -> list[Any]:
    return [record("s", {"a": a, "b": b, "t": t, "n": n}, version) for a, b, t in rows]


def alive(dataset: Any) -> Rows:
    return sorted(
        row[:3] for row in dataset.rows("s", f"{ALIVE}, _ab_cdc_deleted_at") if row[3] is None
    )


def labels(dataset: Any) -> dict[str, str]:
    table = dataset.client.get_table(f"{dataset.project}.{dataset.name}.s")
    return dict(table.labels)


CHANGES = [
    pytest.param("soft", ("a",), ("b",), [(1, 7, "x"), (2, 8, "y")], [(5, 7, "x"), (5, 8, "y")]),
    pytest.param("hard", ("a",), ("b",), [(1, 7, "x"), (2, 8, "y")], [(5, 7, "x"), (5, 8, "y")]),
    pytest.param("soft", ("a", "b"), ("a",), [(1, 7, "x"), (1, 8, "y")], [(1, 9, "z")]),
    pytest.param("soft", ("a",), ("a", "b"), [(1, 7, "x")], [(1, 7, "x"), (1, 8, "y")]),
    pytest.param("soft", (), ("a",), [(1, 7, "x"), (1, 7, "x")], [(1, 7, "x")]),
    pytest.param("soft", ("a",), (), [(1, 7, "x")], [(None, 7, "x"), (None, 7, "x")]),
]


@pytest.mark.parametrize(
    ("mode", "before", "after", "old", "new"),
    CHANGES,
    ids=["moved", "moved, hard", "coarser", "finer", "added", "dropped"],
)
def test_a_changed_key_leaves_the_rows_of_the_new_copy_only(
    dataset: Any, mode: str, before: tuple[str, ...], after: tuple[str, ...], old: Rows, new: Rows
) -> None:
    gone = record("s", {"a": 9, "b": 7, "n": 2, "_ab_cdc_deleted_at": GONE}, 1)
    dataset.load([keyed(*before), *copy(1, *old), gone, activate("s", 1)], delete_mode=mode)
    messages = [keyed(*after), *copy(5, *new, n=3), activate("s", 5), state(5)]
    assert dataset.load(messages, delete_mode=mode) == [5]
    assert alive(dataset) == sorted(new, key=repr)
    changed = [keyed(*after), *copy(5, *((a, b, "new") for a, b, _ in new), n=4)]
    dataset.load(changed, delete_mode=mode)
    if after:
        dataset.assert_unique("s", *after)
        assert [t for _, _, t in alive(dataset)] == ["new"] * len(new)
    assert not labels(dataset).get(FLOOR_LABEL)


def test_a_run_that_died_at_any_step_of_a_key_change_is_made_good_by_the_next(
    dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    while True:
        dataset.load([keyed("a"), *copy(1, (1, 7, "x"), (2, 7, "y")), activate("s", 1)])
        steps += 1
        died = cut_short(dataset, steps, monkeypatch)
        # The tap began another copy: one of its rows it had sent before, one not.
        again = [
            keyed("b"),
            *copy(6, (1, 7, "all"), (3, 8, "all"), n=2),
            activate("s", 6),
            state(6),
        ]
        assert dataset.load(again, flush_rows=1) == [6]
        assert alive(dataset) == [(1, 7, "all"), (3, 8, "all")], f"died at step {steps}"
        dataset.assert_unique("s", "b")
        assert labelled_mark(labels(dataset)) == mark_of("s", ["b"])
        dataset.query("DROP TABLE `{d}.s`")
        if not died:
            break
    assert steps > 6  # two questions, floor, merge, removal, floor again, soft deletes


def cut_short(dataset: Any, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Change the key in a run that dies before its n-th call that asks or changes something."""
    calls = itertools.count(1)

    def mortal(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **options: Any) -> Any:
            if next(calls) == step:
                raise TargetError("killed")
            return call(*args, **options)

        return wrapper

    with monkeypatch.context() as broken:
        for part, name in ((Calls, "run_job"), (Warehouse, "mark_table")):
            broken.setattr(part, name, mortal(getattr(part, name)))
        try:
            dataset.load(
                [keyed("b"), *copy(5, (4, 7, "half"), (5, 9, "half")), activate("s", 5)],
            )
        except TargetError as error:
            assert "killed" in str(error)  # noqa: PT017  # the last run does not die
            return True
    return False


def test_a_key_that_goes_and_comes_back_leaves_each_row_once(dataset: Any) -> None:
    for version, keys in enumerate([("a",), (), ("a",), ("b",), ("a",)], 1):
        rows = copy(version, (1, 7, f"v{version}"), (2, 8, f"v{version}"), n=version)
        dataset.load([keyed(*keys), *rows, activate("s", version)])
        assert alive(dataset) == [(1, 7, f"v{version}"), (2, 8, f"v{version}")]
    dataset.assert_unique("s", "a")


def test_rows_that_were_appended_are_replaced_when_they_are_to_be_merged(dataset: Any) -> None:
    twice = copy(1, (1, 7, "x"), (1, 7, "y"))
    dataset.load([keyed("a"), *copy(1, (1, 7, "x"))])
    dataset.load([keyed("a"), *twice], write_mode="append")
    assert len(alive(dataset)) == 3
    with pytest.raises(TargetError, match="its key is now a, the table has rows of another key"):
        dataset.load([keyed("a"), *copy(1, (1, 7, "z"))])
    dataset.load([keyed("a"), *copy(2, (1, 7, "z")), activate("s", 2)])
    assert alive(dataset) == [(1, 7, "z")]


def test_a_schema_in_the_middle_of_a_copy_with_a_changed_key_does_no_harm(dataset: Any) -> None:
    dataset.load([keyed("a"), *copy(1, (1, 7, "x")), activate("s", 1)])
    wider = schema("s", {**PROPERTIES, "more": TEXT}, ("b",), order="n")
    first, second = copy(5, (1, 7, "y"), (2, 8, "z"), n=2)
    dataset.load([keyed("b"), first, wider, second, activate("s", 5)])
    assert alive(dataset) == [(1, 7, "y"), (2, 8, "z")]


def test_an_empty_copy_with_a_changed_key_empties_the_table(dataset: Any) -> None:
    dataset.load([keyed("a"), *copy(1, (1, 7, "x")), activate("s", 1)])
    dataset.load([keyed("b"), activate("s", 5)])
    assert dataset.rows("s") == []


@pytest.mark.parametrize("version", [None, 1])
def test_a_changed_key_without_a_greater_version_is_refused(
    dataset: Any, version: int | None
) -> None:
    dataset.load([keyed("a"), *copy(1, (1, 7, "x"))])
    with pytest.raises(TargetError, match="its key is now b, the table has rows of another") as why:
        dataset.load([keyed("b"), *copy(version, (2, 7, "y")), state(1)])
    assert "drop the table" in str(why.value)
    assert "\n" not in str(why.value)
    assert dataset.capsys.readouterr().out == ""
    dataset.load([keyed("a"), *copy(version, (1, 7, "back"), n=2)])  # the key was changed back
    assert alive(dataset) == [(1, 7, "back")]


def test_the_key_is_known_whatever_people_do_to_descriptions_and_their_own_labels(
    dataset: Any,
) -> None:
    dataset.load([keyed("a", "b"), *copy(1, (1, 7, "x"), (1, 8, "y")), activate("s", 1)])
    table = dataset.client.get_table(f"{dataset.project}.{dataset.name}.s")
    table.description = "Votes of the people"
    table.labels = {**table.labels, "team": "polls"}
    dataset.client.update_table(table, ["description", "labels"])
    dataset.load([keyed("A", "b"), *copy(1, (1, 7, "z"), n=2)])  # the same key in other letters
    assert alive(dataset) == [(1, 7, "z"), (1, 8, "y")]
    with pytest.raises(TargetError, match="its key is now a, the table has rows of another"):
        dataset.load([keyed("a"), *copy(1, (1, 9, "q"), n=3)])
    dataset.load([keyed("a"), *copy(2, (1, 9, "q"), n=3), activate("s", 2)])
    assert alive(dataset) == [(1, 9, "q")]
    table = dataset.client.get_table(table.reference)
    assert (table.description, table.labels["team"]) == ("Votes of the people", "polls")


def test_a_table_whose_labels_are_gone_gets_the_schemas_key(dataset: Any) -> None:
    """As Terraform takes away labels that it does not know; or somebody else made the table."""
    dataset.load([keyed("a"), *copy(1, (1, 7, "x"))])
    table = dataset.client.get_table(f"{dataset.project}.{dataset.name}.s")
    table.labels = {"team": "polls"}
    dataset.client.update_table(table, ["labels"])
    dataset.load([keyed("a"), *copy(1, (1, 7, "y"), n=2)])
    assert labels(dataset) == with_mark({"team": "polls"}, mark_of("s", ["a"]))
    assert alive(dataset) == [(1, 7, "y")]


@pytest.mark.parametrize(
    "mark",
    [Mark("s"), mark_of('A "b"\n', ("x]", 'Y"')), mark_of("s", ()), mark_of("é" * 900, "b", -17)],
)
def test_a_mark_is_read_as_it_was_written_and_fits_into_labels(mark: Mark) -> None:
    written = with_mark({"team": "polls"}, mark)
    assert labelled_mark(written) == mark
    assert labelled_mark(with_mark(with_mark(written, mark_of("s", "k", 5)), mark)) == mark
    assert all(re.fullmatch(r"[a-z0-9_-]{0,63}", value) for value in written.values())
    assert labelled_mark({"team": "polls"}) is None
    assert labelled_mark({**written, FLOOR_LABEL: "soon"}) is not None


def test_a_mark_does_not_depend_on_the_order_and_case_of_the_key() -> None:
    assert mark_of("s", ("A", "b")) == mark_of("s", ("B", "a")) != mark_of("S", ("a", "b"))
    assert mark_of("s", ("a", "b")) != mark_of("s", ("ab",))
