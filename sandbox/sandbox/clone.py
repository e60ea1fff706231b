"""A copy of the project's files, for what changes them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def clone(root: Path, folder: Path) -> Path:
    """Copy what git has or would have of a project, committed or not, and return the copy.

    It shares `uv` with the original, and nothing else.
    """
    # In a container the checkout may belong to another user, which git distrusts.
    git = ["git", "-c", f"safe.directory={root}"]
    command = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    (folder / ".tools").symlink_to(root / ".tools")
    return folder
