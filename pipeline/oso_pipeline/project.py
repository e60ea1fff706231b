"""What the Meltano project says about its plugins, and the list of sources."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

LIST = Path("pipeline", "sources.yml")
DEFAULT_TARGET = "target-bigquery"
FIELDS = ("tap", "target", "dataset")


class PipelineError(Exception):
    """Something a person has to put right; the message says what."""


class Source(NamedTuple):
    """A line of the list."""

    tap: str
    target: str
    dataset: str


def project_root() -> Path:
    """Return the Meltano project that the current folder is in.

    Raises:
        PipelineError: It is in none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "meltano.yml").exists():
            return folder
    raise PipelineError("there is no meltano.yml here or above: run this in the project's folder")


def sources(root: Path) -> list[Source]:
    """Return the list of sources.

    Raises:
        PipelineError: It can't be read, or names a plugin that the project does not have.
    """
    entries = _load(root / LIST)
    if not isinstance(entries, list) or not entries:
        raise PipelineError(f"{LIST} has to be a list of sources, and is not")
    known = plugins(root)
    found: list[Source] = []
    for number, entry in enumerate(entries, 1):
        where = f"{LIST}, source {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("tap"), str):
            raise PipelineError(f"{where}: it has to be like {{tap: tap-my-source}}")
        if unknown := sorted(set(map(str, entry)) - set(FIELDS)):
            raise PipelineError(f"{where}: {unknown[0]!r} is none of {', '.join(FIELDS)}")
        source = Source(entry["tap"], entry.get("target", DEFAULT_TARGET), entry.get("dataset", ""))
        for name in (source.tap, source.target):
            if name not in known:
                raise PipelineError(f"{where}: the project has no plugin {name!r}")
        if source.tap in {each.tap for each in found}:
            raise PipelineError(f"{where}: {source.tap} is in the list twice")
        found.append(source)
    return found


def plugins(root: Path) -> dict[str, dict[str, Any]]:
    """Return the plugins of the project by name, each with what it inherits.

    Raises:
        PipelineError: A file can't be read.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder, kind in (("extract", "extractors"), ("load", "loaders")):
        for file in sorted((root / folder).glob("*.meltano.yml")):
            for plugin in ((_load(file) or {}).get("plugins") or {}).get(kind) or []:
                parent = plugin.get("inherit_from", plugin["name"])
                lock = root / "plugins" / kind / f"{parent}--{plugin.get('variant')}.lock"
                inherited = json.loads(lock.read_text()) if lock.exists() else found.get(parent, {})
                found[plugin["name"]] = {**inherited, **plugin}
    return found


def has_slot(plugin: dict[str, Any]) -> bool:
    """Whether the plugin is our PostgreSQL source, which can say how far its slot is behind."""
    return (plugin.get("namespace"), plugin.get("variant")) == ("tap_postgres", "oso")


def is_ours(plugin: dict[str, Any]) -> bool:
    """Whether the plugin is a package of this project, whose dependencies `uv.lock` holds."""
    return str(plugin.get("pip_url", "")).startswith("-e $MELTANO_PROJECT_ROOT/")


def _load(file: Path) -> Any:
    try:
        return YAML(typ="safe").load(file)
    except (OSError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(f"{file} can't be read: {reason}") from error
