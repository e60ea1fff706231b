"""Responses of a real API, kept as files and served again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request


def recorded(folder: Path) -> Starlette:
    """Build an application that answers a request with the file of its name.

    `GET /items?page=2` is answered with `items?page=2.json`, and `GET /1/info.0.json` with
    `1/info.0.json`, both in `folder`; what was not recorded is 404 with the name of the file. So
    `curl 'https://api.example.org/items?page=2' -o 'items?page=2.json'` makes a recording.
    """

    async def answer(request: Request) -> Response:
        name = request.url.path.lstrip("/") or "index"
        if request.url.query:
            name = f"{name}?{request.url.query}"
        file = folder / (name if name.endswith(".json") else f"{name}.json")
        if not file.is_file():
            return JSONResponse({"message": f"not recorded: {file.name}"}, status_code=404)
        return FileResponse(file, media_type="application/json")

    return Starlette(routes=[Route("/{path:path}", answer)])
