"""Comics: a table with typed columns, column resolvers and an incremental bookmark."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import typing as th

from tap_oso_example.rest import ConcurrentStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from singer_sdk.helpers.types import Context, Record

# Left out on purpose by the artist, who likes the status code.
NOT_FOUND_COMIC = 404


def is_good(comic: dict[str, Any]) -> bool:
    """Whether the title mentions XKCD."""
    return "XKCD" in (comic.get("title") or "")


def published_on(comic: dict[str, Any]) -> str | None:
    """Return the date of publication as `YYYY-MM-DD`, or `None` if the parts are not a date."""
    try:
        year, month, day = (int(comic[part]) for part in ("year", "month", "day"))
        return dt.date(year, month, day).isoformat()
    except (KeyError, TypeError, ValueError):
        return None


class XkcdComics(ConcurrentStream):
    """Every comic, by number. Comics do not change, so a run fetches only the new ones."""

    name = "xkcd_comics"
    path = "/{num}/info.0.json"
    primary_keys: ClassVar[list[str]] = ["num"]
    replication_key = "num"
    is_sorted = True
    # The state is one number, so it costs nothing to say often how far the comics are.
    STATE_MSG_FREQUENCY = 100
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("num", th.IntegerType, required=True, description="Number of the comic."),
        th.Property("title", th.StringType, description="Title, which may hold HTML."),
        th.Property("safe_title", th.StringType, description="Title without HTML."),
        th.Property("alt", th.StringType, description="What shows when the mouse rests on it."),
        th.Property("transcript", th.StringType, description="What is said; empty in late comics."),
        th.Property("img", th.StringType, description="URL of the picture."),
        th.Property("link", th.StringType, description="URL that the picture leads to."),
        th.Property("news", th.StringType, description="Announcement above the comic."),
        th.Property(
            "year", th.StringType, description="Year of publication, as the source has it."
        ),
        th.Property("month", th.StringType, description="Month of publication, 1 to 12."),
        th.Property("day", th.StringType, description="Day of publication, 1 to 31."),
        th.Property("published_on", th.DateType, description="Year, month and day as a date."),
        th.Property("is_good", th.BooleanType, description="Whether the title mentions XKCD."),
    ).to_dict()
    resolvers: ClassVar[Mapping[str, Callable[[dict[str, Any]], Any]]] = {
        "published_on": published_on,
        "is_good": is_good,
    }

    @property
    def url_base(self) -> str:
        """Where the comics are."""
        return str(self.config["xkcd_url"]).rstrip("/")

    def get_url(self, context: Context | None) -> str:
        """Return the URL of the comic in the context, or of the latest."""
        return super().get_url(context) if context else f"{self.url_base}/info.0.json"

    def get_records(self, context: Context | None) -> Iterable[Record]:
        """Return the comics after the bookmark, in the order of their numbers."""
        bookmark = self.get_starting_replication_key_value(context) or 0
        [latest] = self.fetch_one(None)
        for _, records in self.fetch([{"num": n} for n in range(bookmark + 1, latest["num"] + 1)]):
            yield from records

    def may_be_missing(self, context: Context | None) -> bool:
        """Only one comic may be missing; any other would be a gap."""
        return context == {"num": NOT_FOUND_COMIC}
