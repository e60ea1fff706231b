"""Running Meltano as a user would, without touching the user's own state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a copy of the project has of its own.
_FOLDERS = ("extract", "load", "plugins/extractors", "plugins/loaders", ".meltano")
_OWN = {*_FOLDERS, "plugins", "run", "meltano.db", "output", ".sandbox"}
EXECUTABLE = str(Path(sys.executable).parent / "meltano")


class Meltano:
    """The `meltano` command in a project, with its own system database and output folder."""

    def __init__(
        self,
        root: Path,
        folder: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare to run commands; nothing is started.

        Args:
            root: The project.
            folder: Where the system database and the files of `target-jsonl` go.
            env: Settings of plugins, such as `TAP_OSO_EXAMPLE_XKCD_URL`.
        """
        self.root = root
        self.output = folder
        self.env = {
            **os.environ,
            "MELTANO_DATABASE_URI": f"sqlite:///{folder / 'meltano.db'}",
            "TARGET_JSONL_DESTINATION_PATH": str(self.output),
            "NO_COLOR": "1",
            **(env or {}),
        }

    @classmethod
    def in_copy(cls, root: Path, folder: Path, env: Mapping[str, str] | None = None) -> Self:
        """Prepare to run commands that write to the project, in a copy of its configuration.

        The copy shares the packages and the installed plugins with the original, but not the
        folder where Meltano hands catalog and state to a plugin.
        """
        copy = folder / "project"
        for inside in (".", *_FOLDERS):
            (copy / inside).mkdir(parents=True, exist_ok=True)
            for entry in (root / inside).iterdir():
                target = copy / inside / entry.name
                if entry.suffix in {".yml", ".lock"}:
                    # With another path Meltano would install the shared plugins anew.
                    text = entry.read_text().replace("-e $MELTANO_PROJECT_ROOT", f"-e {root}")
                    target.write_text(text)
                elif entry.name not in _OWN:
                    target.symlink_to(entry)
        return cls(copy, folder, env)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, with its log on the standard error."""
        return subprocess.Popen(
            [EXECUTABLE, *arguments],
            cwd=self.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end.

        Raises:
            RuntimeError: With `check`, when it failed; the message holds the end of its log.
        """
        result = subprocess.run(
            [EXECUTABLE, *arguments],
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and result.returncode != 0:
            # Meltano draws frames around tracebacks of its own, which hide the reason.
            lines = [line for line in result.stderr.splitlines() if line[:1] not in "│╭╰"]
            tail = "\n".join(lines[-15:])
            raise RuntimeError(f"meltano {' '.join(arguments)} failed:\n{tail}")
        return result

    def state(self, state_id: str) -> dict[str, Any]:
        """Return the state that a pipeline has saved; empty before its first run."""
        result = self.run("--log-level", "error", "state", "get", state_id)
        saved = json.loads(result.stdout or "{}")
        state: dict[str, Any] = saved.get("singer_state", saved)
        return state

    def records(self, stream: str) -> list[dict[str, Any]]:
        """Return the records that `target-jsonl` has written for a stream."""
        file = self.output / f"{stream}.jsonl"
        if not file.exists():
            return []
        return [json.loads(line) for line in file.read_text().splitlines()]


def project_root() -> Path:
    """Return the Meltano project that the current folder is in.

    Raises:
        FileNotFoundError: It is in none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "meltano.yml").exists():
            return folder
    raise FileNotFoundError("no meltano.yml here or above: run this in the project")
