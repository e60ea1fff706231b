"""The routes of the local XKCD and GitHub APIs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from sandbox.http.world import MISSING_COMIC, Release, Repository, World, comic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request


def make_app(world: World, *, token: str | None = None) -> Starlette:
    """Build an application that answers from `world`: XKCD under `/xkcd`, GitHub under `/github`.

    With `token`, the GitHub part refuses requests that do not bear it, as a private organization
    does.
    """
    return Starlette(
        routes=[
            Mount("/xkcd", routes=_xkcd_routes(world)),
            Mount("/github", routes=_github_routes(world, token)),
        ],
        exception_handlers={404: _not_found},
    )


def _xkcd_routes(world: World) -> list[Route]:
    async def latest(_: Request) -> Response:
        return JSONResponse(comic(world.comics))

    async def one(request: Request) -> Response:
        number = request.path_params["number"]
        if number == MISSING_COMIC or not 1 <= number <= world.comics:
            raise HTTPException(404)
        return JSONResponse(comic(number))

    async def publish(request: Request) -> Response:
        world.comics += int(request.query_params.get("count", "1"))
        return JSONResponse({"comics": world.comics})

    return [
        Route("/info.0.json", latest),
        Route("/{number:int}/info.0.json", one),
        Route("/publish", publish, methods=["POST"]),
    ]


def _github_routes(world: World, token: str | None) -> list[Route]:
    def authorized(find: Callable[[Request], Response]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            if token is not None and request.headers.get("authorization") != f"Bearer {token}":
                return JSONResponse({"message": "Bad credentials"}, status_code=401)
            return find(request)

        return endpoint

    def repositories(request: Request) -> Response:
        found = world.organizations.get(request.path_params["org"])
        if found is None:
            raise HTTPException(404)
        return _page(request, _sorted(list(found.values()), request), Repository.to_json)

    def releases(request: Request) -> Response:
        org, name = request.path_params["org"], request.path_params["repo"]
        repository = world.organizations.get(org, {}).get(name)
        if repository is None:
            raise HTTPException(404)
        return _page(request, repository.releases, Release.to_json)

    return [
        Route("/orgs/{org}/repos", authorized(repositories)),
        Route("/repos/{org}/{repo}/releases", authorized(releases)),
    ]


async def _not_found(request: Request, _: Exception) -> Response:
    return JSONResponse({"message": "Not Found", "path": request.url.path}, status_code=404)


def _sorted(repositories: list[Repository], request: Request) -> list[Repository]:
    """Order repositories as GitHub does for `sort` and `direction`; by creation when not asked.

    https://docs.github.com/en/rest/repos/repos#list-organization-repositories
    """
    if request.query_params.get("sort") != "updated":
        return repositories
    descending = request.query_params.get("direction", "desc") == "desc"
    return sorted(repositories, key=lambda each: (each.updated, each.id), reverse=descending)


def _page(request: Request, items: Sequence[Any], render: Callable[[Any], Any]) -> Response:
    """Return one page of `items` with the `Link` header that leads to the next.

    https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api
    """
    page = int(request.query_params.get("page", "1"))
    size = min(int(request.query_params.get("per_page", "30")), 100)
    pages = max(1, -(-len(items) // size))
    links = [
        f'<{request.url.include_query_params(page=number)}>; rel="{name}"'
        for name, number in (("next", page + 1), ("last", pages))
        if page < pages
    ]
    body = [render(item) for item in items[(page - 1) * size : page * size]]
    return JSONResponse(body, headers={"link": ", ".join(links)} if links else None)
