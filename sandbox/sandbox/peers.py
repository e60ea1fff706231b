"""Environments for programs of others, that we work with or are measured beside."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TOOLS = Path(__file__).parents[2] / ".tools"
FOLDER = TOOLS / "peers"


def make_environment(
    name: str, requirements: Sequence[str], *, overrides: Sequence[str] = ()
) -> Path:
    """Return the Python of an environment that holds `requirements`; made by the first call.

    Args:
        name: What to call it.
        requirements: Packages with pinned versions.
        overrides: Requirements that count instead of what any package says of these packages.

    Raises:
        RuntimeError: uv is not there.
        subprocess.CalledProcessError: uv failed, and said why.
    """
    digest = hashlib.sha256(repr((sys.version, requirements, overrides)).encode()).hexdigest()[:8]
    folder = FOLDER / f"{name}-{digest}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if ready.exists():
        return python
    # `uv run` tells where it is; `make` has one of its own.
    uv = os.environ.get("UV") or shutil.which("uv", path=f"{os.environ['PATH']}:{TOOLS / 'bin'}")
    if uv is None:
        raise RuntimeError(f"uv makes the environment of {name}; run this with `uv run` or `make`")
    print(f"making the environment of {name} …", flush=True)
    subprocess.run([uv, "venv", "--quiet", "--clear", "-p", sys.executable, folder], check=True)
    (folder / "overrides.txt").write_text("\n".join(overrides), encoding="utf-8")
    # A first run would compile, and be measured with it.
    options = ["--quiet", "--compile-bytecode", "-p", str(python)]
    install = [uv, "pip", "install", *options, *requirements]
    subprocess.run([*install, "--override", str(folder / "overrides.txt")], check=True)
    ready.touch()
    return python


def make_own_environment(package: Path) -> Path:
    """Return the Python of an environment with a package of this project, as it is now.

    It holds what an installed connector has, and nothing that only the workspace needs.
    """
    newest = max(path.stat().st_mtime for path in package.rglob("*.py"))
    return make_environment(f"{package.name}-{newest}", [str(package)])
