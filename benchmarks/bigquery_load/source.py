"""The input: one stream of 10 columns, about 400 bytes a record, a STATE every 10,000."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sandbox.singer import INTEGER, MOMENT, NUMBER, OBJECT, TEXT, decimal, schema, state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STREAM = "votes"
WORDS = [
    "lorem",
    "ipsum",
    "dolor",
    "sit",
    "amet",
    "consectetur",
    "adipiscing",
    "elit",
    "sed",
    "do",
    "eiusmod",
]
PROPERTIES = {
    "id": INTEGER,
    "project_id": INTEGER,
    "amount": decimal(38, 9),
    "score": NUMBER,
    "valid": {"type": ["boolean", "null"]},
    "title": TEXT,
    "body": TEXT,
    "tags": OBJECT,
    "created_at": MOMENT,
    "day": {"type": ["string", "null"], "format": "date"},
}


def write(path: Path, records: int) -> None:
    """Write the input file."""
    with path.open("w") as file:
        file.writelines(f"{line}\n" for line in messages(records))


def messages(records: int) -> Iterator[str]:
    """Yield the lines."""
    yield json.dumps(schema(STREAM, PROPERTIES))
    for n in range(records):
        day = f"2024-{n % 12 + 1:02d}-{n % 28 + 1:02d}"
        body = " ".join(WORDS[(n + k) % len(WORDS)] for k in range(12))
        yield (
            f'{{"type":"RECORD","stream":"{STREAM}","record":{{"id":{n},"project_id":{n % 5000},'
            f'"amount":"{n * 7919 % 10**12}.{n % 10**9:09d}","score":{n * 0.37!r},'
            f'"valid":{"true" if n % 3 else "false"},"title":"{WORDS[n % len(WORDS)]} {n}",'
            f'"body":"{body}","tags":{{"k":"v{n % 100}","n":[1,2,{n % 7}]}},'
            f'"created_at":"{day}T{n % 24:02d}:{n % 60:02d}:{n % 60:02d}.{n % 10**6:06d}Z",'
            f'"day":"{day}"}},"time_extracted":"2024-05-01T00:00:00.000000Z"}}'
        )
        if n % 10_000 == 9_999:
            yield json.dumps(state({"id": n}))
