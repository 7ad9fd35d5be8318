"""``ociappr fsck``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ociappr.cli.console import Exit, output_option, row, say, settings_options, show
from ociappr.cli.loading import loaded
from ociappr.config import Config

if TYPE_CHECKING:
    from ociappr.registry.fsck import Finding


@click.command("fsck")
@settings_options
@click.option("--repair", is_flag=True, help="Mend what can be; says what it set aside.")
@output_option
@click.pass_context
def command(ctx: click.Context, /, file: Path | None, *, repair: bool, **flags: str | None) -> None:
    """Read and hash every blob, derive every derived key again, and report; changes nothing.

    With --repair it mends what it can, also beside a running server. Damaged blobs are set aside,
    so that they can be pushed again; tags are never touched. Exits with 1 if a finding is left. On
    a registry in use a finding may be a change that was under way: look again.
    """
    findings = asyncio.run(_check(loaded(file, flags).config, repair=repair))
    show(
        [
            {**row(one.code, one.what, one.about, one.breaks), "repaired": one.repaired}
            for one in findings
        ]
    )
    if any(not one.repaired for one in findings):
        ctx.exit(Exit.FAILED)
    say("everything is as it should be" if not findings else "everything was repaired")


async def _check(config: Config, *, repair: bool) -> list[Finding]:
    from ociappr import stores  # noqa: PLC0415 - start-up time of --help
    from ociappr.server import open_registry  # noqa: PLC0415 - as above

    stores.check(config)
    stores.require(config)
    async with open_registry(config) as registry:
        return [finding async for finding in registry.fsck.run(repair=repair)]
