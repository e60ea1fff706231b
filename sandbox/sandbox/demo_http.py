"""What `make demo-http` shows."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from rich.table import Table

from sandbox.http import HttpSandbox, World
from sandbox.meltano import Meltano, project_root
from sandbox.terminal import open_console

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

STREAMS = ("xkcd_comics", "github_repositories", "github_releases")
STATE_ID = "dev:tap-oso-example-to-target-jsonl"
PIPELINE = ("run", "tap-oso-example", "target-jsonl")
NEW_COMICS = 5


def demo_http() -> None:
    """Run the example tap twice against a local server: everything, then only what is new."""
    console = open_console()
    root = project_root()
    folder = root / "output" / "demo-http"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    world = World.generate(comics=300, organizations=3, repositories=20, releases=4)
    with HttpSandbox(world, latency=0.02) as server:
        meltano = Meltano(root, folder, _environment(server))
        console.print(
            f"A local server at [cyan]{server.url}[/] speaks the APIs of XKCD and GitHub: "
            f"{world.comics} comics, {len(world.organizations)} organizations.\n"
        )

        _run(console, meltano, server)
        _show_files(console, meltano, root)
        before = _bookmark(meltano)

        world.comics += NEW_COMICS
        console.print(f"\n[bold]{NEW_COMICS} new comics are published.[/]\n")
        known = len(meltano.records("xkcd_comics"))
        _run(console, meltano, server)
        _show_news(console, server, meltano, before, known)
    console.print(
        "\nWhat to do next: give [cyan]extract/oso-example.meltano.yml[/] organizations of your "
        "own,\nor copy [cyan]tap-oso-example/[/] to read another source; its README says how."
    )


def _environment(server: HttpSandbox) -> dict[str, str]:
    return {
        "TAP_OSO_EXAMPLE_XKCD_URL": f"{server.url}/xkcd",
        "TAP_OSO_EXAMPLE_GITHUB_URL": f"{server.url}/github",
        "TAP_OSO_EXAMPLE_ORGANIZATIONS": json.dumps(list(server.world.organizations)),
    }


def _run(console: Console, meltano: Meltano, server: HttpSandbox) -> None:
    server.requests.clear()
    console.print(f"[green]$[/] [bold]meltano {' '.join(PIPELINE)}[/]")
    started = time.monotonic()
    with console.status("running"):
        meltano.run(*PIPELINE)
    seconds = time.monotonic() - started
    console.print(f"  {len(server.requests)} requests, {seconds:.1f} s with Meltano's own start\n")


def _show_files(console: Console, meltano: Meltano, root: Path) -> None:
    for stream in STREAMS:
        records = meltano.records(stream)
        file = (meltano.output / f"{stream}.jsonl").relative_to(root)
        console.print(f"[cyan]{file}[/]: {len(records):,} records, such as")
        for record in records[-2:]:
            console.print(f"  {_brief(record)}", no_wrap=True, overflow="ellipsis", markup=False)


def _show_news(
    console: Console, server: HttpSandbox, meltano: Meltano, before: int, known: int
) -> None:
    asked = [r.path for r in server.requests if r.path.startswith("/xkcd/")]
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=False)
    table.add_row("Comics asked for", ", ".join(sorted(path.split("/")[-2] for path in asked[1:])))
    new = meltano.records("xkcd_comics")[known:]
    table.add_row("Comics written", ", ".join(str(comic["num"]) for comic in new))
    table.add_row("Bookmark", f"{before} before, {_bookmark(meltano)} after")
    console.print(table)


def _bookmark(meltano: Meltano) -> int:
    bookmarks: dict[str, Any] = meltano.state(STATE_ID)["bookmarks"]
    return int(bookmarks["xkcd_comics"]["replication_key_value"])


def _brief(record: dict[str, Any]) -> str:
    names = ("num", "title", "published_on", "is_good", "full_name", "license", "repo", "tag_name")
    return json.dumps({name: record[name] for name in names if name in record}, ensure_ascii=False)
