"""``ociappr version``."""

from __future__ import annotations

import click

from ociappr import __version__


@click.command("version")
def command() -> None:
    """Print the version."""
    click.echo(f"ociappr {__version__}")
