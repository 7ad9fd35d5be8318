"""Upload sessions: their signed ids and their records.

An id is ``<time>.<nonce>.<algorithm>.<HMAC of these and the repository>``, so beginning an upload
writes nothing. The record comes with the first byte that is staged and says who owns it; one that
ended owns nothing, and stays until the id itself has expired, so that the id is never fresh again.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from ociappr.blobstore import Part, UploadId
from ociappr.digest import new_hash
from ociappr.errors import RangeInvalid, UploadUnknown
from ociappr.metadata import (
    Conflict,
    Delete,
    MetadataStore,
    Put,
    Transaction,
    Unchanged,
    commit,
    transact,
)
from ociappr.names import RepositoryName
from ociappr.registry import keys
from ociappr.registry.records import UploadRecord, decode, encode, stamp

_MAC_LENGTH = 32
_START_AGAIN = "start a new upload: this one was finished, cancelled or has expired"


class Sessions:
    """Begins, extends and ends upload sessions, for any replica."""

    def __init__(
        self,
        metadata: MetadataStore,
        secret: bytes,
        *,
        age: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._metadata = metadata
        self._secret = secret
        self._age = age
        self._now = now

    def begin(self, repository: RepositoryName, algorithm: str) -> UploadId:
        """Return a fresh id; raise `DigestInvalid` for an algorithm that is not supported."""
        new_hash(algorithm)
        fields = f"{int(self._now().timestamp()):x}.{secrets.token_hex(8)}.{algorithm}"
        return UploadId(f"{fields}.{self._mac(repository, fields)}")

    def check(self, repository: RepositoryName, upload: str) -> UploadId:
        """Return *upload* if it is an id that was given out for *repository*; `UploadUnknown`."""
        fields, _, mac = upload.rpartition(".")
        expected = self._mac(repository, fields).encode()
        if not hmac.compare_digest(expected, mac.encode("utf-8", "replace")):
            raise UploadUnknown("no such upload", hint=_START_AGAIN)
        return UploadId(upload)

    def expired(self, upload: UploadId) -> bool:
        """Tell whether a genuine id is older than sessions live."""
        return _begun(upload) + self._age < self._now()

    async def load(self, upload: UploadId) -> UploadRecord | None:
        """Return the session, or None for a fresh id; raise `UploadUnknown` if it ended.

        A fresh id expires as sessions do, so that one whose record is gone is never fresh again.
        """
        key = keys.upload(upload)
        entry = (await self._metadata.get([key])).get(key)
        if entry is None and self.expired(upload):
            raise UploadUnknown("this upload has expired", hint=_START_AGAIN)
        return _open(entry.value) if entry is not None else None

    async def create(self, repository: RepositoryName, upload: UploadId) -> UploadRecord:
        """Commit the session that will own what is staged, or return the one a rival made."""
        now = stamp(self._now())

        async def body(txn: Transaction) -> UploadRecord:
            value = await txn.get(keys.upload(upload))
            if value is not None:
                return _open(value)
            record = UploadRecord(repository=str(repository), started=now, touched=now)
            txn.put(keys.upload(upload), encode(record))
            return record

        return await transact(self._metadata, body)

    async def extend(
        self, upload: UploadId, expected: tuple[Part, ...], parts: tuple[Part, ...]
    ) -> UploadRecord:
        """Commit *parts* where *expected* were; a rival's parts there raise `RangeInvalid`."""
        now = stamp(self._now())

        async def body(txn: Transaction) -> UploadRecord:
            value = await txn.get(keys.upload(upload))
            if value is None:
                raise UploadUnknown("this upload has ended", hint=_START_AGAIN)
            record = _open(value)
            if record.parts == parts:
                return record  # an earlier commit of ours had landed unseen
            if record.parts != expected:
                message = "another request was quicker with this upload"
                raise RangeInvalid(message, offset=record.offset)
            record = UploadRecord(record.repository, record.started, touched=now, parts=parts)
            txn.put(keys.upload(upload), encode(record))
            return record

        return await transact(self._metadata, body)

    async def end(self, repository: RepositoryName, upload: UploadId) -> tuple[Part, ...]:
        """Commit that the session owns nothing any more; return the parts, which can go then."""
        now = stamp(self._now())

        async def body(txn: Transaction) -> tuple[Part, ...]:
            value = await txn.get(keys.upload(upload))
            parts = _open(value).parts if value is not None else ()
            ended = UploadRecord(str(repository), started=now, touched=now, ended=True)
            txn.put(keys.upload(upload), encode(ended))
            return parts

        return await transact(self._metadata, body)

    async def forget(self, upload: UploadId) -> None:
        """Delete the session, if there is one; only for an id that was never given out."""
        key = keys.upload(upload)
        if await self._metadata.get([key]):
            await commit(self._metadata, [], [Delete(key)])

    def _mac(self, repository: RepositoryName, fields: str) -> str:
        text = f"{repository}\0{fields}".encode("utf-8", "replace")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:_MAC_LENGTH]


def algorithm(upload: UploadId) -> str:
    """Return the digest algorithm that the client announced for a genuine id."""
    return upload.split(".")[2]


async def shared_secret(metadata: MetadataStore) -> bytes:
    """Return the key that all replicas sign ids with; the first process to come makes it."""
    key = keys.shared("secret", "uploads")
    while (entry := (await metadata.get([key])).get(key)) is None:
        try:
            await commit(metadata, [Unchanged(key, None)], [Put(key, secrets.token_bytes(32))])
        except Conflict:
            continue
    return entry.value


def _begun(upload: UploadId) -> datetime:
    return datetime.fromtimestamp(int(upload.partition(".")[0], 16), UTC)


def _open(value: bytes) -> UploadRecord:
    record = decode(UploadRecord, value)
    if record.ended:
        raise UploadUnknown("this upload has ended", hint=_START_AGAIN)
    return record
