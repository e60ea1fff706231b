"""Copies a table with dlt. Runs in an environment of its own, without this project.

Anonymous credentials, resumable uploads and no compression are what the emulator needs; the rest is
as dlt's documentation has it: https://dlthub.com/docs/dlt-ecosystem/verified-sources/sql_database
"""

import importlib
import os
import sys
from typing import Any

google_auth: Any = importlib.import_module("google.auth")
anonymous: Any = importlib.import_module("google.auth.credentials").AnonymousCredentials
google_auth.default = lambda *_, **__: (anonymous(), "sandbox")
bigquery: Any = importlib.import_module("google.cloud.bigquery")
dlt: Any = importlib.import_module("dlt")
sql_table: Any = importlib.import_module("dlt.sources.sql_database").sql_table
upload = bigquery.Client.load_table_from_file


def resumable(self: Any, *args: Any, **options: Any) -> Any:
    """Leave the size out: with it, small files go up in one piece, which the emulator refuses."""
    options.pop("size", None)
    return upload(self, *args, **options)


bigquery.Client.load_table_from_file = resumable
os.environ["DATA_WRITER__DISABLE_COMPRESSION"] = "true"
backend, table, dataset, home = sys.argv[1:]
pipeline = dlt.pipeline(
    pipeline_name="bench",
    pipelines_dir=home,
    destination=dlt.destinations.bigquery(project_id="sandbox", autodetect_schema=False),
    dataset_name=dataset,
)
rows = sql_table(
    os.environ["PEER_DATABASE_URL"], table=table, backend=backend, reflection_level="full"
)
# It can't load JSON from Parquet, so the column becomes a text there, as its error message suggests
# no better. Its default, SQLAlchemy, writes lines of JSON.
if backend != "sqlalchemy":
    rows.apply_hints(columns={"doc": {"data_type": "text"}})
print(pipeline.run(rows))
