"""``ociappr gc``."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

import click

from ociappr.cli.console import output_option, settings_options, show
from ociappr.cli.loading import loaded
from ociappr.config import Config


@click.command("gc")
@settings_options
@output_option
def command(file: Path | None, **flags: str | None) -> None:
    """Run the collector once, beside a running server if there is one."""
    figures = asyncio.run(_collect(loaded(file, flags).config))
    show([{"what": what, "number": number} for what, number in figures.items()])


async def _collect(config: Config) -> dict[str, int]:
    from ociappr.server import open_registry  # noqa: PLC0415 - start-up time of --help

    async with open_registry(config) as registry:
        return asdict(await registry.collector.run())
