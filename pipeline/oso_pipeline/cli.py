"""The `oso-pipeline` command."""

import json
import os
from pathlib import Path

import click

from oso_pipeline import issues
from oso_pipeline.project import DEFAULT_TARGET, PipelineError, Source, project_root, sources
from oso_pipeline.report import read_reports, summary
from oso_pipeline.secrets import VARIABLE, mask_commands, redacted, secrets_in, settings_of
from oso_pipeline.sync import install, sync

REPORTS = click.argument("reports", type=click.Path(file_okay=False, path_type=Path))


class _Commands(click.Group):
    """Ends with one line and exit code 1 for what a person has to put right."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PipelineError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run the sources of pipeline/sources.yml, and say how it went."""


@main.command("sources")
def list_sources() -> None:
    """Check pipeline/sources.yml, and print it as a matrix of GitHub jobs."""
    found = sources(project_root())
    click.echo(json.dumps({"include": [source._asdict() for source in found]}))


@main.command("install")
@click.argument("names", nargs=-1, metavar="[PLUGIN]...")
def install_plugins(names: tuple[str, ...]) -> None:
    """Install plugins, or all, with the versions of uv.lock."""
    install(project_root(), list(names))


@main.command("sync")
@click.argument("tap")
@click.argument("target", default=DEFAULT_TARGET)
@click.option("--dataset", default="", help="Where the target puts the tables.")
@click.option(
    "--environment",
    envvar="MELTANO_ENVIRONMENT",
    default="prod",
    show_default=True,
    help="Meltano's environment.",
)
@click.option(
    "--report",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the report of the run.",
)
def sync_source(
    tap: str,
    target: str,
    dataset: str,
    environment: str,
    folder: Path | None,
) -> None:
    """Run a source into a target, and go on where the last run stopped.

    MELTANO_STATE_BACKEND_URI says where the state is kept. SOURCE_ENV may hold settings and
    secrets as the text of a .env file. The exit code is Meltano's: 0 when everything arrived, 1
    when the tap or the target failed.
    """
    settings = settings_of(os.environ)
    os.environ.pop(VARIABLE, None)
    secrets = secrets_in(settings)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for command in mask_commands(secrets):
            click.echo(command)
    report = sync(
        project_root(),
        Source(tap, target, dataset),
        environment,
        settings,
        lambda line: click.echo(redacted(line, secrets), err=True),
    )
    if "error" in report:
        report["error"] = redacted(report["error"], secrets)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{tap}.json").write_text(json.dumps(report), encoding="utf-8")
    for stream, rows in sorted(report.get("rows", {}).items()):
        click.echo(f"{stream}: {rows:,} rows", err=True)
    raise SystemExit(report["exit_code"])


@main.command("summary")
@REPORTS
def make_summary(reports: Path) -> None:
    """Print a page of the reports in a folder."""
    click.echo(summary(read_reports(reports, sources(project_root()))), nl=False)


@main.command("notify")
@REPORTS
def notify_of_failures(reports: Path) -> None:
    """Open, update or close the issue about sources that fail."""
    click.echo(issues.notify(read_reports(reports, sources(project_root())), os.environ))
