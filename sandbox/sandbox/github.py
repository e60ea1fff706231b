"""GitHub as far as the workflows use it: an API for issues, and jobs whose steps are run."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from starlette.requests import Request

TOKEN = "a-github-token"  # noqa: S105 - nothing is behind it


@dataclass
class Issues:
    """The issues of a repository: https://docs.github.com/en/rest/issues."""

    url: str = ""
    issues: list[dict[str, Any]] = field(default_factory=list)
    comments: list[tuple[int, str]] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        """What GitHub gives to a job."""
        return {
            "GITHUB_API_URL": self.url,
            "GITHUB_REPOSITORY": "oso/connect",
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_RUN_ID": "7",
            "GITHUB_TOKEN": TOKEN,
        }

    @property
    def app(self) -> Starlette:
        """The API, to be served by an `HttpSandbox`."""
        methods = ["GET", "POST", "PATCH"]
        return Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])

    async def _answer(self, request: Request) -> Response:
        if request.headers["authorization"] != f"Bearer {TOKEN}":
            return JSONResponse({"message": "Bad credentials"}, status_code=401)
        body = json.loads(await request.body() or b"{}")
        match request.method, request.url.path.removeprefix("/repos/oso/connect/issues").split("/"):
            case "GET", [""]:
                label, state = request.query_params["labels"], request.query_params["state"]
                found = [i for i in self.issues if label in i["labels"] and i["state"] == state]
                return JSONResponse(found)
            case "POST", [""]:
                self.issues.append({**body, "number": len(self.issues) + 1, "state": "open"})
                return JSONResponse(self.issues[-1], status_code=201)
            case "POST", ["", number, "comments"]:
                self.comments.append((int(number), body["body"]))
                return JSONResponse({}, status_code=201)
            case "PATCH", ["", number]:
                self.issues[int(number) - 1].update(body)
                return JSONResponse(self.issues[int(number) - 1])
        return JSONResponse({}, status_code=404)


@dataclass
class Done:
    """What a job's own steps did."""

    exit_code: int
    log: str
    output: dict[str, str]
    summary: str


def run_job(
    project: Path,
    workflow: str,
    job: str,
    folder: Path,
    context: Mapping[str, str],
    env: Mapping[str, str],
) -> Done:
    """Run the steps of a job that are shell, also those of our own action, as a runner does.

    Args:
        project: The checkout.
        workflow: Name of the workflow's file.
        job: Name of the job.
        folder: What GitHub gives to a job: its files and `runner.temp`.
        context: What the expressions stand for, by their text.
        env: The environment of the runner.
    """
    definition = YAML(typ="safe").load(project / ".github" / "workflows" / workflow)["jobs"][job]
    folder.mkdir(exist_ok=True)
    known = {**context, "runner.temp": str(folder)}
    files = {"GITHUB_OUTPUT": folder / "output", "GITHUB_STEP_SUMMARY": folder / "summary"}
    for file in files.values():
        file.touch()
    environ = {**env, "GITHUB_ACTIONS": "true"}
    environ |= {name: str(file) for name, file in files.items()}
    environ |= _filled(definition.get("env", {}), known)
    log = ""
    code = 0
    for step in _own_steps(project, definition["steps"], known):
        run = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=project,
            env={**environ, **step["env"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        log += run.stdout
        code = run.returncode
        if code != 0:
            break
    lines = files["GITHUB_OUTPUT"].read_text().splitlines()
    output = dict(line.split("=", 1) for line in lines)
    return Done(code, log, output, files["GITHUB_STEP_SUMMARY"].read_text())


def _own_steps(
    project: Path, steps: list[dict[str, Any]], context: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    for step in steps:
        env = _filled(step.get("env", {}), context)
        if "run" in step:
            assert "${{" not in step["run"], "an expression in a script can inject commands"
            yield {"run": step["run"], "env": env}
        elif step["uses"].startswith("./"):
            action = project / step["uses"]
            definition = YAML(typ="safe").load(action / "action.yml")
            given = _filled(step["with"], context)
            inputs = {
                f"inputs.{name}": given.get(name, str(about.get("default", "")))
                for name, about in definition["inputs"].items()
            }
            inputs = _filled(inputs, context)
            for inner in _own_steps(project, definition["runs"]["steps"], {**context, **inputs}):
                path = {"GITHUB_ACTION_PATH": str(action)}
                yield {"run": inner["run"], "env": {**env, **path, **inner["env"]}}


def _filled(values: Mapping[str, Any], context: Mapping[str, str]) -> dict[str, str]:
    expression = re.compile(r"\$\{\{ (.+?) \}\}")
    return {
        name: expression.sub(lambda found: context[found[1]], str(value))
        for name, value in values.items()
    }
