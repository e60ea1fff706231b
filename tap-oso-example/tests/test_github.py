"""The streams of GitHub: partitions, pages, bookmarks, dependence, authentication."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.http import HttpSandbox, World

if TYPE_CHECKING:
    import pytest
    from conftest import Sync

REPOSITORIES = "github_repositories"
RELEASES = "github_releases"


def paths(server: HttpSandbox) -> list[str]:
    return [request.path for request in server.requests]


def test_each_organization_is_a_partition_with_its_own_bookmark(
    server: HttpSandbox, sync: Sync
) -> None:
    messages = sync(REPOSITORIES)
    assert messages.column(REPOSITORIES, "org") == ["org-1"] * 3 + ["org-2"] * 3
    newest = {
        org: max(r.to_json()["updated_at"] for r in repositories.values())
        for org, repositories in server.world.organizations.items()
    }
    assert messages.bookmarks(REPOSITORIES) == newest


def test_all_pages_are_read(sync: Sync, server: HttpSandbox) -> None:
    for _ in range(250):
        server.world.create_repository("org-1")
    names = sync(REPOSITORIES).column(REPOSITORIES, "full_name")
    assert len(names) == len(set(names)) == 256
    assert paths(server).count("/github/orgs/org-1/repos") == 3


def test_second_run_asks_for_changed_repositories_only(server: HttpSandbox, sync: Sync) -> None:
    for _ in range(250):
        server.world.create_repository("org-1")
    first = sync(REPOSITORIES)
    server.world.update_repository("org-1", "repo-2")
    server.requests.clear()

    second = sync(REPOSITORIES, state=first.state)

    # The last one of each partition comes again: its time is the bookmark, and the moment the
    # bookmark names may hold others.
    names = second.column(REPOSITORIES, "full_name")
    assert names == ["org-1/repo-2", "org-1/repo-253", "org-2/repo-3"]
    assert sorted(paths(server)) == ["/github/orgs/org-1/repos", "/github/orgs/org-2/repos"]


def test_a_failed_partition_keeps_its_old_bookmark(
    server: HttpSandbox, sync: Sync, short_waits: None
) -> None:
    first = sync(REPOSITORIES)
    before = first.bookmarks(REPOSITORIES)
    for org in ("org-1", "org-2"):
        server.world.update_repository(org, "repo-1")
    server.inject("/github/orgs/org-2/repos", "500", 100)

    second = sync(REPOSITORIES, state=first.state, fails=True)

    after = second.bookmarks(REPOSITORIES)
    assert after["org-1"] > before["org-1"]
    assert after["org-2"] == before["org-2"]


def test_releases_name_their_repository(sync: Sync) -> None:
    messages = sync()
    found = [(r["org"], r["repo"], r["tag_name"]) for r in messages.records(RELEASES)]
    assert len(found) == 12
    assert found[:2] == [("org-1", "repo-3", "v0.2.0"), ("org-1", "repo-3", "v0.1.0")]


def test_releases_are_announced_once_and_after_their_schema(sync: Sync) -> None:
    of_releases = [m["type"] for m in sync().all if m.get("stream") == RELEASES]
    assert of_releases == ["SCHEMA"] + ["RECORD"] * 12


def test_new_release_of_an_unchanged_repository_is_found(server: HttpSandbox, sync: Sync) -> None:
    first = sync()
    server.world.publish_release("org-1", "repo-1")

    second = sync(state=first.state)

    tags = {(r["org"], r["repo"], r["tag_name"]) for r in second.records(RELEASES)}
    assert ("org-1", "repo-1", "v0.3.0") in tags
    assert ("org-1", "repo-1", "v0.1.0") not in tags
    # Only the last of each partition, which is at its bookmark.
    assert second.column(REPOSITORIES, "full_name") == ["org-1/repo-3", "org-2/repo-3"]


def test_each_repository_has_its_own_bookmark(server: HttpSandbox, sync: Sync) -> None:
    bookmarks = {
        (each["context"]["org"], each["context"]["repo"]): each["replication_key_value"]
        for each in sync().state["bookmarks"][RELEASES]["partitions"]
    }
    assert bookmarks == {
        (org, name): repository.releases[0].to_json()["published_at"]
        for org, repositories in server.world.organizations.items()
        for name, repository in repositories.items()
    }


def test_old_pages_of_releases_are_not_asked_for_again(server: HttpSandbox, sync: Sync) -> None:
    for _ in range(250):
        server.world.publish_release("org-1", "repo-1")
    path = "/github/repos/org-1/repo-1/releases"
    first = sync()
    assert paths(server).count(path) == 3
    server.requests.clear()
    sync(state=first.state)
    assert paths(server).count(path) == 1


def test_release_from_an_old_branch_is_found_below_older_ones(
    server: HttpSandbox, sync: Sync
) -> None:
    for _ in range(20):
        server.world.publish_release("org-1", "repo-1")
    first = sync()
    newest = server.world.publish_release("org-1", "repo-1")
    releases = server.world.organizations["org-1"]["repo-1"].releases
    releases.insert(15, releases.pop(0))

    second = sync(state=first.state)

    assert newest.id in second.column(RELEASES, "id")


def test_repository_deleted_in_between_is_skipped_and_counted(
    server: HttpSandbox, sync: Sync, caplog: pytest.LogCaptureFixture
) -> None:
    server.inject("/github/repos/org-1/repo-2/releases", "404")
    with caplog.at_level("INFO"):
        messages = sync()
    assert len(messages.records(RELEASES)) == 10
    assert "github_releases: 6 of 6 done" in caplog.text
    assert "1 skipped because missing (HTTP 404)" in caplog.text


def test_unknown_organization_ends_the_run(sync: Sync) -> None:
    sync(REPOSITORIES, organizations=["nobody"], fails=True)
    assert sync.error.endswith("/github/orgs/nobody/repos: HTTP 404 Not Found")  # type: ignore[attr-defined]


def test_releases_without_repositories_selected(sync: Sync) -> None:
    messages = sync(RELEASES)
    assert messages.records(REPOSITORIES) == []
    assert len(messages.records(RELEASES)) == 12
    assert len(messages.bookmarks(RELEASES)) == 3


def test_no_organizations_give_empty_tables(sync: Sync) -> None:
    messages = sync(organizations=[])
    schemas = {m["stream"] for m in messages.all if m["type"] == "SCHEMA"}
    assert schemas == {REPOSITORIES, RELEASES, "xkcd_comics"}
    assert messages.records(REPOSITORIES) == messages.records(RELEASES) == []


def test_second_sync_of_one_tap_starts_afresh(server: HttpSandbox, sync: Sync) -> None:
    first, second = sync(), sync()
    assert first.records(RELEASES) == second.records(RELEASES)


def test_license_is_its_spdx_identifier(server: HttpSandbox, sync: Sync) -> None:
    by_id = {r["id"]: r["license"] for r in sync(REPOSITORIES).records(REPOSITORIES)}
    assert by_id[1_000_001] == "Apache-2.0"
    assert by_id[1_000_003] is None


def test_the_token_is_sent_and_never_shown(
    sync: Sync, caplog: pytest.LogCaptureFixture, server: HttpSandbox
) -> None:
    with HttpSandbox(World.generate(), token="s3cret-token") as closed:
        messages = sync(REPOSITORIES, github_token="s3cret-token", **closed.tap_config)
        assert len(messages.records(REPOSITORIES)) == 10
        with caplog.at_level("DEBUG"):
            sync(REPOSITORIES, github_token="wr0ng-token", fails=True, **closed.tap_config)
    error = sync.error  # type: ignore[attr-defined]
    assert error.endswith("HTTP 401 Unauthorized")
    assert "s3cret-token" not in caplog.text
    assert "wr0ng-token" not in caplog.text + error
