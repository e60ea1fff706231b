"""docs/write-a-tap.md, followed to the letter by its commands and its code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.http import HttpSandbox, World
from sandbox.shell import new_shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "write-a-tap.md").read_text(encoding="utf-8")
TOKEN = "library-token"
PAGE_SIZE = 2

pytestmark = pytest.mark.timeout(900)


def commands() -> list[str]:
    """The commands of the page, each once, without their comments."""
    blocks = re.findall(r"```console\n(.+?)```", PAGE, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines)
    return list(dict.fromkeys(line[2:].split("  #")[0].strip() for line in lines))


def code() -> list[str]:
    return re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)


def run(folder: Path, command: str, **env: str) -> str:
    done = subprocess.run(
        ["bash", "-ec", command],
        cwd=folder,
        env=new_shell(**env),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@dataclass
class Library:
    """The API of the page's example: books with the time of their last change, and reviews."""

    books: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/shelves/{shelf}/books", self._books),
                Route("/books/{book:int}/reviews", self._reviews),
            ]
        )

    async def _books(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({}, status_code=401)
        self.asked.append(str(request.url.query))
        since = request.query_params.get("changed_since", "")
        rows = [b for b in self.books[request.path_params["shelf"]] if b["changed_at"] >= since]
        page = int(request.query_params.get("page", "1"))
        more = len(rows) > page * PAGE_SIZE
        chosen = rows[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
        return JSONResponse({"rows": chosen, "next": page + 1 if more else None})

    async def _reviews(self, request: Request) -> Response:
        book = request.path_params["book"]
        if book == 3:  # deleted after it was listed
            return JSONResponse({}, status_code=404)
        return JSONResponse({"rows": [{"number": n, "stars": 5} for n in (1, 2)], "next": None})


def book(number: int, day: int, **more: Any) -> dict[str, Any]:
    changed = f"2026-01-{day:02}T00:00:00+00:00"
    return {"id": number, "title": f"Book {number}", "price": 9.5, "changed_at": changed, **more}


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Iterator[Path]:
    """The clone with the new tap, which is as before afterwards."""
    kept = tmp_path / "kept"
    shutil.copytree(made / "tap-my-source", kept / "tap")
    shutil.copy(made / "extract" / "my-source.meltano.yml", kept)
    yield made
    shutil.rmtree(made / "tap-my-source")
    shutil.move(kept / "tap", made / "tap-my-source")
    shutil.move(kept / "my-source.meltano.yml", made / "extract" / "my-source.meltano.yml")


def test_the_page_can_be_followed(project: Path, tmp_path: Path) -> None:
    first, *rest = commands()
    assert first == "make new-tap NAME=tap-my-source"  # which has made the project
    with HttpSandbox(World.generate(comics=12)) as server:
        env = {"TAP_MY_SOURCE_API_URL": f"{server.url}/xkcd"}
        for command in rest:
            # What the project checks as a whole has been checked of the new tap alone.
            if command.startswith("make "):
                assert command in {"make lint", "make test ARGS=tap-my-source/tests"}
                continue
            run(project, command, **env)
    last = (project / "messages.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["value"]["bookmarks"]["my_source_items"]["replication_key_value"] == 12
    stream_maps(project)
    library(project, tmp_path)


def stream_maps(project: Path) -> None:
    """The stream maps of the page do what is said beside them."""
    [maps] = re.findall(r"```yaml\n(    config:.+?)```", PAGE, re.DOTALL)
    plugin = project / "extract" / "my-source.meltano.yml"
    before = plugin.read_text()
    # `select` has written to the file: take that back.
    plugin.write_text(re.sub(r"    select:\n(    - .*\n)+", "", before) + maps)
    with HttpSandbox(World.generate(comics=3)) as server:
        out = run(
            project,
            ".venv/bin/meltano --log-level error invoke tap-my-source",
            TAP_MY_SOURCE_API_URL=f"{server.url}/xkcd",
        )
    plugin.write_text(before)
    messages = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    records = [message["record"] for message in messages if message["type"] == "RECORD"]
    assert [record["num_text"] for record in records] == ["1", "2", "3"]
    assert not any("transcript" in record for record in records)


def library(project: Path, folder: Path) -> None:
    """The example of the page reads pages, partitions, children and what is new."""
    items, tap_class = code()
    package = project / "tap-my-source" / "tap_my_source"
    (package / "items.py").write_text(items)
    head, _, _ = (package / "tap.py").read_text().partition("class TapMySource")
    head = head.replace("import MySourceItems", "import Books, Reviews")
    (package / "tap.py").write_text(head + tap_class)
    run(project, ".venv/bin/ruff format --check tap-my-source/tap_my_source")
    run(project, ".venv/bin/ruff check tap-my-source/tap_my_source")
    run(project, ".venv/bin/mypy tap-my-source/tap_my_source")
    api = Library(
        {"a": [book(n, n) for n in (1, 2, 3)], "b": [book(9, 1, authors=[{"name": "x"}])]}
    )
    with HttpSandbox(app=api.app) as server:
        config = {"api_url": server.url, "api_token": TOKEN, "shelves": ["a", "b"]}
        (folder / "config.json").write_text(json.dumps(config))
        command = f".venv/bin/tap-my-source --config {folder}/config.json"
        messages = [json.loads(line) for line in run(project, command).splitlines()]
        assert records_of(messages, "my_source_books", "id") == [1, 2, 3, 9]
        assert records_of(messages, "my_source_books", "shelf") == ["a", "a", "a", "b"]
        assert records_of(messages, "my_source_books", "author") == [None, None, None, "x"]
        assert records_of(messages, "my_source_books", "price") == ["9.5"] * 4
        assert records_of(messages, "my_source_reviews", "book_id") == [1, 1, 2, 2, 9, 9]
        assert "page=2" in api.asked

        api.books["a"].append(book(4, 9))
        (folder / "state.json").write_text(json.dumps(messages[-1]["value"]))
        again = run(project, f"{command} --state {folder}/state.json")
        messages = [json.loads(line) for line in again.splitlines()]
        # The last of each shelf comes again: the moment its bookmark names may hold others.
        assert records_of(messages, "my_source_books", "id") == [3, 4, 9]


def records_of(messages: list[dict[str, Any]], stream: str, column: str) -> list[Any]:
    found = [m["record"] for m in messages if m["type"] == "RECORD" and m["stream"] == stream]
    return [record[column] for record in found]
