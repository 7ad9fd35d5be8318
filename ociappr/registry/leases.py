"""Leases: who does a piece of housekeeping for all replicas; a record with an expiry in it.

A lease saves work and nothing more: clocks differ, a holder may be stopped for longer than its
lease, and then two do the same work. All that housekeeping does is correct when any number do it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

import msgspec

from ociappr.errors import OciapprError
from ociappr.metadata import MetadataStore, Transaction, transact
from ociappr.registry import keys
from ociappr.registry.records import decode, encode, moment, stamp

_TERM = timedelta(minutes=2)
_RENEWALS = 4  # in each term, so that a slow store or two do not end it


class LeaseRecord(msgspec.Struct, frozen=True):
    """Who has a lease, and until when."""

    holder: str
    expires: str


class Leases:
    """Takes, renews and gives back leases, in the name of this process."""

    def __init__(
        self,
        metadata: MetadataStore,
        *,
        now: Callable[[], datetime],
        term: timedelta = _TERM,
    ) -> None:
        self._metadata = metadata
        self._now = now
        self._term = term
        self._holder = secrets.token_hex(8)

    async def take(self, name: str, *, term: timedelta | None = None) -> bool:
        """Take the lease, or renew it, for *term* from now; tell whether it is ours."""
        key, now = keys.shared("lease", name), self._now()
        mine = LeaseRecord(self._holder, stamp(now + (self._term if term is None else term)))

        async def body(txn: Transaction) -> bool:
            value = await txn.get(key)
            record = decode(LeaseRecord, value) if value is not None else None
            is_others = record is not None and record.holder != self._holder
            if record is not None and is_others and moment(record.expires) > now:
                return False
            txn.put(key, encode(mine))
            return True

        return await transact(self._metadata, body)

    @asynccontextmanager
    async def held(self, name: str, *, rest: timedelta) -> AsyncIterator[bool]:
        """Hold the lease beside what is in the block, and tell it whether that succeeded.

        When the block ends well the lease is kept until *rest* has passed since its beginning, so
        that nobody does the same again at once; when it fails, it runs out.
        """
        begun = self._now()
        if not await self.take(name):
            yield False
            return
        renewing = asyncio.create_task(self._renew(name), name=f"lease {name}")
        try:
            yield True
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])
        await self.take(name, term=max(begun + rest - self._now(), timedelta(0)))

    async def _renew(self, name: str) -> None:
        while True:
            await asyncio.sleep(self._term.total_seconds() / _RENEWALS)
            with suppress(OciapprError):  # the work goes on; who else begins it does no harm
                await self.take(name)
