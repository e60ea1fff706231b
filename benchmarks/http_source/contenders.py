"""Who is measured: how each program is told to sync a scenario."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.http_source.scenarios import COMICS
from sandbox.peers import make_environment

if TYPE_CHECKING:
    from benchmarks.http_source.scenarios import Scenario

IN_FLIGHT = 16
TAP = str(Path(sys.executable).with_name("tap-oso-example"))
PLUGIN = Path(__file__).with_name("cloudquery_plugin.py")
CLOUDQUERY_VERSION = "0.1.57"


class Contender(Protocol):
    """A program that syncs scenarios, and the colour of its bars."""

    @property
    def label(self) -> str:
        """What to call it."""

    @property
    def color(self) -> str:
        """The colour of its bars."""

    def command(self, scenario: Scenario, url: str, folder: Path) -> list[str]:
        """Return the command for a scenario served at `url`; its files go to `folder`."""


@dataclass(frozen=True)
class Tap:
    """Our tap, as users run it."""

    label: str
    color: str
    concurrency: int

    def command(self, scenario: Scenario, url: str, folder: Path) -> list[str]:
        """Return the command for a scenario served at `url`; its files go to `folder`."""
        config = folder / "config.json"
        catalog = folder / "catalog.json"
        settings = {
            "xkcd_url": f"{url}/xkcd",
            "github_url": f"{url}/github",
            "organizations": scenario.organization_names,
            "concurrency": self.concurrency,
        }
        config.write_text(json.dumps(settings), encoding="utf-8")
        catalog.write_text(json.dumps(_select(scenario.tables)), encoding="utf-8")
        return [TAP, "--config", str(config), "--catalog", str(catalog)]


@dataclass(frozen=True)
class CloudQuery:
    """The same source as a plugin of CloudQuery's Python SDK.

    The SDK's scheduler gives a dependent table half as many threads as its parent. So that 16
    releases are fetched at a time, it is told 32; there are only 8 organizations to fetch above.
    """

    label: str
    color: str
    shards: int

    def command(self, scenario: Scenario, url: str, folder: Path) -> list[str]:
        """Return the command for a scenario served at `url`; its files go to `folder`."""
        spec = {
            "xkcd_url": f"{url}/xkcd",
            "github_url": f"{url}/github",
            "tables": scenario.tables,
            "organizations": scenario.organization_names,
            "concurrency": IN_FLIGHT if scenario.tables == COMICS else 2 * IN_FLIGHT,
            "shards": self.shards,
        }
        path = folder / "spec.json"
        path.write_text(json.dumps(spec), encoding="utf-8")
        return [str(cloudquery_python()), str(PLUGIN), str(path)]


@functools.cache
def cloudquery_python() -> Path:
    """Return the Python that has CloudQuery's SDK, and the version of requests that our tap has."""
    return make_environment(
        "cloudquery",
        [f"cloudquery-plugin-sdk=={CLOUDQUERY_VERSION}", f"requests=={version('requests')}"],
        # The SDK asks for a newer one than was published.
        overrides=["certifi"],
    )


def discover() -> dict[str, Any]:
    """Return the tap's catalog."""
    return dict(json.loads(_discovered()))


@functools.cache
def _discovered() -> bytes:
    return subprocess.run([TAP, "--discover"], stdout=subprocess.PIPE, check=True).stdout


def _select(tables: tuple[str, ...]) -> dict[str, Any]:
    catalog = discover()
    for stream in catalog["streams"]:
        for metadata in stream["metadata"]:
            if not metadata["breadcrumb"]:
                metadata["metadata"]["selected"] = stream["stream"] in tables
    return catalog


OURS = Tap("tap-oso-example", "#1f77b4", IN_FLIGHT)
OURS_ALONE = Tap("tap-oso-example, concurrency 1", "#7fb2d9", 1)
PEER = CloudQuery("CloudQuery SDK", "#e08214", IN_FLIGHT)
PEER_ALONE = CloudQuery("CloudQuery SDK, one shard", "#f3b873", 1)
ONE_BY_ONE = (OURS_ALONE, PEER_ALONE)
