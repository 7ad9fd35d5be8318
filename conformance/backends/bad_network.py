"""A network between a server of ours and its store that is slow, or full of refusals, when told."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

_BLOCK: Final = 64 * 1024
_UNDER_WAY: Final = 1_000  # blocks at most
_SLOW_DOWN: Final = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>"
)
_REFUSAL: Final = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_SLOW_DOWN), _SLOW_DOWN)
)


@dataclass(slots=True)
class BadNetwork:
    """Passes bytes on to *target*; connections made meanwhile suffer what is set here.

    Each byte arrives *delay* seconds late, and of all new connections a share of *refused* gets the
    answer 503 SlowDown, as S3 gives under load.
    """

    target: tuple[str, int]
    delay: float = 0.0
    refused: float = 0.0
    host: str = ""
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    async def serve(self, ready: threading.Event, ended: asyncio.Event) -> None:
        """Take connections until *ended*."""
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            self.host = f"{host}:{port}"
            ready.set()
            await ended.wait()
            for writer in self._open:
                writer.transport.abort()

    def drop(self) -> None:
        """Cut every connection; for the thread of the loop."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                if self._random.random() < self.refused:
                    await self._refuse(reader, writer)
                else:
                    await self._pass_on(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_REFUSAL)
        await writer.drain()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, ahead = await asyncio.open_connection(*self.target)
        self._open.add(ahead)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, ahead))
                both.create_task(self._pump(behind, writer))
        except* OSError:
            writer.transport.abort()
        finally:
            self._open.discard(ahead)
            ahead.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pass blocks on, each when its time has come; meanwhile more may come."""
        clock = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)

        async def take() -> None:
            block = b"-"
            while block:
                block = await source.read(_BLOCK)
                await under_way.put((clock() + self.delay, block))

        async with asyncio.TaskGroup() as both:
            taking = both.create_task(take())
            while True:
                due, block = await under_way.get()
                await asyncio.sleep(due - clock())
                if not block or sink.is_closing():
                    break
                sink.write(block)
                await sink.drain()
            taking.cancel()
            if not sink.is_closing():
                sink.write_eof()


class Controls:
    """Turns the knobs of a network that runs in another thread."""

    def __init__(self, network: BadNetwork, loop: asyncio.AbstractEventLoop) -> None:
        self._network = network
        self._loop = loop

    @property
    def host(self) -> str:
        """Where it listens: address and port."""
        return self._network.host

    @contextmanager
    def worse(self, *, delay: float = 0.0, refused: float = 0.0) -> Iterator[None]:
        """Be worse within the block, for connections that stand already too."""
        self._set(delay, refused)
        try:
            yield
        finally:
            self._set(0.0, 0.0)

    def _set(self, delay: float, refused: float) -> None:
        self._network.delay, self._network.refused = delay, refused
        self._loop.call_soon_threadsafe(self._network.drop)


@contextmanager
def bad_network(host: str) -> Iterator[Controls]:
    """Have a network to *host*, ``ADDRESS:PORT``, run within the block, good at first."""
    address, _, port = host.rpartition(":")
    network = BadNetwork((address, int(port)))
    ready, loop = threading.Event(), asyncio.new_event_loop()
    ended = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(network.serve(ready, ended),))
    thread.start()
    assert ready.wait(10)
    try:
        yield Controls(network, loop)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
