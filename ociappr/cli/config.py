"""``ociappr config``."""

from __future__ import annotations

from pathlib import Path

import click

from ociappr.cli.console import output_option, settings_options, show
from ociappr.cli.loading import loaded


@click.command("config")
@settings_options
@output_option
def command(file: Path | None, output: str, *, verbose: bool, **flags: str | None) -> None:  # noqa: ARG001 - main reads it
    """Print the effective settings and where each came from."""
    settings = loaded(file, flags).settings()
    rows = [{"setting": one.key, "value": one.value, "origin": one.origin} for one in settings]
    show(rows, output)
