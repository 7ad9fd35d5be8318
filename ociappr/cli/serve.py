"""``ociappr serve``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ociappr import server, stores, telemetry
from ociappr.cli.console import Exit, fail, settings_options
from ociappr.cli.loading import loaded
from ociappr.workers import Supervisor


@click.command("serve")
@settings_options
@click.option("--listen", "server__listen", metavar="HOST:PORT", help="Port 0 takes a free one.")
@click.option("--workers", "server__workers", metavar="N", help="Processes that share the port.")
@click.option("--log-level", "log__level", help="debug, info, warning or error.")
@click.option("--log-format", "log__format", help="json or text.")
def command(file: Path | None, *, verbose: bool, **flags: str | None) -> None:
    """Run the registry: both doors on one port, data in ./data unless told otherwise."""
    config = loaded(file, flags).config
    stores.check(config)
    telemetry.configure(config.log.level, config.log.format, access=config.log.access)
    try:
        listener = server.bind(config)
    except OSError as error:
        message = f"cannot listen on {config.server.listen}: {error.strerror}"
        hint = "stop what uses the address, or choose another with --listen"
        sys.exit(fail(f"{message}; {hint}", Exit.FAILED, error, verbose=verbose))
    if config.server.workers == 1:
        server.serve(config, listener)
        return
    listener.listen(server.BACKLOG)
    sys.exit(Supervisor(lambda: server.serve(config, listener), config.server.workers).run())
