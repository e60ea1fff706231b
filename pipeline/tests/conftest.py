"""GitHub's issues, served on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.github import Issues
from sandbox.http import HttpSandbox

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def github() -> Iterator[Issues]:
    issues = Issues()
    with HttpSandbox(app=issues.app) as server:
        issues.url = server.url
        yield issues
