"""What a job is given along, from the settings: labels, a limit of bytes, a key.

Labels are in `INFORMATION_SCHEMA.JOBS` and in the bill, so cost can be told by stream and run.
https://cloud.google.com/bigquery/docs/adding-labels#adding-label-to-job
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from google.cloud import bigquery

from target_bigquery.settings import LONGEST_LABEL, Settings

_stream: ContextVar[str] = ContextVar("stream", default="")


@contextmanager
def working_for(stream: str) -> Iterator[None]:
    """Have the jobs that are sent meanwhile labelled with the stream's name."""
    token = _stream.set(stream)
    try:
        yield
    finally:
        _stream.reset(token)


# A project can have another, and moments and texts would be cast by it.
_UTC = bigquery.ConnectionProperty("time_zone", "UTC")


def query_config(settings: Settings, run: str) -> bigquery.QueryJobConfig:
    """Return what a statement runs with."""
    config = bigquery.QueryJobConfig(labels=_labels(settings, run), connection_properties=[_UTC])
    if settings.maximum_bytes_billed:
        config.maximum_bytes_billed = settings.maximum_bytes_billed
    return config


def load_config(
    settings: Settings, run: str, columns: Iterable[bigquery.SchemaField]
) -> bigquery.LoadJobConfig:
    """Return what a file is loaded with: it replaces what its table has."""
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.PARQUET,
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        schema=list(columns),
        labels=_labels(settings, run),
    )
    config.destination_encryption_configuration = encryption(settings)
    return config


def encryption(settings: Settings) -> bigquery.EncryptionConfiguration | None:
    """Return what new tables are encrypted with, None for a key of Google's own."""
    key = settings.kms_key_name
    return bigquery.EncryptionConfiguration(key) if key else None


def _labels(settings: Settings, run: str) -> dict[str, str]:
    labels = {**settings.job_labels, "run": run}
    if stream := _stream.get():
        labels["stream"] = re.sub(r"[^a-z0-9_-]", "_", stream.lower())[:LONGEST_LABEL]
    return labels
