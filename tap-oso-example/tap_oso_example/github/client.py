"""What all tables of the GitHub API share: address, headers, authentication and pages."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from singer_sdk.authenticators import BearerTokenAuthenticator, SimpleAuthenticator
from singer_sdk.pagination import HeaderLinkPaginator

from tap_oso_example.rest import ConcurrentStream

if TYPE_CHECKING:
    from urllib.parse import ParseResult

    from singer_sdk.helpers.types import Auth, Context

PER_PAGE = 100


class GitHubStream(ConcurrentStream):
    """A list of the GitHub API, a page of 100 after the other."""

    @property
    def url_base(self) -> str:
        """Where the API is."""
        return str(self.config["github_url"]).rstrip("/")

    @property
    def http_headers(self) -> dict[str, str]:
        """The version of the API that the schemas are made for."""
        return {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}

    @cached_property
    def authenticator(self) -> Auth:
        """The token, if there is one. Without, GitHub allows 60 requests an hour."""
        token = self.config.get("github_token")
        return BearerTokenAuthenticator(token=token) if token else SimpleAuthenticator()

    def get_new_paginator(self) -> HeaderLinkPaginator:
        """Follow the `Link` header.

        https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api
        """
        return HeaderLinkPaginator()

    def get_url_params(
        self,
        context: Context | None,  # noqa: ARG002
        next_page_token: ParseResult | None,
    ) -> dict[str, Any]:
        """Return the query of the first page, or of the page that the last one led to.

        Only the query is taken from the link, so a token never goes to another host.
        """
        return dict(parse_qsl(next_page_token.query)) if next_page_token else self.first_page()

    def first_page(self) -> dict[str, Any]:
        """Return the query of the first page."""
        return {"per_page": PER_PAGE}
