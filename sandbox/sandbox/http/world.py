"""What the local APIs know: comics, organizations, repositories and releases.

Everything is made up but follows from the numbers given, so two servers with the same numbers
answer alike. The forms are those of https://xkcd.com/json.html and
https://docs.github.com/en/rest/repos.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

EPOCH = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
MISSING_COMIC = 404
LICENSES = ("MIT", "Apache-2.0", "GPL-3.0", None)
LANGUAGES = ("Python", "Go", "TypeScript", "Rust", None)


def timestamp(minutes: int) -> str:
    """Minutes since the start of 2024 in GitHub's form, such as `2024-01-01T00:05:00Z`."""
    return (EPOCH + dt.timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def comic(number: int) -> dict[str, Any]:
    """Return comic `number` as `/{number}/info.0.json` gives it: numbers of dates are strings."""
    day = dt.date(2006, 1, 1) + dt.timedelta(days=number)
    title = f"XKCD in review {number}" if number % 10 == 0 else f"Comic {number}: naïve ☃"
    return {
        "month": str(day.month),
        "num": number,
        "link": "",
        "year": str(day.year),
        "news": "",
        "safe_title": title,
        "transcript": f"[[Panel of comic {number}]]",
        "alt": f"Alternative text of comic {number}",
        "img": f"https://imgs.xkcd.com/comics/{number}.png",
        "title": title,
        "day": str(day.day),
    }


@dataclass
class Release:
    """A release; `published` is in minutes since the start of 2024."""

    id: int
    tag: str
    published: int

    def to_json(self) -> dict[str, Any]:
        """Return it as a member of `/repos/{org}/{repo}/releases`."""
        return {
            "id": self.id,
            "tag_name": self.tag,
            "name": f"Release {self.tag}",
            "body": f"What is new in {self.tag}",
            "draft": False,
            "prerelease": self.tag.endswith("rc"),
            "html_url": f"https://github.com/releases/{self.tag}",
            "author": {"login": "octocat", "id": 1},
            "created_at": timestamp(self.published - 1),
            "published_at": timestamp(self.published),
        }


@dataclass
class Repository:
    """A repository; `updated` is in minutes since the start of 2024, releases are newest first."""

    id: int
    org: str
    name: str
    updated: int
    releases: list[Release]

    def to_json(self) -> dict[str, Any]:
        """Return it as a member of `/orgs/{org}/repos`."""
        spdx = LICENSES[self.id % len(LICENSES)]
        return {
            "id": self.id,
            "name": self.name,
            "full_name": f"{self.org}/{self.name}",
            "private": False,
            "owner": {"login": self.org, "type": "Organization"},
            "html_url": f"https://github.com/{self.org}/{self.name}",
            "description": f"Repository {self.name} of {self.org}",
            "fork": self.id % 7 == 0,
            "archived": False,
            "language": LANGUAGES[self.id % len(LANGUAGES)],
            "license": {"key": spdx.lower(), "spdx_id": spdx} if spdx else None,
            "topics": ["open-source", self.org],
            "default_branch": "main",
            "stargazers_count": self.id % 1000,
            "forks_count": self.id % 100,
            "open_issues_count": self.id % 10,
            "created_at": timestamp(0),
            "updated_at": timestamp(self.updated),
            "pushed_at": timestamp(self.updated),
        }


@dataclass
class World:
    """The content of the local APIs; change it between requests to see what a tap makes of it."""

    comics: int = 500
    organizations: dict[str, dict[str, Repository]] = field(default_factory=dict)
    clock: int = 0

    @classmethod
    def generate(
        cls, *, comics: int = 500, organizations: int = 2, repositories: int = 5, releases: int = 3
    ) -> World:
        """Make `organizations` named `org-1` …, each with `repositories`, each with `releases`."""
        world = cls(comics=comics)
        for o in range(1, organizations + 1):
            org = f"org-{o}"
            world.organizations[org] = {}
            for _ in range(repositories):
                world.create_repository(org, releases)
        return world

    def create_repository(self, org: str, releases: int = 0) -> Repository:
        """Add a repository to an organization, updated now."""
        repositories = self.organizations[org]
        number = len(repositories) + 1
        organization = list(self.organizations).index(org) + 1
        repository = Repository(
            organization * 1_000_000 + number, org, f"repo-{number}", self._tick(), []
        )
        repositories[repository.name] = repository
        for _ in range(releases):
            self.publish_release(org, repository.name)
        return repository

    def publish_release(self, org: str, name: str) -> Release:
        """Add a release to a repository. Like GitHub, this leaves the repository's `updated_at`."""
        repository = self.organizations[org][name]
        number = len(repository.releases) + 1
        release = Release(repository.id * 10_000 + number, f"v0.{number}.0", self._tick())
        repository.releases.insert(0, release)
        return release

    def update_repository(self, org: str, name: str) -> None:
        """Move a repository's `updated_at` to now."""
        self.organizations[org][name].updated = self._tick()

    def delete_repository(self, org: str, name: str) -> None:
        """Remove a repository with its releases."""
        del self.organizations[org][name]

    def _tick(self) -> int:
        self.clock += 1
        return self.clock
