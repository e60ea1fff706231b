"""What a whole run leaves behind, shows and passes on: secrets are in none of it."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from sandbox.bigquery import PROJECT, BigQueryEmulator
from sandbox.meltano import EXECUTABLE, Meltano
from sandbox.postgres import HOST, Postgres, embedded_programs, running
from sandbox.ssh import running_ssh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.ssh import SshServer

ROOT = Path(__file__).parents[1]
TAP = "tap-my-postgres-datasource"
PIPELINE = ("run", TAP, "target-bigquery")
PASSWORD = "Pa:ss/word @of %the% database"
OTHERS = 0o077


@pytest.fixture
def server() -> Iterator[Postgres]:
    with running(embedded_programs()) as server, server.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, name text)")
        connection.execute("INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, 5000) i")
        connection.execute(f"CREATE ROLE reader LOGIN REPLICATION PASSWORD '{PASSWORD}'")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        connection.execute("CREATE PUBLICATION oso_publication FOR TABLE t")
        connection.execute("SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput')")
        yield server


class Project:
    """A copy of the project with secrets in `.env`, and whatever of a run could show them."""

    def __init__(self, folder: Path, server: Postgres, ssh: SshServer, environ: dict[str, str]):
        self.folder = folder
        temporary = folder / "tmp"
        temporary.mkdir()
        settings = {
            **environ,
            "TARGET_BIGQUERY_PROJECT": PROJECT,
            "TARGET_BIGQUERY_DATASET": "secrets",
            "TMPDIR": str(temporary),
        }
        self.meltano = Meltano.in_copy(ROOT, folder, settings)
        self.env_file = self.meltano.root / ".env"
        self.env_file.unlink(missing_ok=True)
        self.ssh = ssh
        self.settings = {
            "AIRBYTE_CONFIG_HOST": HOST,
            "AIRBYTE_CONFIG_PORT": str(server.port),
            "AIRBYTE_CONFIG_DATABASE": "postgres",
            "AIRBYTE_CONFIG_USERNAME": "reader",
            "AIRBYTE_CONFIG_PASSWORD": PASSWORD,
            # The embedded server does not speak TLS.
            "AIRBYTE_CONFIG_SSL_MODE_MODE": "disable",
            "AIRBYTE_CONFIG_TUNNEL_METHOD_TUNNEL_HOST": HOST,
            "AIRBYTE_CONFIG_TUNNEL_METHOD_TUNNEL_PORT": str(ssh.port),
            "AIRBYTE_CONFIG_TUNNEL_METHOD_SSH_KEY": ssh.key.strip().replace("\n", "\\n"),
            "AIRBYTE_CONFIG_TUNNEL_METHOD_TUNNEL_USER_PASSWORD": ssh.password,
            "TUNNEL_HOST_KEY": ssh.host_key,
        }
        self.seen: list[str] = []

    def use(self, method: str, **changes: str) -> None:
        """Write `.env`, with a way through the tunnel."""
        by_password = method == "SSH_PASSWORD_AUTH"
        user = (self.ssh.password_user or "nobody") if by_password else self.ssh.user
        self.settings |= {
            "AIRBYTE_CONFIG_TUNNEL_METHOD_TUNNEL_METHOD": method,
            "AIRBYTE_CONFIG_TUNNEL_METHOD_TUNNEL_USER": user,
        }
        lines = [
            f"TAP_MY_POSTGRES_DATASOURCE_{name}='{value}'\n"
            for name, value in {**self.settings, **changes}.items()
        ]
        self.env_file.touch(mode=0o600)
        self.env_file.write_text("".join(lines))

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command, watching processes and files meanwhile; gives code and log."""
        log = self.folder / "tmp" / "command.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [EXECUTABLE, *arguments],
                cwd=self.meltano.root,
                env=self.meltano.env,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            while process.poll() is None:
                self.watch()
                time.sleep(0.1)
        text = log.read_text()
        self.note("the log", text.encode())
        log.unlink()
        return process.returncode, text

    def watch(self) -> None:
        """Look at all processes and at the files of the run as they are now."""
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                self.note(f"arguments of {process}", (process / "cmdline").read_bytes())
        for file in self.files():
            with suppress(FileNotFoundError):
                if not is_of_meltano(file) or may_be_read_by_others(file):
                    self.note(str(file), file.read_bytes())

    def files(self) -> list[Path]:
        """The files that a run may have written."""
        places = (self.folder, self.meltano.root / ".meltano" / "run", ROOT / ".meltano" / "logs")
        found = [file for place in places for file in place.resolve().rglob("*") if file.is_file()]
        return [file for file in found if file != self.env_file]

    def note(self, where: str, content: bytes) -> None:
        self.seen += [f"{name} in {where}" for name in self.found_in(content)]

    def found_in(self, content: bytes) -> list[str]:
        """The names of the secrets that are in a text, as they are or as in a URL."""
        secrets = {"password": [PASSWORD, quote(PASSWORD), quote(PASSWORD, safe="")]}
        secrets["SSH key"] = [line for line in self.ssh.key.splitlines() if "-----" not in line]
        secrets["SSH password"] = [self.ssh.password] if self.ssh.password else []
        return [
            name
            for name, forms in secrets.items()
            if any(form.encode() in content for form in forms)
        ]


def is_of_meltano(file: Path) -> bool:
    """Whether it is the file in which Meltano hands its settings to a plugin."""
    return file.name.endswith(".config.json") and file.parent.parent.name == "run"


def may_be_read_by_others(file: Path) -> bool:
    """Whether neither it nor a folder above it keeps other users away."""
    return all(place.stat().st_mode & OTHERS for place in (file, *file.parents))


@pytest.fixture
def project(tmp_path: Path, server: Postgres) -> Iterator[Project]:
    with running_ssh(with_password=True) as ssh, BigQueryEmulator() as warehouse:
        yield Project(tmp_path, server, ssh, dict(warehouse.environ))


def test_secrets_are_nowhere_but_where_they_were_put(project: Project, server: Postgres) -> None:
    """Runs that succeed and runs that fail in every place that knows a secret."""
    failing = {
        "AIRBYTE_CONFIG_USERNAME": ("nobody", 'the server refused user "nobody"'),
        "TUNNEL_HOST_KEY": ("", "is unknown, so it could be anyone's"),
    }
    methods = ["SSH_KEY_AUTH", *(["SSH_PASSWORD_AUTH"] if project.ssh.password else [])]
    for method in methods:
        project.use(method)
        code, log = project.run("--log-level", "debug", *PIPELINE)
        assert code == 0, log[-3000:]
        assert "chmod 600" not in log
    for name, (value, reason) in failing.items():
        project.use("SSH_KEY_AUTH", **{name: value})
        code, log = project.run("--log-level", "debug", *PIPELINE)
        assert code == 1
        assert reason in log
    state = project.meltano.state("dev:tap-my-postgres-datasource-to-target-bigquery")
    assert state["bookmarks"]["t"]
    project.note("the state", str(state).encode())
    project.note("the server's log", server.log.read_bytes())
    assert project.found_in(project.env_file.read_bytes())  # the search finds them
    left = [file for file in project.files() if project.found_in(file.read_bytes())]
    assert left == []
    assert project.seen == []


def test_env_file_that_others_may_read_is_told(project: Project) -> None:
    project.use("SSH_KEY_AUTH")
    project.env_file.chmod(0o644)
    _, log = project.run("config", "test", TAP)
    assert f"Other users of this machine may read {project.env_file}: chmod 600" in log
