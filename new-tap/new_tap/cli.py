"""The `new-tap` command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
from ruamel.yaml import YAML

from new_tap.copy import EXAMPLE, new_files
from new_tap.names import Names


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="List what would be written, and write nothing.")
def main(name: str, *, dry_run: bool) -> None:
    """Make a new HTTP source from tap-oso-example.

    NAME begins with tap-, such as tap-my-source. It becomes a folder, a package of the workspace
    and a plugin of Meltano, with one stream to change.
    """
    try:
        names = Names.parse(name)
        root = _project_root()
        _refuse_existing(root, names)
        files = new_files(root, names)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if dry_run:
        for path in files:
            click.echo(f"would write  {path}")
        click.echo("would change pyproject.toml\nwould change uv.lock")
        return
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        click.echo(f"wrote {path}")
    _install(root, names)
    click.echo(
        f"\n{names.tap} is ready. It reads XKCD until you change what is marked CHANGE in\n"
        f"{names.tap}/{names.module}/. Next:\n\n"
        f"  make test ARGS={names.tap}/tests\n"
        f"  .venv/bin/meltano config test {names.tap}\n"
        f"  .venv/bin/meltano run {names.tap} target-jsonl"
    )


def _project_root() -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / EXAMPLE / "pyproject.toml").exists() and (folder / "meltano.yml").exists():
            return folder
    raise ValueError(f"there is no {EXAMPLE} here or above: run this in OSO Connect's folder")


def _refuse_existing(root: Path, names: Names) -> None:
    """Make sure that nothing of this name is overwritten or shadowed.

    Raises:
        ValueError: A folder, a file, a package or a plugin has the name.
    """
    for path in (names.tap, f"extract/{names.tap}", f"extract/{names.source}.meltano.yml"):
        if (root / path).exists():
            raise ValueError(f"{path} is there already: choose another name, or remove it first")
    for file in (root / "meltano.yml", *sorted((root / "extract").glob("*.meltano.yml"))):
        plugins = (YAML(typ="safe").load(file) or {}).get("plugins", {})
        for plugin in plugins.get("extractors", []):
            # Two plugins whose names differ by hyphens only would share their settings' variables.
            if plugin["name"].replace("-", "_") == names.module:
                raise ValueError(f"{file.relative_to(root)} has a plugin {plugin['name']} already")
    for lock in (root / "plugins" / "extractors").glob(f"{names.tap}--*.lock"):
        raise ValueError(f"{lock.relative_to(root)} defines a plugin {names.tap} already")


def _install(root: Path, names: Names) -> None:
    """Register the tap in the workspace, give it the project's style, and install it twice.

    Once into the project's environment, for its tests, and once as a plugin of Meltano.
    """
    _run(root, os.environ.get("UV", "uv"), "add", "--quiet", "--group", "dev", f"./{names.tap}")
    tools = Path(sys.executable).parent
    _run(root, str(tools / "ruff"), "check", "--quiet", "--fix", names.tap)
    _run(root, str(tools / "ruff"), "format", "--quiet", names.tap)
    _run(root, str(tools / "meltano"), "--log-level", "warning", "install", names.tap)


def _run(root: Path, *command: str) -> None:
    """Run a command in the project.

    Raises:
        ClickException: It is not there, or it failed.
    """
    program = Path(command[0]).name
    if shutil.which(command[0]) is None:
        raise click.ClickException(f"{program} is not there: run this with make new-tap or uv run")
    # The environment to change is the project's, whichever is active.
    env = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    if subprocess.run(command, cwd=root, env=env, check=False).returncode != 0:
        shown = " ".join([program, *command[1:]])
        raise click.ClickException(f"the files are written, but this failed: {shown}")
