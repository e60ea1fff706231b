"""The issue that is open while a source fails: https://docs.github.com/en/rest/issues."""

from collections.abc import Mapping, Sequence
from typing import Any

import requests

from oso_pipeline.project import PipelineError
from oso_pipeline.report import Report, failed, summary

LABEL = "data-pipeline"
TITLE = "The data pipeline fails"
SECONDS = 30


def notify(reports: Sequence[Report], environ: Mapping[str, str]) -> str:
    """Open an issue, add to the one that is open, or close it when all is well.

    Args:
        reports: One per source.
        environ: What GitHub gives to a job: `GITHUB_API_URL`, `GITHUB_REPOSITORY`, `GITHUB_TOKEN`,
            `GITHUB_SERVER_URL` and `GITHUB_RUN_ID`.

    Returns:
        What was done.

    Raises:
        PipelineError: GitHub could not be asked.
    """
    try:
        repository = environ["GITHUB_REPOSITORY"]
        issues = f"{environ['GITHUB_API_URL']}/repos/{repository}/issues"
        run = f"{environ['GITHUB_SERVER_URL']}/{repository}/actions/runs/{environ['GITHUB_RUN_ID']}"
        token = environ["GITHUB_TOKEN"]
    except KeyError as error:
        raise PipelineError(f"{error.args[0]} is not set: notify runs in a GitHub job") from None
    body = f"{summary(reports)}\n[The run]({run})\n"
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"
        session.headers["Accept"] = "application/vnd.github+json"
        found = _ask(session, "GET", issues, params={"labels": LABEL, "state": "open"})
        number = found[0]["number"] if found else None
        if failed(reports) and number is None:
            new = {"title": TITLE, "body": body, "labels": [LABEL]}
            return f"opened issue {_ask(session, 'POST', issues, json=new)['number']}"
        if number is None:
            return "nothing to tell"
        _ask(session, "POST", f"{issues}/{number}/comments", json={"body": body})
        if failed(reports):
            return f"added to issue {number}"
        _ask(session, "PATCH", f"{issues}/{number}", json={"state": "closed"})
        return f"closed issue {number}"


def _ask(session: requests.Session, method: str, url: str, **options: Any) -> Any:
    try:
        response = session.request(method, url, timeout=SECONDS, **options)
        response.raise_for_status()
        return response.json()
    except requests.RequestException as error:
        raise PipelineError(f"{method} {url}: {error}") from error
