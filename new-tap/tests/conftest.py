"""A clone of the project with a new tap in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandbox.clone import clone
from sandbox.shell import new_shell

ROOT = Path(__file__).parents[2]
TAP = "tap-my-source"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `make new-tap NAME=tap-my-source` was run."""
    folder = clone(ROOT, tmp_path_factory.mktemp("clone"))
    done = subprocess.run(
        ["make", "new-tap", f"NAME={TAP}"],
        cwd=folder,
        env=new_shell(),
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
