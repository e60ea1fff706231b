"""A new tap from the text of the example: files in, files out, nothing is written here."""

from __future__ import annotations

import ast
import io
import re
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from new_tap.names import Names

EXAMPLE = "tap-oso-example"
MODULE = "tap_oso_example"
DESCRIPTION = (
    "Singer tap for the XKCD and GitHub APIs: the example to copy for a new HTTP source{}."
)
# Settings of the service that a new tap leaves out.
DROPPED = ("github_url", "organizations", "github_token")

README = """\
# {tap}

A [Singer](https://hub.meltano.com/singer/spec) tap of {label}.

```console
$ meltano run {tap} target-jsonl
```

`{tap} --about` lists the settings, `{tap} --discover` the streams and their columns.
[Write a tap](../docs/write-a-tap.md) says how it is made.
"""


def new_files(root: Path, names: Names) -> dict[str, bytes]:
    """Return the files of a new tap, by path below `root`.

    Args:
        root: The project, which holds the example.
        names: What the tap is called.

    Raises:
        ValueError: The example no longer has what is to be changed in it.
    """
    example = root / EXAMPLE
    files: dict[str, bytes] = {}

    def take(source: str, target: str, change: Callable[[str], str] = str) -> None:
        text = change((example / source).read_text(encoding="utf-8"))
        files[f"{names.tap}/{target}"] = _renamed(text, names).encode()

    take("pyproject.toml", "pyproject.toml")
    take(f"{MODULE}/__init__.py", f"{names.module}/__init__.py")
    take(f"{MODULE}/tap.py", f"{names.module}/tap.py", _settings_and_streams)
    take(f"{MODULE}/xkcd/comics.py", f"{names.module}/items.py", _marked)
    take("tests/test_recorded.py", "tests/test_recorded.py", _all_recorded)
    for file in sorted((example / MODULE / "rest").glob("*.py")):
        take(f"{MODULE}/rest/{file.name}", f"{names.module}/rest/{file.name}")
    for file in sorted((example / "tests" / "recorded").rglob("*.json")):
        files[f"{names.tap}/{file.relative_to(example)}"] = file.read_bytes()
    files[f"{names.tap}/{names.module}/py.typed"] = b""
    files[f"{names.tap}/README.md"] = README.format(tap=names.tap, label=names.label).encode()
    plugin = (root / "extract" / "oso-example.meltano.yml").read_text(encoding="utf-8")
    files[f"extract/{names.source}.meltano.yml"] = _plugin(plugin, names).encode()
    return files


def _renamed(text: str, names: Names) -> str:
    """Put the new names where the example has its own."""
    for end in (" of OSO Connect", ""):
        text = text.replace(DESCRIPTION.format(end), f"Singer tap of {names.label}.")
    for old, new in (
        (f"{MODULE}.xkcd.comics", f"{names.module}.items"),
        ("XkcdComics", names.stream_class),
        ("xkcd_comics", names.stream),
        ("xkcd_url", "api_url"),
        ("XKCD address", "API address"),
        ("the XKCD API", "the API"),
        (EXAMPLE, names.tap),
        (MODULE, names.module),
        ("TapOSOExample", names.tap_class),
    ):
        text = text.replace(old, new)
    return text


def _settings_and_streams(text: str) -> str:
    """Leave out the second service: its imports, settings and streams."""
    lines = text.splitlines(keepends=True)
    left_out: list[ast.AST] = []
    streams = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ImportFrom(module=str(module)) if module.startswith(f"{MODULE}.github."):
                left_out.append(node)
                streams += [alias.name for alias in node.names]
            case ast.Call(args=[ast.Constant(value=name), *_]) if name in DROPPED:
                left_out.append(node)
    if len(left_out) != len(DROPPED) + len(streams) or not streams:
        raise ValueError(f"{EXAMPLE}/{MODULE}/tap.py has not the settings and streams it had")
    for node in sorted(left_out, key=lambda node: node.lineno, reverse=True):  # type: ignore[attr-defined]
        del lines[node.lineno - 1 : node.end_lineno]  # type: ignore[attr-defined]
    text = "".join(lines)
    for stream in streams:
        text = text.replace(f", {stream}(self)", "")
    return _before(
        text, "th.Property", "CHANGE the address of the API. A token would be a secret=True"
    )


def _marked(text: str) -> str:
    """Say where the address and the columns of the stream are."""
    text = _before(text, "path = ", "CHANGE the address of a request, which goes after api_url.")
    return _before(text, "schema: ", "CHANGE the columns, and what makes them in resolvers.")


def _all_recorded(text: str) -> str:
    """Expect records of every stream."""
    text, found = re.subn(r"(?m)^NOT_RECORDED(.*) = .*$", r"NOT_RECORDED\1 = []", text)
    if found != 1:
        raise ValueError(f"{EXAMPLE}/tests/test_recorded.py has no NOT_RECORDED")
    return text


def _before(text: str, anchor: str, comment: str) -> str:
    """Put a comment above the first line that begins with `anchor`."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.lstrip().startswith(anchor):
            indent = line[: len(line) - len(line.lstrip())]
            lines.insert(number, f"{indent}# {comment}\n")
            return "".join(lines)
    raise ValueError(f"{EXAMPLE} has no line that begins with {anchor!r}")


def _plugin(text: str, names: Names) -> str:
    """Return Meltano's definition of the tap."""
    yaml = YAML()
    yaml.width = 1000
    document = yaml.load(text)
    [plugin] = document["plugins"]["extractors"]
    plugin["label"] = names.label
    plugin["description"] = f"{names.label}."
    plugin["settings"] = [each for each in plugin["settings"] if each["name"] not in DROPPED]
    out = io.StringIO()
    yaml.dump(document, out)
    return _renamed(out.getvalue(), names)
