"""``ociappr serve``."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import click

from ociappr import server, stores, telemetry
from ociappr.cli.console import Exit, fail, settings_options
from ociappr.cli.loading import loaded
from ociappr.config import Config
from ociappr.errors import OciapprError
from ociappr.workers import Supervisor, Work


@click.command("serve")
@settings_options
@click.option("--listen", "server__listen", metavar="HOST:PORT", help="Port 0 takes a free one.")
@click.option("--workers", "server__workers", metavar="N", help="Processes that share the port.")
@click.option("--log-level", "log__level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", "log__format", metavar="FORM", help="json or text.")
@click.pass_context
def command(ctx: click.Context, /, file: Path | None, **flags: str | None) -> None:
    """Run the registry: both doors on one port, data in ./data unless told otherwise.

    SIGTERM and SIGINT let it finish what runs; sent again, it stops at once.
    """
    config = loaded(file, flags).config
    stores.check(config)
    telemetry.configure(config.log.level, config.log.format)
    with _listener(config) as listener:
        if config.server.workers == 1:
            server.serve(config, listener)
            return
        listener.listen(server.BACKLOG)
        work = _worker(ctx, config, listener)
        ctx.exit(Supervisor(work, config.server.workers, close=listener.close).run())


def _worker(ctx: click.Context, config: Config, listener: socket.socket) -> Work:
    """Return what a worker process does."""

    def work(number: int, ready: Callable[[], None]) -> int:
        try:
            server.serve(config, listener, worker=number, signals=(signal.SIGTERM,), ready=ready)
        except Exception as error:
            status = fail(ctx, error)
            if status is None:
                raise
            return status
        return Exit.DONE

    return work


def _listener(config: Config) -> socket.socket:
    """Return a bound socket; raise `OciapprError` with what to do when there can be none."""
    try:
        return server.bind(config)
    except OSError as error:
        raise OciapprError(
            f"cannot listen on {config.server.listen}: {error.strerror}",
            hint="stop what uses the address, or choose another with --listen",
        ) from error
