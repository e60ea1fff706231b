"""Loads a Singer file with dlt. Runs in an environment of its own, without this project.

The records are read with orjson, in pages. Anonymous credentials and resumable uploads are what the
emulator needs.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

google_auth: Any = importlib.import_module("google.auth")
anonymous: Any = importlib.import_module("google.auth.credentials").AnonymousCredentials
google_auth.default = lambda *_, **__: (anonymous(), "bench")
bigquery: Any = importlib.import_module("google.cloud.bigquery")
dlt: Any = importlib.import_module("dlt")
loads: Any = importlib.import_module("orjson").loads
upload = bigquery.Client.load_table_from_file
PAGE = 10_000


def resumable(self: Any, *args: Any, **options: Any) -> Any:
    """Leave the size out: with it, small files go up in one piece, which the emulator refuses."""
    options.pop("size", None)
    return upload(self, *args, **options)


def records(path: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the records of a Singer file in pages."""
    page: list[dict[str, Any]] = []
    with Path(path).open("rb") as lines:
        for line in lines:
            message = loads(line)
            if message["type"] == "RECORD":
                page.append(message["record"])
                if len(page) == PAGE:
                    yield page
                    page = []
    yield page


bigquery.Client.load_table_from_file = resumable
source, dataset, mode, home = sys.argv[1:]
os.environ["DATA_WRITER__DISABLE_COMPRESSION"] = "true"
columns = {
    "amount": {"data_type": "decimal", "precision": 38, "scale": 9},
    "created_at": {"data_type": "timestamp"},
    "day": {"data_type": "date"},
    "tags": {"data_type": "json"},
}
pipeline = dlt.pipeline(
    pipeline_name=dataset,
    pipelines_dir=home,
    destination=dlt.destinations.bigquery(project_id="bench", autodetect_schema=False),
    dataset_name=dataset,
)
votes = dlt.resource(
    records(source),
    name="votes",
    primary_key="id",
    write_disposition="append"
    if mode == "append"
    else {"disposition": "merge", "strategy": "upsert"},
    columns=columns,
)
print(pipeline.run(votes, loader_file_format=os.environ.get("DLT_FORMAT", "jsonl")))
