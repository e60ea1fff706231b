"""Repositories: a multiplexed table, one partition per organization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import typing as th

from tap_oso_example.github.client import GitHubStream
from tap_oso_example.rest import new_since, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from singer_sdk.helpers.types import Context, Record


def license_id(repository: dict[str, Any]) -> str | None:
    """Return the SPDX identifier of the license, or `None` without a known license."""
    return (repository.get("license") or {}).get("spdx_id")


class GitHubRepositories(GitHubStream):
    """The public repositories of each organization.

    https://docs.github.com/en/rest/repos/repos#list-organization-repositories
    """

    name = "github_repositories"
    path = "/orgs/{org}/repos"
    primary_keys: ClassVar[list[str]] = ["id"]
    replication_key = "updated_at"
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("id", th.IntegerType, required=True, description="GitHub's identifier."),
        th.Property("org", th.StringType, description="Organization, as in the settings."),
        th.Property("name", th.StringType, description="Name within the organization."),
        th.Property("full_name", th.StringType, description="Organization and name."),
        th.Property("description", th.StringType, description="What it says of itself."),
        th.Property("html_url", th.StringType, description="Page of the repository."),
        th.Property("language", th.StringType, description="Main programming language."),
        th.Property("license", th.StringType, description="SPDX identifier of the license."),
        th.Property("topics", th.ArrayType(th.StringType), description="Topics."),
        th.Property("default_branch", th.StringType, description="Default branch."),
        th.Property("fork", th.BooleanType, description="Whether it is a fork."),
        th.Property("archived", th.BooleanType, description="Whether it is read-only."),
        th.Property("stargazers_count", th.IntegerType, description="Number of stars."),
        th.Property("forks_count", th.IntegerType, description="Number of forks."),
        th.Property("open_issues_count", th.IntegerType, description="Open issues and pulls."),
        th.Property("created_at", th.DateTimeType, description="Time of creation."),
        th.Property("updated_at", th.DateTimeType, description="Time of the last change."),
        th.Property("pushed_at", th.DateTimeType, description="Time of the last push."),
    ).to_dict()
    resolvers: ClassVar[Mapping[str, Callable[[dict[str, Any]], Any]]] = {"license": license_id}

    @property
    def partitions(self) -> list[dict[str, Any]]:
        """One partition per organization."""
        return [{"org": org} for org in self.config["organizations"]]

    def first_page(self) -> dict[str, Any]:
        """Ask for the last changed first, so that a run can stop at what it knows."""
        return {**super().first_page(), "sort": "updated", "direction": "desc"}

    def request_records(self, context: Context | None) -> Iterable[dict[str, Any]]:
        """Return the repositories changed since the bookmark; all of them for their releases."""
        rows = super().request_records(context)
        if self.has_selected_descendents:
            return rows
        return new_since(rows, "updated_at", self.get_starting_timestamp(context), patience=1)

    def get_records(self, context: Context | None) -> Iterable[Record]:
        """Return the changed repositories of an organization, and announce all for their releases.

        A new release does not change the repository's `updated_at`.
        """
        since = self.get_starting_timestamp(context)
        for record in super().get_records(context):
            if since is None or parse_time(record["updated_at"]) >= since:
                yield record
            else:
                self._sync_children(self.get_child_context(record, context))

    def get_child_context(
        self,
        record: Record,
        context: Context | None,  # noqa: ARG002
    ) -> Context:
        """Return what names the repository in a path of the API."""
        return {"org": record["org"], "repo": record["name"]}
