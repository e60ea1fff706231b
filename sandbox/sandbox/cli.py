"""The `sandbox` command."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from sandbox.demo import demo_http
from sandbox.http import HttpSandbox, World, recorded
from sandbox.http.faults import KINDS


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Local services for trying and testing OSO Connect."""


@main.command()
@click.option("--port", default=8480, show_default=True, help="Where to listen; 0 for a free port.")
@click.option("--comics", default=500, show_default=True, help="Number of comics.")
@click.option("--organizations", default=2, show_default=True, help="Named org-1, org-2, …")
@click.option("--repositories", default=5, show_default=True, help="In each organization.")
@click.option("--releases", default=3, show_default=True, help="In each repository.")
@click.option("--latency", default=0.0, show_default=True, help="Seconds that each answer takes.")
@click.option("--token", help="Token that the GitHub part demands.")
@click.option(
    "--fault",
    "faults",
    type=(str, str, int),
    multiple=True,
    metavar="PATH KIND TIMES",
    help=f"Answer requests for PATH (a shell pattern) with {KINDS}. May be repeated.",
)
@click.option(
    "--recorded",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Serve the recorded responses of this folder instead.",
)
def http(
    port: int,
    comics: int,
    organizations: int,
    repositories: int,
    releases: int,
    latency: float,
    token: str | None,
    faults: tuple[tuple[str, str, int], ...],
    folder: Path | None,
) -> None:
    """Serve the XKCD and GitHub APIs until Ctrl-C.

    More comics appear with `curl -X POST 'http://127.0.0.1:8480/xkcd/publish?count=5'`.
    """
    world = World.generate(
        comics=comics, organizations=organizations, repositories=repositories, releases=releases
    )
    app = recorded(folder) if folder else None
    server = HttpSandbox(world, app=app, latency=latency, token=token, port=port)
    try:
        for path, kind, times in faults:
            server.inject(path, kind, times)
        server.start()
    except (ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    if folder:
        click.echo(f"Serving {folder} at {server.url}")
    else:
        click.echo(f"export TAP_OSO_EXAMPLE_XKCD_URL={server.url}/xkcd")
        click.echo(f"export TAP_OSO_EXAMPLE_GITHUB_URL={server.url}/github")
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    stop.wait()
    server.stop()


@main.command("demo-http")
def run_demo_http() -> None:
    """Run the example tap against a local server and show what it wrote."""
    try:
        demo_http()
    except (FileNotFoundError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
