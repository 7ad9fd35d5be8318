"""``ociappr config``."""

from __future__ import annotations

from pathlib import Path

import click

from ociappr.cli.console import output_option, plain, settings_options, show
from ociappr.cli.loading import loaded


@click.command("config")
@settings_options
@output_option
def command(file: Path | None, **flags: str | None) -> None:
    """Print the effective settings and where each came from."""
    show(
        [
            {"setting": one.key, "value": plain(one.value), "origin": one.origin}
            for one in loaded(file, flags).settings()
        ]
    )
