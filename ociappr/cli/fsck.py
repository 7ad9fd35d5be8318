"""``ociappr fsck``."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path

import click

from ociappr.cli.console import Exit, output_option, settings_options, show
from ociappr.cli.loading import loaded
from ociappr.config import Config


@click.command("fsck")
@settings_options
@output_option
def command(file: Path | None, output: str, *, verbose: bool, **flags: str | None) -> None:  # noqa: ARG001 - main reads it
    """Read and hash every blob, derive every derived key again, and report; changes nothing."""
    findings = asyncio.run(_check(loaded(file, flags).config))
    show(findings, output)
    if findings:
        sys.exit(Exit.FAILED)
    if output == "text":
        click.echo("everything is as it should be")


async def _check(config: Config) -> list[dict[str, object]]:
    from ociappr.server import open_registry  # noqa: PLC0415 - start-up time of --help

    async with open_registry(config) as registry:
        return [asdict(finding) async for finding in registry.fsck.run()]
