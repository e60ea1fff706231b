"""The parts of the pipeline: the list, the log, the page, the issue, and one run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oso_pipeline.issues import notify
from oso_pipeline.log import LogReader
from oso_pipeline.project import PipelineError, Source, has_slot, is_ours, plugins, sources
from oso_pipeline.report import Report, read_reports, summary
from oso_pipeline.secrets import mask_commands, redacted, secrets_in, settings_of
from sandbox.http import HttpSandbox, World
from sandbox.meltano import Meltano

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.github import Issues

ROOT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).with_name("oso-pipeline"))
EXAMPLE = "tap-oso-example"
GOOD: Report = {
    "tap": "tap-a",
    "target": "target-bigquery",
    "exit_code": 0,
    "seconds": 3725.4,
    "rows": {"b": 1200, "a": 34},
    "lag": {"lag_bytes": 5 * 1024 * 1024, "lag_seconds": 61.0},
}
BAD: Report = {
    "tap": "tap-b",
    "target": "target-bigquery",
    "exit_code": 1,
    "seconds": 2.0,
    "rows": {},
    "error": "tap-b: setting `x`: missing",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the project says about its plugins."""
    for folder in ("extract", "load"):
        (tmp_path / folder).mkdir()
        for file in (ROOT / folder).glob("*.meltano.yml"):
            shutil.copy(file, tmp_path / folder)
    shutil.copytree(ROOT / "plugins", tmp_path / "plugins")
    (tmp_path / "pipeline").mkdir()
    return tmp_path


def test_the_list_is_read_with_its_defaults(project: Path) -> None:
    (project / "pipeline" / "sources.yml").write_text(
        "- {tap: tap-oso-example}\n"
        "- {tap: tap-my-postgres-datasource, target: target-jsonl, dataset: votes}\n"
    )
    assert sources(project) == [
        Source("tap-oso-example", "target-bigquery", ""),
        Source("tap-my-postgres-datasource", "target-jsonl", "votes"),
    ]


def test_the_projects_own_list_is_right() -> None:
    assert sources(ROOT)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has to be a list of sources"),
        ("tap: tap-oso-example", "has to be a list of sources"),
        ("- tap-oso-example", "source 1: it has to be like {tap: tap-my-source}"),
        ("- {tap: tap-nobody}", "source 1: the project has no plugin 'tap-nobody'"),
        ("- {tap: tap-oso-example, target: x}", "the project has no plugin 'x'"),
        ("- {tap: tap-oso-example, data: x}", "'data' is none of tap, target, dataset"),
        ("- {tap: tap-oso-example}\n- {tap: tap-oso-example}", "source 2: tap-oso-example is in"),
        ("- {tap: [", "can't be read"),
    ],
)
def test_a_wrong_list_is_refused_with_the_line(project: Path, text: str, reason: str) -> None:
    (project / "pipeline" / "sources.yml").write_text(text)
    with pytest.raises(PipelineError) as error:
        sources(project)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_plugins_know_what_they_inherit(project: Path) -> None:
    (project / "extract" / "second.meltano.yml").write_text(
        "plugins: {extractors: [{name: tap-second, inherit_from: tap-my-postgres-datasource}]}"
    )
    found = plugins(project)
    assert [name for name, plugin in found.items() if has_slot(plugin)] == [
        "tap-my-postgres-datasource",
        "tap-second",
    ]
    assert [name for name, plugin in found.items() if not is_ours(plugin)] == ["target-jsonl"]


def test_airbytes_variant_has_no_lag_of_ours(project: Path) -> None:
    file = project / "extract" / "postgres.meltano.yml"
    file.write_text(file.read_text().replace("variant: oso", "variant: airbyte"))
    plugin = plugins(project)["tap-my-postgres-datasource"]
    assert not has_slot(plugin)
    assert not is_ours(plugin)


def line(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, "level": "info", **fields})


def count(kind: str, stream: str, rows: int) -> str:
    point = {"metric": "record_count", "value": rows, "tags": {"stream": stream}}
    return line("METRIC", cmd_type=kind, metric_info=point)


def test_rows_are_what_the_target_has_loaded() -> None:
    log = LogReader()
    for text in (count("extractor", "a", 9), count("loader", "a", 3), count("loader", "a", 4)):
        assert log.read(text) is None
    assert log.rows == {"a": 7}


def test_rows_are_what_the_tap_has_read_when_the_target_does_not_count() -> None:
    log = LogReader()
    metric = json.dumps({"metric": "record_count", "value": 9, "tags": {"stream": "a"}})
    log.read(line(f"METRIC: {metric}", cmd_type="extractor"))
    log.read(line("METRIC: not JSON", cmd_type="extractor"))
    log.read(line("METRIC", cmd_type="extractor", metric_info={"metric": "http_request_count"}))
    assert log.rows == {"a": 9}


def test_lines_of_the_log_are_for_people() -> None:
    log = LogReader()
    entry = line("Copied", name="tap-a", timestamp="2026-01-02T03:04:05.6Z")
    assert log.read(entry) == "03:04:05 info    tap-a: Copied"
    assert log.read("a warning of Python\n") == "info    meltano: a warning of Python"
    assert log.read(line("")) is None


def test_the_reason_of_a_failure_is_kept_without_what_meltano_says_of_itself() -> None:
    log = LogReader()
    log.read(line("GET http://x: HTTP 500", name="tap-a"))
    log.read(line("Incremental state has been updated", name="meltano"))
    log.read(line("Extraction failed", name="meltano", level="error", message="HTTP 500"))
    assert log.last_lines == ("tap-a: GET http://x: HTTP 500\nmeltano: Extraction failed: HTTP 500")


def test_the_page_shows_rows_duration_lag_and_reasons() -> None:
    page = summary([GOOD, BAD]).splitlines()
    assert page[0] == "## Data pipeline: 1 of 2 sources failed"
    assert "| tap-a → target-bigquery | ✓ | 1,234 | 1:02:05 | 5 MiB, 0:01:01 |" in page
    assert "| tap-b → target-bigquery | ✗ exit code 1 | 0 | 0:00:02 |  |" in page
    assert page.index("| tap-a | a | 34 |") < page.index("| tap-a | b | 1,200 |")
    assert "tap-b: setting `x`: missing" in page


def test_a_source_without_a_report_has_failed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.json").write_text(json.dumps(GOOD))
    expected = [Source("tap-a", "target-bigquery", ""), Source("tap-c", "target-jsonl", "")]
    good, missing = read_reports(tmp_path, expected)
    assert good == GOOD
    assert (missing["tap"], missing["exit_code"]) == ("tap-c", 1)
    assert "| tap-c → target-jsonl | ✗ exit code 1 |  |  |  |" in summary([good, missing])


def test_a_broken_report_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(PipelineError, match=r"a\.json is not a report"):
        read_reports(tmp_path, [])


def test_settings_are_read_as_a_dotenv_file() -> None:
    text = 'A=1\n# comment\nLIST=\'["x"]\'\nKEY="line 1\nline 2"\nexport B=$A\nEMPTY=\n'
    settings = settings_of({"SOURCE_ENV": text})
    assert settings == {
        "A": "1",
        "LIST": '["x"]',
        "KEY": "line 1\nline 2",
        "B": "$A",
        "EMPTY": "",
    }
    assert settings_of({}) == {}


def test_secrets_are_masked_line_by_line_and_redacted_longest_first() -> None:
    secrets = secrets_in(
        {"A": "word1", "B": "word1-and-more", "PORT": "5432", "KEY": "aaaaa\nbbb%b"}
    )
    assert secrets == ["word1-and-more", "aaaaa", "bbb%b", "word1"]
    assert "::add-mask::bbb%25b" in list(mask_commands(secrets))
    assert redacted("word1-and-more word1 5432", secrets) == "*** *** 5432"


def test_one_issue_is_open_while_sources_fail(github: Issues) -> None:
    assert notify([GOOD], github.environ) == "nothing to tell"
    assert notify([GOOD, BAD], github.environ) == "opened issue 1"
    assert notify([BAD], github.environ) == "added to issue 1"
    assert notify([GOOD], github.environ) == "closed issue 1"
    assert notify([BAD], github.environ) == "opened issue 2"
    assert [issue["state"] for issue in github.issues] == ["closed", "open"]
    assert [number for number, _ in github.comments] == [1, 1]


def test_a_refusal_of_github_is_told_without_the_token(github: Issues) -> None:
    with pytest.raises(PipelineError, match="401") as error:
        notify([BAD], {**github.environ, "GITHUB_TOKEN": "wrong-token"})
    assert "wrong-token" not in str(error.value)


def test_outside_a_job_notify_says_what_is_missing() -> None:
    with pytest.raises(PipelineError, match="GITHUB_REPOSITORY is not set"):
        notify([BAD], {})


@pytest.fixture
def http() -> Iterator[HttpSandbox]:
    with HttpSandbox(World.generate(comics=20, organizations=0)) as server:
        yield server


@pytest.fixture
def environ(tmp_path: Path, http: HttpSandbox) -> dict[str, str]:
    meltano = Meltano(ROOT, tmp_path, {"TAP_OSO_EXAMPLE_XKCD_URL": f"{http.url}/xkcd"})
    return {**meltano.env, "MELTANO_STATE_BACKEND_URI": f"file://{tmp_path}/state"}


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "backend", "reason"),
    [
        (("sync", "tap-nobody"), "file:///x", "the project has no plugin 'tap-nobody'"),
        (("sync", EXAMPLE, "target-x"), "file:///x", "the project has no plugin 'target-x'"),
        (("install", "tap-nobody"), "", "the project has no plugin 'tap-nobody'"),
        (("sync", EXAMPLE), "", "MELTANO_STATE_BACKEND_URI is not set"),
    ],
)
def test_what_can_not_be_run_is_refused_in_one_line(
    environ: dict[str, str], arguments: tuple[str, ...], backend: str, reason: str
) -> None:
    done = run({**environ, "MELTANO_STATE_BACKEND_URI": backend}, *arguments)
    assert done.returncode == 1
    [only] = done.stderr.splitlines()
    assert only.startswith("Error: ")
    assert reason in only


def test_outside_the_project_it_says_where_to_run_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "sources"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "run this in the project's folder" in done.stderr


def test_sigterm_stops_a_run_and_the_next_one_brings_the_rest(
    environ: dict[str, str], http: HttpSandbox, tmp_path: Path
) -> None:
    http.world.comics = 400
    http.latency = 0.05
    command = [COMMAND, "sync", EXAMPLE, "target-jsonl", "--report", str(tmp_path / "reports")]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**environ, "TAP_OSO_EXAMPLE_CONCURRENCY": "2"}
    )
    while len(http.requests) < 250 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    report = json.loads((tmp_path / "reports" / f"{EXAMPLE}.json").read_text())
    assert report["exit_code"] == 128 + signal.SIGTERM

    http.latency = 0
    done = run(environ, "sync", EXAMPLE, "target-jsonl")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "xkcd_comics.jsonl").read_text().splitlines()
    assert {json.loads(text)["num"] for text in lines} == set(range(1, 401))


def test_changed_images_are_those_whose_files_changed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", *author, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def changed(since: str) -> list[str]:
        command = ["images/changed", since]
        out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        name, _, matrix = out.stdout.partition("=")
        assert name == "matrix"
        return [entry["name"] for entry in json.loads(matrix)["include"]]

    def commit(path: str) -> str:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("new")
        git("add", "--all")
        git("commit", "--message", path)
        return git("rev-parse", "HEAD")

    shutil.copytree(ROOT / "images", tmp_path / "images")
    git("init", "--quiet")
    for folder in ("tap-x", "extract/tap-y", "load/target-z"):
        commit(f"{folder}/pyproject.toml")
    first = commit("meltano.yml")
    everything = ["tap-x", "tap-y", "target-z", "oso-connect"]
    assert changed("") == changed("0" * 40) == everything
    assert changed(first) == []
    second = commit("docs/page.md")
    assert changed(first) == []
    commit("tap-x/a.py")
    assert changed(second) == ["tap-x", "oso-connect"]
    third = commit("extract/y.meltano.yml")
    assert changed(git("rev-parse", "HEAD^")) == ["oso-connect"]
    commit("uv.lock")
    assert changed(third) == everything


def test_the_images_try_nothing_that_is_not_there(tmp_path: Path) -> None:
    """A connector that does not start is not published."""
    check = ROOT / "images" / "check"
    assert subprocess.run([check, "connector", "false"], check=False).returncode != 0
    assert os.access(check, os.X_OK)
