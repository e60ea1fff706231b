"""Releases: a dependent table, one request series per repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import typing as th

from tap_oso_example.github.client import PER_PAGE, GitHubStream
from tap_oso_example.github.repositories import GitHubRepositories
from tap_oso_example.rest import new_since

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from singer_sdk.helpers.types import Context


def author_login(release: dict[str, Any]) -> str | None:
    """Return the account that made the release."""
    return (release.get("author") or {}).get("login")


class GitHubReleases(GitHubStream):
    """The releases of each repository.

    https://docs.github.com/en/rest/releases/releases#list-releases
    """

    name = "github_releases"
    path = "/repos/{org}/{repo}/releases"
    parent_stream_type = GitHubRepositories
    primary_keys: ClassVar[list[str]] = ["id"]
    replication_key = "published_at"
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("id", th.IntegerType, required=True, description="GitHub's identifier."),
        th.Property("org", th.StringType, description="Organization of the repository."),
        th.Property("repo", th.StringType, description="Name of the repository."),
        th.Property("tag_name", th.StringType, description="Git tag."),
        th.Property("name", th.StringType, description="Title."),
        th.Property("body", th.StringType, description="Notes, as Markdown."),
        th.Property("author", th.StringType, description="Account that made the release."),
        th.Property("html_url", th.StringType, description="Page of the release."),
        th.Property("draft", th.BooleanType, description="Whether it is not published yet."),
        th.Property("prerelease", th.BooleanType, description="Whether it is a preview."),
        th.Property("created_at", th.DateTimeType, description="Time of the tagged commit."),
        th.Property("published_at", th.DateTimeType, description="Time of publication."),
    ).to_dict()
    resolvers: ClassVar[Mapping[str, Callable[[dict[str, Any]], Any]]] = {"author": author_login}

    def request_records(self, context: Context | None) -> Iterable[dict[str, Any]]:
        """Return the releases published since the bookmark of the repository.

        GitHub orders by the time of the tagged commit, so one from an old branch comes late in the
        list: only after nearly a page without news is the rest taken as old.
        """
        rows = super().request_records(context)
        since = self.get_starting_timestamp(context)
        return new_since(rows, "published_at", since, patience=PER_PAGE - 1)

    def may_be_missing(self, context: Context | None) -> bool:  # noqa: ARG002
        """A repository can be deleted after it was listed."""
        return True
