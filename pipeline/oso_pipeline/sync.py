"""One run of one source: `meltano el`, watched."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from oso_pipeline.log import LogReader
from oso_pipeline.project import PipelineError, Source, has_slot, is_ours, plugins
from oso_pipeline.report import Lag, Report

BIN = Path(sys.executable).parent
STATE_BACKEND = "MELTANO_STATE_BACKEND_URI"
LAG_SECONDS = 120


def install(root: Path, names: list[str]) -> None:
    """Install plugins, or all of them, ours with the versions that `uv.lock` holds.

    Raises:
        PipelineError: The project does not have one of them, or an installation failed.
    """
    known = plugins(root)
    wanted = names or list(known)
    for name in wanted:
        if name not in known:
            raise PipelineError(f"the project has no plugin {name!r}")
    versions = root / ".meltano" / "versions.txt"
    versions.parent.mkdir(exist_ok=True)
    export = "export --quiet --locked --all-packages --no-default-groups --no-emit-workspace"
    uv = [str(BIN / "uv"), *export.split(), "--no-hashes", "--output-file", str(versions)]
    _check(uv, root, os.environ)
    meltano = [str(BIN / "meltano"), "--log-level", "warning", "install"]
    ours = [name for name in wanted if is_ours(known[name])]
    others = [name for name in wanted if not is_ours(known[name])]
    if ours:
        _check([*meltano, *ours], root, {**os.environ, "UV_CONSTRAINT": str(versions)})
    if others:
        _check([*meltano, *others], root, os.environ)


def _check(command: list[str], root: Path, env: Mapping[str, str]) -> None:
    if subprocess.run(command, cwd=root, env=env, check=False).returncode != 0:
        raise PipelineError(f"this failed: {' '.join([Path(command[0]).name, *command[1:]])}")


def state_id(environment: str, source: Source) -> str:
    """Return the name that `meltano run` gives the state, so that both go on from one place."""
    return f"{environment}:{source.tap}-to-{source.target}"


def sync(
    root: Path,
    source: Source,
    environment: str,
    settings: Mapping[str, str],
    show: Callable[[str], None],
) -> Report:
    """Run a source to its end, and return how it went.

    SIGTERM and Ctrl-C are handed on to all of Meltano's processes, which then stop where they are.

    Args:
        root: The project.
        source: What to run.
        environment: Meltano's environment, which is a part of the state's name.
        settings: Variables for this run only; they win over the environment's own.
        show: Takes the lines of the log.

    Raises:
        PipelineError: The project lacks a plugin, or no state backend is set.
    """
    known = plugins(root)
    for name in (source.tap, source.target):
        if name not in known:
            raise PipelineError(f"the project has no plugin {name!r}")
    env = {**os.environ, **settings, "MELTANO_ENVIRONMENT": environment, "NO_COLOR": "1"}
    if source.dataset:
        env[f"{source.target.upper().replace('-', '_')}_DATASET"] = source.dataset
    if not env.get(STATE_BACKEND):
        raise PipelineError(
            f"{STATE_BACKEND} is not set: a machine that starts empty would copy everything each "
            "time. Set it to a place that stays, such as gs://bucket/state"
        )
    report: Report = {
        "tap": source.tap,
        "target": source.target,
        "exit_code": 1,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    log = LogReader()
    started = time.monotonic()
    report["exit_code"] = _run(root, source, env, lambda line: _show(log.read(line), show))
    report["seconds"] = round(time.monotonic() - started, 1)
    report["rows"] = log.rows
    if report["exit_code"] != 0:
        report["error"] = log.last_lines
    if has_slot(known[source.tap]):
        lag = slot_lag(root, source.tap, env)
        if lag is None:
            show(f"the lag of {source.tap}'s slot is not known")
        else:
            report["lag"] = lag
    return report


def _show(text: str | None, show: Callable[[str], None]) -> None:
    if text is not None:
        show(text)


def _run(root: Path, source: Source, env: Mapping[str, str], read: Callable[[str], None]) -> int:
    """Run `meltano el`, and return its exit code, or that of the signal which ended it."""
    name = state_id(env["MELTANO_ENVIRONMENT"], source)
    command = [str(BIN / "meltano"), "--log-format", "json", "el", source.tap, source.target]
    process = subprocess.Popen(
        [*command, "--state-id", name, "--no-install"],
        cwd=root,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # A group of its own: a Ctrl-C of the terminal would otherwise reach it twice.
        start_new_session=True,
    )
    assert process.stderr is not None  # noqa: S101 - it is piped
    with _handing_on(process) as received:
        for line in process.stderr:
            read(line)
        code = process.wait()
    if received:
        return 128 + received[0]
    return code if code >= 0 else 128 - code


@contextmanager
def _handing_on(process: subprocess.Popen[str]) -> Iterator[list[int]]:
    """Hand SIGTERM and SIGINT on to the group of a process; yields what was received."""
    received: list[int] = []

    def hand_on(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
        received.append(signum)
        if process.poll() is None:
            os.killpg(process.pid, signum)

    before = {each: signal.signal(each, hand_on) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def slot_lag(root: Path, tap: str, env: Mapping[str, str]) -> Lag | None:
    """Return how far a PostgreSQL source's slot is behind; `None` if it could not be asked."""
    command = [str(BIN / "meltano"), "--log-level", "error", "invoke", tap, "lag", "--format"]
    try:
        done = subprocess.run(
            [*command, "json"],
            cwd=root,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=LAG_SECONDS,
        )
        # Meltano may print lines of its own before the object.
        value = json.loads(done.stdout[done.stdout.index("{") :])
        return {"lag_bytes": int(value["lag_bytes"]), "lag_seconds": value["lag_seconds"]}
    except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None
