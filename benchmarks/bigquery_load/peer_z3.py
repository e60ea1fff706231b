"""Runs z3-target-bigquery against the emulator, in an environment of its own.

Three changes make that possible, none of which costs the peer time: anonymous credentials, load
jobs that are sent as they were before gzip, and no qualified columns in UPDATE SET, which the
emulator does not read.
"""

import importlib
import io
import re
import sys
from typing import Any

google_auth: Any = importlib.import_module("google.auth")
anonymous: Any = importlib.import_module("google.auth.credentials").AnonymousCredentials
google_auth.default = lambda *_, **__: (anonymous(), "bench")
bigquery: Any = importlib.import_module("google.cloud.bigquery")
batch_job: Any = importlib.import_module("target_bigquery.batch_job")
send_query = bigquery.Client.query


class PlainCopy(batch_job.Compressor):  # type: ignore[misc]  # not installed here
    """The peer's gzip compressor; it keeps what it was given, as the emulator reads no gzip."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = io.BytesIO()

    def write(self, data: bytes) -> None:
        """Compress and copy."""
        super().write(data)
        self.plain.write(data)

    def getvalue(self) -> bytes:
        """Return what was written."""
        super().getvalue()
        return self.plain.getvalue()

    def getbuffer(self) -> memoryview:
        """Return what was written."""
        super().getbuffer()
        return self.plain.getbuffer()


def query(self: Any, sql: str, *args: Any, **options: Any) -> Any:
    """Send a query without the qualifiers that the emulator refuses."""
    sql = re.sub(
        r"(UPDATE\s+SET)(.*?)(WHEN|$)",
        lambda match: match[1] + re.sub(r"target\.(?=\S+\s*=)", "", match[2]) + match[3],
        sql,
        flags=re.IGNORECASE | re.DOTALL,
    )
    return send_query(self, sql, *args, **options)


batch_job.Compressor = PlainCopy
bigquery.Client.query = query
sys.argv[0] = "target-bigquery"
importlib.import_module("target_bigquery.target").TargetBigQuery.cli()
