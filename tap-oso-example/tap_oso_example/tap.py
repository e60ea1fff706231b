"""The tap: its settings and its streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import typing as th

from tap_oso_example.github.releases import GitHubReleases
from tap_oso_example.github.repositories import GitHubRepositories
from tap_oso_example.rest import ConcurrentTap
from tap_oso_example.xkcd.comics import XkcdComics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tap_oso_example.rest import ConcurrentStream

URL = "^https?://[^/]+"


class TapOSOExample(ConcurrentTap):
    """Singer tap for the XKCD and GitHub APIs: the example to copy for a new HTTP source."""

    name = "tap-oso-example"
    config_jsonschema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property(
            "xkcd_url",
            th.StringType(pattern=URL),
            default="https://xkcd.com",
            description="Address of the XKCD API.",
        ),
        th.Property(
            "github_url",
            th.StringType(pattern=URL),
            default="https://api.github.com",
            description="Address of the GitHub API.",
        ),
        th.Property(
            "organizations",
            th.ArrayType(th.StringType(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$")),
            default=[],
            description="GitHub organizations whose repositories and releases are wanted.",
        ),
        th.Property(
            "github_token",
            th.StringType(min_length=1),
            secret=True,
            description="GitHub token. Without one, GitHub allows 60 requests an hour.",
        ),
        th.Property(
            "concurrency",
            th.IntegerType(minimum=1, maximum=128),
            default=16,
            description="The most requests that are in flight at a time.",
        ),
        th.Property(
            "user_agent",
            th.StringType(min_length=1),
            default="tap-oso-example (+https://opensource.observer)",
            description="What the tap calls itself to the servers.",
        ),
    ).to_dict()

    def discover_streams(self) -> Sequence[ConcurrentStream]:
        """Return the streams of all services."""
        return [XkcdComics(self), GitHubRepositories(self), GitHubReleases(self)]
