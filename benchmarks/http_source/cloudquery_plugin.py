"""The example source as a CloudQuery plugin, and a runner: `python cloudquery_plugin.py SPEC`.

Runs in an environment of its own, where CloudQuery's Python SDK is. The plugin is laid out as
https://docs.cloudquery.io/docs/developers/creating-new-plugin/python-source shows it. The runner
syncs it in its own process, without the CLI, and writes each row as a line of JSON.
"""

# The environment that is checked does not have the SDK.
# mypy: disable-error-code="misc"

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import requests
import structlog
from cloudquery.sdk import plugin, schema
from cloudquery.sdk.message import SyncErrorMessage, SyncInsertMessage
from cloudquery.sdk.scheduler import Scheduler, TableResolver
from cloudquery.sdk.schema import Column, Resource, Table
from cloudquery.sdk.types import JSONType
from requests.adapters import HTTPAdapter
from urllib3 import Retry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NOT_FOUND_COMIC = 404
PER_PAGE = 100
SECONDS = pa.timestamp("s", tz="UTC")


@dataclass
class Spec:
    """What a run is told: addresses, tables, width of the scheduler, shards of the comics."""

    xkcd_url: str
    github_url: str
    tables: list[str]
    concurrency: int
    organizations: list[str] = field(default_factory=list)
    shards: int = 1


@dataclass(frozen=True)
class Client:
    """What a resolver asks the APIs with; a multiplexer makes one per organization or shard."""

    spec: Spec
    session: requests.Session
    organization: str = ""
    comics: Sequence[int] = ()

    def id(self) -> str:
        """Return what the SDK's log calls this client."""
        return f"{self.organization}{self.comics[:1]}"

    def comic(self, path: str) -> dict[str, Any] | None:
        """Return one comic, or `None` for the one that does not exist."""
        response = self.session.get(f"{self.spec.xkcd_url}{path}", timeout=60)
        if response.status_code == requests.codes.not_found:
            return None
        response.raise_for_status()
        comic: dict[str, Any] = response.json()
        return comic

    def pages(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list of the GitHub API, page after page."""
        url: str | None = f"{self.spec.github_url}{path}"
        params: dict[str, Any] | None = {"per_page": PER_PAGE, **query}
        while url:
            response = self.session.get(url, params=params, timeout=60)
            response.raise_for_status()
            yield from response.json()
            url, params = response.links.get("next", {}).get("url"), None


class Comics(Table):
    """All comics."""

    def __init__(self) -> None:
        texts = "title safe_title alt transcript img link news year month day"
        columns = [
            Column("num", pa.int64(), primary_key=True, not_null=True, incremental_key=True),
            *(Column(name, pa.string()) for name in texts.split()),
            Column("published_on", pa.date32()),
            Column("is_good", pa.bool_()),
        ]
        super().__init__("xkcd_comics", columns, is_incremental=True)

    @property
    def resolver(self) -> TableResolver:
        """Return what fetches this table."""
        return ComicsResolver(self)


class ComicsResolver(TableResolver):
    """Fetches comics one after the other, in as many shards as the spec says."""

    def multiplex(self, client: Client) -> list[Client]:
        """Return a client per shard."""
        latest = client.comic("/info.0.json")
        numbers = range(1, latest["num"] + 1) if latest else range(0)
        shards = client.spec.shards
        return [replace(client, comics=numbers[shard::shards]) for shard in range(shards)]

    def resolve(self, client: Client, parent_resource: None) -> Iterator[dict[str, Any]]:  # noqa: ARG002
        """Yield the comics of a shard."""
        for number in client.comics:
            comic = client.comic(f"/{number}/info.0.json")
            if comic is not None:
                yield comic
            elif number != NOT_FOUND_COMIC:
                raise ValueError(f"there is no comic {number}")

    def resolve_column(self, client: Client, resource: Resource, column_name: str) -> None:
        """Set a column: two of them are made from others."""
        comic = resource.item
        if column_name == "published_on":
            year, month, day = (int(comic[part]) for part in ("year", "month", "day"))
            # The SDK takes dates as datetimes only.
            resource.set(column_name, dt.datetime(year, month, day))  # noqa: DTZ001
        elif column_name == "is_good":
            resource.set(column_name, "XKCD" in comic["title"])
        else:
            super().resolve_column(client, resource, column_name)


class Repositories(Table):
    """Repositories, an organization at a time."""

    def __init__(self) -> None:
        columns = [
            Column("id", pa.int64(), primary_key=True, not_null=True),
            *_columns(pa.string(), "org name full_name description html_url language license"),
            # A list column breaks on writing in this version of the SDK.
            Column("topics", JSONType()),
            Column("default_branch", pa.string()),
            *_columns(pa.bool_(), "fork archived"),
            *_columns(pa.int64(), "stargazers_count forks_count open_issues_count"),
            *_columns(SECONDS, "created_at updated_at pushed_at"),
        ]
        super().__init__("github_repositories", columns, relations=[Releases()])

    @property
    def resolver(self) -> TableResolver:
        """Return what fetches this table and its releases."""
        return RepositoriesResolver(self, [table.resolver for table in self.relations])


class RepositoriesResolver(TableResolver):
    """Fetches the organizations at the same time."""

    def multiplex(self, client: Client) -> list[Client]:
        """Return a client per organization."""
        return [replace(client, organization=each) for each in client.spec.organizations]

    def resolve(self, client: Client, parent_resource: None) -> Iterator[dict[str, Any]]:  # noqa: ARG002
        """Yield the repositories of an organization."""
        path = f"/orgs/{client.organization}/repos"
        yield from client.pages(path, sort="updated", direction="desc")

    def resolve_column(self, client: Client, resource: Resource, column_name: str) -> None:
        """Set a column: two of them are made from others."""
        if column_name == "org":
            resource.set(column_name, client.organization)
        elif column_name == "license":
            resource.set(column_name, (resource.item["license"] or {}).get("spdx_id"))
        else:
            _set(resource, column_name)


class Releases(Table):
    """Releases, a repository at a time."""

    def __init__(self) -> None:
        columns = [
            Column("id", pa.int64(), primary_key=True, not_null=True),
            *_columns(pa.string(), "org repo tag_name name body author html_url"),
            *_columns(pa.bool_(), "draft prerelease"),
            *_columns(SECONDS, "created_at published_at"),
        ]
        super().__init__("github_releases", columns)

    @property
    def resolver(self) -> TableResolver:
        """Return what fetches this table."""
        return ReleasesResolver(self)


class ReleasesResolver(TableResolver):
    """Fetches the releases of a repository."""

    def resolve(self, client: Client, parent_resource: Resource) -> Iterator[dict[str, Any]]:
        """Yield the releases of the repository in `parent_resource`."""
        for row in client.pages(
            f"/repos/{client.organization}/{parent_resource.item['name']}/releases"
        ):
            yield {**row, "repo": parent_resource.item["name"]}

    def resolve_column(self, client: Client, resource: Resource, column_name: str) -> None:
        """Set a column: two of them are made from others."""
        if column_name == "org":
            resource.set(column_name, client.organization)
        elif column_name == "author":
            resource.set(column_name, (resource.item["author"] or {}).get("login"))
        else:
            _set(resource, column_name)


class ExamplePlugin(plugin.Plugin):
    """The source."""

    def __init__(self) -> None:
        super().__init__("oso-example", "1.0.0", plugin.plugin.Options(kind="source"))

    def init(self, spec: str, no_connection: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Prepare a sync."""
        settings = Spec(**json.loads(spec))
        session = requests.Session()
        # The server may close an idle connection just when it is used again.
        adapter = HTTPAdapter(pool_maxsize=settings.concurrency, max_retries=Retry(3))
        session.mount("http://", adapter)
        self._client = Client(settings, session)
        self._scheduler = Scheduler(settings.concurrency)

    def get_tables(self, options: plugin.TableOptions) -> list[Table]:
        """Return the tables asked for."""
        tables: list[Table] = [Comics(), Repositories()]
        for table in tables:
            for relation in table.relations:
                relation.parent = table
        wanted: list[Table] = schema.filter_dfs(tables, options.tables, [])
        return wanted

    def sync(self, options: plugin.SyncOptions) -> Iterator[Any]:
        """Yield the messages of a sync."""
        tables = self.get_tables(plugin.TableOptions(tables=options.tables))
        messages: Iterator[Any] = self._scheduler.sync(
            self._client, [table.resolver for table in tables], options.deterministic_cq_id
        )
        return messages


def _set(resource: Resource, column_name: str) -> None:
    """Set a column to the field of its name; the SDK takes 50 times as long to read a time."""
    value = resource.item[column_name]
    resource.set(column_name, pd.Timestamp(value) if column_name.endswith("_at") else value)


def _columns(kind: pa.DataType, names: str) -> list[Column]:
    return [Column(name, kind) for name in names.split()]


def _plain(value: Any) -> str:
    """Return a time, a date or the bytes of a JSON column as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def main() -> None:
    """Sync what the spec, a file of JSON, asks for; write the rows to standard output."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 the one file it needs
        spec = file.read()
    source = ExamplePlugin()
    source.init(spec)
    for message in source.sync(plugin.SyncOptions(tables=json.loads(spec)["tables"])):
        if isinstance(message, SyncErrorMessage):
            sys.exit(f"{message.table_name}: {message.error}")
        if isinstance(message, SyncInsertMessage):
            stream = message.record.schema.metadata[b"cq:table_name"].decode()
            [record] = message.record.to_pylist()
            line = json.dumps({"stream": stream, "record": record}, default=_plain)
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
