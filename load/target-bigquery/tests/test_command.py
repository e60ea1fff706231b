"""The command, and the target as Meltano runs it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sandbox.singer import INTEGER, record, schema, state

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
MELTANO = (BIN / "meltano", "--log-level", "error")
SERVICE_ACCOUNT = {
    "type": "service_account",
    "private_key": "S3CRET",
    "client_email": "a@b",
    "token_uri": "x",
}


def run(
    command: Sequence[str | Path], cwd: Path = ROOT, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def target(config: dict[str, Any], path: Path, text: str = "", **environ: str) -> Any:
    (path / "config.json").write_text(json.dumps(config))
    (path / "in").write_text(text)
    return run(
        [BIN / "target-bigquery", "--config", path / "config.json", "--input", path / "in"],
        environ=environ,
    )


def test_about_lists_every_setting_with_a_description() -> None:
    about = json.loads(run([BIN / "target-bigquery", "--about", "--format", "json"]).stdout)
    properties = about["settings"]["properties"]
    assert {"project", "dataset", "write_mode", "flush_bytes", "missing_properties"} <= set(
        properties
    )
    assert all(setting.get("description") for setting in properties.values())
    assert "stream_maps" not in properties


def test_a_missing_setting_is_one_line(tmp_path: Path) -> None:
    result = target({"project": "p"}, tmp_path)
    assert result.returncode == 1
    assert "'dataset' is a required property" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"credentials_json": "S3CRET"}, "'credentials_json' is not JSON"),
        ({"credentials_json": json.dumps(SERVICE_ACCOUNT)}, "no usable credentials"),
        ({"credentials_json": SERVICE_ACCOUNT}, "no usable credentials"),
        ({"credentials_path": "/nowhere/key.json"}, "/nowhere/key.json"),
        ({"delete_mode": "never"}, "delete_mode"),
        ({"overwrite": True}, "'overwrite'"),
    ],
)
def test_wrong_settings_are_one_line_without_secrets(
    tmp_path: Path, config: dict[str, Any], says: str
) -> None:
    text = json.dumps(schema("s", {"id": INTEGER})) + "\n"
    result = target(
        {"project": "p", "dataset": "d", **config}, tmp_path, text, BIGQUERY_EMULATOR_HOST=""
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert "S3CRET" not in result.stderr


def test_input_from_a_file(dataset: Any, tmp_path: Path) -> None:
    messages = [schema("s", {"id": INTEGER}), record("s", {"id": 1}), state({"x": 1})]
    text = "".join(json.dumps(message) + "\n" for message in messages)
    result = target(dataset.config(), tmp_path, text, **dataset.environ)
    assert (result.returncode, result.stdout) == (0, '{"x": 1}\n')
    assert dataset.rows("s", "id") == [(1,)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of this project's Meltano files."""
    shutil.copy(ROOT / "meltano.yml", tmp_path)
    for part in ("load", "plugins"):
        (tmp_path / part).mkdir()
    shutil.copy(ROOT / "load" / "bigquery.meltano.yml", tmp_path / "load")
    shutil.copytree(ROOT / "plugins" / "loaders", tmp_path / "plugins" / "loaders")
    return tmp_path


def compiled(project: Path, **environ: str) -> dict[str, Any]:
    result = run(
        [*MELTANO, "invoke", "--no-install", "--dump=config", "target-bigquery"], project, environ
    )
    assert result.returncode == 0, result.stderr
    config: dict[str, Any] = json.loads(result.stdout)
    return config


def test_settings_reach_the_target_and_the_environment_beats_them(project: Path) -> None:
    path = project / "load" / "bigquery.meltano.yml"
    path.write_text(
        path.read_text().rstrip()
        + "\n    config:\n      dataset: from_file\n      delete_mode: hard\n"
        + "      write_mode:\n        events-*: append\n"
    )
    config = compiled(project, TARGET_BIGQUERY_DATASET="from_env", TARGET_BIGQUERY_FLUSH_ROWS="7")
    assert config["dataset"] == "from_env"
    assert config["delete_mode"] == "hard"
    assert config["write_mode"] == {"events-*": "append"}
    assert config["flush_rows"] == 7
    assert "method" not in config


def test_one_word_switches_the_variant(project: Path) -> None:
    path = project / "load" / "bigquery.meltano.yml"
    before = path.read_text()
    path.write_text(before.replace("variant: oso", "variant: z3z1ma"))
    assert path.read_text() != before
    config = compiled(project, TARGET_BIGQUERY_DATASET="d")
    assert (config["method"], config["batch_size"], config["dataset"]) == (
        "storage_write_api",
        500,
        "d",
    )


def test_meltano_runs_the_target_of_this_project(dataset: Any, tmp_path: Path) -> None:
    messages = [schema("s", {"id": INTEGER}), record("s", {"id": 1}), state({"x": 1})]
    path = tmp_path / "in"
    path.write_text("".join(json.dumps(message) + "\n" for message in messages))
    names = {"TARGET_BIGQUERY_PROJECT": dataset.project, "TARGET_BIGQUERY_DATASET": dataset.name}
    result = run(
        [*MELTANO, "invoke", "target-bigquery", "--input", path],
        environ={**names, **dataset.environ},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith('{"x": 1}')
    assert dataset.rows("s", "id") == [(1,)]
