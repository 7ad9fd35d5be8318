"""A server in this process, from its socket to the end of its life."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable
from io import FileIO

from aiohttp import web

from ociappr import __version__
from ociappr.config import Config, shown
from ociappr.registry import Registry
from ociappr.schedule import recording, upkeep
from ociappr.server.composition import application, distribution, open_stores, settings
from ociappr.server.health import Health
from ociappr.server.life import Front, Life, finish
from ociappr.telemetry import ACCESS_LOG, AccessLog, Metrics, access_logger

BACKLOG = 1024
_CUT = 1.0  # seconds for what is left when the drain time is over

_log = logging.getLogger("ociappr")


def serve(
    config: Config,
    listener: socket.socket,
    *,
    worker: int = 0,
    signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT),
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Run a server in this process until one of *signals*; call *ready* when it takes requests.

    *worker* is its number among those on the same socket; the first of them collects garbage.
    Raises `ConfigError` and `OciapprError` when it cannot start.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each connection is a file

    async def main() -> None:
        life = Life()
        loop = asyncio.get_running_loop()
        for name in signals:
            loop.add_signal_handler(name, life.ask)
        await run(config, listener, life, worker=worker, ready=ready)
        for name in signals:  # whoever asks again must not kill what has ended well
            loop.remove_signal_handler(name)
            signal.signal(name, signal.SIG_IGN)

    asyncio.run(main())


async def run(
    config: Config,
    listener: socket.socket,
    life: Life,
    *,
    worker: int,
    ready: Callable[[], None],
) -> None:
    """Serve on *listener* to the end of *life*; then finish what runs and close the stores."""
    async with open_stores(config) as opened:
        registry = await Registry.open(opened.metadata, opened.blobs, settings(config))
        metrics = Metrics(worker)
        health = Health(registry, metrics)
        stderr = FileIO(sys.stderr.fileno(), "w", closefd=False) if config.log.access else None
        log = AccessLog(metrics, config.log.format, stderr, proxies=config.trusted_proxies)
        v2 = distribution(config, registry)
        runner = web.AppRunner(
            application(config, registry, health, v2),
            access_log=logging.getLogger(ACCESS_LOG),
            access_log_class=access_logger(log),
            auto_decompress=False,  # bytes are stored as they come, and bombs stay folded
            keepalive_timeout=config.server.keepalive.total_seconds(),
            shutdown_timeout=_CUT,
        )
        await runner.setup()
        front = Front.before(runner, v2, health=health)
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
        if worker == 0:
            _announce(config, listener)
        ready()
        async with recording(config, registry):
            async with upkeep(config, opened, registry, metrics=metrics, worker=worker):
                await life.wait()
            health.draining = True
            await finish(config, runner, front, life)
        log.flush()


def bind(config: Config) -> socket.socket:
    """Return a socket bound to the address of *config*; raise `OSError`."""
    host, port = config.address
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # localhost means 127.0.0.1 to those who will write localhost
    family, kind, protocol, _, address = min(infos, key=lambda info: info[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _announce(config: Config, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    _log.info("ociappr %s listens on http://%s:%s", __version__, place, port)
    _log.info("blobs: %s, metadata: %s", shown(config.storage_url), shown(config.metadata_url))
    if not host.startswith("127.") and host != "::1":
        _log.warning("access is open: everyone who reaches this address may do everything")
