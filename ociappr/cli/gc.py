"""``ociappr gc``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click

from ociappr.cli.console import output_option, say, settings_options, show
from ociappr.cli.loading import loaded
from ociappr.config import Config

_MEANING: Mapping[str, str] = {
    "expired": "upload sessions ended for want of progress",
    "promoted": "blobs joined from the chunks they came in",
    "condemned": "blobs hidden, since nothing needs them; a push brings them back",
    "forgotten": "condemned blobs whose records went",
    "unlinked": "entries of the bin whose bytes were deleted",
    "swept": "files of abandoned uploads deleted",
    "freed": "bytes of those files",
    "journal": "old journal entries deleted",
}


@click.command("gc")
@settings_options
@output_option
def command(file: Path | None, **flags: str | None) -> None:
    """Run the collector once, beside a running server if there is one.

    Nothing goes at once: what no manifest needs is condemned after the grace period, forgotten
    after another, and its bytes are deleted after a third.
    """
    config = loaded(file, flags).config
    figures = asyncio.run(_collect(config))
    show([{"what": what, "number": n, "meaning": _MEANING[what]} for what, n in figures.items()])
    say(f"the grace period is {config.collector.grace} (collector.grace); sizes are in bytes")


async def _collect(config: Config) -> dict[str, int]:
    from ociappr import stores  # noqa: PLC0415 - start-up time of --help
    from ociappr.server import open_registry  # noqa: PLC0415 - as above

    stores.check(config)
    stores.require(config)
    async with open_registry(config) as registry:
        return asdict(await registry.collector.run())
