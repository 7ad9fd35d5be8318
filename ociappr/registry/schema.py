"""What metadata say of themselves: the schema of their records, whose they are, who fills them.

Data written before there was such a record open as schema 1, and get the record then; a release
that does not know the record runs beside one that does. Who changes what a stored record means
raises `SCHEMA`; new fields with defaults do not (see `ociappr.registry.records`).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from ociappr.blobstore import BlobStore
from ociappr.errors import StoreUnavailable
from ociappr.metadata import Conflict, Delete, Entry, MetadataStore, Put, Unchanged, commit
from ociappr.registry import keys
from ociappr.registry.records import ClaimRecord, SchemaRecord, decode, encode

SCHEMA = 1

SCHEMA_KEY = keys.shared("schema", "registry")
CLAIM_KEY = keys.shared("claim", "registry")
SECRET_KEY = keys.shared("secret", "uploads")

FIRST, LAST = b"a", b"{"
"""All keys lie between these."""


async def admit(metadata: MetadataStore, store: BlobStore) -> None:
    """Let a registry be opened over these stores, or raise `StoreUnavailable` with what to do."""
    found = await metadata.get([SCHEMA_KEY, CLAIM_KEY])
    claim = found.get(CLAIM_KEY)
    if claim is not None:
        await _end(metadata, claim)
    await identity(metadata, found)
    if SCHEMA_KEY not in found:
        await _refuse_lost(metadata, store)
        await introduce(metadata, secrets.token_hex(12))


async def identity(metadata: MetadataStore, found: Mapping[bytes, Entry] | None = None) -> str:
    """Return the name that a registry keeps wherever it moves, or "" if it has none yet.

    Raises `StoreUnavailable` for records of a newer schema.
    """
    found = await metadata.get([SCHEMA_KEY]) if found is None else found
    if SCHEMA_KEY not in found:
        return ""
    record = decode(SchemaRecord, found[SCHEMA_KEY].value)
    require_known(record.version)
    return record.registry


async def introduce(metadata: MetadataStore, registry: str) -> None:
    """Write that the metadata are of this schema and *registry*'s, unless a rival was quicker."""
    record = encode(SchemaRecord(SCHEMA, registry))
    try:
        await commit(metadata, [Unchanged(SCHEMA_KEY, None)], [Put(SCHEMA_KEY, record)])
    except Conflict:
        await identity(metadata)


def require_known(version: int) -> None:
    """Raise `StoreUnavailable` for a schema that only a newer release knows."""
    if version > SCHEMA:
        raise StoreUnavailable(
            f"the registry's records have schema {version}, this release knows {SCHEMA}",
            hint="run the release that wrote them, or a newer one",
        )


async def _end(metadata: MetadataStore, claim: Entry) -> None:
    """End a claim that is done; raise `StoreUnavailable` for metadata that are not whole yet."""
    record = decode(ClaimRecord, claim.value)
    if not record.done:
        raise StoreUnavailable(
            f"these metadata are not whole: `ociappr {record.by}` has not finished filling them",
            hint=f"run `ociappr {record.by}` again, which goes on where it was",
        )
    try:
        await commit(metadata, [Unchanged(CLAIM_KEY, claim.version)], [Delete(CLAIM_KEY)])
    except Conflict:
        raise StoreUnavailable(
            f"`ociappr {record.by}` is at work on these metadata", hint="try again when it is done"
        ) from None


async def _refuse_lost(metadata: MetadataStore, store: BlobStore) -> None:
    """Raise `StoreUnavailable` for blobs without any metadata: a sweeper would remove them all."""
    if await metadata.scan(FIRST, LAST, limit=1):
        return
    async for _ in store.walk():
        if await metadata.scan(FIRST, LAST, limit=1):
            return  # another process was quicker, and has taken a push
        raise StoreUnavailable(
            "there are blobs, but the metadata are empty, as if they had been lost",
            hint="bring them back with `ociappr restore`, or choose a storage that is empty",
        )
