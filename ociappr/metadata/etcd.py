"""Metadata in etcd, 3.4 or newer, spoken to through its JSON gateway.

A version is etcd's `mod_revision`: one counter for all writes to the store, so that it never
repeats, where `version`, a counter per key, begins again after a deletion.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterator, Sequence
from datetime import timedelta

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from ociappr.errors import StoreUnavailable, TooLarge
from ociappr.metadata import (
    MAX_OPERATIONS,
    Check,
    Conflict,
    Empty,
    Entry,
    Put,
    Write,
    prefix_end,
)
from ociappr.metadata import etcd_wire as wire
from ociappr.metadata.etcd_client import Client, Compacted, Place

_SCHEMA = 1
_BATCH = 128  # operations of one transaction that any etcd takes
_ATTEMPTS = 5  # to read at a revision before it is compacted
_CONNECT = 4  # a host that is gone leaves so many times its part of the patience for the next one

_log = logging.getLogger(__name__)


class EtcdMetadata:
    """Entries below a prefix of etcd's own keys; its endpoints are interchangeable."""

    def __init__(self, client: Client, prefix: bytes) -> None:
        self._client = client
        self._schema = prefix + b"schema"
        self._entries = prefix + b"entry/"
        self._closed = False
        self._underway = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @classmethod
    async def open(
        cls, url: str, *, password: str, ca_file: str, connections: int, patience: timedelta
    ) -> EtcdMetadata:
        """Connect, and see that the data are of our schema.

        Raises `ValueError` for a malformed *url*, `StoreUnavailable` if etcd cannot be used.
        """
        place = Place.parse(url)
        password = password or place.password
        if password and not place.user:
            raise ValueError("there is a password, but no user")
        seconds = patience.total_seconds()
        session = ClientSession(
            connector=TCPConnector(limit=connections, ssl=_trust(ca_file)),
            timeout=ClientTimeout(seconds, sock_connect=seconds / _CONNECT),
            cookie_jar=DummyCookieJar(),
        )
        login = wire.Login(place.user, password) if place.user else None
        store = cls(Client(session, place.endpoints, login=login), place.prefix)
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(store.close)
            try:
                await store._require_schema()
                await store._warn_of_limits()
            except StoreUnavailable as error:
                where = ", ".join(place.endpoints)
                cause = error.__cause__
                why = str(cause) if isinstance(cause, ClientError) else error.message
                message = f"cannot open metadata at {where}: {why}"
                raise StoreUnavailable(message, hint=error.hint) from error
            opened.pop_all()
        return store

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return the entries of those *keys* that exist, all seen at one instant."""
        with self._in_use():
            for _ in range(_ATTEMPTS):
                with contextlib.suppress(Compacted):
                    return await self._get(keys)
        raise StoreUnavailable("etcd: compacted again and again while it was read")

    async def scan(
        self, start: bytes, stop: bytes, *, limit: int, reverse: bool = False
    ) -> list[Entry]:
        """Return the first *limit* entries of the range, or the last if *reverse*."""
        if start >= stop:
            return []
        span = wire.Range(
            self._entries + start,
            range_end=self._entries + stop,
            limit=limit,
            sort_order="DESCEND" if reverse else "",
        )
        with self._in_use():
            reply = await self._client.read("kv/range", span)
        return [self._entry(found) for found in reply.kvs]

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        """Write all of *writes* if all of *checks* hold, else raise `Conflict`."""
        txn = wire.Txn(tuple(map(self._compare, checks)), tuple(map(self._operation, writes)))
        with self._in_use():
            reply = await self._client.write("kv/txn", txn)
        if not reply.succeeded:
            raise Conflict

    async def close(self) -> None:
        """Let what is under way finish, then let go of the connections."""
        self._closed = True
        await self._idle.wait()
        await self._client.close()

    # -- the start -------------------------------------------------------------------------------

    async def _require_schema(self) -> None:
        """Raise `StoreUnavailable` unless the data are of our schema; mark what is new."""
        ours = b"%d" % _SCHEMA
        asked = wire.Range(self._schema)
        reply = await self._client.read("kv/range", asked)
        if not reply.kvs:
            absent = wire.Compare(self._schema, "CREATE", create_revision=0)
            mark = wire.Operation(request_put=wire.Put(self._schema, ours))
            await self._client.write("kv/txn", wire.Txn((absent,), (mark,)))
            reply = await self._client.read("kv/range", asked)
        found = reply.kvs[0].value
        if found != ours:
            raise StoreUnavailable(
                f"it has schema {found.decode(errors='replace')}, this release knows {_SCHEMA}",
                hint="run the release that wrote it, or a newer one",
            )

    async def _warn_of_limits(self) -> None:
        """Warn if the largest commits will not fit: ask as many questions as they have writes."""
        question = wire.Operation(request_range=wire.Range(self._entries, count_only=True))
        try:
            await self._client.read("kv/txn", wire.Txn(success=(question,) * MAX_OPERATIONS))
        except TooLarge as error:
            message = "this etcd will refuse manifests of more than about 110 children; %s"
            _log.warning(message, error.hint)

    # -- translation -----------------------------------------------------------------------------

    async def _get(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Read in batches, all of them at the revision that the first one saw."""
        found: list[Entry] = []
        revision = 0
        for first in range(0, len(keys), _BATCH):
            reads = tuple(
                wire.Operation(request_range=wire.Range(self._entries + key, revision=revision))
                for key in keys[first : first + _BATCH]
            )
            reply = await self._client.read("kv/txn", wire.Txn(success=reads))
            revision = revision or reply.header.revision
            found += [self._entry(kv) for one in reply.responses for kv in one.response_range.kvs]
        return {entry.key: entry for entry in found}

    def _compare(self, check: Check) -> wire.Compare:
        if isinstance(check, Empty):
            start, stop = check.prefix, prefix_end(check.prefix)
            bounds = self._entries + start, self._entries + stop
            return wire.Compare(bounds[0], "CREATE", range_end=bounds[1], create_revision=0)
        key = self._entries + check.key
        if check.version is None:
            return wire.Compare(key, "CREATE", create_revision=0)
        return wire.Compare(key, "MOD", mod_revision=check.version)

    def _operation(self, write: Write) -> wire.Operation:
        key = self._entries + write.key
        if isinstance(write, Put):
            return wire.Operation(request_put=wire.Put(key, write.value))
        return wire.Operation(request_delete_range=wire.DeleteRange(key))

    def _entry(self, found: wire.KeyValue) -> Entry:
        return Entry(found.key[len(self._entries) :], found.value, found.mod_revision)

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep the connections open within the block; raise `StoreUnavailable` once closed."""
        if self._closed:
            raise StoreUnavailable("the metadata store is closed")
        self._underway += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._underway -= 1
            if not self._underway:
                self._idle.set()


def _trust(ca_file: str) -> ssl.SSLContext:
    """Return a context that trusts the system's certificates, and those of *ca_file* if given."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # SSLError is one
            hint = "metadata.ca_file must name a file of certificates in PEM"
            raise StoreUnavailable(f"cannot read {ca_file}: {error}", hint=hint) from error
    return context
