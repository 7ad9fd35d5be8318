"""Metadata that are being filled: nothing opens them, and only the run that began last writes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from ociappr.errors import StoreUnavailable
from ociappr.metadata import (
    MAX_COMMIT,
    MAX_OPERATIONS,
    Conflict,
    Delete,
    Entry,
    MetadataStore,
    Put,
    Transaction,
    Unchanged,
    Write,
    commit,
)
from ociappr.registry.records import ClaimRecord, decode, encode
from ociappr.registry.schema import CLAIM_KEY, FIRST, LAST, SCHEMA_KEY, SECRET_KEY

_OWN = {CLAIM_KEY, SCHEMA_KEY, SECRET_KEY}
"""What metadata have that were opened, but never used."""


class Claim:
    """A fence around metadata that are being filled; made by `take`."""

    def __init__(self, metadata: MetadataStore, record: ClaimRecord, version: int) -> None:
        self._metadata = metadata
        self._record = record
        self._version = version

    @classmethod
    async def take(cls, metadata: MetadataStore, *, by: str, source: str) -> Claim:
        """Claim *metadata*, which are empty or what an earlier run *by* the same has left.

        Raises `StoreUnavailable` for metadata in use, or filled from another *source*.
        """
        found = await held(metadata)
        if found is None:
            await require_empty(metadata)
        elif (record := decode(ClaimRecord, found.value)) and record.by != by:
            hint = f"finish that, or choose an empty target for `ociappr {by}`"
            raise StoreUnavailable(f"`ociappr {record.by}` has begun to fill these", hint=hint)
        elif record.source != source:
            hint = f"name {record.source}, or choose an empty target"
            raise StoreUnavailable(f"these are being filled from {record.source}", hint=hint)
        record = ClaimRecord(by, source, secrets.token_hex(12))
        return cls(metadata, record, await _write(metadata, found, record))

    async def commit(self, writes: Sequence[Write]) -> None:
        """Write, in as many commits as it takes; none of *writes* may rely on another."""
        batch: list[Write] = []
        size = 0
        for write in writes:
            length = len(write.key) + (len(write.value) if isinstance(write, Put) else 0)
            if batch and (len(batch) == MAX_OPERATIONS or size + length > MAX_COMMIT):
                await self._commit(batch)
                batch, size = [], 0
            batch.append(write)
            size += length
        if batch:
            await self._commit(batch)

    async def promise(self, txn: Transaction) -> None:
        """Let *txn* commit only while this run holds the claim."""
        if await txn.get(CLAIM_KEY) != encode(self._record):
            raise _superseded(self._record)

    async def done(self) -> None:
        """Tell that the metadata are whole; whoever opens them next ends the claim."""
        done = ClaimRecord(self._record.by, self._record.source, self._record.run, done=True)
        await self._commit([Put(CLAIM_KEY, encode(done))])

    async def drop(self) -> None:
        """End the claim: the metadata are whole, and in use from now on."""
        await self._commit([Delete(CLAIM_KEY)])

    async def _commit(self, writes: Sequence[Write]) -> None:
        try:
            await commit(self._metadata, [Unchanged(CLAIM_KEY, self._version)], writes)
        except Conflict:
            raise _superseded(self._record) from None


async def held(metadata: MetadataStore) -> Entry | None:
    """Return the claim on *metadata*, if there is one."""
    return (await metadata.get([CLAIM_KEY])).get(CLAIM_KEY)


async def require_empty(metadata: MetadataStore) -> None:
    """Raise `StoreUnavailable` for metadata that were ever used."""
    entries = await metadata.scan(FIRST, LAST, limit=len(_OWN) + 1)
    if any(entry.key not in _OWN for entry in entries):
        raise StoreUnavailable(
            "the metadata hold a registry already",
            hint="choose an empty store; nothing was changed",
        )


async def _write(metadata: MetadataStore, old: Entry | None, record: ClaimRecord) -> int:
    version = old.version if old is not None else None
    try:
        await commit(metadata, [Unchanged(CLAIM_KEY, version)], [Put(CLAIM_KEY, encode(record))])
    except Conflict:
        raise _superseded(record) from None
    found = await held(metadata)
    if found is None or found.value != encode(record):
        raise _superseded(record)
    return found.version


def _superseded(record: ClaimRecord) -> StoreUnavailable:
    return StoreUnavailable(
        f"another `ociappr {record.by}` has taken these metadata over", hint="let one run at a time"
    )
