"""A new tap in a clone of the project: it works as it is, and nothing of the project is harmed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from new_tap.cli import main
from new_tap.copy import new_files
from new_tap.names import Names
from sandbox.http import HttpSandbox, World
from sandbox.meltano import Meltano
from sandbox.shell import new_shell

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TAP = "tap-my-source"
PATIENCE = pytest.mark.timeout(900)


def run(folder: Path, *command: str) -> str:
    """Run a command in a folder as its user would, and return what it printed."""
    done = subprocess.run(
        command, cwd=folder, env=new_shell(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The parts of the project that are looked at before anything is written."""
    for part in ("tap-oso-example", "extract", "plugins"):
        ignored = shutil.ignore_patterns("__pycache__", "tap-postgres-cdc")
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignored)
    shutil.copy(ROOT / "meltano.yml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listing(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


@PATIENCE
def test_a_new_tap_passes_its_own_tests(made: Path) -> None:
    out = run(made, ".venv/bin/pytest", "-q", f"{TAP}/tests")
    assert " passed" in out
    assert "skipped" not in out


@PATIENCE
def test_a_new_tap_passes_the_linters_and_types(made: Path) -> None:
    run(made, ".venv/bin/ruff", "check", TAP)
    run(made, ".venv/bin/ruff", "format", "--check", TAP)
    run(made, ".venv/bin/mypy", TAP)


def test_a_new_tap_is_locked_and_seen_by_every_make_target(made: Path) -> None:
    run(made, ".tools/bin/uv", "lock", "--check", "--quiet")
    assert f"mypy {TAP}" in run(made, "make", "--dry-run", "lint").replace("$part", TAP)
    assert f"{TAP}/pyproject.toml" in run(made, "make", "--print-data-base", "--dry-run", "help")


@PATIENCE
def test_a_new_tap_runs_in_a_pipeline_and_goes_on_where_it_stopped(
    made: Path, tmp_path: Path
) -> None:
    with HttpSandbox(World.generate(comics=12)) as server:
        meltano = Meltano(made, tmp_path, {"TAP_MY_SOURCE_API_URL": f"{server.url}/xkcd"})
        meltano.run("run", TAP, "target-jsonl")
        server.world.comics += 2
        meltano.run("run", TAP, "target-jsonl")
    numbers = [record["num"] for record in meltano.records("my_source_items")]
    assert numbers == list(range(1, 15))


def test_nothing_of_the_example_is_left_in_a_new_tap(made: Path) -> None:
    for file in (made / TAP).rglob("*"):
        if file.suffix in {".py", ".toml", ".md"} and ".venv" not in file.parts:
            text = file.read_text()
            for word in ("oso_example", "OSOExample", "github_", "GitHub", "xkcd_url"):
                assert word not in text, file
            assert word not in (made / "extract" / "my-source.meltano.yml").read_text()


def test_what_is_to_be_changed_is_marked(made: Path) -> None:
    marks = {
        (file.name, line.strip().split(".")[0])
        for file in (made / TAP / "tap_my_source").glob("*.py")
        for line in file.read_text().splitlines()
        if "CHANGE" in line
    }
    assert marks == {
        ("tap.py", "# CHANGE the address of the API"),
        ("items.py", "# CHANGE the address of a request, which goes after api_url"),
        ("items.py", "# CHANGE the columns, and what makes them in resolvers"),
    }


def test_a_second_tap_of_the_name_is_refused(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = listing(made / TAP)
    monkeypatch.chdir(made / "extract")
    result = CliRunner().invoke(main, [TAP])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {TAP} is there already")
    assert listing(made / TAP) == before


def test_dry_run_lists_what_would_be_written_and_writes_nothing(project: Path) -> None:
    before = listing(project)
    result = CliRunner().invoke(main, [TAP, "--dry-run"])
    assert result.exit_code == 0
    listed = {line.split()[2] for line in result.output.splitlines()}
    assert {*new_files(project, Names(TAP)), "pyproject.toml", "uv.lock"} == listed
    assert f"{TAP}/tap_my_source/items.py" in listed
    assert listing(project) == before


BAD_NAMES = """
my-source target-my-source tap tap- tap-My-Source tap_my_source tap-my--source tap-my-source-
tap-3-scale tap-../x tap-é
"""


@pytest.mark.parametrize("name", [*BAD_NAMES.split(), "", "tap-a b", "tap-" + "x" * 40])
def test_a_name_that_can_not_be_one_is_refused(project: Path, name: str) -> None:
    before = listing(project)
    result = CliRunner().invoke(main, ["--", name])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {name!r} ")
    assert listing(project) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tap-oso-example", "tap-oso-example is there already"),
        ("tap-postgres", "extract/postgres.meltano.yml is there already"),
        ("tap-my-postgres-datasource", "has a plugin tap-my-postgres-datasource already"),
        ("tap-my-postgres", "plugins/extractors/tap-my-postgres--oso.lock defines a plugin"),
    ],
)
def test_a_name_that_is_taken_is_refused(project: Path, name: str, reason: str) -> None:
    locks = project / "plugins" / "extractors"
    shutil.copy(locks / "tap-postgres--oso.lock", locks / "tap-my-postgres--oso.lock")
    before = listing(project)
    result = CliRunner().invoke(main, [name])
    assert result.exit_code == 1
    assert reason in result.output
    assert listing(project) == before


def test_outside_the_project_it_says_where_to_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [TAP])
    assert result.exit_code == 1
    assert "run this in OSO Connect's folder" in result.output


@pytest.mark.parametrize("name", ["tap-x", "tap-s3-2", "tap-" + "x" * 36])
def test_short_and_long_names_make_valid_code(name: str) -> None:
    files = new_files(ROOT, Names.parse(name))
    for path, content in files.items():
        if path.endswith(".py"):
            compile(content, path, "exec")
        if path.endswith(".json"):
            json.loads(content)


@pytest.fixture(autouse=True)
def stay_here() -> Iterator[None]:
    """Click's runner and the tests change the folder; go back."""
    here = Path.cwd()
    yield
    os.chdir(here)
