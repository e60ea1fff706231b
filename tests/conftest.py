"""The project's pipelines, run by Meltano as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.http import HttpSandbox, World
from sandbox.meltano import Meltano

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


@pytest.fixture
def http() -> Iterator[HttpSandbox]:
    with HttpSandbox(World.generate(comics=40, organizations=2, repositories=3)) as server:
        yield server


@pytest.fixture
def environment(http: HttpSandbox) -> dict[str, str]:
    return {
        "TAP_OSO_EXAMPLE_XKCD_URL": f"{http.url}/xkcd",
        "TAP_OSO_EXAMPLE_GITHUB_URL": f"{http.url}/github",
        "TAP_OSO_EXAMPLE_ORGANIZATIONS": json.dumps(list(http.world.organizations)),
    }


@pytest.fixture
def meltano(tmp_path: Path, environment: dict[str, str]) -> Meltano:
    """Meltano in the project itself, with a state of its own."""
    return Meltano(ROOT, tmp_path, environment)


@pytest.fixture
def meltano_copy(tmp_path: Path, environment: dict[str, str]) -> Meltano:
    """Meltano in a copy of the project, for commands that write to it."""
    return Meltano.in_copy(ROOT, tmp_path, environment)
