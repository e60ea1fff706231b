"""docs/running.md: its commands work, and do what the page says."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.meltano import EXECUTABLE, Meltano
from sandbox.shell import new_shell

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^#+ (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))
DONE_BY_THE_TESTS = {"make setup", "source .venv/bin/activate"}
SMALL = "--scale 0.01"
ENVIRONMENT = 'eval "$(sandbox env)"'
PIPELINE = ("tap-my-postgres-datasource", "target-bigquery")


def commands(section: str) -> list[str]:
    """The commands of a section of the page."""
    blocks = re.findall(r"```console\n(.*?)```", SECTIONS[section], flags=re.DOTALL)
    lines = "".join(blocks).splitlines()
    return [line.removeprefix("$ ") for line in lines if line[2:] not in DONE_BY_THE_TESTS]


class Reader:
    """Someone who follows the page in a copy of the project, with a new shell for each section."""

    def __init__(self, meltano: Meltano) -> None:
        self.meltano = meltano
        self.sections: set[str] = set()

    def follow(self, section: str) -> str:
        """Run the commands of a section; gives what they put out."""
        self.sections.add(section)
        lines = [line.replace("sandbox up", f"sandbox up {SMALL}") for line in commands(section)]
        return self.run(*([] if "sandbox up" in " ".join(lines) else [ENVIRONMENT]), *lines)

    def run(self, *lines: str) -> str:
        """Run lines of shell that must not fail."""
        done = subprocess.run(
            ["bash", "-c", "\n".join(("set -euo pipefail", *lines))],
            cwd=self.meltano.root,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
        return done.stdout

    @property
    def environ(self) -> dict[str, str]:
        path = f"{Path(EXECUTABLE).parent}{os.pathsep}{os.environ['PATH']}"
        return new_shell(PATH=path, NO_COLOR="1", MELTANO_CLI_LOG_LEVEL="warning")

    def asks(self, query: str) -> list[list[str]]:
        """Ask the warehouse; gives the rows below the header."""
        out = self.run(ENVIRONMENT, f'sandbox sql "{query}"')
        return [line.split() for line in out.splitlines()[1:]]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who has started the sandbox."""
    reader = Reader(Meltano.in_copy(ROOT, tmp_path_factory.mktemp("running")))
    try:
        reader.follow("Running a pipeline")
        yield reader
    finally:
        reader.run("sandbox down")


# The tests are in the order of the page, and go on from each other as it does.


def test_a_first_and_a_second_run_by_hand(reader: Reader) -> None:
    out = reader.follow("By hand")
    assert re.search(r"closed +1033\b", out)
    assert out.count(" equal ") == 5


def test_production_takes_project_dataset_and_state_from_outside(reader: Reader) -> None:
    slot = "\n".join(commands("A slot for each pipeline"))
    reader.sections.add("A slot for each pipeline")
    reader.sections.add("In CI and production")
    out = reader.run(ENVIRONMENT, slot, *commands("In CI and production"))
    assert '"copied":true' in out
    assert reader.asks("SELECT COUNT(*) FROM oso_prod.issues") == [["1500"]]
    state = reader.meltano.root / "output" / "state" / "nightly-oso" / "state.json"
    assert json.loads(state.read_text())["completed"]


def test_state_is_listed_kept_apart_and_cleared(reader: Reader) -> None:
    out = reader.follow("State")
    assert "dev:tap-my-postgres-datasource-to-target-bigquery\n" in out
    # All rows were copied twice, and each is there once.
    assert reader.asks(
        "SELECT COUNT(*), COUNT(DISTINCT id), COUNTIF(_ab_cdc_deleted_at IS NULL)"
        " FROM oso_trial.issues"
    ) == [["1500"] * 3]


def test_files_hold_every_row(reader: Reader) -> None:
    out = reader.follow("Into files")
    streams = {stream["tap_stream_id"] for stream in json.loads(out[out.index("{") :])["streams"]}
    assert streams == {"projects", "repositories", "issues", "votes", "rankings"}
    file = reader.meltano.root / "output" / "projects.jsonl"
    assert len(file.read_text().splitlines()) == 600


def test_two_sources_go_into_two_datasets(reader: Reader) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", SECTIONS["Two sources, two datasets"], re.DOTALL):
        name = block.split()[1]
        (reader.meltano.root / name).write_text(block)
    reader.follow("Two sources, two datasets")
    assert reader.asks("SELECT COUNT(*) FROM partner.projects") == [["600"]]
    tables = "SELECT table_name FROM partner.INFORMATION_SCHEMA.TABLES"
    assert reader.asks(tables) == [["projects"]]


def test_ctrl_c_stops_the_run_and_the_next_one_finishes_it(reader: Reader) -> None:
    reader.run(
        ENVIRONMENT,
        "sandbox psql -qc \"INSERT INTO issues SELECT 100000 + i, i, 1, 'title', 'text', 'open',"
        " '{}', NULL, now(), NULL FROM generate_series(1, 100000) i\"",
    )
    settings = reader.run(ENVIRONMENT, "env -0").split("\0")
    reader.meltano.env |= dict(line.split("=", 1) for line in settings if line)
    reader.meltano.env["MELTANO_CLI_LOG_LEVEL"] = "info"
    with reader.meltano.start("run", *PIPELINE) as process:
        assert process.stderr
        for line in process.stderr:
            # Both are at work: the target has passed on the state that the tap began with.
            if "Incremental state has been updated" in line:
                os.killpg(process.pid, signal.SIGINT)
                break
        process.stderr.read()
    assert process.returncode == 1, "it was not interrupted"

    reader.run(ENVIRONMENT, f"meltano run {' '.join(PIPELINE)}", "sandbox diff")


def test_selected_tables_and_columns_are_listed(reader: Reader) -> None:
    out = reader.follow("Some tables, some columns")
    chosen = set(re.findall(r"\[(?:selected|automatic) *\] (\S+)", out))
    assert "projects.slug" in chosen
    assert "projects.id" in chosen
    assert "projects.description" not in chosen
    assert not any(name.startswith("issues") for name in chosen)


def test_the_state_backends_of_the_page_are_installed() -> None:
    for module in ("google.cloud.storage", "boto3"):
        assert importlib.util.find_spec(module), module


def test_no_command_of_the_page_was_left_out(reader: Reader) -> None:
    assert reader.sections == {section for section in SECTIONS if commands(section)}
