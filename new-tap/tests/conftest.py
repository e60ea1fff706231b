"""A clone of the project with a new tap in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sandbox.clone import clone

ROOT = Path(__file__).parents[2]
TAP = "tap-my-source"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `make new-tap NAME=tap-my-source` was run."""
    folder = clone(ROOT, tmp_path_factory.mktemp("clone"))
    env = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV" and not k.startswith("UV_")}
    done = subprocess.run(
        ["make", "new-tap", f"NAME={TAP}"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        f"  make test ARGS={TAP}/tests",
        f"  .venv/bin/meltano config test {TAP}",
        f"  .venv/bin/meltano run {TAP} target-jsonl",
    ]
    return folder
