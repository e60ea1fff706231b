"""The state: what is kept, what Meltano's merging makes of it, and what damage leads to."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from meltano.core.utils import merge

from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.facts import PartFacts, TableFacts
from tap_postgres_cdc.positions import Snapshot
from tap_postgres_cdc.state import Bookmark, Handoff, SlotState, State
from tap_postgres_cdc.tap import TapPostgresCDC, read_state

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Source

FACTS = TableFacts(
    table=16_400,
    membership="abcdef",
    key="ghijkl",
    attributes=12,
    columns={number: f"N{number:02}F{number:02}" for number in range(1, 11)},
    gone=frozenset(),
    newest_label=0,
    attribute_changes="mnopqr",
    parts={16_400: PartFacts(16_400, 16_403, "")},
)
HANDOFF = Handoff(Snapshot(700, 712, frozenset({705, 711})), 0x2A14FD0)


def slot() -> SlotState:
    return SlotState("oso_slot", "7710659744937792580", 16384, 1, 0x2A04F90, 0x2AF86B0, 700)


def bookmarks() -> dict[str, Bookmark]:
    """Every kind: new, begun, copied, stale, partitioned; in and after the hand-off."""
    part = PartFacts(16_500, 0, "wxyz")
    parted = TableFacts(**{**vars(FACTS), "parts": {**FACTS.parts, 16_500: part}})
    sparse = TableFacts(
        **{**vars(FACTS), "columns": {2: "AAABBB", 9: "CCCDDD"}, "gone": frozenset({"EEE", "FFF"})}
    )
    return {
        "new": Bookmark(1, FACTS, {}, HANDOFF),
        "begun": Bookmark(2, parted, {16_400: 128, 16_500: None}, HANDOFF),
        "handing_off": Bookmark(3, FACTS, None, HANDOFF),
        "copied": Bookmark(4, sparse),
        "stale": Bookmark(5, FACTS, is_stale=True),
        "no_columns": Bookmark(6, TableFacts(**{**vars(FACTS), "columns": {}, "parts": {}})),
    }


# As version 0.1 kept it, with what Meltano would not take out.
EARLIER = {
    "bookmarks": {
        "t": {
            "snapshot": {"done": True, "xids": "700:712:705,711", "until": "0/2A14FD0"},
            "version": 1,
            "table": 16400,
            "key": ["id"],
            "membership": "16390:16391",
            "attributes": 2,
            "columns": {"1": ["id", 23], "2": ["n", 23]},
            "parts": {"16400": 16400},
        },
    },
    "slot": {
        "name": "oso_slot",
        "system_identifier": "7710659744937792580",
        "timeline": 1,
        "confirmed_lsn": "0/2A04F90",
    },
}


def through_json(state: State) -> dict[str, Any]:
    return dict(json.loads(json.dumps(state.to_dict())))


def merged(newer: State, older: dict[str, Any]) -> Any:
    """What Meltano keeps: objects member by member, anything else as it came last."""
    return merge(through_json(newer), older)  # type: ignore[no-untyped-call]


def test_state_is_read_as_it_was_written() -> None:
    state = State(slot(), bookmarks())
    assert State.parse(through_json(state)) == state
    assert State.parse(through_json(State())) == State() == State.parse({})


def test_bookmark_of_ten_columns_is_small() -> None:
    """Of a table that is copied, as all are most of the time."""
    with_one, with_two = (
        State(slot(), {f"a_table_{i}": Bookmark(1_795_277_874_261, FACTS) for i in range(count)})
        for count in (1, 2)
    )
    # Without white space, as the tap writes it.
    sizes = [len(msgspec.json.encode(state.to_dict())) for state in (with_one, with_two)]
    assert sizes[1] - sizes[0] < 200


def test_refresh_merged_into_any_older_state_leaves_what_it_says() -> None:
    """No table counts as copied that is not: neither those that it has, nor those it has not."""
    kinds = [None, *bookmarks().values()]
    older = [through_json(State(slot(), {"t": kind, "u": kind})) for kind in kinds if kind]
    for before, after in itertools.product([EARLIER, {}, *older], kinds):
        newer = State(slot(), {"t": after} if after else {})
        assert State.parse(merged(newer, copy.deepcopy(before))) == newer


def test_state_merged_into_one_of_the_same_run_leaves_what_it_says() -> None:
    kept = slot()
    for before, after in itertools.product(bookmarks().values(), repeat=2):
        older, newer = State(kept, {"t": before}), State(kept, {"t": after})
        assert State.parse(merged(newer, through_json(older))) == newer


Damage = Callable[[dict[str, Any]], Any]


def put(value: Any, *path: str) -> Damage:
    """Damage that puts a value in the place of another."""

    def change(state: dict[str, Any]) -> Any:
        *outer, last = path
        inner = state
        for name in outer:
            inner = inner[name]
        inner[last] = value
        return state

    return change


def drop(*path: str) -> Damage:
    def change(state: dict[str, Any]) -> Any:
        *outer, last = path
        inner = state
        for name in outer:
            inner = inner[name]
        del inner[last]
        return state

    return change


def edit(old: str, new: str, *path: str) -> Damage:
    """Damage that replaces part of a text."""

    def change(state: dict[str, Any]) -> Any:
        *outer, last = path
        inner = state
        for name in outer:
            inner = inner[name]
        text = inner[last]
        assert old in text
        inner[last] = text.replace(old, new, 1)
        return state

    return change


MEMBERS = {
    "slot": (
        "name",
        "system_identifier",
        "database",
        "timeline",
        "confirmed_lsn",
        "seen_lsn",
        "oldest_xid",
        "epoch",
    ),
    "bookmark": ("version", "copied", "handoff", "catalog"),
}
T = ("bookmarks", "t")
WRONG: dict[str, Damage] = {
    **{f"without slot.{name}": drop("slot", name) for name in MEMBERS["slot"]},
    **{f"null slot.{name}": put(None, "slot", name) for name in MEMBERS["slot"]},
    **{f"nested slot.{name}": put({"x": 1}, "slot", name) for name in MEMBERS["slot"]},
    **{f"without {name}": drop(*T, name) for name in MEMBERS["bookmark"]},
    **{f"nested {name}": put({"x": 1}, *T, name) for name in MEMBERS["bookmark"]},
    **{f"number as {name}": put(7, *T, name) for name in MEMBERS["bookmark"] if name != "version"},
    "null version": put(None, *T, "version"),
    "null copied": put(None, *T, "copied"),
    "null catalog": put(None, *T, "catalog"),
    "empty catalog": put("", *T, "catalog"),
    "short catalog": put("16400 abcdef", *T, "catalog"),
    "text as version": put("x", *T, "version"),
    "negative version": put(-1, *T, "version"),
    "huge version": put(10**30, *T, "version"),
    "text as copied": put("x", *T, "copied"),
    "negative block": put("16400:-1", *T, "copied"),
    "huge block": put("16400:99999999999", *T, "copied"),
    "text as handoff": put("x", *T, "handoff"),
    "half a handoff": put("700:712:", *T, "handoff"),
    "negative transactions": put("-700:-712: 0/1", *T, "handoff"),
    "without slot": drop("slot"),
    "null slot": put(None, "slot"),
    "empty slot": put({}, "slot"),
    "list as slot": put([], "slot"),
    "text as slot": put("x", "slot"),
    "without bookmarks": drop("bookmarks"),
    "null bookmarks": put(None, "bookmarks"),
    "list as bookmarks": put([1], "bookmarks"),
    "text as bookmarks": put("x", "bookmarks"),
    "text as bookmark": put("x", *T),
    "list as bookmark": put([], *T),
    "null bookmark": put(None, *T),
    "text as database": put("x", "slot", "database"),
    "negative database": put(-1, "slot", "database"),
    "huge database": put(10**30, "slot", "database"),
    "negative timeline": put(-1, "slot", "timeline"),
    "huge timeline": put(10**30, "slot", "timeline"),
    "negative position": put("-1/0", "slot", "confirmed_lsn"),
    "huge position": put("FFFFFFFFFFFFFFFF/0", "slot", "confirmed_lsn"),
    "number as position": put(5, "slot", "confirmed_lsn"),
    "no position": put("x/y", "slot", "seen_lsn"),
    "huge position seen": put("FFFFFFFFFFFFFFFF/0", "slot", "seen_lsn"),
    "negative transaction": put(-1, "slot", "oldest_xid"),
    "huge transaction": put(10**30, "slot", "oldest_xid"),
    "as meltano state get has it": lambda state: {"singer_state": state},
    "within a message": lambda state: {"type": "STATE", "value": state},
    "of an earlier version": lambda _: EARLIER,
    "of a tap by the SDK": lambda _: {
        "bookmarks": {"t": {"replication_key": "id", "replication_key_value": 3}}
    },
    "of a tap by Singer": lambda _: {"currently_syncing": "t", "bookmarks": {}},
    "of pipelinewise": lambda _: {
        "currently_syncing": None,
        "bookmarks": {"public-t": {"last_replication_method": "LOG_BASED", "lsn": 108197216}},
    },
    "of Airbyte": lambda _: [{"type": "STREAM", "stream": {"stream_descriptor": {"name": "t"}}}],
    "a number": lambda _: 5,
    "a text": lambda _: "x",
    "null": lambda _: None,
}


def test_damaged_or_foreign_state_is_refused_in_one_line(embedded: Source) -> None:
    """Never a traceback, and never a copy of everything."""
    embedded.sql("CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1)")
    embedded.publish()
    embedded.run()
    file = embedded.folder / "state.json"
    good = json.dumps(embedded.state)
    texts = {name: json.dumps(damage(json.loads(good))) for name, damage in WRONG.items()}
    texts |= {"truncated": good[:-20], "empty": "", "bytes": "\ufffd", "two": good + good}
    wrong = []
    for name, text in texts.items():
        file.write_text(text)
        if said := wrong_with_refusal(embedded, file):
            wrong.append(f"{name}: {said}")
    assert not wrong, "\n".join(wrong)


def wrong_with_refusal(source: Source, file: Path) -> str:
    """What is wrong with how the state in a file is refused, empty if nothing."""
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    try:
        with contextlib.redirect_stdout(stdout), file.open() as given:
            TapPostgresCDC(config=source.config, state=read_state(given)).sync_all()
    except CaptureError as error:
        is_good = "\n" not in error.message and "state" in error.message
        said = "" if is_good else error.message
    except Exception as error:  # noqa: BLE001 - it would be a traceback
        said = f"{type(error).__name__}: {error}"
    else:
        said = "not refused"
    stdout.seek(0)
    kinds = [json.loads(line)["type"] for line in stdout]
    return said or (f"written: {kinds}" if kinds else "")
