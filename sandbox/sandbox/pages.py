"""Documentation pages whose commands are run as a reader would, and their output compared."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

_FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A block of code on a page.

    Attributes:
        kind: What follows the opening fence, such as `console`.
        text: Its lines.
        heading: Of the section that it is in.
        line: Where it begins on the page, from 1.
    """

    kind: str
    text: str
    heading: str
    line: int


class Step(NamedTuple):
    """A command of a console block and the output that the page shows for it."""

    command: str
    output: str


def blocks(page: str) -> list[Block]:
    """The blocks of code of a page in Markdown, in their order."""
    found = []
    for match in _FENCE.finditer(page):
        headings = [h[1] for h in _HEADING.finditer(_FENCE.sub("", page[: match.start()]))]
        line = page.count("\n", 0, match.start()) + 1
        text = re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE)
        found.append(Block(match[2], text, headings[-1] if headings else "", line))
    return found


def steps(block: Block) -> list[Step]:
    r"""The commands of a console block: lines after `$ `, which a `\` at their end continues."""
    found: list[Step] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], ""))
        elif found and found[-1].command.endswith("\\"):
            found[-1] = found[-1]._replace(command=f"{found[-1].command}\n{line}")
        else:
            found[-1] = found[-1]._replace(output=f"{found[-1].output}{line}\n")
    return found


def is_shown(shown: str, real: str) -> bool:
    """Whether an output is as the page shows it; `…` there stands for anything."""
    parts = [re.escape(part) for part in shown.strip().split("…")]
    return re.fullmatch(r"(?s:.*?)".join(parts), real.strip()) is not None


class Terminal:
    """A shell that goes on from one command to the next, as a reader's does."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        """Start the shell.

        Args:
            folder: Where it is.
            environ: Its variables.
        """
        self._log = folder / "stderr.log"
        self._shell = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> tuple[str, int, str]:
        """Run a command; gives its output, its exit code and what it wrote to standard error."""
        assert self._shell.stdin
        assert self._shell.stdout
        end = "--- end of command"
        script = f"{{ {command}\n}} 2>'{self._log}' </dev/null; echo \"\n{end} $?\"\n"
        self._shell.stdin.write(script)
        self._shell.stdin.flush()
        output = ""
        for line in self._shell.stdout:
            if line.startswith(end):
                return output[:-1], int(line.split()[-1]), self._log.read_text()
            output += line
        raise RuntimeError(f"the shell ended in: {command}\n{output}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shell.kill()
        self._shell.communicate()
