"""The project's image and the nightly workflow: their own steps, against real servers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.bigquery import PROJECT, BigQueryEmulator
from sandbox.clone import clone
from sandbox.github import Done, Issues, run_job
from sandbox.http import HttpSandbox, World
from sandbox.postgres import HOST, PASSWORD, Postgres, running_votes
from sandbox.shell import new_shell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
WORKFLOW = "data-pipeline.yml"
EXAMPLE, DATABASE = "tap-oso-example", "tap-my-postgres-datasource"
TOKEN = "t0ken-of-the-example"
PREFIX = "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_"
SOURCES = f"""\
- {{tap: {EXAMPLE}, dataset: example}}
- {{tap: {DATABASE}, dataset: partner}}
"""
# What the images are built with, but that packages come from uv's cache where it has them.
BUILD = dict(
    setting.split("=")
    for line in (ROOT / "Dockerfile").read_text().splitlines()
    if line.startswith("ENV UV_")
    for setting in line.split()[1:]
    if setting != "UV_NO_CACHE=1"
)
LOCKED = {
    package["name"]: package["version"]
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
}

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image of the project holds: a clone with the plugins in it."""
    folder = clone(ROOT, tmp_path_factory.mktemp("image") / "project")
    (folder / ".tools").unlink()
    for script in ("images/uv", "images/project"):
        subprocess.run([script], cwd=folder, env=new_shell(**BUILD), check=True)
    (folder / ".tools").symlink_to(ROOT / ".tools")
    runs = tmp_path_factory.mktemp("runs")
    (folder / ".meltano" / "run").unlink()
    (folder / ".meltano" / "run").symlink_to(runs)
    return folder


@pytest.fixture
def http() -> Iterator[HttpSandbox]:
    with HttpSandbox(World.generate(comics=20, organizations=1), token=TOKEN) as server:
        yield server


@pytest.fixture
def database() -> Iterator[Postgres]:
    with running_votes() as server:
        yield server


class Night:
    """A run of the workflow: its jobs, and the files that GitHub carries between them."""

    def __init__(
        self,
        project: Path,
        folder: Path,
        env: Mapping[str, str],
        secrets: Mapping[str, str],
    ) -> None:
        self.project, self.folder, self.env, self.secrets = project, folder, env, secrets
        self.matrix: list[dict[str, str]] = []

    def job(self, name: str, folder: str, **context: str) -> Done:
        return run_job(self.project, WORKFLOW, name, self.folder / folder, context, self.env)

    def list(self) -> None:
        listed = self.job("sources", "list")
        assert listed.exit_code == 0, listed.log
        self.matrix = json.loads(listed.output["matrix"])["include"]

    def sync(self, source: dict[str, str]) -> Done:
        secret = "steps.secret-manager.outputs.source_env || secrets.SOURCE_ENV"
        context = {f"matrix.{name}": value for name, value in source.items()}
        context |= {
            secret: self.secrets[source["tap"]],
            "vars.MELTANO_STATE_BACKEND_URI": f"file://{self.folder}/state",
            "vars.TARGET_BIGQUERY_PROJECT": PROJECT,
        }
        done = self.job("sync", source["tap"], **context)
        shutil.copytree(
            self.folder / source["tap"] / "report",
            self.folder / "report" / "reports" / f"report-{source['tap']}",
            dirs_exist_ok=True,
        )
        return done

    def report(self) -> Done:
        (self.folder / "report" / "summary").unlink(missing_ok=True)
        done = self.job("report", "report", **{"github.token": "a-github-token"})
        assert done.exit_code == 0, done.log
        return done


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """When each file and folder was changed, and its size."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[str(path)] = (status.st_mtime_ns, status.st_size)
    return found


def test_one_source_fails_and_the_other_arrives_and_the_next_run_mends_it(
    project: Path,
    tmp_path: Path,
    http: HttpSandbox,
    database: Postgres,
    github: Issues,
) -> None:
    (project / "pipeline" / "sources.yml").write_text(SOURCES)
    example = {
        "TAP_OSO_EXAMPLE_XKCD_URL": f"{http.url}/xkcd",
        "TAP_OSO_EXAMPLE_GITHUB_URL": f"{http.url}/github",
        "TAP_OSO_EXAMPLE_ORGANIZATIONS": "'[\"org-1\"]'",
        "TAP_OSO_EXAMPLE_GITHUB_TOKEN": TOKEN,
    }
    partner = {
        PREFIX + "HOST": HOST,
        PREFIX + "PORT": str(database.port),
        PREFIX + "DATABASE": "postgres",
        PREFIX + "USERNAME": "postgres",
        PREFIX + "PASSWORD": PASSWORD,
        # The embedded server does not speak TLS.
        PREFIX + "SSL_MODE_MODE": "disable",
    }
    secrets = {
        tap: "\n".join(f"{name}={value}" for name, value in settings.items())
        for tap, settings in ((EXAMPLE, example), (DATABASE, partner))
    }
    with BigQueryEmulator() as warehouse:
        env = new_shell(
            **warehouse.environ,
            **github.environ,
            MELTANO_DATABASE_URI=f"sqlite:///{tmp_path}/meltano.db",
        )
        night = Night(project, tmp_path, env, secrets)
        night.list()
        assert [source["tap"] for source in night.matrix] == [EXAMPLE, DATABASE]
        http.inject("/xkcd/9/*", "401", 100)

        failing, fine = (night.sync(source) for source in night.matrix)

        assert failing.exit_code == 1
        assert "GET ***/9/info.0.json: HTTP 401 Unauthorized" in failing.log
        assert fine.exit_code == 0, fine.log
        assert count(warehouse, "partner.votes") == 50
        report = night.report()
        assert "1 of 2 sources failed" in report.summary
        lines = report.summary.splitlines()
        assert any(line.startswith(f"| {EXAMPLE} → target-bigquery | ✗") for line in lines)
        [good] = [line for line in lines if line.startswith(f"| {DATABASE} → target-bigquery | ✓")]
        assert re.search(r"\| [\d,]+ (B|KiB|MiB)(, \d+:\d\d:\d\d)? \|$", good), "the slot's lag"
        assert f"| {DATABASE} | votes | 50 |" in lines
        assert "HTTP 401 Unauthorized" in report.summary
        [issue] = github.issues
        assert issue["state"] == "open"
        assert "https://github.com/oso/connect/actions/runs/7" in issue["body"]

        http.heal()
        mended = night.sync(night.matrix[0])
        assert mended.exit_code == 0, mended.log
        assert count(warehouse, "example.xkcd_comics") == 20
        report = night.report()
        assert "2 sources succeeded" in report.summary
        assert github.issues[0]["state"] == "closed"
        assert len(github.comments) == 1

    shown = "\n".join([report.summary, str(github.issues), str(github.comments)])
    for secret, jobs in ((TOKEN, [failing, mended]), (PASSWORD, [fine])):
        assert secret not in shown
        for done in jobs:
            lines = [line for line in done.log.splitlines() if secret in line]
            assert lines == [f"::add-mask::{secret}"]


def count(warehouse: BigQueryEmulator, table: str) -> Any:
    [row] = warehouse.client().query_and_wait(f"SELECT COUNT(*) AS n FROM {table}")
    return row["n"]


def test_the_project_image_writes_nothing_beside_its_temporary_folder(
    project: Path, tmp_path: Path, http: HttpSandbox
) -> None:
    """As with a read-only root: nothing in the project is changed by a run."""
    env = new_shell(
        PATH=f"{project}/.venv/bin:{os.environ['PATH']}",
        HOME=str(tmp_path),
        MELTANO_PROJECT_READONLY="true",
        MELTANO_DATABASE_URI=f"sqlite:///{tmp_path}/meltano.db",
        MELTANO_STATE_BACKEND_URI=f"file://{tmp_path}/state",
        TARGET_JSONL_DESTINATION_PATH=str(tmp_path),
        TAP_OSO_EXAMPLE_XKCD_URL=f"{http.url}/xkcd",
    )
    before = written(project)
    done = subprocess.run(
        ["oso-pipeline", "sync", EXAMPLE, "target-jsonl"],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "xkcd_comics: 20 rows" in done.stderr
    assert written(project) == before


def test_the_images_are_built_by_what_is_tested_here() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line.removeprefix("RUN ") for line in lines if line.startswith("RUN ")] == [
        "images/uv",
        'images/connector "$CONNECTOR" /opt/connector',
        "images/project",
    ]
    stages = [line.split() for line in lines if line.startswith(("FROM ", "USER "))]
    unprivileged = stages[stages.index(["USER", "65532:65532"]) - 1][-1]
    assert stages[-2:] == [
        ["FROM", unprivileged, "AS", "connector"],
        ["FROM", unprivileged, "AS", "project"],
    ]


def test_the_project_image_is_tried_as_the_workflow_does(project: Path) -> None:
    command = ["images/check", "project", ".venv/bin/oso-pipeline"]
    subprocess.run(command, cwd=project, env=new_shell(), check=True, capture_output=True)


@pytest.mark.parametrize("name", [EXAMPLE, "tap-postgres-cdc", "target-bigquery"])
def test_a_connector_image_holds_the_connector_and_its_locked_dependencies_only(
    name: str, tmp_path: Path
) -> None:
    folder = clone(ROOT, tmp_path / "project")
    place = tmp_path / "connector"
    subprocess.run(
        ["images/connector", name, str(place)], cwd=folder, env=new_shell(**BUILD), check=True
    )
    # Nothing in it may point into the sources, which the image does not have.
    shutil.rmtree(folder / "tap-oso-example")
    shutil.rmtree(folder / "extract")
    shutil.rmtree(folder / "load")
    before = written(place)
    env = new_shell(HOME=str(tmp_path))
    command = ["images/check", "connector", str(place / "bin" / "connector")]
    tried = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert tried.returncode == 0, tried.stderr
    assert tried.stdout.startswith(name if name != "target-bigquery" else "target-bigquery")
    assert written(place) == before
    found = versions(place)
    assert found.items() <= LOCKED.items()
    assert name in found
    assert not set(found) & {"meltano", "pytest", "ruff", "oso-connect-sandbox", "bqemulator"}


def versions(environment: Path) -> dict[str, str]:
    """The packages of an environment."""
    command = [str(ROOT / ".tools/bin/uv"), "pip", "list", "--format", "json", "--python"]
    done = subprocess.run([*command, str(environment)], capture_output=True, text=True, check=True)
    return {package["name"]: package["version"] for package in json.loads(done.stdout)}


def test_the_plugins_of_the_image_have_the_locked_versions(project: Path) -> None:
    for plugin in ("extractors/tap-oso-example", "loaders/target-bigquery"):
        found = versions(project / ".meltano" / plugin / "venv")
        found.pop("pip", None)
        assert len(found) > 10
        assert found.items() <= LOCKED.items()
