"""``ociappr fsck``."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

import click

from ociappr.cli.console import Exit, output_option, say, settings_options, show
from ociappr.cli.loading import loaded
from ociappr.config import Config


@click.command("fsck")
@settings_options
@output_option
@click.pass_context
def command(ctx: click.Context, /, file: Path | None, **flags: str | None) -> None:
    """Read and hash every blob, derive every derived key again, and report; changes nothing.

    Exits with 1 if it found something. On a registry in use a finding may be a change that was
    under way: look again.
    """
    findings = asyncio.run(_check(loaded(file, flags).config))
    show(findings)
    if findings:
        ctx.exit(Exit.FAILED)
    say("everything is as it should be")


async def _check(config: Config) -> list[dict[str, object]]:
    from ociappr import stores  # noqa: PLC0415 - start-up time of --help
    from ociappr.server import open_registry  # noqa: PLC0415 - as above

    stores.check(config)
    stores.require(config)
    async with open_registry(config) as registry:
        return [asdict(finding) async for finding in registry.fsck.run()]
