"""Giving bytes their digest's name, inside the commit that makes them matter.

Bytes belong to a session, a record, the bin, or nobody. `Staged` are bytes that a session (or, when
small, the commit itself) owns and whose digest has been verified; `name` hands them to the record
and consumes the session, in one commit.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import msgspec

from ociappr.blobstore import Locator, Part, UploadId
from ociappr.digest import Digest
from ociappr.errors import UploadUnknown
from ociappr.metadata import Put, Transaction
from ociappr.names import RepositoryName
from ociappr.registry import keys
from ociappr.registry.derived import put_blob
from ociappr.registry.records import (
    BinRecord,
    BlobRecord,
    BlobState,
    Event,
    RepositoryRecord,
    UploadRecord,
    decode,
    encode,
)


@dataclass(frozen=True, slots=True)
class Staged:
    """Verified bytes without a name: *inline* ones, or *parts* that session *upload* owns.

    *committed* is what the session's record names of them, the last one perhaps not as long yet.
    *promoted* is set when they also lie under one locator made for their digest.
    """

    digest: Digest
    size: int
    inline: bytes | None = None
    upload: UploadId | None = None
    parts: tuple[Part, ...] = ()
    committed: tuple[Part, ...] = ()
    promoted: Locator | None = None

    @property
    def places(self) -> tuple[tuple[Locator, int], ...]:
        """Where a new record says that the bytes are; nowhere when they are inline."""
        if self.inline is not None:
            return ()
        if self.promoted is not None:
            return ((self.promoted, self.size),)
        return tuple((part.locator, part.length) for part in self.parts)


def nonce() -> str:
    """Return a text that nothing else ever had."""
    return secrets.token_hex(12)


async def name(txn: Transaction, staged: Staged, *, now: str) -> BlobRecord:
    """Make *staged* a live blob and return its record; raise `UploadUnknown` if its session ended.

    If another birth won, it is linked to: our promoted copy goes to the bin in the same commit.
    """
    if staged.upload is not None:
        await consume(txn, staged.upload, staged.committed)
    old = await read_blob(txn, staged.digest)
    if old is not None:
        revive(txn, staged.digest, old, now=now)
        if staged.promoted is not None:
            lost = BinRecord(digest=str(staged.digest), since=now)
            txn.put(keys.binned(staged.promoted), encode(lost))
        return old
    birth = nonce()  # drawn anew by each run of the body: an earlier run may have landed unseen
    new = BlobRecord(
        size=staged.size,
        birth=birth,
        state=BlobState.LIVE,
        since=now,
        parts=staged.places,
        staged=bool(staged.places) and staged.promoted is None,
    )
    put_blob(txn, staged.digest, old=None, new=new)
    if staged.inline is not None:
        txn.put(keys.inline(staged.digest, birth), staged.inline)
    return new


async def consume(txn: Transaction, upload: UploadId, parts: tuple[Part, ...]) -> None:
    """End session *upload* in this commit; its record must still name just *parts*."""
    value = await txn.get(keys.upload(upload))
    record = decode(UploadRecord, value) if value is not None else None
    if record is None or record.ended or record.parts != parts:
        raise UploadUnknown("this upload has ended", hint="start a new upload")
    txn.delete(keys.upload(upload))


async def read_blob(txn: Transaction, digest: Digest) -> BlobRecord | None:
    """Return the record of *digest*, promised unchanged (or still absent) at the commit."""
    value = await txn.get(keys.blob(digest))
    return decode(BlobRecord, value) if value is not None else None


def revive(txn: Transaction, digest: Digest, record: BlobRecord, *, now: str) -> None:
    """Make a condemned blob live again; a live one is not written, so it is never contended."""
    if record.state is BlobState.CONDEMNED:
        live = msgspec.structs.replace(record, state=BlobState.LIVE, since=now)
        put_blob(txn, digest, old=record, new=live)


async def link(
    txn: Transaction, repository: RepositoryName, digest: Digest, birth: str, *, now: str
) -> None:
    """Make the blob of *birth* visible in *repository*, which exists from now on."""
    txn.put(keys.link(digest, repository), birth.encode())
    await create_repository(txn, repository, now=now)


async def create_repository(txn: Transaction, repository: RepositoryName, *, now: str) -> None:
    """Write the repository's record unless it is there; it is never deleted, so none is checked."""
    key = keys.repository(repository)
    if await txn.peek(key) is None:
        txn.put(key, encode(RepositoryRecord(created=now)))


def journal(txn: Transaction, event: Event, *, now: str) -> None:
    """Write what this commit changes into the journal."""
    txn.write([journaled(event, now=now)])


def journaled(event: Event, *, now: str) -> Put:
    """Return the write that tells of *event* in the journal."""
    return Put(keys.event(now, nonce()), encode(event))
