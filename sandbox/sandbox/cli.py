"""The `sandbox` command."""

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Local services for trying and testing OSO Connect."""
