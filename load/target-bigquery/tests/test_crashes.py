"""Property: whatever is killed and when, the tables end as a simple model says.

A random log of messages over several streams is loaded by processes that are killed (SIGKILL) at
random instants, each starting from the last STATE that came out. The undisturbed last run has to
leave what the model has after one pass. OSO_CRASH_ROUNDS sets the number of rounds for each delete
mode.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sandbox.singer import INTEGER, MOMENT, OBJECT, TEXT, activate, decimal, record, schema, state

ROUNDS = int(os.environ.get("OSO_CRASH_ROUNDS", "1"))
SEED = int(os.environ.get("OSO_CRASH_SEED", "0"))
DELETED = "_ab_cdc_deleted_at"
BASE = {"a": TEXT, "b": INTEGER, "c": decimal(20, 4), "d": OBJECT}
Row = dict[str, Any]


@dataclass
class Source:
    """One stream: writes messages and, as the model, keeps the rows they should end in."""

    name: str
    random: random.Random
    hard: bool
    ordered: bool
    keep: bool
    text_key: bool = False
    versions: bool = False
    extra: int = 0
    order: int = 0
    version: int | None = None
    rows: dict[Any, Row] = field(default_factory=dict)

    def properties(self) -> dict[str, Any]:
        added = {f"x{n}": TEXT for n in range(self.extra)}
        key = {"id": TEXT, "k": INTEGER} if self.text_key else {"id": INTEGER}
        return {**key, **BASE, DELETED: MOMENT, "_ab_cdc_lsn": INTEGER, "n": INTEGER, **added}

    def schema(self) -> Row:
        keys = ("id", "k") if self.text_key else ("id",)
        return schema(self.name, self.properties(), keys, "n" if self.ordered else None)

    def write(self) -> Iterator[Row]:
        choice = self.random.random()
        if choice < 0.01 and self.extra < 4:
            self.extra += 1
            yield self.schema()
        elif choice < 0.03 and self.versions:
            yield from self.replace()
        else:
            yield self.change()

    def change(self) -> Row:
        key = self.random.randrange(25)
        values: Row = {"id": f"é{key // 2}", "k": key % 2} if self.text_key else {"id": key}
        self.order += self.random.choice([0, 1, 1, 2])
        values["n"] = self.order
        if self.ordered and not self.hard and self.random.random() < 0.1:
            values["n"] = max(0, self.order - self.random.randrange(40))  # comes late
        values["_ab_cdc_lsn"] = self.random.randrange(10**9)
        if self.random.random() < 0.2:
            values[DELETED] = f"2024-01-01T00:00:{self.random.randrange(60):02d}Z"
            if self.random.random() < 0.3:
                values["a"] = "not to be seen"
        else:
            values |= self.some_values()
        self.apply(values)
        return record(self.name, values, self.version)

    def some_values(self) -> Row:
        pick = self.random
        values: Row = {
            "a": pick.choice([None, "", 'ü\n"x"', "plain", "😀" * pick.randrange(5)]),
            "b": pick.choice([None, pick.randrange(-(2**63), 2**63)]),
            "c": pick.choice([None, f"{pick.randrange(10**15)}.{pick.randrange(10**4):04d}"]),
            "d": pick.choice([None, {"z": pick.randrange(100), "a": ["é", None]}]),
            **{f"x{n}": pick.choice([None, f"v{pick.randrange(1000)}"]) for n in range(self.extra)},
        }
        missing = 0.5 if self.keep else 0.05
        return {name: value for name, value in values.items() if pick.random() >= missing}

    def replace(self) -> Iterator[Row]:
        """Copy the table anew under a new version, as a full refresh does."""
        self.version = (self.version or 0) + 1
        for _ in range(self.random.randrange(8)):
            yield self.change()
        for key, row in list(self.rows.items()):
            if row["version"] is None or row["version"] < self.version:
                if self.hard:
                    del self.rows[key]
                else:
                    row["deleted"] = True
        yield activate(self.name, self.version)

    def apply(self, values: Row) -> None:
        key = (values["id"], values.get("k"))
        stored = self.rows.get(key)
        if self.ordered and stored is not None and values["n"] < stored["n"]:
            return
        deleted = DELETED in values
        if deleted and self.hard:
            self.rows.pop(key, None)
            return
        head = {DELETED, "_ab_cdc_lsn", *(["n"] if self.ordered else [])}
        names = [name for name in self.properties() if name not in head]
        row = dict.fromkeys(names) | (stored or {})
        if deleted:
            row |= {"id": key[0]} | ({"k": key[1]} if self.text_key else {})
        elif self.keep:
            row |= {name: values[name] for name in names if name in values}
        else:
            row |= {name: values.get(name) for name in names}
        row |= {name: values[name] for name in head if name != DELETED}
        self.rows[key] = row | {"deleted": deleted, "version": self.version}

    def expected(self) -> list[tuple[Any, ...]]:
        return sorted((self.comparable(row) for row in self.rows.values()), key=repr)

    def comparable(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        names = [name for name in self.properties() if name != DELETED]
        return (*(normal(row.get(name)) for name in names), row["deleted"], row["version"])


def normal(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, Decimal) or (isinstance(value, str) and value[:1].isdigit()):
        return f"{Decimal(value):.4f}"
    return value


def make_log(sources: list[Source], pick: random.Random, length: int) -> list[Row]:
    log = [source.schema() for source in sources]
    while len(log) < length:
        log.extend(pick.choice(sources).write())
        if pick.random() < 0.05:
            log.append(state({"at": len(log) + 1}))
    return [*log, state({"at": len(log) + 1})]


def rest_of(log: list[Row], at: int) -> list[Row]:
    """Return what a tap writes that resumes there: the schemas as they are, then the rest."""
    schemas = {message["stream"]: message for message in log[:at] if message["type"] == "SCHEMA"}
    return [*schemas.values(), *log[at:]] if at else log


def run_and_kill(
    dataset: Any, messages: list[Row], path: Path, delay: float | None, settings: Row
) -> tuple[list[int], int]:
    """Load the messages in a process, kill it after `delay` seconds.

    Return the states and the exit code.
    """
    path.write_text("".join(json.dumps(message) + "\n" for message in messages))
    command = [str(Path(sys.executable).with_name("target-bigquery")), "--config", "ENV"]
    with path.open() as source, path.with_suffix(".log").open("a") as errors:
        process = subprocess.Popen(
            command,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=dataset.process_environ(**settings),
            text=True,
        )
        if delay is not None:
            try:
                process.wait(delay)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        out, _ = process.communicate(timeout=300)
    return [
        json.loads(line)["at"] for line in out.splitlines() if line.endswith("}")
    ], process.returncode


@pytest.mark.timeout(0)
@pytest.mark.parametrize("round_number", range(ROUNDS))
@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_killed_runs_end_in_the_models_tables(
    dataset: Any, tmp_path: Path, mode: str, round_number: int
) -> None:
    seed = SEED + round_number
    pick = random.Random(f"{mode}{seed}")
    hard = mode == "hard"
    sources = [
        Source("ordered", pick, hard, ordered=True, keep=False),
        Source("arrival", pick, hard, ordered=False, keep=False, text_key=True, versions=True),
        Source("partial", pick, hard, ordered=True, keep=True, text_key=True),
        Source("partial_arrival", pick, hard, ordered=False, keep=True),
        Source("versioned", pick, hard, ordered=True, keep=False, versions=True),
    ]
    log = make_log(sources, pick, pick.randrange(300, 700))
    settings: Row = {"delete_mode": mode, "missing_properties": {"partial*": "keep"}}
    at, kills = 0, 0
    for _ in range(pick.randrange(3, 7)):
        settings |= {
            "flush_rows": pick.choice([40, 150, 400]),
            "flush_seconds": pick.choice([1, 60]),
        }
        messages = rest_of(log, at)
        started = time.monotonic()
        states, code = run_and_kill(
            dataset, messages, tmp_path / "in", pick.uniform(1, 9), settings
        )
        assert code in {0, -signal.SIGKILL}, (tmp_path / "in.log").read_text()[-3000:]
        assert states == sorted(states), "states go forward"
        kills += code != 0
        at = states[-1] if states else at
        print(
            f"seed {seed}: at {at} of {len(log)}, {time.monotonic() - started:.1f} s, exit {code}"
        )
    settings |= {"flush_rows": pick.choice([150, 100_000])}
    left = set(dataset.tables())  # staging tables of killed runs too: they go when they are old
    states, code = run_and_kill(dataset, rest_of(log, at), tmp_path / "in", None, settings)
    assert code == 0, (tmp_path / "in.log").read_text()[-3000:]
    assert (states or [at])[-1] == len(log)
    print(f"seed {seed}: {kills} kills")
    for source in sources:
        assert stored_rows(dataset, source) == source.expected(), (
            f"seed {seed}, stream {source.name}"
        )
        dataset.assert_unique(source.name, *(("id", "k") if source.text_key else ("id",)))
    assert {name for name in dataset.tables() if name.startswith("_sdc_staging")} <= left


def stored_rows(dataset: Any, source: Source) -> list[tuple[Any, ...]]:
    columns = dataset.types(source.name)
    marks = [f"{name} IS NOT NULL" for name in ("_sdc_deleted_at", DELETED) if name in columns]
    rows = dataset.query(
        f"SELECT *, {' OR '.join(marks)} AS deleted, _sdc_table_version AS version "
        f"FROM `{{d}}.{source.name}`"
    )
    return sorted((source.comparable(row) for row in rows), key=repr)
