"""What is fetched: the content and the latency of the server, and what has to come out."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.http import World
from sandbox.http.world import MISSING_COMIC

if TYPE_CHECKING:
    from collections.abc import Iterator

COMICS = ("xkcd_comics",)
GITHUB = ("github_repositories", "github_releases")


@dataclass(frozen=True)
class Scenario:
    """A server with so many organizations, each with so many repositories, and so on.

    `latency` is in seconds per request.
    """

    title: str
    tables: tuple[str, ...]
    latency: float = 0.0
    comics: int = 0
    organizations: int = 0
    repositories: int = 0
    releases: int = 0

    @property
    def organization_names(self) -> list[str]:
        """What the server calls its organizations."""
        return [f"org-{number}" for number in range(1, self.organizations + 1)]

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """Serve the APIs from a process of their own; give their address."""
        counts = ("comics", "organizations", "repositories", "releases", "latency")
        options = [text for name in counts for text in (f"--{name}", str(getattr(self, name)))]
        command = [str(Path(sys.executable).with_name("sandbox")), "http", "--port", "0", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                line = server.stdout.readline()
                if not line:
                    raise RuntimeError("the HTTP sandbox did not start")
                yield line.strip().partition("=")[2].removesuffix("/xkcd")
            finally:
                server.terminate()

    def expected(self) -> Counter[tuple[str, int]]:
        """Return the table and key of each record that a sync has to give."""
        world = World.generate(
            comics=self.comics,
            organizations=self.organizations,
            repositories=self.repositories,
            releases=self.releases,
        )
        repositories = [
            repository for each in world.organizations.values() for repository in each.values()
        ]
        keys = {
            "xkcd_comics": [n for n in range(1, self.comics + 1) if n != MISSING_COMIC],
            "github_repositories": [each.id for each in repositories],
            "github_releases": [release.id for each in repositories for release in each.releases],
        }
        return Counter((table, key) for table in self.tables for key in keys[table])


START = Scenario("Start-up: nothing to fetch", COMICS)
FIVE_HUNDRED_COMICS = Scenario("500 comics at 50 ms per request", COMICS, latency=0.05, comics=500)
RELEASES = Scenario(
    "8 × 20 repositories and their releases at 50 ms per request",
    GITHUB,
    latency=0.05,
    organizations=8,
    repositories=20,
    releases=3,
)
NO_LATENCY = Scenario(
    "80,800 records in pages of 100, no latency",
    GITHUB,
    organizations=8,
    repositories=100,
    releases=100,
)
