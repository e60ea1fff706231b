"""The environment of somebody who uses the project, for commands that tests run in their place."""

import os
from typing import Final

# What a developer's commands and settings leave to the processes that they start. `make` hands
# down its flags, its level and the variables of its command line.
_MAKE: Final = ("ARGS", "MAKE", "MFLAGS", "NAME")
_OURS: Final = ("GITHUB_", "MELTANO_", "TAP_", "TARGET_", "UV_", "VIRTUAL_ENV")


def new_shell(**environ: str) -> dict[str, str]:
    """Return the variables of a shell that has just been opened, and more.

    Args:
        environ: Variables to add.
    """
    return {k: v for k, v in os.environ.items() if not k.startswith(_MAKE + _OURS)} | environ
