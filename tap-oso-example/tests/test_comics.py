"""The stream of comics: order, columns, bookmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tap_oso_example.xkcd.comics import is_good, published_on

if TYPE_CHECKING:
    from conftest import Sync

    from sandbox.http import HttpSandbox

STREAM = "xkcd_comics"


def test_comics_come_by_number_whatever_answers_first(server: HttpSandbox, sync: Sync) -> None:
    server.inject("/xkcd/1/*", "slow:0.5")
    server.inject("/xkcd/12/*", "slow:0.3")
    assert sync(STREAM).column(STREAM, "num") == list(range(1, 31))


def test_second_run_fetches_only_new_comics(server: HttpSandbox, sync: Sync) -> None:
    first = sync(STREAM)
    assert first.comics_bookmark == 30
    server.requests.clear()
    server.world.comics = 33

    second = sync(STREAM, state=first.state)

    assert second.column(STREAM, "num") == [31, 32, 33]
    asked = sorted(request.path for request in server.requests)
    assert asked == [f"/xkcd/{part}info.0.json" for part in ("31/", "32/", "33/", "")]
    assert second.comics_bookmark == 33


def test_run_without_news_keeps_the_bookmark(sync: Sync) -> None:
    first = sync(STREAM)
    assert sync(STREAM, state=first.state).comics_bookmark == 30


def test_comic_404_is_skipped_and_counted(
    server: HttpSandbox, sync: Sync, caplog: pytest.LogCaptureFixture
) -> None:
    server.world.comics = 410
    with caplog.at_level("INFO"):
        numbers = sync(STREAM).column(STREAM, "num")
    assert numbers == [n for n in range(1, 411) if n != 404]
    assert "xkcd_comics: 410 of 410 done" in caplog.text
    assert "1 skipped because missing (HTTP 404)" in caplog.text


def test_any_other_missing_comic_ends_the_run(server: HttpSandbox, sync: Sync) -> None:
    server.inject("/xkcd/7/*", "404")
    messages = sync(STREAM, fails=True)
    assert messages.column(STREAM, "num") == [1, 2, 3, 4, 5, 6]
    assert messages.comics_bookmark == 6


def test_titles_keep_their_letters(sync: Sync) -> None:
    assert sync(STREAM).column(STREAM, "title")[0] == "Comic 1: naïve ☃"


@pytest.mark.parametrize(
    ("title", "good"),
    [
        ("XKCD in review", True),
        ("Das große XKCD ☃", True),
        ("xkcd", False),
        ("", False),
        (None, False),
    ],
)
def test_a_comic_is_good_when_its_title_mentions_xkcd(title: str | None, good: bool) -> None:
    assert is_good({"title": title}) is good


def test_a_comic_without_title_is_not_good() -> None:
    assert is_good({}) is False


@pytest.mark.parametrize(
    ("year", "month", "day", "date"),
    [
        ("2006", "1", "1", "2006-01-01"),
        (2024, 2, 29, "2024-02-29"),
        ("2006", "06", "30", "2006-06-30"),
        ("2006", "6", "31", None),
        ("2023", "2", "29", None),
        ("2006", "", "1", None),
        ("2006", None, "1", None),
        ("2006", "June", "1", None),
        ("0", "1", "1", None),
    ],
)
def test_the_date_is_null_when_its_parts_are_none(
    year: Any, month: Any, day: Any, date: str | None
) -> None:
    assert published_on({"year": year, "month": month, "day": day}) == date


def test_the_date_is_null_without_its_parts() -> None:
    assert published_on({"year": "2006"}) is None
